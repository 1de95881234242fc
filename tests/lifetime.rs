//! How long a sandbox lives, who moves that, and what is on record of its end.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{World, eventually};

const IDLE: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "echo the app is here; exec sleep infinity"]
    stop_signal: SIGKILL
"#;

/// The sandbox's line of `ls --json`.
fn listed(world: &World) -> Value {
    world.sandbox(["ls", "--json"]).success().json()[0].clone()
}

/// The records of the sandbox's ends, the oldest first.
fn ends(world: &World) -> Vec<Value> {
    let told = world.sandbox(["events", "--past", "--json"]).success().stdout;
    let lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    lines.filter(|event| event["action"] == "destroyed").collect()
}

#[test]
fn events_tell_who_destroyed_what_when_and_why() {
    let world = World::with_spec(IDLE);
    world.up();
    world.sandbox(["down"]).success();
    world.sandbox(["up", "-d", "--ttl", "20s"]).success();
    world.engine().becomes_clean();
    let mut session = world.spawn(["up"]);
    session.says("the app is here");
    session.interrupt();
    session.wait(support::PATIENCE);

    eventually("three ends are on record", || ends(&world).len() == 3);
    let ends = ends(&world);
    let reasons: Vec<&str> = ends.iter().filter_map(|end| end["reason"].as_str()).collect();
    assert_eq!(reasons, ["down", "ttl", "session-ended"]);
    assert!(ends.iter().all(|end| end["sandbox"] == world.name() && end["time"].is_string()), "{ends:?}");
    assert_eq!(ends[1]["by"], "keeper");
}

#[test]
fn extend_moves_the_deadline_by_a_length_and_to_a_time() {
    let world = World::with_spec(IDLE);
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world)["ends"].clone();

    world.sandbox(["extend", world.name(), "3h"]).success();
    let longer = listed(&world)["ends"].clone();
    let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(moment(&longer).duration_since(moment(&before)).as_hours(), 3, "{before} {longer}");

    world.sandbox(["extend", "--until", "2126-01-01T00:00:00Z"]).success();
    assert_eq!(listed(&world)["ends"], "2126-01-01T00:00:00Z");
    world.sandbox(["extend", "--until", "18:00"]).success();
    assert!(listed(&world)["ends"].as_str() < Some("2126"));
}

#[test]
fn a_session_that_is_stopped_by_ctrl_z_says_so_and_goes_on_afterwards() {
    let world = World::with_spec(IDLE);
    let mut session = world.spawn(["up"]);
    session.says("the app is here");

    session.signal(libc::SIGTSTP);
    eventually("its silence is announced", || listed(&world)["hold"] == "suspended");
    session.signal(libc::SIGCONT);

    eventually("it is held again", || listed(&world)["hold"] == "held");
    session.interrupt();
    session.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn a_session_that_comes_back_after_its_sandbox_was_destroyed_ends() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    let mut session = world.spawn(["up"]);
    session.says("the app is here");
    session.signal(libc::SIGSTOP);
    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]).success();
    world.sandbox(["ls"]).success();
    world.engine().becomes_clean();

    session.signal(libc::SIGCONT);

    session.wait(support::PATIENCE).says("lost the keeper");
    world.engine().is_clean();
}

#[test]
fn two_downs_at_once_both_succeed() {
    let world = World::with_spec(IDLE);
    world.up();

    let downs = [world.spawn(["down"]), world.spawn(["down"])];
    let codes = downs.map(|down| down.wait(Duration::from_mins(1)).code);

    // The second may have found nothing left to do.
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 4))) && codes.contains(&Some(0)), "{codes:?}");
    world.engine().is_clean();
}

#[test]
fn down_names_what_it_cannot_remove_and_fails() {
    let world =
        World::with_spec(&format!("{IDLE}    volumes: [\"kept:/kept\"]\nvolumes: {{ kept: {{}} }}\n"));
    world.up();
    let (volume, stranger) = (format!("sbx-{}.kept", world.name()), format!("stranger-{}", world.name()));
    let mount = format!("{volume}:/theirs");
    world.engine().docker(&["create", "--name", &stranger, "-v", &mount, support::BUSYBOX]).success();

    // Again, when the keeper has given up on it for now.
    let outcomes = [world.sandbox(["down"]), world.sandbox(["down"])];
    world.engine().docker(&["rm", "-f", &stranger]).success();

    for outcome in outcomes {
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(outcome.stderr.contains(&volume), "{outcome}");
    }
    eventually("the keeper tries again", || world.engine().remains().is_empty());
}

/// A second `up` that takes its time: what it adds is never ready.
fn second_up(world: &World) -> support::Session {
    let never = "    ready: { exec: [\"false\"] }\n";
    world.spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}  more:\n    image: sbx-test/busybox\n    command: [sleep, infinity]\n    stop_signal: SIGKILL\n{never}"));
    let up = world.spawn(["up", "-d"]);
    eventually("it changes something", || world.engine().runs(&world.container("more")));
    up
}

