//! `init`: a first spec, by flags, around a Compose file, and by questions on a terminal.

mod support;

use std::time::Duration;

use support::{World, eventually};

fn written(world: &World) -> String {
    std::fs::read_to_string(world.project().join("sandbox.yaml")).unwrap_or_default()
}

#[test]
fn what_the_flags_say_is_written_and_passes_config() {
    let world = World::new();
    world.file("seeds/one.sql", "select 1;");

    world
        .sandbox(["init", "--image", "nginx", "--port", "80", "--database", "postgres", "--cache", "redis"])
        .success();

    let config = world.sandbox(["config", "--json"]).success().json();
    let services: Vec<&String> = config["services"].as_object().unwrap().keys().collect();
    assert_eq!(services, ["app", "cache", "db"]);
    assert!(written(&world).contains("sql: seeds/*.sql"), "{}", written(&world));
}

#[test]
fn a_compose_file_is_built_around_and_stays_what_it_is() {
    let world = World::new();
    let compose = "services:\n  web:\n    image: nginx\n    container_name: mine\n";
    world.file("compose.yaml", compose);

    world.sandbox(["init"]).success().says("container_name");

    assert_eq!(world.sandbox(["config", "--services"]).success().stdout, "web\n");
    assert_eq!(std::fs::read_to_string(world.project().join("compose.yaml")).unwrap(), compose);
}

#[test]
fn a_spec_that_is_there_is_not_written_over() {
    let world = World::with_spec("services: { mine: { image: nginx } }\n");

    world.sandbox(["init", "--image", "redis"]).exits(1).says("--force");
    assert!(written(&world).contains("mine"));

    world.sandbox(["init", "--image", "redis", "--print"]).success().prints("redis");
    assert!(written(&world).contains("mine"));

    world.sandbox(["init", "--image", "redis", "--force"]).success();
    assert!(written(&world).contains("redis"));
}

#[test]
fn with_nothing_to_write_about_it_says_what_to_name() {
    let world = World::new();

    world.sandbox(["init"]).exits(2).says("--database");

    assert_eq!(std::fs::read_dir(world.project()).unwrap().count(), 0);
}

#[test]
fn a_framework_and_its_database_are_recognised_and_the_spec_passes_config() {
    let world = World::new();
    world.file("package.json", r#"{"dependencies":{"express":"5","pg":"8","ioredis":"5"}}"#);

    world.sandbox(["init", "--yes"]).success();

    let config = world.sandbox(["config", "--json"]).success().json();
    let services: Vec<&String> = config["services"].as_object().unwrap().keys().collect();
    assert_eq!(services, ["app", "cache", "db"]);
    assert!(written(&world).contains("registry.npmjs.org"), "{}", written(&world));
}

#[test]
fn a_dev_container_becomes_a_service_with_a_task() {
    let world = World::new();
    let text = r#"{ "image": "ubuntu", "forwardPorts": [3000], "postCreateCommand": "make deps", /* x */ }"#;
    world.file(".devcontainer/devcontainer.json", text);

    world.sandbox(["init", "--yes", "--service", "dev"]).success();

    world.sandbox(["config", "--quiet"]).success();
    world.sandbox(["task"]).success().prints("post-create");
    assert!(written(&world).contains("  dev:\n    image: ubuntu"), "{}", written(&world));
}

#[test]
fn on_a_terminal_it_asks() {
    let world = World::new();
    world.file("Dockerfile", "FROM scratch\n");
    let mut terminal = world.terminal(["init"]);

    terminal.shows("Build the Dockerfile").types("y");
    terminal.shows("What is it called?").types("shop\r");
    terminal.shows("Which port").types("http\r").shows("a number").types("\u{7f}\u{7f}\u{7f}\u{7f}8080\r");
    terminal.shows("Which database?").types("\u{1b}[B\r");
    terminal.shows("Which cache?").types("\r");
    terminal.wait(Duration::from_secs(20)).success();

    let text = written(&world);
    for words in ["  shop:\n    build: .", "ports: [\"8080\"]", "image: postgres"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

#[test]
fn ctrl_c_at_a_question_writes_nothing_and_shows_the_cursor_again() {
    let world = World::new();
    world.file("Dockerfile", "FROM scratch\n");
    let mut terminal = world.terminal(["init", "--service", "app", "--build", ".", "--port", "80"]);
    terminal.shows("Which database?");

    terminal.types("\u{3}");

    eventually("the cursor is shown again", || {
        let screen = terminal.raw();
        screen.rfind("\u{1b}[?25l") < screen.rfind("\u{1b}[?25h")
    });
    terminal.wait(Duration::from_secs(20)).exits(130);
    assert_eq!(written(&world), "");
}
