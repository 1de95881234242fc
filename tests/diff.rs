//! What changed in the data of a sandbox.

mod support;

use support::World;

const SEEDED: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data", "scratch:/scratch"]
volumes: { data: { seed: [{ copy: seed }] }, scratch: {} }
"#;

fn world() -> World {
    let world = World::with_spec(SEEDED);
    world.file("seed/word", "seeded\n").file("seed/old", "old\n").file("seed/same", "same\n");
    world.up();
    world
}

fn shell(world: &World, script: &str) {
    world.in_container("app", &["sh", "-c", script]).success();
}

#[test]
fn files_that_changed_since_the_seeds_are_listed() {
    let world = world();
    let nothing = world.sandbox(["diff"]).success();
    assert_eq!(nothing.stdout, "", "{nothing}");
    shell(
        &world,
        "echo changed > /data/word; rm /data/old; mkdir /data/sub; echo new > /data/sub/new; touch /data/same",
    );

    let outcome = world.sandbox(["diff"]).success();

    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let expected =
        ["- data/old  4 B", "+ data/sub", "+ data/sub/new  4 B", "~ data/word  7 B → 8 B, 8 B differ"];
    assert_eq!(lines, expected, "{outcome}");
    outcome.says("data: 2 added, 1 removed, 1 changed").says("nothing to compare with: scratch");
}

#[test]
fn a_snapshot_is_compared_with_if_it_is_named() {
    let world = world();
    shell(&world, "echo one > /scratch/one");
    world.sandbox(["snapshot", "create", "before"]).success();
    shell(&world, "echo two > /scratch/two");

    let json = world.sandbox(["--json", "diff", "--from", "before"]).success().json();

    let scratch = &json["volumes"].as_array().unwrap().iter().find(|it| it["volume"] == "scratch").unwrap();
    assert_eq!((&scratch["added"], &scratch["removed"]), (&1.into(), &0.into()), "{json}");
    assert_eq!(scratch["changes"][0]["path"], "two");
    assert_eq!(json["without_origin"], serde_json::json!([]));
    world.sandbox(["diff", "--from", "nothing"]).exits(1).says("nothing");
}
