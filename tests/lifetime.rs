//! How long a sandbox lives, who moves that, and what is on record of its end.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{World, eventually};

const IDLE: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "echo the app is here; exec sleep infinity"]
    stop_signal: SIGKILL
"#;

/// The sandbox's line of `ls --json`.
fn listed(world: &World) -> Value {
    world.sandbox(["ls", "--json"]).success().json()[0].clone()
}

/// The records of the sandbox's ends, the oldest first.
fn ends(world: &World) -> Vec<Value> {
    let told = world.sandbox(["events", "--past", "--json"]).success().stdout;
    let lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    lines.filter(|event| event["action"] == "destroyed").collect()
}

#[test]
fn events_tell_who_destroyed_what_when_and_why() {
    let world = World::with_spec(IDLE);
    world.up();
    world.sandbox(["down"]).success();
    world.sandbox(["up", "-d", "--ttl", "2s"]).success();
    world.engine().becomes_clean();
    let mut session = world.spawn(["up"]);
    session.says("the app is here");
    session.interrupt();
    session.wait(support::PATIENCE);

    eventually("three ends are on record", || ends(&world).len() == 3);
    let ends = ends(&world);
    let reasons: Vec<&str> = ends.iter().filter_map(|end| end["reason"].as_str()).collect();
    assert_eq!(reasons, ["down", "ttl", "session-ended"]);
    assert!(ends.iter().all(|end| end["sandbox"] == world.name() && end["time"].is_string()), "{ends:?}");
    assert_eq!(ends[1]["by"], "keeper");
}

#[test]
fn extend_moves_the_deadline_by_a_length_and_to_a_time() {
    let world = World::with_spec(IDLE);
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world)["ends"].clone();

    world.sandbox(["extend", world.name(), "3h"]).success();
    let longer = listed(&world)["ends"].clone();
    assert!(longer.as_str() > before.as_str(), "{before} {longer}");

    world.sandbox(["extend", "--until", "2126-01-01T00:00:00Z"]).success();
    assert_eq!(listed(&world)["ends"], "2126-01-01T00:00:00Z");
    world.sandbox(["extend", "--until", "18:00"]).success();
    assert!(listed(&world)["ends"].as_str() < Some("2126"));
}

#[test]
fn a_session_that_is_stopped_by_ctrl_z_says_so_and_goes_on_afterwards() {
    let world = World::with_spec(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    session.signal(libc::SIGTSTP);
    eventually("its silence is announced", || listed(&world)["hold"] == "suspended");
    session.signal(libc::SIGCONT);

    eventually("it is held again", || listed(&world)["hold"] == "held");
    session.interrupt();
    session.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn a_session_that_comes_back_after_its_sandbox_was_destroyed_ends() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    let mut session = world.spawn(["up"]);
    session.says("the app is here");
    session.signal(libc::SIGSTOP);
    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]).success();
    world.sandbox(["ls"]).success();
    world.engine().becomes_clean();

    session.signal(libc::SIGCONT);

    session.wait(support::PATIENCE).says("lost the keeper");
    world.engine().is_clean();
}

#[test]
fn two_downs_at_once_both_succeed() {
    let world = World::with_spec(IDLE);
    world.up();

    let downs = [world.spawn(["down"]), world.spawn(["down"])];
    let codes = downs.map(|down| down.wait(Duration::from_mins(1)).code);

    // The second may have found nothing left to do.
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 4))) && codes.contains(&Some(0)), "{codes:?}");
    world.engine().is_clean();
}

#[test]
fn down_names_what_it_cannot_remove_and_fails() {
    let world =
        World::with_spec(&format!("{IDLE}    volumes: [\"kept:/kept\"]\nvolumes: {{ kept: {{}} }}\n"));
    world.up();
    let (volume, stranger) = (format!("sbx-{}.kept", world.name()), format!("stranger-{}", world.name()));
    let mount = format!("{volume}:/theirs");
    world.engine().docker(&["create", "--name", &stranger, "-v", &mount, support::BUSYBOX]).success();

    // Again, when the keeper has given up on it for now.
    let outcomes = [world.sandbox(["down"]), world.sandbox(["down"])];
    world.engine().docker(&["rm", "-f", &stranger]).success();

    for outcome in outcomes {
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(outcome.stderr.contains(&volume), "{outcome}");
    }
    eventually("the keeper tries again", || world.engine().remains().is_empty());
}

/// A second `up` that takes its time: what it adds is never ready.
fn second_up(world: &World) -> support::Session {
    let never = "    ready: { exec: [\"false\"] }\n";
    world.spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}  more:\n    image: sbx-test/busybox\n    command: [sleep, infinity]\n    stop_signal: SIGKILL\n{never}"));
    let up = world.spawn(["up", "-d"]);
    eventually("it changes something", || world.engine().runs(&world.container("more")));
    up
}

/// It lives, though its client has been gone for longer than its grace, and to the deadline that it had.
fn lives_on(world: &World, before: &Value) {
    std::thread::sleep(Duration::from_secs(3));
    assert!(world.engine().runs(&world.container("app")));
    let now = listed(world);
    assert_eq!((&now["hold"], &now["ends"]), (&before["hold"], &before["ends"]), "{now}");
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}

#[test]
fn a_sandbox_outlives_a_second_up_that_fails() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world);
    world.spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}  more: {{ image: \"127.0.0.1:1/none\" }}\n"));

    world.sandbox(["up", "-d"]).exits(1).says("127.0.0.1:1/none");

    lives_on(&world, &before);
}

#[test]
fn a_sandbox_outlives_a_second_up_that_is_interrupted() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world);

    let up = second_up(&world);
    up.interrupt();
    let outcome = up.wait(support::PATIENCE);

    assert_eq!(outcome.code, Some(130), "{outcome}");
    outcome.says("stays");
    lives_on(&world, &before);
}

#[test]
fn a_sandbox_outlives_a_second_up_that_is_killed() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world);

    second_up(&world).kill();

    lives_on(&world, &before);
}

#[test]
fn a_session_on_a_sandbox_that_was_there_ends_it() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();

    let mut session = world.spawn(["up", "--progress", "plain"]);
    session.says("is up after");
    let held = listed(&world);
    session.kill();

    assert_eq!((&held["hold"], &held["ends"]), (&Value::from("held"), &Value::Null), "{held}");
    world.engine().becomes_clean();
}

#[test]
fn a_session_is_warned_before_its_time_is_over() {
    let world = World::with_spec(IDLE);

    let mut session = world.spawn(["up", "--ttl", "20s"]);
    session.says("the sandbox ends in").says("the app is here");
    world.sandbox(["extend", world.name(), "10m"]).success();
    session.says("the sandbox ends at");
    world.sandbox(["extend", world.name(), "3s"]).success();
    session.says("its time is over");

    session.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn one_that_nobody_uses_ends_and_that_is_on_record() {
    let world = World::with_spec(&format!("lifetime: {{ idle: 3s }}\n{IDLE}"));
    world.up();

    world.engine().becomes_clean();

    eventually("its end is on record", || ends(&world).len() == 1);
    assert_eq!(ends(&world)[0]["reason"], "idle");
}

#[test]
fn gc_all_leaves_nothing_of_ours() {
    let world = World::with_spec(IDLE);
    world.up();

    world.sandbox(["gc", "--all"]).success();

    assert!(world.engine().remains().is_empty());
    assert!(world.engine().containers().is_empty());
    assert!(world.engine().networks().is_empty());
    assert!(world.engine().volumes().is_empty());
}
