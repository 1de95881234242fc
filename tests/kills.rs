//! Whatever call its process is killed at, nothing of a sandbox is left: the whole engine is compared with what it was.
//!
//! Debug builds die at a chosen call to the engine or to the storage (`SANDBOX_FAULT`): just before it is sent, or just
//! after it was answered; or they stop there. Each test has an engine of its own.

mod support;

use std::time::Duration;

use support::second::SecondEngine;
use support::{BUSYBOX, Outcome, Run, Session, World, eventually, within};

/// Two services, one with seeded data; `N` sets the data of one sandbox apart from that of others.
const SPEC: &str = r#"
lifetime: { grace: 2s }
limits: { memory: 512m }
services:
  db:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    environment: { N: "${N:-0}" }
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

/// One service that can be reached, and its data.
const SMALL: &str = r#"
lifetime: { grace: 2s }
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "while true; do echo hi | nc -l -p 8080; done"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    ports: ["8080"]
volumes: { data: {} }
"#;

/// How long the keeper waits for a client that is gone, and what it may take to destroy what that client had.
const GONE: Duration = Duration::from_secs(2 + 5);

const UP: [&str; 4] = ["up", "-d", "--progress", "quiet"];
const DOWN: [&str; 3] = ["down", "--progress", "quiet"];

fn engine() -> SecondEngine {
    SecondEngine::start(&["--fs", "ext4"], &[BUSYBOX])
}

/// How many calls a command makes that change something.
fn calls(world: &World, command: Run) -> usize {
    let file = world.home().join("calls");
    command.env("SANDBOX_FAULT", &format!("count@{}", file.display())).run().success();
    read(&file)
}

fn read(file: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no number of calls: `{text}`"))
}

/// The calls of an `up` that finds its keeper, and its data if it is that of before; at least as many as make a sandbox.
fn calls_of_up(world: &World) -> usize {
    world.up();
    world.sandbox(DOWN).success();
    let all = calls(world, world.command(UP));
    world.sandbox(DOWN).success();
    assert!(all > 10, "so few calls are no sandbox: {all}");
    all
}

/// Does something for each number from 1 on, six at a time.
fn for_each(count: usize, act: impl Fn(usize) + Sync) {
    let numbers: Vec<usize> = (1..=count).collect();
    for some in numbers.chunks(6) {
        std::thread::scope(|scope| {
            for &number in some {
                let act = &act;
                scope.spawn(move || act(number));
            }
        });
    }
}

#[track_caller]
fn was_killed(outcome: &Outcome) {
    assert_eq!(outcome.signal, Some(libc::SIGKILL), "it was not killed: {outcome}");
}

#[test]
fn the_first_client_of_an_engine_killed_before_any_of_its_calls_leaves_nothing() {
    let engine = engine();
    let world = engine.world(SMALL);
    let up = |scope: &str| world.command(UP).env("SANDBOX_SCOPE", scope).env("SANDBOX_NAME", scope);
    let killed = |mode: &str, number: usize, scope: &str| {
        was_killed(&up(scope).env("SANDBOX_FAULT", &format!("{mode}@{number}")).run());
    };
    killed("kill", 1, world.name());
    engine.is_bare_but_for_keepers(Duration::ZERO, &[]);
    // Its first call brings our image; for the others each has a scope in which it is the first.
    killed("late", 1, world.name());
    let scopes: Vec<String> = (0..).map(|number| format!("{}n{number}", world.name())).take(60).collect();
    let all = calls(&world, up(&scopes[0]));
    world.command(["down", "--all"]).env("SANDBOX_SCOPE", &scopes[0]).run().success();

    for_each(all, |number| killed("kill", number, &scopes[number]));

    let mut scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    scopes.push(world.name());
    engine.is_bare_but_for_keepers(GONE, &scopes);
}

