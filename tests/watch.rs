//! `up --watch`: changed files and a changed spec reach the running sandbox.

mod support;

use std::time::Duration;

use support::{Session, World, eventually, http_get};

const SPEC: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir -p /www; cat /proc/sys/kernel/random/uuid > /www/started; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
    develop:
      watch:
        - { path: pages, action: sync, target: /www, ignore: ["*.md", drafts/] }
        - { path: web.conf, action: sync+restart, target: /etc/web.conf }
        - { path: notes, action: sync+exec, target: /notes, exec: { command: touch /www/noted } }
"#;

fn watched(spec: &str) -> (World, Session) {
    let world = World::with_spec(spec);
    world.file("pages/index.html", "one").file("web.conf", "a").file("notes/first", "");
    let mut session = world.spawn(["up", "--watch"]);
    session.says("watching the spec");
    (world, session)
}

fn page(world: &World, path: &str) -> (u16, String) {
    http_get(world.address("web", 80), path).unwrap_or_default()
}

#[test]
fn a_changed_file_is_copied_and_a_removed_one_goes() {
    let (world, _session) = watched(SPEC);

    world.file("pages/inner/new.html", "new").file("pages/notes.md", "no").file("pages/drafts/x", "no");
    eventually("the new page is there", || page(&world, "/inner/new.html") == (200, "new".into()));
    assert_eq!((page(&world, "/notes.md").0, page(&world, "/drafts/x").0), (404, 404));

    std::fs::remove_file(world.project().join("pages/inner/new.html")).unwrap();
    eventually("the page is gone", || page(&world, "/inner/new.html").0 == 404);
}

#[test]
fn sync_and_restart_restarts_the_only_service_and_the_session_goes_on() {
    let (world, mut session) = watched(SPEC);
    let before = page(&world, "/started").1;

    world.file("web.conf", "b");

    eventually("it was started again", || {
        let now = page(&world, "/started").1;
        !now.is_empty() && now != before
    });
    assert_eq!(world.in_container("web", &["cat", "/etc/web.conf"]).text(), "b");
    assert!(session.is_running());
}

#[test]
fn sync_and_exec_runs_its_command() {
    let (world, _session) = watched(SPEC);

    world.file("notes/second", "");

    eventually("the command ran", || page(&world, "/noted").0 == 200);
}

#[test]
fn a_changed_spec_changes_what_has_changed_and_nothing_else() {
    let (world, _session) = watched(&format!(
        "{SPEC}  idle:\n    image: sbx-test/busybox\n    command: [sleep, infinity]\n    stop_signal: SIGKILL\n"
    ));
    let id = |service: &str| world.engine().inspect(&world.container(service))["Id"].clone();
    let (web, idle) = (id("web"), id("idle"));

    world.spec(&format!(
        "{SPEC}  idle:\n    image: sbx-test/busybox\n    command: [sleep, infinity]\n    stop_signal: SIGKILL\n    environment: {{ COLOUR: teal }}\n"
    ));

    eventually("the service is a new one", || {
        world.engine().runs(&world.container("idle")) && id("idle") != idle
    });
    assert_eq!(id("web"), web);
}

#[test]
fn a_changed_env_file_gives_the_service_its_new_values() {
    let spec = "services:\n  web: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, env_file: [web.env] }\n";
    let world = World::with_spec(spec);
    world.file("web.env", "COLOUR=teal\n");
    let mut session = world.spawn(["up", "--watch"]);
    session.says("watching the spec");

    world.file("web.env", "COLOUR=amber\n");

    let colour = || world.in_container("web", &["sh", "-c", "echo $COLOUR"]);
    eventually("it has the new value", || colour().code == Some(0) && colour().text() == "amber");
}

#[test]
fn a_half_edited_spec_is_told_of_and_the_sandbox_stays() {
    let (world, mut session) = watched(SPEC);

    world.spec("services:\n  web:\n    imgae: sbx-test/busybox\n");
    session.says("imgae");
    session.says("stays as it is");
    assert!(world.engine().runs(&world.container("web")));

    world.spec(SPEC);
    session.says("the spec is as it was");
    session.interrupt();
    session.wait(Duration::from_mins(1)).exits(130);
    world.engine().is_clean();
}

#[test]
fn a_spec_that_a_service_has_widened_is_not_applied() {
    const SPEC: &str = "
services:
  web: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ['.:/src'] }
