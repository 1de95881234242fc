//! The engine stops, is killed, or loses its power: what has lost its lease or its time is gone once it is back.
//!
//! Each test has an engine of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::second::SecondEngine;
use support::{BUSYBOX, World, eventually, within};

const IDLE: &str = r#"
lifetime: { grace: 2s }
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "echo the app is here; exec sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["kept:/kept", "/anonymous"]
volumes: { kept: {} }
"#;

/// A service that another one waits for, and that says so.
const NEVER_READY: &str = r#"
lifetime: { grace: 2s }
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "echo the app is here; exec sleep infinity"]
    stop_signal: SIGKILL
    ready: { exec: ["false"] }
    volumes: ["kept:/kept"]
volumes: { kept: {} }
"#;

const SECRETS: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
    secrets: [password, certificate, token]
  other:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    secrets: [password]
secrets:
  password: { generate: 24 }
  certificate: { file: certificate }
  token: { environment: TOKEN }
"#;

const READ: &str = "cd /run/secrets && cat password certificate token";

/// Nothing of the sandbox remains, though the engine has to come to itself first.
#[track_caller]
fn becomes_clean(engine: &SecondEngine, world: &World) {
    engine.is_bare_but_for_keepers(Duration::from_mins(2), &[world.name()]);
}

#[track_caller]
fn is_clean(engine: &SecondEngine, world: &World) {
    engine.is_bare_but_for_keepers(Duration::ZERO, &[world.name()]);
}

fn write_a_mark(world: &World, mark: &str) {
    world.in_container("app", &["sh", "-c", &format!("echo {mark} > /kept/mark; sync")]).success();
}

/// Once its engine is back a sandbox with time left is there, stopped, and starts with its data.
#[track_caller]
fn comes_back_with_its_mark(world: &World, mark: &str) {
    is_stopped(world, "app");
    world.sandbox(["start"]).success();
    assert_eq!(world.in_container("app", &["cat", "/kept/mark"]).success().text(), mark);
}

#[track_caller]
fn is_stopped(world: &World, service: &str) {
    eventually("its objects are there, stopped", || {
        let container = world.container(service);
        world.engine().exists(&container) && !world.engine().runs(&container)
    });
}

#[test]
fn a_session_that_died_with_its_engine_is_cleaned_up_when_it_is_back() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = engine.world(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    engine.kill();
    session.kill();
    engine.start_again();

    becomes_clean(&engine, &world);
}

#[test]
fn a_session_that_died_while_the_engine_restarted_under_live_restore_is_cleaned_up() {
    let mut engine = SecondEngine::start(&["--fs", "ext4", "--", "--live-restore"], &[BUSYBOX]);
    let world = engine.world(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    engine.stop();
    session.kill();
    engine.start_again();

    becomes_clean(&engine, &world);
}

#[test]
fn a_session_outlives_a_restart_of_an_engine_that_keeps_containers_alive() {
    let mut engine = SecondEngine::start(&["--fs", "ext4", "--", "--live-restore"], &[BUSYBOX]);
    let world = engine.world(&IDLE.replace("2s", "60s"));
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    engine.stop();
    engine.start_again();

    eventually("the lease is held again", || {
        world.sandbox(["events", "--past", "--json"]).stdout.contains("\"lease-regained\"")
    });
    assert!(session.is_running(), "{}", session.stderr());
    assert!(world.engine().runs(&world.container("app")));
    session.interrupt();
    session.wait(support::PATIENCE);
    is_clean(&engine, &world);
}

#[test]
fn a_session_whose_engine_restarts_says_so_and_fails() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = engine.world(&IDLE.replace("2s", "60s"));
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    engine.stop();
    engine.start_again();

    session.wait(support::PATIENCE).exits(1).says("the engine restarted").says("removed");
    becomes_clean(&engine, &world);
}

#[test]
fn a_session_is_gone_after_a_reboot() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = engine.world(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    engine.cut_the_power();
    session.kill();
    engine.start_again();

    becomes_clean(&engine, &world);
}

#[test]
fn a_detached_sandbox_with_time_left_is_stopped_after_a_reboot_and_starts_with_its_data() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = engine.world(IDLE);
    world.up();
    write_a_mark(&world, "mine");

    engine.cut_the_power();
    engine.start_again();

    comes_back_with_its_mark(&world, "mine");
    world.sandbox(["down"]).success();
    is_clean(&engine, &world);
}

/// A file of this machine on the loop device of a number, as after a reboot at which somebody else was faster; nothing of
/// ours if another test was.
struct Occupied(Option<String>);

