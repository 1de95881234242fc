//! The engine's disk runs full, or the pool stops taking writes: nothing breaks, and all goes on when that is over.

mod support;

use std::process::Command;

use support::second::SecondEngine;
use support::{BUSYBOX, World, eventually};

const WRITER: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["kept:/kept"]
volumes: { kept: {} }
"#;

fn state(world: &World) -> String {
    world.engine().inspect(&world.container("app"))["State"]["Status"].as_str().unwrap_or_default().to_owned()
}

fn events(world: &World) -> String {
    world.sandbox(["events", "--past", "--json"]).success().stdout
}

/// Kilobytes that are free on the engine's disk.
fn free(world: &World) -> u64 {
    let listed = world.engine().docker(&["run", "--rm", BUSYBOX, "df", "-kP", "/"]).success();
    let line = listed.stdout.lines().last().unwrap_or_default().to_owned();
    line.split_whitespace().nth(3).and_then(|free| free.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn services_are_frozen_while_the_disk_is_full_and_thawed_afterwards() {
    let engine = SecondEngine::start(&["--fs", "ext4", "--size", "700M"], &[BUSYBOX]);
    let world = engine.world(WRITER);
    world.up();
    let docker = world.engine();
    let filler = format!("filler-{}", world.name());

    let fill = format!("fallocate -l {}k /fill && exec sleep infinity", free(&world).saturating_sub(6 << 10));
    docker.docker(&["run", "-d", "--init", "--name", &filler, BUSYBOX, "sh", "-c", &fill]).success();
    eventually("it is frozen", || state(&world) == "paused");
    docker.docker(&["rm", "-f", &filler]).success();

    eventually("it is thawed", || state(&world) == "running");
    eventually("both are on record", || {
        let events = events(&world);
        events.contains("\"disk-full\"") && events.contains("\"disk-eased\"")
    });
    world.sandbox(["down"]).success();
    docker.is_clean();
}

#[test]
fn a_pool_that_turned_read_only_is_mended_and_its_data_is_there() {
    let mut world = World::with_spec(WRITER);
    world.env("SANDBOX_STORAGE", "pool");
    world.up();
    world.in_container("app", &["sh", "-c", "echo mine > /kept/mark; sync"]).success();
    let volume = world.engine().inspect(&format!("sbx-{}.kept", world.name()));
    let place = volume["Mountpoint"].as_str().unwrap_or_default().to_owned();

    // Nobody has a file of it open for writing: so its file system can be made what an error makes it.
    let made = Command::new("mount").args(["-o", "remount,ro", &place]).status();
    assert!(made.is_ok_and(|status| status.success()));

    eventually("it is mended", || events(&world).contains("\"pool-mended\""));
    eventually("the service runs", || state(&world) == "running");
    world
        .in_container("app", &["sh", "-c", "cat /kept/mark && echo more > /kept/more"])
        .success()
        .prints("mine");
    assert!(events(&world).contains("\"pool-read-only\""));
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}
