//! With a keeper that is a process of this machine, for an engine that is not: everything that a keeper in a container
//! can do, though nothing of the engine's disk is within reach.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use support::second::SecondEngine;
use support::{BUSYBOX, World, eventually, within};

const SPEC: &str = r#"
lifetime: { grace: 2s }
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir -p /out; echo made > /out/made; echo it runs; exec sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data", "files:/files"]
    seed: [{ exec: [sh, -c, "echo seeded > /data/word"] }]
volumes: { data: {}, files: { seed: [{ copy: files }] } }
artifacts: [app:/out]
"#;

/// Grace, and what a destruction may take.
const GONE: Duration = Duration::from_secs(2 + 5);

/// Passes connections to a port of this machine on to an engine's socket, as if it were far away.
fn far_away(socket: &str) -> String {
    let socket = socket.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(engine) = UnixStream::connect(&socket) else { continue };
            let (mut up, mut down) = (near.try_clone().unwrap(), engine.try_clone().unwrap());
            let (mut near, mut engine): (TcpStream, UnixStream) = (near, engine);
            std::thread::spawn(move || {
                let _ = io::copy(&mut up, &mut engine);
                let _ = engine.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = io::copy(&mut down, &mut near);
                let _ = near.shutdown(Shutdown::Both);
            });
        }
    });
    format!("tcp://{address}")
}

fn world() -> World {
    world_on("/var/run/docker.sock")
}

fn world_on(socket: &str) -> World {
    let mut world = World::with_spec(SPEC);
    world.file("files/one", "one\n");
    let address = far_away(socket);
    world.env("SANDBOX_KEEPER", "process").env("DOCKER_HOST", &address).env("SANDBOX_LINGER", "1");
    world
}

/// An engine that nobody else uses, and a world on it.
fn own_engine() -> (SecondEngine, World) {
    let engine = SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX]);
    let world = world_on(engine.address().trim_start_matches("unix://"));
    (engine, world)
}

/// Kills the keeper's process.
fn kill_the_keeper(world: &World) {
    let keepers = world.engine().keeper_processes();
    assert_eq!(keepers.len(), 1);
    world.host("kill", &["-9", &keepers[0].to_string()]).run().success();
}

fn word(world: &World) -> String {
    world.sandbox(["exec", "app", "cat", "/data/word"]).success().text().to_owned()
}

#[test]
fn data_is_seeded_cloned_put_back_and_carried() {
    let world = world();
    world.up();
    assert_eq!(word(&world), "seeded");
    let files = world.sandbox(["exec", "app", "cat", "/files/one"]).success();
    assert_eq!(files.text(), "one");

    world.sandbox(["exec", "app", "sh", "-c", "echo changed > /data/word"]).success();
    let second = format!("{}-second", world.name());
    world.sandbox(["fork", &second]).success();
    let forked = world.sandbox(["exec", "--name", &second, "app", "cat", "/data/word"]).success();
    assert_eq!(forked.text(), "changed");
    world.sandbox(["snapshot", "create", "kept", "--crash"]).success();
    world.sandbox(["reset"]).success();
    assert_eq!(word(&world), "seeded");

    world.sandbox(["snapshot", "export", "kept", "kept.tar.zst"]).success();
    world.sandbox(["snapshot", "rm", "kept"]).success();
    world.sandbox(["snapshot", "import", "kept.tar.zst", "--as", "back"]).success();
    world.sandbox(["reset", "--to", "back"]).success();
    assert_eq!(word(&world), "changed");

    world.sandbox(["down", "--all"]).success();
    world.engine().is_clean();
    assert!(world.engine().stored("live").is_empty());
    let keeper = format!("sandbox-keeper-{}", world.name());
    assert!(!world.engine().exists(&keeper));
}

#[test]
fn a_session_that_is_killed_is_destroyed_and_its_artifacts_are_there() {
    let (engine, world) = own_engine();
    let mut session = world.spawn(["up"]);
    session.says("it runs");
    session.kill();
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
    let told = world.sandbox(["events", "--past"]).success().stdout;
    assert!(told.contains("its session was killed or lost its connection"), "{told}");
    world.sandbox(["artifacts", world.name(), "--into", "out"]).success();
    let made = format!("out/{}/artifacts/app/out/made", world.name());
    let made = std::fs::read_to_string(world.project().join(made));
    assert_eq!(made.unwrap(), "made\n");
}