impl Occupied {
    fn take(number: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let device = format!("/dev/loop{number}");
        if !Path::new(&device).exists() {
            run("mknod", &[&device, "b", "7", number]);
        }
        let begin = Instant::now();
        // What died may hold it for a moment longer.
        while begin.elapsed() < Duration::from_secs(10) {
            if Command::new("losetup").arg(&device).arg(file.path()).status().unwrap().success() {
                return Self(Some(device));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(Path::new(&format!("/sys/block/loop{number}/loop")).exists(), "nobody has {device}");
        Self(None)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(|device| Command::new("losetup").args(["-d", device]).status());
    }
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

#[test]
fn a_pool_whose_device_another_file_has_is_attached_again_after_a_reboot() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let mut world = engine.world(IDLE);
    world.env("SANDBOX_STORAGE", "pool");
    world.up();
    write_a_mark(&world, "mine");
    let keeper = world.engine().pid(&format!("sandbox-keeper-{}", world.engine().scope()));
    let node = format!("/proc/{keeper}/root/pool/pool.node");
    let number = rustix::fs::minor(std::fs::metadata(&node).unwrap().rdev()).to_string();
    std::fs::remove_file(node).unwrap();

    engine.cut_the_power();
    let _other = Occupied::take(&number);
    engine.start_again();

    comes_back_with_its_mark(&world, "mine");
    world.sandbox(["down"]).success();
    is_clean(&engine, &world);
}

#[test]
fn two_engines_of_one_machine_have_pools_that_never_meet() {
    let mut first = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let second = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let mut worlds = [first.world(IDLE), second.world(IDLE)];
    for (world, word) in worlds.iter_mut().zip(["one", "other"]) {
        world.env("SANDBOX_STORAGE", "pool");
        world.up();
        write_a_mark(world, word);
    }

    // The first goes and comes back while the other has its device.
    first.cut_the_power();
    first.start_again();
    let [one, other] = &worlds;
    comes_back_with_its_mark(one, "one");
    assert_eq!(other.in_container("app", &["cat", "/kept/mark"]).success().text(), "other");

    for (engine, world) in [(&first, one), (&second, other)] {
        assert_eq!(world.engine().stored("live").len(), 1);
        world.sandbox(["down"]).success();
        is_clean(engine, world);
    }
}

#[test]
fn a_reboot_forgets_no_secret_and_no_port() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let mut world = engine.world(SECRETS);
    world.file("certificate", "from a file");
    world.env("TOKEN", "from the environment");
    world.up();
    let secrets = |world: &World| world.in_container("web", &["sh", "-c", READ]).success().stdout;
    let before = secrets(&world);
    assert!(before.contains("from a file") && before.contains("from the environment"), "{before}");

    engine.cut_the_power();
    engine.start_again();
    is_stopped(&world, "web");

    // Without the variable it cannot be started as it was: that is said, and nothing starts with half its secrets.
    let refused = world.command(["start"]).without_env("TOKEN").run().exits(1).says("TOKEN");
    assert!(!world.engine().runs(&world.container("web")), "{refused}");

    world.sandbox(["start"]).success();
    assert_eq!(secrets(&world), before);
    let same = world.in_container("other", &["cat", "/run/secrets/password"]).success();
    assert!(before.starts_with(same.text()), "{before} / {same}");
    let address = world.address("web", 80);
    let page = engine.in_its_network(&["curl", "-sS", "--max-time", "10", &format!("http://{address}/")]);
    assert_eq!(page.success().text(), "served");
    world.sandbox(["down"]).success();
    is_clean(&engine, &world);
}

#[test]
fn an_up_whose_engine_restarts_leaves_nothing() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = engine.world(NEVER_READY);
    let mut session = world.spawn(["up", "-d"]);
    session.says("waits for `false`");

    engine.stop();
    engine.start_again();

    let outcome = session.wait(Duration::from_mins(2));
    assert_ne!(outcome.code, Some(0), "{outcome}");
    becomes_clean(&engine, &world);
}

#[test]
fn a_deadline_that_passed_while_the_power_was_out_is_kept_at_once() {
    let mut engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = engine.world(IDLE);
    world.sandbox(["up", "-d", "--ttl", "6s"]).success();
    let deadline = Instant::now() + Duration::from_secs(6);

    engine.cut_the_power();
    within(Duration::from_secs(10), "the deadline has passed", || Instant::now() > deadline);
    engine.start_again();

    becomes_clean(&engine, &world);
}

#[test]
fn a_newer_engine_on_another_file_system_does_the_same() {
    let engine = SecondEngine::start(&["--release", "trixie", "--fs", "btrfs"], &[BUSYBOX]);
    let world = engine.world(IDLE);

    world.up();
    assert!(world.engine().runs(&world.container("app")));
    world.sandbox(["down"]).success();

    is_clean(&engine, &world);
}
