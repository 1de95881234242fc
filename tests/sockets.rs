//! Where the engine's socket is: on the client's machine, and on the engine's own, where it may have another path.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::second::SecondEngine;
use support::{BUSYBOX, World};

const IDLE: &str = "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
";

/// Leaves a socket that nobody listens on.
fn leave_dead_socket(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(path).unwrap());
}

/// A world whose client reaches the engine by a path that means something else on the engine's machine.
fn world_with_own_path(engine: &SecondEngine) -> (World, PathBuf) {
    let mut world = World::with_spec(IDLE);
    let path = world.home().join("docker.sock");
    std::os::unix::fs::symlink(engine.address().trim_start_matches("unix://"), &path).unwrap();
    world.env("DOCKER_HOST", &format!("unix://{}", path.display()));
    (world, path)
}

fn keeper_socket(world: &World) -> String {
    let keeper = world.engine().inspect(&format!("sandbox-keeper-{}", world.name()));
    let mounts = keeper["Mounts"].as_array().unwrap();
    let socket = mounts.iter().find(|mount| mount["Destination"] == "/var/run/docker.sock").unwrap();
    socket["Source"].as_str().unwrap().to_owned()
}

fn end(world: &World) {
    world.sandbox(["down"]).success();
    world.sandbox(["gc", "--all"]).success();
}

#[test]
fn the_keeper_finds_the_socket_although_the_clients_path_is_missing_or_dead_there() {
    let engine = SecondEngine::start(&[], &[BUSYBOX]);
    let (world, path) = world_with_own_path(&engine);
    let there = engine.inside(path.to_str().unwrap());

    world.up();
    assert_eq!(keeper_socket(&world), "/var/run/docker.sock");
    assert!(!there.exists(), "a try has made a path on the engine's machine");
    end(&world);

    leave_dead_socket(&there);
    let begin = Instant::now();
    world.up();
    let elapsed = begin.elapsed();
    assert_eq!(keeper_socket(&world), "/var/run/docker.sock");
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}");
    end(&world);
}

#[test]
fn a_socket_at_an_unusual_place_is_named_by_a_variable_and_the_error_says_so() {
    let engine = SecondEngine::start(&["--socket", "/run/other/engine.sock"], &[BUSYBOX]);
    let (mut world, path) = world_with_own_path(&engine);

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    for tried in [path.to_str().unwrap(), "/var/run/docker.sock", "/run/docker.sock"] {
        assert!(outcome.stderr.contains(&format!("`{tried}`")), "{tried}: {outcome}");
    }
    assert!(outcome.stderr.contains("SANDBOX_ENGINE_SOCKET"), "{outcome}");
    assert!(!engine.inside("/run/docker.sock").exists(), "a try has made a path on the engine's machine");
    assert!(!engine.inside(path.to_str().unwrap()).exists());

    world.env("SANDBOX_ENGINE_SOCKET", "/run/other/engine.sock");
    world.up();
    assert_eq!(keeper_socket(&world), "/run/other/engine.sock");
    end(&world);
}

#[test]
fn a_client_skips_a_dead_socket_and_uses_the_next() {
    let world = World::with_spec(IDLE);
    let dead = world.home().join("dead.sock");
    leave_dead_socket(&dead);
    let runtime = world.home().parent().unwrap().join("run");
    let script = format!(
        "set -e; touch {run}/docker.sock; mount --bind /var/run/docker.sock {run}/docker.sock
         mount --bind {dead} /var/run/docker.sock
         unset DOCKER_HOST; export HOME={home} XDG_RUNTIME_DIR={run} SANDBOX_SCOPE={name} SANDBOX_NAME={name}
         {program} up -d && {program} version && {program} down && {program} gc --all
         umount {run}/docker.sock; mount --bind {dead} {run}/docker.sock; {program} ls",
        run = runtime.display(),
        dead = dead.display(),
        home = world.home().display(),
        name = world.name(),
        program = env!("CARGO_BIN_EXE_sandbox"),
    );

    let outcome =
        world.host("unshare", &["--mount", "--propagation", "private", "sh", "-c", &script]).run().exits(3);

    assert!(outcome.stdout.contains("engine Docker"), "{outcome}");
    for socket in ["/var/run/docker.sock".to_owned(), format!("{}/docker.sock", runtime.display())] {
        assert!(outcome.stderr.contains(&format!("`{socket}`: ")), "{socket}: {outcome}");
    }
    world.engine().is_clean();
}
