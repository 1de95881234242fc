//! `task`: the named commands of a spec, on the host and in services.

mod support;

use support::World;

const SPEC: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
x-sandbox:
  tasks:
    page: { in: web, run: "cat /www/index.html", description: what the web service shows }
    where: { run: [sh, -c, "echo $$WEB_PORT; pwd"] }
    args: { in: web, run: 'echo "[$$COLOUR]"', environment: { COLOUR: teal } }
    fail: exit 9
"#;

#[test]
fn tasks_are_listed_without_a_sandbox() {
    let world = World::with_spec(SPEC);

    world.sandbox(["task"]).success().prints("page").prints("what the web service shows");

    let listed = world.sandbox(["task", "--json"]).success().json();
    assert_eq!(listed[0]["name"], "args");
    assert_eq!(listed[2]["in"], "web");
    world.engine().is_clean();
}

#[test]
fn a_task_runs_in_its_service_with_its_environment_and_arguments() {
    let world = World::with_spec(SPEC);
    world.up();

    assert_eq!(world.sandbox(["task", "page"]).success().stdout, "hello\n");
    assert_eq!(world.sandbox(["task", "args", "--", "a b", "-c"]).success().stdout, "[teal] a b -c\n");
}

#[test]
fn a_task_of_the_host_has_the_addresses_and_stands_in_the_folder_of_the_spec() {
    let world = World::with_spec(SPEC);
    world.file("inner/file", "");
    world.up();

    let inner = world.project().join("inner");
    let outcome = world.command(["task", "where"]).current_dir(inner).run().success();

    let port = world.address("web", 80).port();
    assert_eq!(outcome.stdout, format!("{port}\n{}\n", world.project().display()));
}

#[test]
fn a_task_ends_with_its_own_exit_code() {
    let world = World::with_spec(SPEC);
    world.up();

    world.sandbox(["task", "fail"]).exits(9);
}

#[test]
fn a_task_that_is_not_there_is_wrong_usage_and_the_near_one_is_named() {
    let world = World::with_spec(SPEC);

    world.sandbox(["task", "pgae"]).exits(2).says("did you mean `page`?");
    world.sandbox(["task", "page"]).exits(4);
}

#[test]
fn a_task_of_the_host_that_a_service_has_changed_is_not_run() {
    let spec = |task: &str| {
        format!(
            "services:\n  web: {{ image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ['.:/src'] }}\ntasks: {{ t: '{task}' }}\n"
        )
    };
    let world = World::with_spec(&spec("echo mine"));
    world.up();
    assert_eq!(world.sandbox(["task", "t"]).success().stdout, "mine\n");

    let write = format!("cat > /src/sandbox.yaml <<'END'\n{}END", spec("echo planted"));
    world.in_container("web", &["sh", "-c", &write]).success();

    let refused = world.sandbox(["task", "t"]).exits(1).says("a service can write the spec");
    assert!(refused.stdout.is_empty(), "{refused}");
    assert_eq!(world.sandbox(["task", "--allow-host-access", "t"]).success().stdout, "planted\n");
    world.sandbox(["up", "-d"]).success();
    assert_eq!(world.sandbox(["task", "t"]).success().stdout, "planted\n");
}
