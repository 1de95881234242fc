//! `restart` is honoured while the sandbox lives, and never handed to the engine.

mod support;

use support::{World, eventually};

/// A service that leaves a mark and ends after three seconds, longer than `up` takes to see that it runs.
fn mortal(policy: &str, code: u8) -> String {
    counted("mortal", &format!("sleep 3; exit {code}"), &format!("restart: {policy}"))
}

/// A service that leaves a mark each time, and one that looks at them.
fn counted(service: &str, end: &str, how: &str) -> String {
    format!(
        r#"
services:
  {service}:
    image: sbx-test/busybox
    command: [sh, -c, "echo life >> /lives/count; {end}"]
    {how}
    volumes: ["lives:/lives"]
  watcher:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["lives:/lives"]
volumes: {{ lives: {{}} }}
"#
    )
}

fn lives(world: &World) -> usize {
    world.in_container("watcher", &["cat", "/lives/count"]).stdout.lines().count()
}

#[test]
fn always_brings_a_service_back_in_a_detached_sandbox() {
    let world = World::with_spec(&mortal("always", 0));

    world.up();

    eventually("it has lived three times", || lives(&world) >= 3);
}

#[test]
fn on_failure_brings_back_what_failed() {
    let world = World::with_spec(&mortal("on-failure", 1));

    world.up();

    eventually("it has lived three times", || lives(&world) >= 3);
}

#[test]
fn a_service_that_ends_at_once_the_first_time_is_waited_for() {
    let world = World::with_spec(
        r#"
services:
  shy:
    image: sbx-test/busybox
    command: [sh, -c, "if [ -e /lives/one ]; then exec sleep infinity; fi; touch /lives/one; exit 1"]
    stop_signal: SIGKILL
    restart: always
    volumes: ["lives:/lives"]
volumes: { lives: {} }
"#,
    );

    world.up();

    assert!(world.engine().runs(&world.container("shy")));
}

#[test]
fn on_failure_leaves_alone_what_succeeded() {
    let world = World::with_spec(&mortal("on-failure", 0));

    world.up();

    eventually("it has ended", || !world.engine().runs(&world.container("mortal")));
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(lives(&world), 1);
}

#[test]
fn the_engine_itself_is_given_no_restart_policy() {
    let world = World::with_spec(&mortal("always", 0));

    world.up();

    let policy =
        world.engine().inspect(&world.container("mortal"))["HostConfig"]["RestartPolicy"]["Name"].clone();
    assert!(policy == "no" || policy == "", "{policy}");
}

#[test]
fn a_session_in_the_foreground_brings_a_service_back() {
    let world = World::with_spec(&mortal("always", 0));
    let session = world.spawn(["up"]);

    eventually("it has lived three times", || lives(&world) >= 3);

    session.interrupt();
    session.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn what_was_stopped_on_purpose_stays_stopped() {
    let world = World::with_spec(&mortal("always", 0));
    world.up();

    world.sandbox(["stop", "mortal"]).success();

    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(!world.engine().runs(&world.container("mortal")));
}

/// A service that fails at once.
fn looping() -> (World, support::Session) {
    let how = "restart: always\n    ready: { exec: [\"true\"] }";
    let world = World::with_spec(&counted("looping", "exit 1", how));
    // It is never ready; it stays to be restarted.
    let up = world.spawn(["up", "--no-logs", "--keep-on-failure"]);
    eventually("it has lived four times", || lives(&world) >= 4);
    (world, up)
}

#[test]
fn a_service_that_waits_for_its_restart_is_started_by_the_next_keeper() {
    let (world, _up) = looping();
    let keeper = world.engine().pid(&format!("sandbox-keeper-{}", world.name()));

    world.host("kill", &["-9", &keeper.to_string()]).run().success();

    let before = lives(&world);
    eventually("it lives again", || lives(&world) > before);
}

#[test]
fn a_service_that_waits_for_its_restart_and_is_stopped_stays_stopped() {
    let (world, _up) = looping();

    world.sandbox(["stop", "looping"]).success();

    let lived = lives(&world);
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(lives(&world), lived);
}