";
    let (world, mut session) = watched(SPEC);
    let id = || world.engine().inspect(&world.container("web"))["Id"].clone();
    let before = id();

    world.file("mine", "x");
    let with_file = |file: &str| {
        SPEC.replace(" }\n", &format!(", configs: [c] }}\nconfigs: {{ c: {{ file: {file} }} }}\n"))
    };
    let mine = format!("the file `{}`", world.project().join("mine").display());
    for (written, says, asks) in [
        (format!("egress: allow{SPEC}"), "is not applied", "`egress: allow`"),
        (with_file("./mine"), "is not applied", mine.as_str()),
        (with_file("/etc/shadow"), "reads `/etc/shadow`, which is outside of", "stays as it is"),
    ] {
        let write = format!("cat > /src/sandbox.yaml <<'END'\n{written}\nEND");
        world.in_container("web", &["sh", "-c", &write]).success();
        session.says(says);
        session.says(asks);
        world.spec(SPEC);
        session.says("the spec is as it was");
    }

    assert_eq!(id(), before);
}

#[test]
fn on_a_terminal_a_widened_spec_is_not_applied_either_and_the_way_out_works() {
    const SPEC: &str = "
services:
  web: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ['.:/src'] }
";
    let world = World::with_spec(SPEC);
    let mut terminal = world.terminal(["up", "--watch"]);
    terminal.shows("watching the spec");
    let write = format!("cat > /src/sandbox.yaml <<'END'\negress: allow{SPEC}\nEND");
    world.in_container("web", &["sh", "-c", &write]).success();

    terminal.shows("it asks for `egress: allow`");
    terminal.shows("end this session and run `sandbox up` again");
    assert!(world.engine().runs(&world.container("web")));
    terminal.ctrl_c();
    terminal.wait(Duration::from_mins(1)).exits(130);

    // What the message says: the person who runs `up` again takes the spec as it is.
    world.sandbox(["up", "-d"]).success();
}

#[test]
fn a_rebuild_replaces_the_service_with_the_new_image() {
    let spec = r#"
services:
  web:
    build: ./web
    stop_signal: SIGKILL
    ports: ["80"]
    develop: { watch: [{ path: web, action: rebuild }] }
"#;
    let world = World::with_spec(spec);
    let recipe = "FROM sbx-test/busybox\nCOPY index.html /www/\nCMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]\n";
    world.file("web/Dockerfile", recipe).file("web/index.html", "one");
    let mut session = world.spawn(["up", "--watch"]);
    session.says("watching the spec");
    assert_eq!(page(&world, "/").1, "one");

    world.file("web/index.html", "two");

    eventually("the new page is served", || page(&world, "/").1 == "two");
    session.interrupt();
    session.wait(Duration::from_mins(1)).exits(130);
    world.engine().is_clean();
}

#[test]
fn an_empty_folder_is_copied_and_goes_again() {
    let (world, _session) = watched(SPEC);
    let there = || world.in_container("web", &["test", "-d", "/www/new/inner"]).code == Some(0);

    std::fs::create_dir_all(world.project().join("pages/new/inner")).unwrap();
    eventually("the folder is there", there);

    std::fs::remove_dir_all(world.project().join("pages/new")).unwrap();
    eventually("the folder is gone", || {
        world.in_container("web", &["test", "-e", "/www/new"]).code != Some(0)
    });
}

#[test]
fn what_the_command_of_a_change_writes_is_shown() {
    let (world, mut session) =
        watched(&SPEC.replace("command: touch /www/noted", "command: echo reloaded by the hook"));

    world.file("notes/second", "");

    session.says("reloaded by the hook");
}

#[test]
fn in_a_service_that_is_not_root_what_is_removed_or_renamed_goes_too() {
    let (world, mut session) = watched(
        r#"
services:
  web:
    image: sbx-test/busybox
    user: "1000:1000"
    command: [sleep, infinity]
    stop_signal: SIGKILL
    tmpfs: [/app/busy]
    develop:
      watch: [{ path: pages, action: sync, target: /app }]
"#,
    );
    let there = |path: &str| world.in_container("web", &["test", "-e", path]).code == Some(0);
    world.file("pages/inner/old", "").file("pages/inner/other", "");
    eventually("they are there", || there("/app/inner/old") && there("/app/inner/other"));

    let pages = world.project().join("pages/inner");
    std::fs::rename(pages.join("old"), pages.join("new")).unwrap();
    std::fs::remove_file(pages.join("other")).unwrap();

    eventually("it has its new name", || there("/app/inner/new") && !there("/app/inner/old"));
    eventually("the other is gone", || !there("/app/inner/other"));

    // A mount cannot be removed, and that is told.
    std::fs::create_dir(world.project().join("pages/busy")).unwrap();
    world.file("pages/mark", "");
    eventually("the mark is there", || there("/app/mark"));
    std::fs::remove_dir(world.project().join("pages/busy")).unwrap();
    session.says("cannot remove `/app/busy`");
}
