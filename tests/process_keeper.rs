//! With a keeper that is a process of this machine, for an engine that is not: everything that a keeper in a container
//! can do, though nothing of the engine's disk is within reach.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use support::{World, eventually, within};

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

/// Passes connections to a port of this machine on to the engine's socket, as if it were far away.
fn far_away() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(engine) = UnixStream::connect("/var/run/docker.sock") else { continue };
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
    let mut world = World::with_spec(SPEC);
    world.file("files/one", "one\n");
    let address = far_away();
    world.env("SANDBOX_KEEPER", "process").env("DOCKER_HOST", &address).env("SANDBOX_LINGER", "1");
    world
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
    let world = world();
    let mut session = world.spawn(["up"]);
    session.says("it runs");
    session.kill();
    within(support::PATIENCE, "nothing is left", || world.engine().remains().is_empty());
    let told = world.sandbox(["events", "--past"]).success().stdout;
    assert!(told.contains("gone without a word"), "{told}");
    world.sandbox(["artifacts", world.name(), "--into", "out"]).success();
    let made = format!("out/{}/artifacts/app/out/made", world.name());
    let made = std::fs::read_to_string(world.project().join(made));
    assert_eq!(made.unwrap(), "made\n");
}

#[test]
fn a_storehouse_that_is_killed_comes_back_and_goes_with_its_keeper() {
    let world = world();
    let storehouse = format!("sandbox-storehouse-{}", world.name());
    world.up();
    world.engine().docker(&["kill", &storehouse]).success();
    world.sandbox(["snapshot", "create", "kept", "--crash"]).success();
    assert!(world.engine().runs(&storehouse));
    world.sandbox(["down"]).success();
    within(GONE + support::PATIENCE, "the storehouse is gone", || !world.engine().exists(&storehouse));
    // What it served is in the volume.
    let kept = world.sandbox(["snapshot", "ls"]).success().stdout;
    assert!(kept.contains("kept"), "{kept}");
    world.sandbox(["gc", "--all"]).success();
    eventually("nothing of ours is there", || {
        world.engine().containers().is_empty() && world.engine().volumes().is_empty()
    });
}

/// How many of the calls of `up` lie between two at which it is killed.
const STEP: usize = 4;

#[test]
fn a_client_killed_after_any_fourth_call_of_up_leaves_nothing() {
    let world = world();
    let file = world.home().join("calls");
    let up = ["up", "-d", "--progress", "quiet"];
    world.command(up).env("SANDBOX_FAULT", &format!("count@{}", file.display())).run().success();
    let all: usize = std::fs::read_to_string(file).unwrap().parse().unwrap();
    world.sandbox(["down", "--progress", "quiet"]).success();
    assert!(all > 2 * STEP, "so few calls are no sandbox: {all}");
    std::thread::scope(|scope| {
        for number in (1..=all).step_by(STEP) {
            let world = &world;
            scope.spawn(move || {
                let name = format!("{}-{number}", world.name());
                let command = world.command(up.into_iter().chain(["--name", &name]));
                let outcome = command.env("SANDBOX_FAULT", &format!("late@{number}")).run();
                if outcome.code == Some(0) {
                    // The first made what all share, so that later ones come up with fewer calls.
                    world.sandbox(["down", "--progress", "quiet", "--name", &name]).success();
                }
            });
        }
    });
    within(support::PATIENCE, "nothing is left", || world.engine().remains().is_empty());
    within(support::PATIENCE, "no data without an owner", || world.engine().stored("live").is_empty());
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
