//! Whatever call its process is killed at, nothing of a sandbox is left.
//!
//! Debug builds die at a chosen call to the engine (`SANDBOX_FAULT`): just before it is sent, or just after it was
//! answered.

mod support;

use std::time::Duration;

use support::{World, within};

const SPEC: &str = r#"
services:
  db:
    image: sbx-test/busybox
    command: [sleep, infinity]
    volumes: ["data:/data"]
  web:
    image: sbx-test/busybox
    command: [sh, -c, "while true; do echo hi | nc -l -p 8080; done"]
    depends_on: [db]
    ports: ["8080"]
volumes: { data: {} }
"#;

/// How long the keeper waits for a client that is gone, and what it may take to destroy what that client had.
const GONE: Duration = Duration::from_secs(15);

/// How many calls a command makes that change something. The world's first sandbox makes a few more than others.
fn calls(world: &World, arguments: &[&str]) -> u64 {
    let file = world.home().join("calls");
    world.command(arguments).env("SANDBOX_FAULT", &format!("count@{}", file.display())).run().success();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no number of calls: `{text}`"))
}

/// Kills `up` at every call, several at a time, and looks at the engine afterwards.
fn killed_at_every_call_of_up(world: &World, mode: &str) {
    let all = calls(world, &["up", "-d", "--progress", "quiet"]);
    world.sandbox(["down", "--progress", "quiet"]).success();
    assert!(all > 10, "so few calls are no sandbox: {all}");
    let numbers: Vec<u64> = (1..=all).collect();
    for some in numbers.chunks(6) {
        std::thread::scope(|scope| {
            for number in some {
                scope.spawn(move || {
                    let name = format!("{}-{mode}-{number}", world.name());
                    let command = world.command(["up", "-d", "--progress", "quiet", "--name", &name]);
                    let outcome = command.env("SANDBOX_FAULT", &format!("{mode}@{number}")).run();
                    if outcome.code == Some(0) {
                        // It came up with fewer calls: whoever is first makes the edge network, too.
                        world.sandbox(["down", "--progress", "quiet", "--name", &name]).success();
                    }
                });
            }
        });
    }
    within(GONE * 2, "nothing is left", || world.engine().remains().is_empty());
}

#[test]
fn a_client_killed_before_any_call_of_up_leaves_nothing() {
    killed_at_every_call_of_up(&World::with_spec(SPEC), "kill");
}

#[test]
fn a_client_killed_after_any_call_of_up_leaves_nothing() {
    killed_at_every_call_of_up(&World::with_spec(SPEC), "late");
}

#[test]
fn a_client_killed_at_any_call_of_down_leaves_nothing() {
    let world = World::with_spec(SPEC);
    world.up();
    let all = calls(&world, &["down", "--progress", "quiet"]);
    for number in 1..=all {
        world.up();
        let down = world.command(["down", "--progress", "quiet"]);
        down.env("SANDBOX_FAULT", &format!("kill@{number}")).run();
        world.sandbox(["down", "--progress", "quiet"]);
        within(GONE, "nothing is left", || world.engine().remains().is_empty());
    }
}

#[test]
fn when_client_and_keeper_are_killed_the_next_call_of_the_program_is_enough() {
    let world = World::with_spec(SPEC);
    let calls = calls(&world, &["up", "-d", "--progress", "quiet"]);
    world.sandbox(["down", "--progress", "quiet"]).success();
    world.command(["up", "-d"]).env("SANDBOX_FAULT", &format!("late@{}", calls / 2)).run();
    let keeper = format!("sandbox-keeper-{}", world.name());
    world.engine().docker(&["kill", &keeper]).success();
    world.sandbox(["ls"]);
    within(GONE * 2, "nothing is left", || world.engine().remains().is_empty());
}

#[test]
fn a_keeper_killed_while_it_destroys_finishes_when_it_is_back() {
    let world = World::with_spec(SPEC);
    world.up();
    let all = world.engine().remains().len();
    let down = world.spawn(["down", "--progress", "quiet"]);
    within(GONE, "something is gone", || world.engine().remains().len() < all);
    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]);
    down.wait(GONE * 4);
    within(GONE, "nothing is left", || world.engine().remains().is_empty());
}
