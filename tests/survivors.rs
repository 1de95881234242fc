//! Of many sandboxes at once some lose their sessions: those go, whole, and the others stay.
//!
//! Each test has an engine of its own.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::second::SecondEngine;
use support::{BUSYBOX, Session, World, within};

const SPEC: &str = r#"
lifetime: { grace: 2s }
services:
  db:
    image: sbx-test/busybox
    command: [sh, -c, "echo the db is here; exec sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    seed: [{ exec: [sh, -c, "echo seeded > /data/word"] }]
  web:
    image: sbx-test/busybox
    command: [sh, -c, "while true; do echo hi | nc -l -p 8080; done"]
    stop_signal: SIGKILL
    depends_on: [db]
    ports: ["8080"]
    secrets: [key]
volumes: { data: {} }
secrets: { key: { generate: 16 } }
"#;

/// Grace, and what a destruction may take, whatever their number.
const GONE: Duration = Duration::from_secs(2 + 5);

fn ups(world: &World, numbers: std::ops::Range<usize>) -> Vec<Session> {
    let up = |number: usize| world.spawn(["up", "--name", &named(world, number)]);
    let mut sessions: Vec<Session> = numbers.map(up).collect();
    for session in &mut sessions {
        session.says("the db is here");
    }
    sessions
}

fn named(world: &World, number: usize) -> String {
    format!("{}-{number}", world.name())
}

/// All that a sandbox is made of, but for its data.
fn parts(world: &World, numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    let of = |number: usize| {
        let name = named(world, number);
        [
            format!("container sbx-{name}"),
            format!("container sbx-{name}.db"),
            format!("container sbx-{name}.web"),
            format!("network sbx-{name}.default"),
            format!("volume sbx-{name}.data"),
            format!("volume sbx-{name}..web.secrets"),
        ]
    };
    numbers.into_iter().flat_map(of).collect()
}

/// All that the engine has of sandboxes, and how many sets of live data.
fn there(engine: &SecondEngine, world: &World) -> (BTreeSet<String>, usize) {
    let changes = engine.changes(&[world.name()]);
    let (data, parts): (Vec<_>, Vec<_>) = changes.iter().partition(|it| it.starts_with("new: data live/"));
    let named = |line: &String| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
    (parts.into_iter().map(named).collect(), data.len())
}

fn half_are_killed(engine: &SecondEngine, world: &World, count: usize) {
    let mut sessions = ups(world, 0..count);
    assert_eq!(there(engine, world), (parts(world, 0..count), count));

    for session in sessions.iter_mut().step_by(2) {
        session.kill();
    }

    let survivors = (parts(world, (1..count).step_by(2)), count / 2);
    within(GONE, "only the survivors are there", || there(engine, world) == survivors);
    for session in sessions.iter_mut().skip(1).step_by(2) {
        assert!(session.is_running(), "{}", session.stderr());
        session.interrupt();
    }
    engine.is_bare_but_for_keepers(support::PATIENCE, &[world.name()]);
}

#[test]
fn of_ten_sandboxes_the_five_whose_sessions_are_killed_go_and_the_others_stay() {
    let engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    half_are_killed(&engine, &engine.world(SPEC), 10);
}

#[test]
fn with_a_keeper_that_is_a_process_it_is_the_same() {
    let engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let mut world = engine.world(SPEC);
    world.env("SANDBOX_KEEPER", "process").env("SANDBOX_LINGER", "0");
    half_are_killed(&engine, &world, 4);
    assert!(!world.engine().exists(&format!("sandbox-keeper-{}", world.name())));
    world.sandbox(["gc", "--all"]).success();
    assert!(engine.changes(&[]).is_empty(), "{:#?}", engine.changes(&[]));
}
