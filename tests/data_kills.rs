//! Whatever step of its work a client, the keeper or what carries a file is killed at: nothing half-made can be used, and
//! no subvolume is left that nobody owns.
//!
//! Calls to the engine and to the storage are counted alike (see `tests/kills.rs`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{World, eventually, within};

const SPEC: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    environment: { N: "${N:-0}" }
    volumes: ["data:/data", "more:/more"]
    seed: [{ exec: [sh, -c, "echo seeded > /data/word; echo seeded > /more/word"] }]
volumes: { data: {}, more: {} }
"#;

/// How long the keeper may take to notice and to remove what is left.
const GONE: Duration = Duration::from_secs(30);

/// How many changes a command asks for.
fn changes<S: AsRef<str>>(world: &World, arguments: impl IntoIterator<Item = S>) -> u64 {
    let file = world.home().join("changes");
    world.command(arguments).env("SANDBOX_FAULT", &format!("count@{}", file.display())).run().success();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no number of changes: `{text}`"))
}

/// A part of the spec that no other world shares, nor another number in this one: nobody else bakes the same at the same
/// time, which would add the changes of those who wait.
fn own(world: &World, number: u64) -> String {
    format!("{}-{number}", world.name())
}

/// Runs a command that dies at a change.
fn killed<S: AsRef<str>>(world: &World, mode: &str, number: u64, arguments: impl IntoIterator<Item = S>) {
    let command = world.command(arguments).env("N", &own(world, number));
    let outcome = command.env("SANDBOX_FAULT", &format!("{mode}@{number}")).run();
    assert_eq!(outcome.signal, Some(libc::SIGKILL), "it was not killed: {outcome}");
}

fn nothing_half_made(world: &World) {
    within(GONE, "nothing is half-made", || world.engine().stored("making").is_empty());
}

/// Sets that are published hold all that they should.
fn whole(world: &World, shelf: &str) {
    let pid = world.engine().pid(&format!("sandbox-keeper-{}", world.name()));
    for set in world.engine().stored(shelf) {
        for volume in ["data", "more"] {
            let word = format!("/proc/{pid}/root/pool/pool/{shelf}/{set}/{volume}/word");
            assert!(std::fs::read_to_string(&word).is_ok_and(|text| text == "seeded\n"), "{word}");
        }
    }
}

#[test]
fn a_bake_killed_at_any_change_leaves_nothing_or_all_of_it() {
    let world = World::with_spec(SPEC);
    // The first makes a keeper, too.
    world.command(["bake"]).env("N", &own(&world, 0)).run().success();
    world.file(".env", format!("N={}-counted\n", world.name()));
    let all = changes(&world, ["bake"]);
    let numbers: Vec<u64> = (1..=all).collect();
    for some in numbers.chunks(6) {
        std::thread::scope(|scope| {
            for number in some {
                let world = &world;
                // Each its own key, so that none waits for another.
                scope.spawn(move || {
                    killed(world, if number % 2 == 0 { "kill" } else { "late" }, *number, ["bake"]);
                });
            }
        });
    }
    nothing_half_made(&world);
    within(GONE, "no data without an owner", || world.engine().stored("live").is_empty());
    within(GONE, "nothing on the engine", || world.engine().remains().is_empty());
    whole(&world, "baseline");
    assert!(world.engine().stored("baseline").len() - 2 < numbers.len(), "most were killed before the end");
}

#[test]
fn a_bake_whose_client_and_keeper_are_killed_leaves_nothing() {
    let world =
        World::with_spec(&SPEC.replace("echo seeded > /data/word;", "echo half > /data/word; sleep 60;"));
    let mut baking = world.spawn(["bake", "--progress", "plain"]);
    let half = || {
        let live = world.engine().stored("live");
        let pid = world.engine().pid(&format!("sandbox-keeper-{}", world.name()));
        live.iter().any(|set| {
            std::fs::read_to_string(format!("/proc/{pid}/root/pool/pool/live/{set}/data/word")).is_ok()
        })
    };
    eventually("the seed runs", half);
    let keeper = format!("sandbox-keeper-{}", world.name());
    baking.kill();
    world.engine().docker(&["kill", &keeper]).success();

    world.sandbox(["snapshot", "ls"]).success();

    within(GONE, "nothing on the engine", || world.engine().remains().is_empty());
    within(GONE, "no data", || {
        ["live", "making", "baseline"].iter().all(|shelf| world.engine().stored(shelf).is_empty())
    });
}

#[test]
fn a_reset_killed_at_any_change_leaves_the_data_old_or_new_and_no_service_stopped() {
    let world = World::with_spec(SPEC);
    world.up();
    let write = ["sh", "-c", "echo changed > /data/word; echo changed > /more/word"];
    let all = changes(&world, ["reset"]);
    for number in 1..=all {
        world.in_container("app", &write).success();
        killed(&world, "late", number, ["reset"]);
        nothing_half_made(&world);
        assert_eq!(world.engine().stored("live").len(), 1);
        goes_on(&world);
        for file in ["/data/word", "/more/word"] {
            let word = world.in_container("app", &["cat", file]).success().stdout;
            assert!(["seeded\n", "changed\n"].contains(&word.as_str()), "{file} after {number}: {word}");
        }
    }
    world.sandbox(["reset"]).success();
    assert_eq!(world.in_container("app", &["cat", "/data/word"]).success().text(), "seeded");
}

