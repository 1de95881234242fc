//! A bug in one file: the failing command beside the data, and its run on another machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::{World, within};

const SHOP: &str = r#"
name: shop
lifetime: { grace: 2s }
services:
  web:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    seed: [{ exec: [sh, -c, "echo 10 > /data/total"] }]
volumes: { data: {} }
"#;

/// Fails on data that is not seeded, changes the data, and prints the time.
const CHECK: &str = r#"date; test "$(cat /data/total)" = 10 || { echo "total is $(cat /data/total)"; echo 10 > /data/total; exit 3; }"#;

/// A running shop whose data has a bug.
fn broken() -> World {
    let world = World::with_spec(SHOP);
    world.up();
    world.in_container("web", &["sh", "-c", "echo 12 > /data/total"]).success();
    world
}

/// Another machine, which has one file.
fn colleague(world: &World, file: &str) -> World {
    let other = World::new();
    std::fs::copy(world.project().join(file), other.project().join(file)).unwrap();
    other
}

#[test]
fn a_colleague_who_has_only_the_file_reproduces_the_failure() {
    let world = broken();
    let created =
        world.sandbox(["snapshot", "create", "bug-1234", "--repro", CHECK, "--in", "web"]).success();
    created.says("fails with exit code 3");
    world.sandbox(["snapshot", "export", "bug-1234"]).success();
    world
        .sandbox(["snapshot", "inspect", "bug-1234.sandbox.tar.zst"])
        .success()
        .prints("in `web`, exit code 3");
    world.sandbox(["down"]).success();

    let other = colleague(&world, "bug-1234.sandbox.tar.zst");
    let outcome = other.sandbox(["repro", "bug-1234.sandbox.tar.zst"]).success();

    // The command of the file has repaired the data of `world`; the snapshot is from before that.
    outcome.prints("reproduced: ").says("total is 12");
    other.engine().is_clean();
}

#[test]
fn the_guide_shows_the_commands_that_the_tests_run() {
    let guide = std::fs::read_to_string(support::repository().join("man/bug-reproduction.md")).unwrap();
    for line in [
        "sandbox snapshot create bug-1234 --repro 'pytest tests/test_total.py' --in web",
        "sandbox snapshot export bug-1234",
        "sandbox repro bug-1234.sandbox.tar.zst",
    ] {
        assert!(guide.contains(line), "{line}");
    }
}

#[test]
fn what_differs_is_named_and_the_exit_code_says_so() {
    let world = broken();
    let host = "if test -e fixed; then echo fine; else echo broken; exit 4; fi";
    world.sandbox(["snapshot", "create", "bug", "--repro", host]).success();
    world.sandbox(["repro", "bug"]).success().prints("reproduced");
    world.file("fixed", "");

    let outcome = world.sandbox(["repro", "bug"]).exits(1);
    let outcome = outcome.prints("not reproduced").prints("then  4").prints("now   0").prints("now   fine");
    assert!(!outcome.stdout.contains("\nbroken"), "the command's output is no data: {outcome}");

    let json = world.sandbox(["--json", "repro", "bug"]).exits(1).json();
    assert_eq!(json["reproduced"], false);
    assert_eq!((&json["recorded"]["exit_code"], &json["now"]["exit_code"]), (&4.into(), &0.into()));
    assert_eq!(json["differences"][1]["what"], "standard output");
}

#[test]
fn a_strangers_command_runs_on_this_machine_only_if_allowed() {
    let world = broken();
    world.sandbox(["snapshot", "create", "bug", "--repro", "touch ran; exit 5"]).success();
    world.sandbox(["snapshot", "export", "bug", "bug.file"]).success();
    world.sandbox(["down"]).success();
    let other = colleague(&world, "bug.file");

    other.sandbox(["repro", "bug.file"]).exits(1).says("came from someone else").says("--allow-host-access");
    assert!(!other.project().join("ran").exists());

    other.sandbox(["repro", "bug.file", "--allow-host-access"]).success().prints("reproduced");
    assert!(other.project().join("ran").exists());
}

#[test]
fn a_strangers_command_runs_beside_the_files_of_a_checkout_only_if_allowed() {
    let world = broken();
    world.sandbox(["snapshot", "create", "bug", "--repro", "exit 5", "--in", "web"]).success();
    world.sandbox(["snapshot", "export", "bug", "bug.file"]).success();
    world.sandbox(["down"]).success();
    let other = colleague(&world, "bug.file");
    other.spec(&SHOP.replace("[\"data:/data\"]", "[\"data:/data\", \"./src:/src\"]")).file("src/main", "");

    other.sandbox(["repro", "bug.file"]).exits(1).says("can write `").says("--allow-host-access");

    other.sandbox(["repro", "bug.file", "--allow-host-access"]).success().prints("reproduced");
}

#[test]
fn a_command_that_cannot_run_keeps_no_snapshot() {
    let world = broken();
    for command in [vec!["no-such-command-here"], vec!["no-such-command-here", "--in", "web"]] {
        let arguments = ["snapshot", "create", "bug", "--repro"].into_iter().chain(command);
        world.sandbox(arguments).exits(1).says("cannot run").says("the snapshot is not taken");
    }
    world
        .sandbox(["snapshot", "create", "bug", "--repro", "true", "--in", "nothing"])
        .exits(1)
        .says("nothing");
    assert!(world.engine().stored("snapshot").is_empty());
    assert!(world.engine().stored("making").is_empty());

    world.sandbox(["snapshot", "create", "plain"]).success();
    world.sandbox(["repro", "plain"]).exits(1).says("without a command");
}

#[test]
fn a_snapshot_killed_while_its_command_runs_is_not_there() {
    let world = broken();
    let mut creating =
        world.spawn(["snapshot", "create", "bug", "--repro", "echo begun >&2; sleep 60", "--in", "web"]);
    creating.says("begun");
    assert_eq!(world.engine().stored("making").len(), 1);

    creating.kill();

    within(Duration::from_secs(30), "nothing is half-made", || world.engine().stored("making").is_empty());
    assert!(world.engine().stored("snapshot").is_empty());
    assert!(world.engine().runs(&world.container("web")));
}

#[test]
fn a_repro_that_is_killed_leaves_no_sandbox() {
    let world = broken();
    // The command waits only if the file is there.
    let command = "echo begun >&2; test ! -e wait || sleep 60; exit 3";
    world.sandbox(["snapshot", "create", "bug", "--repro", command]).success();
    world.sandbox(["down"]).success();
    world.file("wait", "");
    let mut repro = world.spawn(["repro", "bug"]);
    repro.says("begun");

    repro.kill();

    world.engine().becomes_clean();
}
