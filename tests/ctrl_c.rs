//! A session that ends, however it ends, takes its sandbox with it.

mod support;

use std::time::Duration;

use support::{World, eventually};

const IDLE: &str = r#"
lifetime: { grace: 1s }
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "echo the app is here; exec sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["/anonymous", "named:/named"]
volumes: { named: {} }
"#;

/// One service that never becomes ready.
const NEVER_READY: &str = r"
lifetime: { grace: 1s }
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    ready: { tcp: 81 }
";

const A_WHILE: Duration = Duration::from_mins(1);

fn service_runs(world: &World) {
    eventually("the service runs", || world.engine().runs(&world.container("app")));
}

#[test]
fn ctrl_c_in_the_foreground_destroys_everything_and_says_so() {
    let world = World::with_spec(IDLE);
    let mut terminal = world.terminal(["up"]);
    terminal.shows("the app is here");

    terminal.ctrl_c();

    let outcome = terminal.wait(A_WHILE).exits(130);
    world.engine().is_clean();
    assert!(
        outcome.stdout.to_lowercase().contains("ctrl-c"),
        "nothing was said of how to force it\n{outcome}"
    );
}

#[test]
fn ctrl_c_while_a_service_is_waited_for_destroys_what_exists() {
    let world = World::with_spec(NEVER_READY);
    let mut terminal = world.terminal(["up"]);
    service_runs(&world);

    terminal.ctrl_c();

    terminal.wait(A_WHILE).exits(130);
    world.engine().is_clean();
}

#[test]
fn ctrl_c_of_a_detached_up_that_is_still_waiting_destroys_what_exists() {
    let world = World::with_spec(NEVER_READY);
    let session = world.spawn(["up", "-d"]);
    service_runs(&world);

    session.interrupt();

    session.wait(A_WHILE).exits(130);
    world.engine().is_clean();
}

#[test]
fn ctrl_c_at_any_moment_of_up_leaves_nothing() {
    for milliseconds in [30, 120, 300, 600, 1200] {
        let world = World::with_spec(IDLE);
        let session = world.spawn(["up"]);
        std::thread::sleep(Duration::from_millis(milliseconds));

        session.interrupt();

        session.wait(A_WHILE);
        world.engine().becomes_clean();
    }
}

#[test]
fn a_second_ctrl_c_forces() {
    let world = World::with_spec(
        r#"
lifetime: { grace: 1s }
services:
  stubborn:
    image: sbx-test/busybox
    command: [sh, -c, "trap '' TERM; echo the app is here; while true; do sleep 1; done"]
    stop_grace_period: 120s
"#,
    );
    let mut terminal = world.terminal(["up"]);
    terminal.shows("the app is here");

    terminal.ctrl_c();
    std::thread::sleep(Duration::from_secs(1));
    terminal.ctrl_c();

    terminal.wait(Duration::from_secs(30)).exits(130);
    world.engine().becomes_clean();
}

#[test]
fn a_killed_session_is_cleaned_up_after_its_grace() {
    let world = World::with_spec(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    session.kill();

    world.engine().becomes_clean();
}

#[test]
fn a_session_killed_while_it_builds_the_sandbox_is_cleaned_up() {
    for milliseconds in [200, 500, 900] {
        let world = World::with_spec(IDLE);
        let mut session = world.spawn(["up"]);
        std::thread::sleep(Duration::from_millis(milliseconds));

        session.kill();

        world.engine().becomes_clean();
    }
}

#[test]
fn closing_the_terminal_destroys_everything() {
    let world = World::with_spec(IDLE);
    let mut terminal = world.terminal(["up"]);
    terminal.shows("the app is here");

    terminal.close_window();

    world.engine().becomes_clean();
}

/// What a signal to the session alone does, and the exit code that says so.
fn a_signal_destroys_everything(signal: i32, code: i32) {
    let world = World::with_spec(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    session.signal(signal);

    session.wait(A_WHILE).exits(code);
    world.engine().is_clean();
}

#[test]
fn sigterm_destroys_everything() {
    a_signal_destroys_everything(libc::SIGTERM, 143);
}

#[test]
fn sighup_destroys_everything() {
    a_signal_destroys_everything(libc::SIGHUP, 129);
}

#[test]
fn a_snapshot_that_is_interrupted_leaves_no_service_stopped() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "trap 'sleep 2; exit 0' TERM; while true; do sleep 0.1; done"]
    volumes: ["named:/named"]
volumes: { named: {} }
"#,
    );
    world.up();
    let mut snapshot = world.spawn(["snapshot", "create", "kept"]);
    snapshot.says("taking snapshot");

    snapshot.signal(libc::SIGTERM);

    snapshot.wait(A_WHILE).exits(0).says("so that no service stays stopped");
    assert!(world.engine().runs(&world.container("app")));
}

#[test]
fn the_written_lifetime_ends_a_detached_sandbox() {
    let world = World::with_spec(IDLE);
    world.sandbox(["up", "-d", "--ttl", "8s"]).success();
    assert!(!world.engine().remains().is_empty());

    world.engine().becomes_clean();
}

#[test]
fn a_detached_sandbox_outlives_the_command_that_made_it() {
    let world = World::with_spec(IDLE);
    world.up();

    std::thread::sleep(Duration::from_secs(4));

    assert!(world.engine().runs(&world.container("app")));
}

#[test]
fn destruction_asks_the_labels_so_a_changed_spec_leaves_nothing_either() {
    let world = World::with_spec(IDLE);
    world.up();

    world.spec("services: { renamed: { image: sbx-test/busybox } }");
    world.sandbox(["down"]).success();

    world.engine().is_clean();
}