/// The keeper starts what a killed client had stopped.
fn goes_on(world: &World) {
    within(GONE, "it runs", || world.engine().runs(&world.container("app")));
}

#[test]
fn a_client_killed_while_services_are_frozen_leaves_none_frozen() {
    let world = World::with_spec(SPEC);
    world.up();
    let container = world.container("app");
    let snapshot = |name: &str| ["snapshot", "create", name, "--crash"].map(str::to_owned);
    let all = changes(&world, snapshot("whole"));
    for number in 1..=all {
        killed(&world, "late", number, snapshot(&format!("n{number}")));
        within(GONE, "it runs", || world.engine().inspect(&container)["State"]["Paused"] == false);
        world.in_container("app", &["true"]).success();
    }
    // The keeper may be faster than a look at the container.
    let told = world.engine().docker(&["logs", &format!("sandbox-keeper-{}", world.name())]).success();
    let thawed = format!("{}{}", told.stdout, told.stderr).matches("had left frozen").count();
    assert!(thawed > 0, "none of {all} changes came while it was frozen");
}

#[test]
fn a_snapshot_killed_at_any_change_is_there_whole_or_not_at_all_and_no_service_is_stopped() {
    let world = World::with_spec(SPEC);
    world.up();
    let all = changes(&world, ["snapshot", "create", "counted"]);
    for number in 1..=all {
        killed(&world, "late", number, ["snapshot", "create", &format!("s{number}")]);
        goes_on(&world);
    }
    nothing_half_made(&world);
    whole(&world, "snapshot");
    assert!(world.engine().stored("snapshot").len() <= usize::try_from(all).unwrap());
    assert_eq!(world.engine().stored("live").len(), 1);
    assert_eq!(world.in_container("app", &["cat", "/data/word"]).success().text(), "seeded");
}

#[test]
fn a_fork_killed_at_any_change_leaves_the_first_alone_and_nothing_of_the_second() {
    let world = World::with_spec(SPEC);
    world.up();
    let second = |number: &str| format!("{}-f{number}", world.name());
    let all = changes(&world, ["fork", world.name(), &second("counted")]);
    world.sandbox(["down", &second("counted")]).success();
    let first: BTreeSet<String> = world.engine().remains().into_iter().collect();
    let numbers: Vec<u64> = (1..all).collect();
    for number in numbers {
        killed(&world, "late", number, ["fork", world.name(), &second(&number.to_string())]);
        // The last calls are after it is up and left to its deadline.
        world.sandbox(["down", &second(&number.to_string())]);
    }
    nothing_half_made(&world);
    within(GONE, "only the first is left", || {
        world.engine().remains().into_iter().collect::<BTreeSet<_>>() == first
            && world.engine().stored("live").len() == 1
    });
}

/// A snapshot file of some megabytes.
fn exported() -> World {
    let world = World::with_spec(SPEC);
    world.up();
    let fill = "head -c 20000000 /dev/urandom > /data/noise";
    world.in_container("app", &["sh", "-c", fill]).success();
    world.sandbox(["snapshot", "create", "kept"]).success();
    world.sandbox(["snapshot", "export", "kept", "kept.sandbox.tar.zst"]).success();
    world
}

/// Starts an import that has got half of the file and waits for the rest.
fn halfway(world: &World) -> (support::Session, std::fs::File) {
    use std::io::Write;
    world.host("mkfifo", &["pipe"]).run().success();
    let importing = world.spawn(["snapshot", "import", "pipe", "--as", "half"]);
    let mut pipe = std::fs::File::options().write(true).open(world.project().join("pipe")).unwrap();
    let file = std::fs::read(world.project().join("kept.sandbox.tar.zst")).unwrap();
    pipe.write_all(&file[..file.len() / 2]).unwrap();
    eventually("the import has begun", || !world.engine().stored("making").is_empty());
    (importing, pipe)
}

#[test]
fn an_import_whose_client_is_killed_leaves_nothing() {
    let world = exported();
    let (mut importing, _pipe) = halfway(&world);

    importing.kill();

    nothing_half_made(&world);
    assert_eq!(world.engine().stored("snapshot"), ["kept"]);
}

#[test]
fn an_import_that_is_killed_inside_the_engine_leaves_nothing() {
    let world = exported();
    let (importing, pipe) = halfway(&world);
    let keeper = format!("sandbox-keeper-{}", world.name());
    let processes = world.engine().docker(&["top", &keeper, "-o", "pid,args"]).success().stdout;
    let line = processes.lines().find(|line| line.contains("agent import")).unwrap();
    let pid = line.split_whitespace().next().unwrap();

    world.host("kill", &["-9", pid]).run().success();

    nothing_half_made(&world);
    drop(pipe);
    let outcome = importing.wait(Duration::from_secs(30)).exits(1);
    assert!(outcome.stderr.contains("cut short"), "{outcome}");
    assert_eq!(world.engine().stored("snapshot"), ["kept"]);
}

#[test]
fn a_file_that_is_damaged_on_the_way_publishes_nothing() {
    let world = exported();
    let mut bytes = std::fs::read(world.project().join("kept.sandbox.tar.zst")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.file("damaged.sandbox.tar.zst", &bytes).file("short.sandbox.tar.zst", &bytes[..middle]);

    for file in ["damaged.sandbox.tar.zst", "short.sandbox.tar.zst"] {
        world.sandbox(["snapshot", "import", file]).exits(1).says("damaged");
    }

    nothing_half_made(&world);
    assert_eq!(world.engine().stored("snapshot"), ["kept"]);
}
