//! What a newcomer gets: requirements that are checked, a text, pages to open, variables for commands.

mod support;

use support::World;

const SPEC: &str = r#"
name: shop
welcome: |
  Log in as demo / demo.
open: [http://web/index.html]
requires: { memory: 64m, disk: 1m, engine: ">=1", commands: [sh] }
env:
  SHOP_URL: http://demo:${secret:token}@${host:web}:${port:web:80}/
tasks:
  page: { in: web, run: cat /www/index.html, description: Show the first page }
  url: { run: 'echo "$$SHOP_URL"' }
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: [{ target: 80, app_protocol: http }]
    secrets: [token]
secrets: { token: { generate: 16 } }
"#;

#[test]
fn the_text_and_the_tasks_are_shown_when_the_sandbox_is_ready_and_again_on_demand() {
    let world = World::with_spec(SPEC);

    world.up().says("Log in as demo / demo.").says("Show the first page");

    world.sandbox(["welcome"]).success().prints("Log in as demo / demo.").prints("page");
    let json = world.sandbox(["welcome", "--json"]).success().json();
    assert_eq!(json["tasks"][0]["name"], "page");
    let run = world.sandbox(["run", "--", "true"]).success();
    assert!(!run.stderr.contains("Log in as demo"), "{}", run.stderr);
}

#[test]
fn everything_that_the_machine_lacks_is_named_before_anything_is_built() {
    let world = World::with_spec(&SPEC.replace(
        "{ memory: 64m, disk: 1m, engine: \">=1\", commands: [sh] }",
        "{ memory: 900t, disk: 900t, engine: \">=900\", commands: [no-such-program] }",
    ));

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    for words in ["memory:", "disk:", "engine:", "no-such-program", "install it"] {
        assert!(outcome.stderr.contains(words), "no {words:?} in {}", outcome.stderr);
    }
    world.engine().is_clean();
    world.sandbox(["doctor"]).exits(1).prints("no-such-program");
}

#[test]
fn the_pages_of_the_spec_are_opened_at_the_published_address() {
    let world = World::with_spec(SPEC);
    world.up();

    let address = world.address("web", 80);
    let expected = format!("http://{address}/index.html\n");
    assert_eq!(world.sandbox(["open", "--print"]).success().stdout, expected);
    assert_eq!(world.sandbox(["open", "web", "--print"]).success().stdout, format!("http://{address}\n"));
}

#[test]
fn commands_on_this_machine_get_the_variables_and_the_engine_never_the_secret() {
    let world = World::with_spec(SPEC);
    world.up();
    let token = world.in_container("web", &["cat", "/run/secrets/token"]).success().stdout;
    let url = format!("http://demo:{token}@{}/", world.address("web", 80));

    assert_eq!(world.sandbox(["task", "url"]).success().stdout, format!("{url}\n"));
    assert_eq!(world.sandbox(["env", "--json"]).success().json()["SHOP_URL"], url.as_str());
    let name = world.name().to_owned();
    let attached = world.sandbox(["run", "--attach", &name, "--", "sh", "-c", "echo $SHOP_URL"]).success();
    assert_eq!(attached.stdout, format!("{url}\n"));

    let shown = world
        .host("sh", &["-c", "docker inspect $(docker ps -aq --filter label=dev.sandbox.scope=$0)", &name]);
    let shown = shown.run().success().stdout;
    assert!(
        shown.contains("dev.sandbox.scope") && !shown.contains(token.trim()),
        "the token is on an object"
    );
}