#[test]
fn a_client_killed_before_any_call_of_up_and_of_its_bake_leaves_nothing() {
    let engine = engine();
    let world = engine.world(SPEC);
    world.up();
    world.sandbox(DOWN).success();
    let all = calls(&world, world.command(UP).env("N", "another"));
    world.sandbox(DOWN).success();

    for_each(all, |number| {
        let name = format!("{}-{number}", world.name());
        let up = world.command(UP.into_iter().chain(["--name", &name])).env("N", &number.to_string());
        was_killed(&up.env("SANDBOX_FAULT", &format!("kill@{number}")).run());
    });

    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn a_client_killed_after_any_call_of_up_leaves_nothing() {
    let engine = engine();
    let world = engine.world(SPEC);

    for_each(calls_of_up(&world), |number| {
        let name = format!("{}-{number}", world.name());
        let up = world.command(UP.into_iter().chain(["--name", &name]));
        was_killed(&up.env("SANDBOX_FAULT", &format!("late@{number}")).run());
    });

    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn a_session_killed_at_any_call_of_its_end_leaves_nothing() {
    let engine = engine();
    let world = engine.world(SPEC);
    world.up();
    world.sandbox(DOWN).success();
    let file = world.home().join("calls");
    let ready = |name: &str, fault: &str| {
        let up = world.command(["up", "--progress", "plain", "--name", name]);
        let mut session = up.env("SANDBOX_FAULT", fault).spawn();
        session.says("is up after");
        session
    };
    let session = ready(world.name(), &format!("count@{}", file.display()));
    let before = read(&file);
    session.interrupt();
    session.wait(support::PATIENCE);
    let all = read(&file);
    assert!(all > before, "its end makes no call");

    for_each((all - before) * 2, |number| {
        let mode = if number % 2 == 0 { "kill" } else { "late" };
        let fault = format!("{mode}@{}", before + number.div_ceil(2));
        let session = ready(&format!("{}-{number}", world.name()), &fault);
        session.interrupt();
        was_killed(&session.wait(support::PATIENCE));
    });

    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

/// The services of the sandbox of this number that run.
fn running(world: &World, number: usize) -> usize {
    let service = |service: &str| format!("sbx-{}-{number}.{service}", world.name());
    ["db", "web"].into_iter().filter(|it| world.engine().runs(&service(it))).count()
}

/// Of so many sandboxes that a `down` was to destroy none is half there: all are gone but for those, half at most, whose
/// `down` had not even reached the keeper. These are removed.
fn none_is_half_there(world: &World, count: usize) {
    let whole = || (1..=count).filter(|number| running(world, *number) == 2);
    within(GONE, "each is gone or whole", || {
        (1..=count).all(|number| running(world, number) != 1) && whole().count() <= count / 2
    });
    let names: Vec<String> = whole().map(|number| format!("{}-{number}", world.name())).collect();
    if !names.is_empty() {
        world.sandbox(DOWN.into_iter().chain(names.iter().map(String::as_str))).success();
    }
}

#[test]
fn a_client_killed_at_any_call_of_down_leaves_nothing_half_destroyed() {
    let engine = engine();
    let world = engine.world(SPEC);
    world.up();
    let all = calls(&world, world.command(DOWN));

    for_each(all * 2, |number| {
        let mode = if number % 2 == 0 { "kill" } else { "late" };
        let name = format!("{}-{number}", world.name());
        world.sandbox(UP.into_iter().chain(["--name", &name])).success();
        let down = world.command(DOWN.into_iter().chain([name.as_str()]));
        was_killed(&down.env("SANDBOX_FAULT", &format!("{mode}@{}", number.div_ceil(2))).run());
    });

    none_is_half_there(&world, all * 2);
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

/// One command for each of these numbers, on a sandbox of its own, stopped before that call.
fn stopped_at(world: &World, command: &[&str], calls: impl IntoIterator<Item = usize>) -> Vec<Session> {
    let begin = |number: usize| {
        let name = format!("{}-{number}", world.name());
        let begun = world.command(command.iter().copied().chain(["--name", &name]));
        begun.env("SANDBOX_FAULT", &format!("stop@{number}")).spawn()
    };
    let sessions: Vec<Session> = calls.into_iter().map(begin).collect();
    eventually("each is stopped", || sessions.iter().all(Session::is_stopped));
    sessions
}

/// Kills the keeper's process, as its own fault would: the engine starts it again.
fn kill_the_keeper(world: &World) {
    let pid = world.engine().pid(&format!("sandbox-keeper-{}", world.name()));
    world.host("kill", &["-9", &pid.to_string()]).run().success();
}

#[test]
fn a_keeper_killed_at_any_call_of_up_destroys_what_is_not_finished() {
    let engine = engine();
    let world = engine.world(SMALL);
    let sessions = stopped_at(&world, &UP, 1..=calls_of_up(&world));

    kill_the_keeper(&world);
    sessions.iter().for_each(|session| session.signal(libc::SIGCONT));

    for (number, session) in (1..).zip(sessions) {
        // Most find their keeper again; one whose data was just being made may not go on.
        if session.wait(support::PATIENCE).code == Some(0) {
            let name = format!("{}-{number}", world.name());
            world.sandbox(DOWN.into_iter().chain([name.as_str()])).success();
        }
    }
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn when_client_and_keeper_are_killed_at_any_call_of_up_the_keeper_that_the_engine_restarts_is_enough() {
    let engine = engine();
    let world = engine.world(SMALL);
    let all: Vec<usize> = (1..=calls_of_up(&world)).collect();
    for some in all.chunks(5) {
        let mut sessions = stopped_at(&world, &UP, some.iter().copied());

        kill_the_keeper(&world);
        sessions.iter_mut().for_each(Session::kill);

        engine.is_bare_but_for_keepers(GONE, &[world.name()]);
    }
}

#[test]
fn when_client_and_keeper_are_killed_at_any_call_of_down_the_keeper_that_the_engine_restarts_is_enough() {
    let engine = engine();
    let world = engine.world(SPEC);
    world.up();
    let all = calls(&world, world.command(DOWN));
    for_each(all, |number| {
        let name = format!("{}-{number}", world.name());
        world.sandbox(UP.into_iter().chain(["--name", &name])).success();
    });
    let mut sessions = stopped_at(&world, &DOWN, 1..=all);

    kill_the_keeper(&world);
    sessions.iter_mut().for_each(Session::kill);

    none_is_half_there(&world, all);
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn when_client_and_keeper_are_killed_for_good_the_next_call_of_the_program_is_enough() {
    let engine = engine();
    let world = engine.world(SMALL);
    let calls = calls_of_up(&world);
    was_killed(&world.command(UP).env("SANDBOX_FAULT", &format!("late@{}", calls / 2)).run());
    // The engine does not start again what it was asked to kill.
    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]).success();

    world.sandbox(["ls"]);

    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}

#[test]
fn a_keeper_killed_while_it_destroys_finishes_when_it_is_back() {
    let engine = engine();
    let world = engine.world(SPEC);
    world.up();
    let all = world.engine().remains().len();
    let down = world.spawn(DOWN);
    within(GONE, "something is gone", || world.engine().remains().len() < all);

    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]);

    down.wait(support::PATIENCE);
    // Where it was killed too late to be missed, the next call that needs it brings it back.
    world.sandbox(["snapshot", "ls"]).success();
    engine.is_bare_but_for_keepers(GONE, &[world.name()]);
}
