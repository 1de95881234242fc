//! What takes minutes by the clock on the wall, as it is: nothing here is sped up.
//!
//! Each test has an engine of its own.

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::second::SecondEngine;
use support::{BUSYBOX, World, eventually, within};

const IDLE: &str = r#"
lifetime: { grace: 2s }
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "echo the app is here; mkdir /www; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    seed: [{ exec: [sh, -c, "echo seeded > /data/word"] }]
    ports: ["80"]
volumes: { data: {} }
"#;

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_mins(1);
/// How long the keeper stays after the last sandbox.
const LINGER: Duration = Duration::from_mins(10);
/// The grace, and what a destruction may take.
const GONE: Duration = Duration::from_secs(2 + 5);

fn engine() -> SecondEngine {
    SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX])
}

fn told(world: &World) -> String {
    world.sandbox(["events", "--past"]).success().stdout
}

#[test]
#[ignore = "takes more than a minute by the clock"]
fn a_client_that_is_stopped_without_a_word_for_a_minute_is_lost_and_its_sandbox_goes() {
    let engine = engine();
    let world = engine.world(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    session.signal(libc::SIGSTOP);
    let start = Instant::now();
    sleep(SILENCE - Duration::from_secs(5));
    assert!(world.engine().runs(&world.container("app")), "{}", told(&world));

    // Its last heartbeat may have been two seconds old.
    let left = (SILENCE + GONE).saturating_sub(start.elapsed());
    engine.is_bare_but_for_keepers(left, &[world.name()]);
    assert!(told(&world).contains("its session was killed or lost its connection"), "{}", told(&world));
    session.signal(libc::SIGCONT);
    session.wait(support::PATIENCE).says("lost the keeper");
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
#[ignore = "takes more than a minute by the clock"]
fn a_client_that_is_stopped_by_ctrl_z_keeps_its_sandbox_for_longer_than_that() {
    let engine = engine();
    let world = engine.world(IDLE);
    let mut terminal = world.terminal(["up"]);
    terminal.shows("the app is here");

    terminal.ctrl_z();
    eventually("it is stopped", || terminal.is_stopped());
    sleep(SILENCE + Duration::from_secs(15));

    assert!(terminal.is_stopped() && world.engine().runs(&world.container("app")), "{}", told(&world));
    terminal.signal(libc::SIGCONT);
    eventually("it is held again", || world.sandbox(["ls", "--json"]).stdout.contains("\"held\""));
    terminal.ctrl_c();
    terminal.wait(support::PATIENCE).exits(130);
    engine.is_bare_but_for_keepers(Duration::ZERO, &[world.name()]);
}

#[test]
#[ignore = "takes ten minutes by the clock"]
fn the_keeper_leaves_ten_minutes_after_the_last_sandbox_and_what_is_left_is_for_the_next_one() {
    let engine = engine();
    let world = engine.world(IDLE);
    world.up();
    world.sandbox(["down"]).success();
    let last = Instant::now();
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
    let keeper = format!("sandbox-keeper-{}", world.name());

    sleep(LINGER - Duration::from_secs(10));
    assert!(world.engine().runs(&keeper));
    within(Duration::from_secs(20), "the keeper has left", || !world.engine().exists(&keeper));
    assert!(last.elapsed() > LINGER - Duration::from_secs(3), "{:?}", last.elapsed());

    // No loop device, nothing alive or half-made in the pool, whose baselines are kept.
    let left = engine.changes(&[]);
    let expected = [
        "new: image sandbox-agent:".to_owned(),
        format!("new: network sandbox-edge-{} ", world.name()),
        format!("new: volume sandbox-pool-{}", world.name()),
    ];
    assert!(
        left.len() == expected.len()
            && expected.iter().all(|it| left.iter().any(|line| line.starts_with(it))),
        "{left:#?}"
    );
    world.up();
    assert_eq!(world.in_container("app", &["cat", "/data/word"]).success().text(), "seeded");
    world.sandbox(["gc", "--all"]).success();
    assert!(engine.changes(&[]).is_empty(), "{:#?}", engine.changes(&[]));
}