#[test]
fn a_storage_server_that_is_killed_comes_back_and_goes_with_its_keeper() {
    let world = world();
    let storage_server = format!("sandbox-storage-server-{}", world.name());
    world.up();
    world.engine().docker(&["kill", &storage_server]).success();
    world.sandbox(["snapshot", "create", "kept", "--crash"]).success();
    assert!(world.engine().runs(&storage_server));
    world.sandbox(["down"]).success();
    within(GONE + support::PATIENCE, "the storage server is gone", || {
        !world.engine().exists(&storage_server)
    });
    // What it served is in the volume.
    let kept = world.sandbox(["snapshot", "ls"]).success().stdout;
    assert!(kept.contains("kept"), "{kept}");
    world.sandbox(["gc", "--all"]).success();
    eventually("nothing of ours is there", || {
        world.engine().containers().is_empty() && world.engine().volumes().is_empty()
    });
}

#[test]
fn a_keeper_that_is_killed_comes_back_for_a_lease_and_the_session_goes_on() {
    let (engine, world) = own_engine();
    let mut session = world.spawn(["up"]);
    session.says("it runs").says("is up after");

    kill_the_keeper(&world);

    eventually("the lease is held again", || world.sandbox(["ls", "--json"]).stdout.contains("\"held\""));
    assert!(session.is_running() && world.engine().runs(&world.container("app")));
    session.interrupt();
    session.wait(support::PATIENCE).exits(130);
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn when_client_and_keeper_are_killed_the_next_call_of_the_program_is_enough() {
    let (engine, world) = own_engine();
    let mut session = world.spawn(["up"]);
    session.says("it runs");
    session.kill();
    kill_the_keeper(&world);

    world.sandbox(["ls"]);

    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

/// How many calls a command makes that change something.
fn calls(world: &World, arguments: &[&str]) -> usize {
    let file = world.home().join("calls");
    world.command(arguments).env("SANDBOX_FAULT", &format!("count@{}", file.display())).run().success();
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

#[test]
fn a_client_killed_after_every_other_call_of_up_or_before_any_of_down_leaves_nothing() {
    let (engine, world) = own_engine();
    let (up, down) = (["up", "-d", "--progress", "quiet"], ["down", "--progress", "quiet"]);
    world.up();
    world.sandbox(down).success();
    let all = calls(&world, &up);
    let end = calls(&world, &down);
    assert!(all > 8, "so few calls are no sandbox: {all}");
    std::thread::scope(|scope| {
        let (world, up, down) = (&world, &up, &down);
        let killed = |arguments: &[&str], name: &str, fault: String| {
            let command = world.command(arguments.iter().chain(&["--name", name]));
            let outcome = command.env("SANDBOX_FAULT", &fault).run();
            assert_eq!(outcome.signal, Some(libc::SIGKILL), "{outcome}");
        };
        for number in (1..=all).step_by(2) {
            scope.spawn(move || killed(up, &format!("{}-{number}", world.name()), format!("late@{number}")));
        }
        for number in 1..=end {
            scope.spawn(move || {
                let name = format!("{}-d{number}", world.name());
                world.sandbox(up.iter().chain(&["--name", &name])).success();
                killed(down, &name, format!("kill@{number}"));
                world.sandbox(down.iter().chain(&["--name", &name]));
            });
        }
    });
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn a_keeper_of_the_other_kind_is_not_started_beside_one() {
    let mut world = World::with_spec(SPEC);
    world.file("files/one", "one\n");
    world.env("SANDBOX_LINGER", "1");
    world.up();
    let other = world.command(["up", "-d"]).env("SANDBOX_KEEPER", "process").run();
    assert_eq!(other.code, Some(1), "{other}");
    other.says("a keeper in a container serves this engine");
    world.sandbox(["down"]).success();
    let keeper = format!("sandbox-keeper-{}", world.name());
    eventually("it has left", || !world.engine().exists(&keeper));

    world.env("SANDBOX_KEEPER", "process");
    world.up();
    let other = world.command(["up", "-d"]).without_env("SANDBOX_KEEPER").run();
    assert_eq!(other.code, Some(1), "{other}");
    other.says("a keeper that is a process serves this engine");
    world.sandbox(["down"]).success();
}
