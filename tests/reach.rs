//! How a sandbox is reached from the host, and that being reached is use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{World, eventually};

const ECHO: &str = r"
services:
  echo:
    image: sbx-test/busybox
    command: [nc, -ll, -p, '7000', -e, cat]
    stop_signal: SIGKILL
    ports: ['7000']
";

fn says_back(stream: &mut TcpStream) -> bool {
    let mut said = [0; 1];
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut said).is_ok()
}

/// Uses a connection for longer than an idle time of 8 s.
fn use_for_long(world: &World) {
    let mut stream = TcpStream::connect(world.address("echo", 7000)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(18) {
        assert!(says_back(&mut stream), "gone after {:?}, in use", begun.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn an_open_connection_is_use_and_without_one_the_idle_time_ends_the_sandbox() {
    let world = World::with_spec(&format!("lifetime: {{ idle: 8s }}\n{ECHO}"));
    world.up();

    use_for_long(&world);

    world.engine().becomes_clean();
}

#[test]
fn an_open_connection_is_use_in_a_session_too() {
    let world = World::with_spec(&format!("lifetime: {{ idle: 8s }}\n{ECHO}"));
    let mut session = world.spawn(["up"]);
    session.says("is up");

    use_for_long(&world);

    session.wait(support::PATIENCE);
    world.engine().is_clean();
}

#[test]
fn a_sandbox_is_in_use_while_it_is_being_built() {
    let world = World::with_spec(
        r#"
lifetime: { idle: 2s }
services:
  slow:
    image: sbx-test/busybox
    command: [sh, -c, "sleep 7; exec nc -ll -p 7000 -e cat"]
    stop_signal: SIGKILL
    ready: { tcp: 7000 }
"#,
    );

    let up = world.up();

    assert!(up.took > Duration::from_secs(7), "{up}");
    world.engine().becomes_clean();
}

#[test]
fn env_speaks_the_words_of_a_shell_of_a_dotenv_file_and_of_direnv() {
    let world = World::with_spec(ECHO);
    world.up();
    let port = world.address("echo", 7000).port().to_string();
    let env = |format: &str| world.sandbox(["env", "--format", format]).success().stdout;

    let dotenv = env("dotenv");
    assert!(dotenv.contains(&port) && !dotenv.contains("export "), "{dotenv}");
    let direnv = env("direnv");
    assert!(direnv.starts_with("watch_file ") && direnv.contains(&port), "{direnv}");
    world.file("env.sh", env("shell"));
    let name =
        dotenv.lines().find_map(|line| line.split_once('=').filter(|(_, value)| *value == port)).unwrap().0;
    let script = format!(". ./env.sh && printf %s \"${name}\"");
    assert_eq!(world.host("sh", &["-c", &script]).run().success().stdout, port);
}

#[test]
fn open_prints_the_address_of_a_page_and_starts_the_named_browser() {
    let mut world = World::with_spec(
        r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
"#,
    );
    world.up();
    let page = format!("http://{}", world.address("web", 80));
    assert!(world.sandbox(["open", "--print"]).success().text().starts_with(&page));

    let browser = world.project().join("browser");
    world.file("browser", "#!/bin/sh\necho \"$1\" > opened\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&browser, executable).unwrap();
    world.env("BROWSER", &browser.display().to_string());
    world.sandbox(["open"]).success();

    let opened = std::fs::read_to_string(world.project().join("opened")).unwrap();
    assert!(opened.starts_with(&page), "{opened}");
}

#[test]
fn what_is_waited_for_is_shown_with_the_last_answer() {
    let world = World::with_spec(
        r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "sleep 2; mkdir /www; httpd -p 80 -h /www; sleep 2; echo hi > /www/index.html; exec sleep infinity"]
    stop_signal: SIGKILL
    ports: ["80"]
    ready: { http: /index.html }
"#,
    );

    let up = world.sandbox(["up", "-d", "--progress", "json"]).success();

    let said = up.stdout + &up.stderr;
    for answer in [r#""last":"connection refused""#, r#""last":"404""#] {
        assert!(said.contains(answer), "never {answer}: {said}");
    }
}

#[test]
fn a_program_that_needs_new_privileges_is_told_how_to_get_them() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command:
      - sh
      - -c
      - |
        grep -q "NoNewPrivs:.*1" /proc/self/status && echo "sudo: The \"no new privileges\" flag is set" >&2
        exit 1
    ready: { tcp: 80 }
"#,
    );

    let failed = world.sandbox(["up", "-d"]).exits(1);

    assert!(failed.stderr.contains("no-new-privileges:false"), "{failed}");
    assert!(failed.stderr.contains("--allow-host-access"), "{failed}");
    eventually("nothing is left", || world.engine().remains().is_empty());
}
