//! `up` on a sandbox that exists: what an earlier `up` did not finish is made again, changed files are applied, and what
//! was promised stands.

mod support;

use std::net::TcpListener;

use support::{World, eventually};

const IDLE: &str = "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
";

/// A service whose two seeds write a line each; `first` is what the first does besides.
fn seeded(first: &str) -> String {
    format!(
        r#"{IDLE}
  db:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    seed:
      - exec: [sh, -c, "echo one >> /data/lines; {first}"]
      - exec: [sh, -c, "echo two >> /data/lines"]
volumes: {{ data: {{}} }}
"#
    )
}

fn lines(world: &World) -> String {
    world.in_container("db", &["cat", "/data/lines"]).success().stdout
}

#[test]
fn seeds_that_failed_run_again_on_empty_volumes() {
    let world = World::with_spec(IDLE);
    world.up();
    world.spec(&seeded("exit 3"));
    world.sandbox(["up", "-d"]).exits(1);
    world.sandbox(["up", "-d"]).exits(1);
    world.spec(&seeded("true"));
    world.up();
    assert_eq!(lines(&world), "one\ntwo\n");
    world.in_container("db", &["sh", "-c", "echo mine >> /data/lines"]).success();
    assert!(world.up().stderr.contains("plan: 0 steps"));
    assert_eq!(lines(&world), "one\ntwo\nmine\n");
}

#[test]
fn seeds_of_an_up_that_was_killed_run_again_on_empty_volumes() {
    let world = World::with_spec(IDLE);
    world.up();
    world.spec(&seeded("sleep 100"));
    let mut up = world.spawn(["up", "-d"]);
    eventually("the first seed runs", || {
        world.engine().runs(&world.container("db"))
            && world.in_container("db", &["cat", "/data/lines"]).stdout == "one\n"
    });
    up.kill();
    world.spec(&seeded("true"));
    world.up();
    assert_eq!(lines(&world), "one\ntwo\n");
}

#[test]
fn what_was_finished_before_a_failure_stays() {
    let world = World::with_spec(IDLE);
    world.up();
    let broken = "
  late: { image: sbx-test/busybox, command: [sh, -c, 'exit 4'], depends_on: { db: { condition: service_healthy } } }
";
    world.spec(&seeded("true").replace("\nvolumes:", &format!("{broken}\nvolumes:")));
    world.sandbox(["up", "-d"]).exits(1);
    world.in_container("db", &["sh", "-c", "echo mine >> /data/lines"]).success();
    world.spec(&seeded("true"));
    world.up();
    assert_eq!(lines(&world), "one\ntwo\nmine\n");
}

#[test]
fn a_seed_without_a_volume_runs_again_in_a_new_container() {
    let spec = |value: &str| {
        format!(
            r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    environment: {{ VALUE: {value} }}
    seed: [{{ exec: [sh, -c, "echo seeded >> /seeded"] }}]
"#
        )
    };
    let world = World::with_spec(&spec("a"));
    world.up();
    world.spec(&spec("b"));
    world.up();
    assert_eq!(world.in_container("app", &["cat", "/seeded"]).success().stdout, "seeded\n");
}

#[test]
fn changed_configs_and_secrets_are_applied_and_generated_ones_stay() {
    let spec = "
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    configs: [{ source: file, target: /file }, { source: text, target: /text }]
    secrets: [given, made]
  other: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, secrets: [made] }
configs: { file: { file: file.txt }, text: { content: text-1 } }
secrets: { given: { file: given.txt }, made: { generate: 12 } }
";
    let world = World::with_spec(spec);
    world.file("file.txt", "file-1").file("given.txt", "given-1");
    world.up();
    let read = |service: &str, path: &str| world.in_container(service, &["cat", path]).success().stdout;
    let made = read("app", "/run/secrets/made");
    let other = world.engine().inspect(&world.container("other"))["Id"].clone();

    world.file("file.txt", "file-2");
    world.up();
    assert_eq!(read("app", "/file"), "file-2");
    world.file("given.txt", "given-2");
    world.spec(&spec.replace("text-1", "text-2"));
    world.up();
    assert_eq!(
        (read("app", "/text"), read("app", "/run/secrets/given")),
        ("text-2".into(), "given-2".into())
    );
    assert_eq!((read("app", "/run/secrets/made"), read("other", "/run/secrets/made")), (made.clone(), made));
    assert_eq!(world.engine().inspect(&world.container("other"))["Id"], other);
    assert!(world.up().stderr.contains("plan: 0 steps"));
}

#[test]
fn a_changed_config_is_applied_under_watch() {
    let world = World::with_spec(
        "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, configs: [{ source: c, target: /c }] }
configs: { c: { file: c.txt } }
",
    );
    world.file("c.txt", "one");
    let mut session = world.spawn(["up", "--watch", "--no-logs"]);
    session.says("watching");
    world.file("c.txt", "two");
    eventually("the change is applied", || world.in_container("app", &["cat", "/c"]).stdout == "two");
    session.interrupt();
    session.wait(support::PATIENCE);
}

#[test]
fn the_time_that_was_added_stays() {
    let world = World::with_spec(IDLE);
    world.up();
    let ends = || {
        let listed = world.sandbox(["ls", "--json"]).success().json();
        listed[0]["ends"].as_str().unwrap().to_owned()
    };
    world.sandbox(["extend", "20h"]).success();
    let extended = ends();
    world.up();
    assert_eq!(ends(), extended);
    world.spec(&format!("lifetime: {{ ttl: 1h }}\n{IDLE}"));
    world.up();
    assert!(ends() < extended);
}

#[test]
fn a_host_port_that_was_taken_is_used_once_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let world = World::with_spec(&format!(
        "
services:
  web: {{ image: sbx-test/busybox, command: [httpd, -f, -p, '80'], stop_signal: SIGKILL, ports: ['{port}:80'] }}
"
    ));
    world.up().says("is taken");
    assert_ne!(world.address("web", 80).port(), port);
    assert!(world.up().stderr.contains("plan: 0 steps"));
    drop(other);
    let again = world.up();
    assert!(!again.stderr.contains("is taken"), "{again}");
    assert_eq!(world.address("web", 80).port(), port);
}

#[test]
fn changed_seeds_are_told_of() {
    let spec = |line: &str| seeded("true").replace("echo two", &format!("echo {line}"));
    let world = World::with_spec(&spec("two"));
    world.up();
    world.spec(&spec("three"));
    world.up().says("the seeds of `data` have changed");
    assert_eq!(lines(&world), "one\ntwo\n");
}

#[test]
fn data_of_a_snapshot_that_the_spec_has_no_volume_for_is_told_of() {
    let world = World::with_spec(&seeded("true"));
    world.up();
    world.sandbox(["snapshot", "create", "before"]).success();
    world.sandbox(["down"]).success();
    world.spec(&seeded("true").replace("data:/data", "other:/data").replace("{ data: {} }", "{ other: {} }"));
    let up = world.sandbox(["up", "-d", "--from", "before", "-f", "sandbox.yaml"]).success();
    up.says("the data of `data` is not used").says("`other` of the spec start empty");
    world.sandbox(["gc", "--all"]).success();
}
