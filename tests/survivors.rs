//! Of many sandboxes at once some lose their sessions: those go, whole, and the others stay.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{Session, World, within};

const SPEC: &str = r#"
lifetime: { grace: 2s }
services:
  db:
    image: sbx-test/busybox
    command: [sh, -c, "echo the db is here; exec sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
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

/// All that a sandbox is made of, as `remains` lists it.
fn parts(world: &World, numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    let of = |number: usize| {
        let name = named(world, number);
        [
            format!("container sbx-{name}"),
            format!("container sbx-{name}.db"),
            format!("container sbx-{name}.web"),
            format!("network sbx-{name}.default"),
            format!("volume sbx-{name}.data"),
            format!("volume sbx-{name}..gateway"),
            format!("volume sbx-{name}..web.secrets"),
        ]
    };
    numbers.into_iter().flat_map(of).collect()
}

fn half_are_killed(world: &World, count: usize) {
    let mut sessions = ups(world, 0..count);
    let remains = || world.engine().remains().into_iter().collect::<BTreeSet<_>>();
    assert_eq!(remains(), parts(world, 0..count));

    for session in sessions.iter_mut().step_by(2) {
        session.kill();
    }

    let survivors = parts(world, (1..count).step_by(2));
    within(GONE, "only the survivors are there", || remains() == survivors);
    for session in sessions.iter_mut().skip(1).step_by(2) {
        assert!(session.is_running(), "{}", session.stderr());
        session.interrupt();
    }
    world.engine().becomes_clean();
}

#[test]
fn of_ten_sandboxes_the_five_whose_sessions_are_killed_go_and_the_others_stay() {
    half_are_killed(&World::with_spec(SPEC), 10);
}

#[test]
fn with_a_keeper_that_is_a_process_it_is_the_same() {
    let mut world = World::with_spec(SPEC);
    world.env("SANDBOX_KEEPER", "process").env("SANDBOX_LINGER", "0");
    half_are_killed(&world, 4);
    let keeper = format!("sandbox-keeper-{}", world.name());
    assert!(!world.engine().containers().contains(&keeper));
    world.sandbox(["gc", "--all"]).success();
    assert!(world.engine().volumes().is_empty());
}