/// It lives, though its client has been gone for longer than its grace, and to the deadline that it had.
fn lives_on(world: &World, before: &Value) {
    std::thread::sleep(Duration::from_secs(3));
    assert!(world.engine().runs(&world.container("app")));
    let now = listed(world);
    assert_eq!((&now["hold"], &now["ends"]), (&before["hold"], &before["ends"]), "{now}");
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}

#[test]
fn a_sandbox_outlives_a_second_up_that_fails() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world);
    world.spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}  more: {{ image: \"127.0.0.1:1/none\" }}\n"));

    world.sandbox(["up", "-d"]).exits(1).says("127.0.0.1:1/none");

    lives_on(&world, &before);
}

#[test]
fn a_sandbox_outlives_a_second_up_that_is_interrupted() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world);

    let up = second_up(&world);
    up.interrupt();
    let outcome = up.wait(support::PATIENCE);

    assert_eq!(outcome.code, Some(130), "{outcome}");
    outcome.says("keeps running with the changes made so far");
    lives_on(&world, &before);
}

#[test]
fn a_sandbox_outlives_a_second_up_that_is_killed() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    let before = listed(&world);

    second_up(&world).kill();

    lives_on(&world, &before);
}

/// A detached sandbox with data of its own, and what `ls` says of it.
fn with_data() -> (World, Value) {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{IDLE}"));
    world.sandbox(["up", "-d", "--ttl", "1h"]).success().says("ends at");
    world.in_container("app", &["touch", "/data"]).success();
    let before = listed(&world);
    (world, before)
}

/// It is as detached as it was, with its data.
fn is_as_before(world: &World, before: &Value) {
    eventually("it is left", || listed(world)["hold"] == "detached");
    let now = listed(world);
    assert_eq!((&now["id"], &now["ends"]), (&before["id"], &before["ends"]), "{now}");
    world.in_container("app", &["test", "-e", "/data"]).success();
}

#[test]
fn a_session_on_a_detached_sandbox_leaves_it_as_it_was() {
    let (world, before) = with_data();

    let mut up = world.spawn(["up", "--progress", "plain"]);
    up.says("is up after").says("Ctrl-C leaves it up");
    up.interrupt();
    up.wait(support::PATIENCE).exits(130);
    is_as_before(&world, &before);

    let mut killed = world.spawn(["up", "--progress", "plain"]);
    killed.says("is up after");
    killed.kill();
    is_as_before(&world, &before);

    world.command(["shell"]).env("SHELL", "/bin/true").run().success();
    is_as_before(&world, &before);
}

#[test]
fn a_session_on_a_detached_sandbox_does_not_keep_others_from_changing_it() {
    let (world, before) = with_data();
    let mut up = world.spawn(["up", "--progress", "plain"]);
    up.says("is up after");

    world.sandbox(["up", "-d", "--ttl", "1h"]).success();
    world.in_container("app", &["test", "-e", "/data"]).success();

    up.interrupt();
    up.wait(support::PATIENCE).exits(130);
    assert_eq!(listed(&world)["id"], before["id"]);
}

#[test]
fn run_builds_a_sandbox_of_its_own_whatever_else_is_up() {
    let (world, before) = with_data();

    let first = world.sandbox(["run", "--", "sh", "-c", "echo $SANDBOX_NAME"]).success();
    assert!(first.stdout.contains(&format!("{}-run-1", world.name())), "{first}");
    let check = ["run", "--in", "app", "--", "sh", "-c", "test ! -e /data"];
    world.sandbox(check).success();
    is_as_before(&world, &before);

    world.sandbox(["down"]).success();
    let mut held = world.spawn(["up"]);
    held.says("the app is here");
    let one = world.spawn(["run", "--", "sh", "-c", "echo one runs; sleep 1000"]);
    eventually("one runs", || one.stdout().contains("one runs"));
    world.sandbox(["run", "--", "true"]).success().says("-run-2");
    assert!(held.is_running());
    one.interrupt();
    held.interrupt();
    one.wait(support::PATIENCE);
    held.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn run_attach_works_in_a_sandbox_that_stands_and_leaves_it() {
    let (world, before) = with_data();

    world.sandbox(["run", "--attach", world.name(), "--in", "app", "--", "test", "-e", "/data"]).success();
    world.sandbox(["run", "--attach", world.name(), "--", "sh", "-c", "exit 7"]).exits(7);
    world.sandbox(["run", "--attach", "nowhere", "--", "true"]).exits(4);

    is_as_before(&world, &before);
}

/// How long after its sandbox's destruction a session may still run.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_session_whose_sandbox_is_destroyed_says_by_whom_and_exits_with_1() {
    let world = World::with_spec(IDLE);
    let mut up = world.spawn(["up"]);
    up.says("the app is here");
    world.sandbox(["down"]).success();
    up.wait(SOON).exits(1).says("`sandbox down` destroyed it");

    let (world, _) = with_data();
    let mut visit = world.spawn(["up", "--progress", "plain"]);
    visit.says("is up after");
    let command = ["run", "--attach", world.name(), "--", "sh", "-c", "echo it runs; exec sleep 1000"];
    let run = world.spawn(command);
    eventually("it runs", || run.stdout().contains("it runs"));
    world.sandbox(["down"]).success();
    visit.wait(SOON).exits(1).says("`sandbox down` destroyed it");
    run.wait(SOON).exits(125).says("has ended");
}

#[test]
fn a_session_whose_objects_are_removed_exits_with_1() {
    let world = World::with_spec(IDLE);
    let mut up = world.spawn(["up"]);
    up.says("the app is here");

    let filter = format!("label=dev.sandbox.name={}", world.name());
    let listed = world.engine().docker(&["ps", "-aq", "--filter", &filter]).success().stdout;
    let ids: Vec<&str> = ["rm", "-f"].into_iter().chain(listed.lines()).collect();
    world.engine().docker(&ids).success();

    up.wait(support::PATIENCE).exits(1).says("removed from the engine");
    world.engine().becomes_clean();
}

#[test]
fn a_refusal_is_reported_in_the_session_once_with_the_line_that_allows_it() {
    let ask = "echo asks; for i in 1 2 3; do nslookup a.example; sleep 1; done; exec sleep infinity";
    let world = World::with_spec(&format!(
        "services: {{ app: {{ image: sbx-test/busybox, command: [sh, -c, \"{ask}\"], stop_signal: SIGKILL }} }}"
    ));
    let mut up = world.spawn(["up", "--progress", "plain"]);

    up.says("asks").says("egress refused `a.example").says("egress: [\"a.example\"]");

    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(up.stderr().matches("egress refused").count(), 1, "{}", up.stderr());
    up.interrupt();
    up.wait(support::PATIENCE);
}

#[test]
fn a_session_and_ls_say_the_same_of_its_end() {
    let world = World::with_spec(&format!("lifetime: {{ ttl: 8h, idle: 45m }}\n{IDLE}"));
    let mut up = world.spawn(["up", "--progress", "plain"]);
    up.says("left if unused");
    assert!(up.stderr().contains("44m") || up.stderr().contains("45m"), "{}", up.stderr());
    world.sandbox(["ls"]).success().prints("if unused");
    up.interrupt();
    up.wait(support::PATIENCE);
}

#[test]
fn down_without_a_name_takes_the_folder_s_own_and_no_other() {
    let world = World::with_spec(&format!("name: {{NAME}}\n{IDLE}").replace("{NAME}", "folder-s-own"));
    let here =
        |arguments: &[&str]| world.command(arguments.iter().copied()).without_env("SANDBOX_NAME").run();
    here(&["up", "-d", "--name", &format!("{}-other", world.name())]).success();

    here(&["down"]).exits(4).says("-other");
    here(&["down", &format!("{}-other", world.name())]).success();
    world.engine().is_clean();
}

#[test]
fn a_sandbox_that_could_not_be_built_is_kept_on_demand() {
    let world = World::with_spec(&format!(
        "{IDLE}  bad: {{ image: sbx-test/busybox, command: [sh, -c, \"exit 3\"], ready: {{ exec: [\"true\"] }} }}\n"
    ));

    world.sandbox(["up", "-d", "--keep-on-failure"]).exits(1).says("is kept");

    assert_eq!(listed(&world)["hold"], "detached");
    world.sandbox(["down"]).success();
}

#[test]
fn a_session_is_warned_before_its_time_is_over() {
    let world = World::with_spec(IDLE);

    let mut session = world.spawn(["up", "--ttl", "20s"]);
    session.says("the sandbox ends in").says("the app is here");
    world.sandbox(["extend", world.name(), "10m"]).success();
    session.says("the sandbox ends at");
    world.sandbox(["extend", world.name(), "--to", "3s"]).success();
    session.says("its lifetime is over");

    session.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn an_unused_sandbox_ends_and_the_event_log_says_so() {
    let world = World::with_spec(&format!("lifetime: {{ idle: 3s }}\n{IDLE}"));
    world.up();

    world.engine().becomes_clean();

    eventually("its end is on record", || ends(&world).len() == 1);
    assert_eq!(ends(&world)[0]["reason"], "idle");
}

#[test]
fn a_command_in_a_sandbox_is_use_however_short_its_idle_time() {
    let world = World::with_spec(&format!("lifetime: {{ idle: 4s }}\n{IDLE}"));
    world.up();
    world.sandbox(["exec", "app", "sleep", "8"]).success();
}

#[test]
fn gc_all_leaves_nothing_of_ours() {
    let world = World::with_spec(IDLE);
    world.up();

    world.sandbox(["gc", "--all"]).success();

    assert!(world.engine().remains().is_empty());
    assert!(world.engine().containers().is_empty());
    assert!(world.engine().networks().is_empty());
    assert!(world.engine().volumes().is_empty());
}
