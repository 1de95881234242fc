//! The verbs that look at a running sandbox and work in it.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{World, eventually, http_get};

const TWO: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; echo web is up; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
    environment: { COLOUR: teal }
  idle:
    image: sbx-test/busybox
    command: [sh, -c, "echo idle is up; echo and complains >&2; exec sleep infinity"]
    stop_signal: SIGKILL
"#;

fn two() -> World {
    let world = World::with_spec(TWO);
    world.up();
    world
}

/// Whether a JSON value mentions a text anywhere.
fn mentions(value: &Value, text: &str) -> bool {
    value.to_string().contains(text)
}

#[test]
fn ls_lists_the_sandbox_with_its_folder() {
    let world = two();

    world.sandbox(["ls"]).success().prints(world.name());

    let listed = world.sandbox(["ls", "--json"]).success().json();
    assert!(mentions(&listed, world.name()), "{listed}");
    assert!(mentions(&listed, world.project().to_str().unwrap()), "{listed}");
}

#[test]
fn ls_of_nothing_is_an_empty_list() {
    let world = World::new();

    assert_eq!(world.sandbox(["ls", "--json"]).success().json(), serde_json::json!([]));
}

#[test]
fn ps_shows_each_service_and_where_it_is_reached() {
    let world = two();

    world.sandbox(["ps"]).success().prints("web").prints("idle");

    let services = world.sandbox(["ps", "--json"]).success().json();
    let port = world.address("web", 80).port().to_string();
    for text in ["web", "idle", port.as_str()] {
        assert!(mentions(&services, text), "no {text} in {services}");
    }
}

#[test]
fn logs_show_both_streams_of_every_service_with_its_name() {
    let world = two();

    eventually("all lines are there", || {
        let outcome = world.sandbox(["logs"]);
        ["web is up", "idle is up", "and complains"].iter().all(|line| outcome.stdout.contains(line))
    });
    let only = world.sandbox(["logs", "idle"]).success();
    assert!(!only.stdout.contains("web is up"), "{only}");
    let line = only.stdout.lines().find(|line| line.contains("idle is up")).unwrap();
    assert!(line.starts_with("idle"), "{line}");
}

#[test]
fn logs_follow_until_interrupted() {
    let world = two();
    let mut session = world.spawn(["logs", "-f", "idle"]);
    session.says("idle is up");

    world.in_container("idle", &["sh", "-c", "echo one more line > /proc/1/fd/1"]).success();

    session.says("one more line");
    session.interrupt();
    session.wait(Duration::from_secs(20));
    assert!(world.engine().runs(&world.container("idle")), "following the logs owns nothing");
}

#[test]
fn exec_gives_the_output_and_the_exit_code_of_the_command() {
    let world = two();

    let outcome = world.sandbox(["exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));

    world.sandbox(["exec", "web", "no-such-command"]).exits(127);
}

#[test]
fn exec_passes_stdin_on_to_its_end() {
    let world = two();
    let input: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();

    let outcome = world.command(["exec", "web", "md5sum"]).stdin(&input).run().success();

    let here = world.host("md5sum", &[]).stdin(&input).run();
    assert_eq!(outcome.stdout, here.stdout);
}

#[test]
fn exec_on_a_terminal_has_one_with_its_size() {
    let world = two();
    // Engines before API 1.42 give the size only once the command runs; until then busybox's `stty` says nothing.
    let script = "until stty size | grep .; do sleep 0.05; done; tty
        until stty size | grep '30 100'; do sleep 0.05; done; read line; echo got $line";
    let mut terminal = world.terminal(["exec", "web", "sh", "-c", script]);

    terminal.shows("40 120").shows("/dev/").resize(30, 100);
    terminal.shows("30 100").types("a line\r").shows("got a line");

    terminal.wait(Duration::from_secs(20)).success();
}

#[test]
fn exec_in_a_service_that_is_not_there_names_those_that_are() {
    let world = two();

    let outcome = world.sandbox(["exec", "wbe", "true"]);

    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("wbe") && outcome.stderr.contains("web"), "{outcome}");
}

#[test]
fn port_prints_an_address_that_answers() {
    let world = two();

    assert_eq!(http_get(world.address("web", 80), "/").unwrap().0, 200);

    assert_ne!(world.sandbox(["port", "web", "81"]).code, Some(0));
}

#[test]
fn env_prints_what_a_shell_can_read() {
    let world = two();
    let address = world.address("web", 80).to_string();

    let text = world.sandbox(["env"]).success().stdout;

    let script = format!("set -eu\n{text}\nenv");
    let seen = world.host("sh", &["-c", &script]).run().success().stdout;
    assert!(seen.contains(&address) || seen.contains(address.rsplit(':').next().unwrap()), "{text}");
}

#[test]
fn cp_copies_both_ways_with_the_mode_kept() {
    let world = two();
    world.file("there/script.sh", "#!/bin/sh\necho from the host\n");
    world.host("chmod", &["750", "there/script.sh"]).run().success();

    world.sandbox(["cp", "there/script.sh", "web:/tmp/script.sh"]).success();
    assert_eq!(world.in_container("web", &["/tmp/script.sh"]).success().stdout, "from the host\n");
    assert_eq!(world.in_container("web", &["stat", "-c", "%a", "/tmp/script.sh"]).text(), "750");

    world.sandbox(["cp", "web:/www/index.html", "back.html"]).success();
    assert_eq!(std::fs::read_to_string(world.project().join("back.html")).unwrap(), "hello\n");
}

#[test]
fn a_verb_without_its_sandbox_ends_with_4() {
    let world = World::with_spec(TWO);

    for verb in
        [&["ps"][..], &["logs"], &["exec", "web", "true"], &["port", "web", "80"], &["stop"], &["restart"]]
    {
        world.sandbox(verb.iter().copied()).exits(4);
    }
}

#[test]
fn the_folder_names_the_sandbox_when_nothing_else_does() {
    let world = two();

    let outcome = world.command(["ps", "--json"]).without_env("SANDBOX_NAME").run().success();

    assert!(mentions(&outcome.json(), "web"), "{outcome}");
}

#[test]
fn an_engine_that_does_not_answer_is_exit_code_3() {
    let mut world = World::with_spec(TWO);
    world.note("from here on there is no engine");
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock");

    let outcome = world.sandbox(["up", "-d"]).exits(3);

    assert!(outcome.stderr.contains("/nowhere/docker.sock"), "{outcome}");
    world.sandbox(["ls"]).exits(3);
    world.env("DOCKER_HOST", "unix:///var/run/docker.sock");
}

#[test]
fn stop_keeps_the_data_and_start_brings_it_back() {
    let world = World::with_spec(&format!("{TWO}    volumes: [\"kept:/kept\"]\nvolumes: {{ kept: {{}} }}\n"));
    world.up();
    world.in_container("idle", &["sh", "-c", "echo mine > /kept/mark"]).success();

    world.sandbox(["stop"]).success();
    assert!(world.engine().running_services().is_empty());

    world.sandbox(["start"]).success();
    assert_eq!(world.in_container("idle", &["cat", "/kept/mark"]).success().text(), "mine");
    assert_eq!(http_get(world.address("web", 80), "/").unwrap().0, 200);
}

#[test]
fn up_starts_a_service_that_was_stopped() {
    // It ends well when it is asked to.
    let serve =
        "trap 'exit 0' TERM; mkdir -p /www; echo hello > /www/index.html; httpd -f -p 80 -h /www & wait";
    let world = World::with_spec(&format!(
        "services:\n  web: {{ image: sbx-test/busybox, command: [sh, -c, {serve:?}], ports: [\"80\"] }}\n"
    ));
    world.up();
    world.sandbox(["stop", "web"]).success();
    assert_eq!(world.engine().inspect(&world.container("web"))["State"]["ExitCode"], 0);

    world.up();

    assert_eq!(http_get(world.address("web", 80), "/").unwrap().0, 200);
}

#[test]
fn what_users_of_compose_type_is_understood() {
    let world = World::with_spec(TWO);

    let up =
        ["up", "-d", "-d", "--wait", "--pull", "missing", "--scale", "web=2", "--remove-orphans", "-V", "-y"];
    world.sandbox(up).success();
    assert!(world.engine().runs(&format!("{}.2", world.container("web"))));

    world.sandbox(["exec", "-it", "idle", "true"]).success();
    world.sandbox(["stop", "-t", "1", "idle"]).success();
    assert_eq!(world.sandbox(["config", "--images"]).success().text(), "sbx-test/busybox\nsbx-test/busybox");
    world.sandbox(["down", "-v", "--remove-orphans"]).success();
    world.engine().is_clean();
}

#[test]
fn a_command_that_is_not_there_is_told_on_stderr() {
    let world = two();

    let outcome = world.sandbox(["exec", "idle", "nosuch"]).exits(127).says("nosuch").says("idle");

    assert_eq!(outcome.stdout, "");
}

#[test]
fn an_empty_sandbox_name_is_none_and_a_wrong_one_is_named() {
    let mut world = World::with_spec(TWO);

    world.env("SANDBOX_NAME", "");
    world.sandbox(["ls"]).success();

    world.env("SANDBOX_NAME", "../x y");
    world.sandbox(["ls"]).exits(2).says("SANDBOX_NAME");
}

#[test]
fn a_service_that_is_not_there_cannot_be_scaled() {
    let world = World::with_spec(TWO);

    world.sandbox(["up", "-d", "--scale", "wbe=2"]).exits(2).says("wbe").says("idle, web");

    world.engine().is_clean();
}

#[test]
fn restart_gives_a_service_a_new_process() {
    let world = two();
    let started = || world.engine().inspect(&world.container("idle"))["State"]["StartedAt"].clone();
    let (before, web) =
        (started(), world.engine().inspect(&world.container("web"))["State"]["StartedAt"].clone());

    world.sandbox(["restart", "idle"]).success();

    assert_ne!(started(), before);
    assert_eq!(world.engine().inspect(&world.container("web"))["State"]["StartedAt"], web);
}

#[test]
fn config_prints_the_resolved_spec() {
    let world = World::with_spec(
        "services:\n  web:\n    image: ${IMAGE:-sbx-test/busybox}\n    ports: [\"8080:80\"]\n",
    );

    let config = world.sandbox(["config", "--format", "json"]).success().json();

    assert_eq!(config["services"]["web"]["image"], "sbx-test/busybox");
    assert_eq!(config["services"]["web"]["ports"][0]["target"], 80);
    world.engine().is_clean();
}

#[test]
fn doctor_finds_this_machine_fit() {
    let world = World::new();

    let outcome = world.sandbox(["doctor", "--json"]).success();

    outcome.json();
    world.engine().becomes_clean();
}

#[test]
fn run_ends_with_the_exit_code_of_its_command_and_leaves_nothing() {
    let world = World::with_spec(TWO);

    let outcome =
        world.sandbox(["run", "--in", "idle", "--", "sh", "-c", "wget -qO- http://web/; exit 9"]).exits(9);

    assert!(outcome.stdout.contains("hello"), "{outcome}");
    world.engine().is_clean();
}

#[test]
fn run_gives_a_command_of_the_host_the_addresses() {
    let world = World::with_spec(TWO);

    let outcome = world.sandbox(["run", "--", "env"]).success();

    assert!(outcome.stdout.contains("127.0.0.1"), "{outcome}");
    world.engine().is_clean();
}

#[test]
fn run_of_a_command_that_is_not_there_is_127() {
    let world = World::with_spec(TWO);

    world.sandbox(["run", "--", "no-such-command"]).exits(127);

    world.engine().is_clean();
}

#[test]
fn a_command_on_a_terminal_writes_below_a_board_that_is_gone() {
    let world = World::with_spec(TWO);

    let mut terminal = world.terminal(["run", "--", "sh", "-c", "echo first; sleep 1; printf second"]);
    terminal.shows("first").shows("second");
    let outcome = terminal.wait(Duration::from_mins(1)).success();
    let lines: Vec<&str> = outcome.stdout.lines().map(str::trim).collect();
    assert!(lines.iter().any(|line| line.ends_with("first")), "{outcome}");

    let mut terminal = world.terminal(["run", "--", "no-such-command"]);
    terminal.shows("cannot run `no-such-command`");
    terminal.wait(Duration::from_mins(1)).exits(127);
}

#[test]
fn run_in_a_service_activates_its_profile() {
    let world = World::with_spec(
        "services:
  one: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
  tool: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, profiles: [tools] }
",
    );

    let outcome = world.sandbox(["run", "--in", "tool", "--", "hostname"]).success();

    assert!(!outcome.stdout.trim().is_empty(), "{outcome}");
}

#[test]
fn a_failed_run_shows_the_last_lines_of_services_that_failed() {
    let world = World::with_spec(
        r#"services:
  bad:
    image: sbx-test/busybox
    command: [sh, -c, "until [ -e /go ]; do sleep 0.1; done; echo it is broken; exit 3"]
"#,
    );

    let outcome = world.sandbox(["run", "--in", "bad", "--", "sh", "-c", "touch /go; sleep 60"]);

    assert_ne!(outcome.code, Some(0), "{outcome}");
    outcome.says("it is broken");
}

#[test]
fn data_goes_to_stdout_and_everything_else_to_stderr() {
    let world = World::with_spec(TWO);

    let outcome = world.up();

    assert!(!outcome.stderr.is_empty(), "{outcome}");
    for line in outcome.stdout.lines() {
        assert!(!line.contains("pulling") && !line.contains('\u{1b}'), "{outcome}");
    }
}

#[test]
fn a_session_learns_of_an_extension() {
    let world = World::with_spec(TWO);
    let mut session = world.spawn(["up", "--ttl", "2h"]);
    session.says("is up after");

    world.sandbox(["extend", "9h"]).success();

    session.says("the sandbox ends at");
    session.interrupt();
    session.wait(Duration::from_mins(1)).exits(130);
}

/// A service whose hooks write what they see into a folder of the project.
const HOOKED: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["./seen:/seen", "data:/data"]
    pre_start:
      - command: [sh, -c, "echo started by $$WHO as $$(id -u) in $$(pwd) > /data/init"]
        environment: { WHO: init }
        user: "1"
        working_dir: /tmp
    post_start: [{ command: [sh, -c, "cat /data/init > /seen/post"] }]
    pre_stop:
      - command: [sh, -c, "echo stopped by $$WHO as $$(id -u) >> /seen/stop"]
        environment: { WHO: hook }
        user: "1"
volumes: { data: {} }
"#;

fn hooked(spec: &str) -> World {
    let world = World::with_spec(spec);
    world.file("seen/.keep", "");
    world.host("chmod", &["777", "seen"]).run().success();
    world.sandbox(["up", "-d", "--allow-host-access"]).success();
    world
}

fn seen(world: &World, file: &str) -> String {
    std::fs::read_to_string(world.project().join("seen").join(file)).unwrap_or_default()
}

#[test]
fn hooks_run_before_and_after_the_start_and_before_each_stop_with_their_environment_and_user() {
    let world = hooked(
        &HOOKED.replace("sh, -c, \"echo started", "sh, -c, \"chmod 777 /data; echo started").replacen(
            "user: \"1\"",
            "user: \"0\"",
            1,
        ),
    );

    assert_eq!(seen(&world, "post"), "started by init as 0 in /tmp\n");
    for (verb, times) in [("stop", 1), ("start", 1), ("restart", 2), ("down", 3)] {
        world.sandbox([verb]).success();
        assert_eq!(seen(&world, "stop"), "stopped by hook as 1\n".repeat(times), "{verb}");
    }
    world.engine().becomes_clean();
}

#[test]
fn a_pre_start_command_that_fails_keeps_its_service_from_starting() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    pre_start: [{ command: [sh, -c, "echo no migration; exit 4"] }]
"#,
    );

    world.sandbox(["up", "-d"]).exits(1).says("exited with code 4").says("no migration");

    world.engine().becomes_clean();
}

#[test]
fn a_pre_start_command_runs_again_when_its_stopped_service_starts_and_not_when_it_restarts() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    pre_start: [{ command: [sh, -c, "echo prepared >> /data/log"] }]
volumes: { data: {} }
"#,
    );
    let times = || world.in_container("app", &["cat", "/data/log"]).stdout.lines().count();
    world.up();
    assert_eq!(times(), 1);

    world.sandbox(["restart"]).success();
    assert_eq!(times(), 1);

    world.sandbox(["stop"]).success();
    world.sandbox(["start"]).success();
    assert_eq!(times(), 2);
}

#[test]
fn a_pre_stop_command_that_fails_is_told_and_the_service_stops() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    pre_stop: [{ command: [sh, -c, "echo cannot leave; exit 4"] }]
"#,
    );
    world.up();

    world.sandbox(["stop"]).success().says("`pre_stop` failed").says("code 4").says("cannot leave");
    world.sandbox(["start"]).success();
    world.sandbox(["down"]).success().says("cannot leave");

    world.engine().becomes_clean();
}

#[test]
fn what_depends_on_a_service_with_restart_is_restarted_with_it() {
    let spec = r#"
services:
  db: { image: sbx-test/busybox, command: [sleep, "1000"], stop_signal: SIGKILL, environment: { V: "1" } }
  api:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: { db: { condition: service_started, restart: true } }
  other: { image: sbx-test/busybox, command: [sleep, "1000"], stop_signal: SIGKILL, depends_on: [db] }
"#;
    let world = World::with_spec(spec);
    world.up();
    let pids = || ["db", "api", "other"].map(|service| world.engine().pid(&world.container(service)));
    let first = pids();

    world.sandbox(["restart", "db"]).success();

    let second = pids();
    assert!(first[0] != second[0] && first[1] != second[1] && first[2] == second[2], "{first:?} {second:?}");
    world.spec(&spec.replace("V: \"1\"", "V: \"2\""));
    world.up();
    let third = pids();
    assert!(second[0] != third[0] && second[1] != third[1] && second[2] == third[2], "{second:?} {third:?}");
}

#[test]
fn down_lets_a_service_end_by_itself_but_does_not_wait_for_data_that_goes_anyway() {
    let world = World::with_spec(
        r#"
services:
  polite:
    image: sbx-test/busybox
    command: [sh, -c, "trap 'echo I was asked to leave; exit 0' TERM; while :; do sleep 0.1; done"]
  deaf: { image: sbx-test/busybox, command: [sleep, "1000"] }
"#,
    );
    let session = world.spawn(["up"]);
    eventually("it is up", || session.stderr().contains("Ctrl-C destroys it"));

    let down = world.sandbox(["down"]).success();

    assert!(down.took < Duration::from_secs(9), "{down}");
    eventually("its last words are shown", || {
        (session.stdout() + &session.stderr()).contains("I was asked to leave")
    });
}

#[test]
fn root_has_its_rights_in_a_service_of_another_user() {
    let world = World::with_spec(
        r#"
services:
  web:
    image: sbx-test/busybox
    user: "1000"
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    post_start: [{ command: [chown, "1000", /data], user: root }]
volumes: { data: {} }
"#,
    );
    world.up();

    assert_eq!(world.in_container("web", &["stat", "-c", "%u", "/data"]).text(), "1000");
    let mask =
        "umask 077; echo x > /tmp/own; chown 1000 /tmp/own; cat /tmp/own; grep CapEff /proc/self/status";
    let said = world.sandbox(["exec", "-u", "root", "web", "sh", "-c", mask]).success().stdout;
    assert!(said.starts_with("x\n") && !said.contains("CapEff:\t0000000000000000"), "{said}");
}

/// One service that prints numbered lines and ends.
fn counting(lines: u32) -> World {
    World::with_spec(&format!(
        "services: {{ count: {{ image: sbx-test/busybox, command: [seq, '1', '{lines}'] }} }}\n"
    ))
}

#[test]
fn an_attached_up_shows_every_line_of_a_service_that_ends_on_stdout() {
    let world = counting(20_000);

    let outcome = world.command(["up"]).limit(Duration::from_mins(3)).run().success();

    let shown: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.strip_prefix("count | ")).collect();
    let expected: Vec<String> = (1..=20_000).map(|number| number.to_string()).collect();
    assert_eq!(shown.len(), expected.len());
    assert!(shown == expected, "lines are out of order or changed");
    assert!(!outcome.stderr.contains("count | "), "logs are on stderr");
}

#[test]
#[ignore = "takes minutes: `fixtures/test --slow` runs it"]
fn an_attached_up_shows_three_hundred_thousand_lines_of_each_of_two_services() {
    let world = World::with_spec(
        "services:
  a: { image: sbx-test/busybox, command: [seq, '1', '300000'] }
  b: { image: sbx-test/busybox, command: [seq, '1', '300000'] }
",
    );

    let outcome = world.command(["up"]).limit(Duration::from_mins(10)).run().success();

    for service in ["a | ", "b | "] {
        let mut expected = 1_u32;
        for line in outcome.stdout.lines().filter_map(|line| line.strip_prefix(service)) {
            assert_eq!(line, expected.to_string());
            expected += 1;
        }
        assert_eq!(expected, 300_001);
    }
}

/// The most memory that a process has used, in MiB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib / 1024).expect("the kernel reports a peak")
}

#[test]
#[ignore = "takes minutes: `fixtures/test --slow` runs it"]
fn a_reader_that_is_slow_costs_no_memory_and_no_line() {
    use std::io::BufRead;
    let world = World::with_spec(
        "services:\n  a: { image: sbx-test/busybox, command: [sh, -c, \"seq -f '%0200g' 1 600000\"] }\n",
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(["up", "--no-log-prefix"]).current_dir(world.project()).env("HOME", world.home());
    command.env("SANDBOX_SCOPE", world.name()).env("SANDBOX_NAME", world.name());
    let mut up = command.stdout(std::process::Stdio::piped()).spawn().unwrap();

    // Nobody reads until the service has written everything.
    eventually("the service has ended", || {
        let shown = world.engine().docker(&["inspect", "-f", "{{.State.Status}}", &world.container("a")]);
        shown.text() == "exited"
    });
    let mut expected = 1_u64;
    for line in std::io::BufReader::new(up.stdout.take().unwrap()).lines() {
        assert_eq!(line.unwrap().parse::<u64>().unwrap(), expected);
        if expected == 1 {
            let used = most_memory(up.id());
            assert!(used < 150, "{used} MiB");
        }
        expected += 1;
    }
    assert_eq!(expected, 600_001);
    assert!(up.wait().unwrap().success());
}

#[test]
fn logs_and_an_attached_up_show_a_long_line_and_odd_bytes_as_they_were_written() {
    let world = World::with_spec(
        r#"
services:
  long:
    image: sbx-test/busybox
    command: [sh, -c, 'head -c 40000 /dev/zero | tr "\0" x; printf "|end\n50%%\r60%%\t\n\033[1mbold\033[0m\n"; exec sleep infinity']
    stop_signal: SIGKILL
"#,
    );
    world.up();
    let expected = format!("{}|end\n50%\r60%\t\n\u{1b}[1mbold\u{1b}[0m\n", "x".repeat(40_000));

    eventually("the log is complete", || {
        let outcome = world.sandbox(["logs", "--no-log-prefix"]).success();
        outcome.stdout.matches('\n').count() == 3
    });
    let outcome = world.sandbox(["logs", "--no-log-prefix"]).success();
    assert!(outcome.stdout == expected, "{outcome}");
}

#[test]
fn exec_ends_when_the_reader_of_its_output_leaves() {
    let world = two();
    let script = r#""$SANDBOX" exec idle yes | head -n 1; echo "${PIPESTATUS[0]}""#;

    let run = world.host("bash", &["-c", script]).env("SANDBOX", env!("CARGO_BIN_EXE_sandbox"));
    let outcome = run.env("SANDBOX_SCOPE", world.engine().scope()).env("SANDBOX_NAME", world.name()).run();

    assert_eq!(outcome.stdout, "y\n141\n", "{outcome}");
    eventually("the command has ended", || {
        !world.sandbox(["exec", "idle", "ps"]).success().stdout.contains(" yes")
    });
}

#[test]
fn what_a_service_says_while_it_is_stopped_is_shown() {
    let world = World::with_spec(
        r#"
services:
  polite:
    image: sbx-test/busybox
    command: [sh, -c, 'trap "echo last words; exit 0" TERM; echo is up; while true; do sleep 0.1; done']
    stop_grace_period: 10s
"#,
    );
    let mut session = world.spawn(["up"]);
    session.says("is up");

    session.signal(libc::SIGINT);

    session.says("last words");
}

#[test]
fn options_of_compose_stand_before_the_verb_too() {
    let world = World::new();
    std::fs::create_dir_all(world.project().join("there")).unwrap();
    world.file(
        "there/other.yaml",
        "services: { one: { image: '${WORD}' }, two: { image: extra, profiles: [more] } }",
    );
    world.file("words.env", "WORD=hello");

    let before = ["-f", "there/other.yaml", "--env-file", "words.env", "--profile", "more"];
    let listed = world.sandbox(before.into_iter().chain(["config", "--images"])).success();
    let mut names: Vec<&str> = listed.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["extra", "hello"]);

    std::fs::rename(world.project().join("there/other.yaml"), world.project().join("there/compose.yaml"))
        .unwrap();
    let there = ["--project-directory", "there", "--env-file", "words.env", "config", "--images"];
    assert_eq!(world.sandbox(there).success().text(), "hello");
}

#[test]
fn a_project_name_names_the_sandbox() {
    let world = World::with_spec(TWO);
    let name = format!("{}-p", world.name());

    world.sandbox(["-p", &name, "up", "-d", "idle"]).success();

    assert!(world.sandbox(["ls", "-q"]).success().stdout.lines().any(|line| line == name));
    world.sandbox(["-p", &name, "logs", "-n", "1", "idle"]).success();
    world.sandbox(["logs", "--project-name", &name, "--tail", "1", "idle"]).success();
    world.sandbox(["-p", &name, "down"]).success();
    world.engine().is_clean();
}

#[test]
fn a_container_that_ends_can_end_the_session_with_its_code() {
    let world = World::with_spec(
        "services:
  test: { image: sbx-test/busybox, command: [sh, -c, 'echo testing; exit 7'] }
  db:
    image: sbx-test/busybox
    command: [sh, -c, 'trap \"exit 9\" TERM; while true; do sleep 0.1; done']
",
    );

    let outcome = world.sandbox(["up", "--abort-on-container-exit"]).exits(7);
    assert!(outcome.stdout.contains("testing"), "{outcome}");
    world.sandbox(["up", "--abort-on-container-failure"]).exits(7);
    world.sandbox(["up", "--exit-code-from", "test"]).exits(7);
    world.sandbox(["up", "--exit-code-from", "db"]).exits(9);
    world.sandbox(["up", "--exit-code-from", "dbb"]).exits(2).says("did you mean `db`?");
    world.engine().is_clean();
}

#[test]
fn an_attached_up_shows_the_logs_of_the_services_that_are_chosen() {
    let world = World::with_spec(
        "services:
  a: { image: sbx-test/busybox, command: [echo, from a] }
  b: { image: sbx-test/busybox, command: [echo, from b] }
",
    );

    let only = world.sandbox(["up", "--attach", "a", "--no-log-prefix"]).success();
    assert_eq!(only.stdout, "from a\n");
    let timed = world.sandbox(["up", "--no-attach", "a", "--timestamps"]).success();
    let (name, rest) = timed.stdout.split_once(" | ").unwrap();
    let (time, line) = rest.split_once(' ').unwrap();
    assert!(name == "b" && line == "from b\n" && time.parse::<jiff::Timestamp>().is_ok(), "{timed}");
}

#[test]
fn containers_are_created_without_a_start_and_started_later() {
    let world = World::with_spec(TWO);

    world.sandbox(["create"]).success();
    assert_eq!(world.sandbox(["ps", "--status", "created", "--services"]).success().text(), "idle\nweb");
    world.sandbox(["start"]).success();

    assert!(world.engine().runs(&world.container("web")));
    world.sandbox(["up", "--no-start"]).success();
}

#[test]
fn services_are_killed_paused_waited_for_and_removed() {
    let world = two();

    world.sandbox(["pause", "idle"]).success();
    assert_eq!(
        world.sandbox(["ps", "--filter", "status=paused", "-q"]).success().text(),
        world.container("idle")
    );
    world.sandbox(["unpause", "idle"]).success();
    let waits = world.spawn(["wait", "idle"]);
    std::thread::sleep(Duration::from_millis(500));
    world.sandbox(["kill", "-s", "SIGTERM", "web"]).success();
    world.sandbox(["kill", "idle"]).success();
    let waited = waits.wait(Duration::from_mins(1)).exits(137);
    assert_eq!(waited.stdout, "service `idle` exited with code 137\n");

    world.sandbox(["rm", "idle"]).exits(2).says("--force");
    world.sandbox(["rm", "-f", "idle"]).success();
    assert!(!world.engine().exists(&world.container("idle")));
    world.sandbox(["rm", "-s", "-f", "web"]).success();
    world.up();
    assert!(world.engine().runs(&world.container("idle")));
    world.sandbox(["kill", "nosuch"]).exits(2).says("nosuch");
}

#[test]
fn what_a_sandbox_is_made_of_is_listed_in_several_forms() {
    let world = World::with_spec(
        "services: { db: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ['data:/d'] } }
volumes: { data: {} }
",
    );
    world.up();

    let form = "{{.Repository}}:{{.Tag}}";
    assert_eq!(world.sandbox(["images", "--format", form]).success().text(), "sbx-test/busybox:latest");
    assert!(world.sandbox(["images", "-q"]).success().stdout.starts_with("sha256:"));
    assert!(world.sandbox(["volumes"]).success().stdout.contains("data"));
    assert_eq!(world.sandbox(["volumes", "-q"]).success().text(), format!("sbx-{}.data", world.name()));
    let line = world.sandbox(["ps", "--format", "json"]).success().json();
    assert_eq!(
        (&line["Service"], &line["State"], &line["ExitCode"]),
        (&"db".into(), &"running".into(), &0.into())
    );
    assert_eq!(world.sandbox(["ls", "--format", "{{.Name}}"]).success().text(), world.name());
    let version = world.sandbox(["version", "--format", "json"]).success().json();
    assert!(version["version"].is_string() && version["api"].is_string(), "{version}");
    assert!(world.sandbox(["help", "version"]).success().stdout.contains("Examples:"));
}

#[test]
fn a_sandbox_is_scaled() {
    let world = two();

    world.sandbox(["scale", "web=2"]).success();
    assert!(world.engine().runs(&format!("{}.2", world.container("web"))));
    world.sandbox(["scale", "web=1"]).success();
    assert!(!world.engine().exists(&format!("{}.2", world.container("web"))));
}

#[test]
fn down_removes_the_images_that_were_built() {
    let world = World::with_spec(
        "services:
  app:
    build: { context: ., dockerfile_inline: FROM sbx-test/busybox }
    command: [sleep, infinity]
    stop_signal: SIGKILL
",
    );
    world.up();
    let image = world.sandbox(["config", "--images"]).success().text().to_owned();

    world.sandbox(["down", "-t", "1", "--rmi", "local"]).success();

    let left = world.engine().docker(&["images", "-q", &image]).success();
    assert_eq!(left.stdout, "", "{image}");
}

#[test]
fn config_prints_lists_and_hashes() {
    let world = World::with_spec(
        "services:
  a: { image: sbx-test/busybox, profiles: [tools] }
  b: { image: sbx-test/busybox }
",
    );

    assert_eq!(world.sandbox(["config", "--profiles"]).success().text(), "tools");
    let hash = world.sandbox(["config", "--hash", "b"]).success().text().to_owned();
    assert!(hash.starts_with("b ") && hash.len() == 66, "{hash}");
    world.sandbox(["config", "-o", "resolved.yaml"]).success();
    assert!(std::fs::read_to_string(world.project().join("resolved.yaml")).unwrap().contains("busybox"));
    world.sandbox(["config", "--hash", "c"]).exits(2);
}

#[test]
fn verbs_and_options_of_compose_are_answered_with_what_to_type() {
    let world = World::new();

    world.sandbox(["convert"]).exits(2).says("`sandbox config`");
    world.sandbox(["up", "--no-recreate"]).exits(2).says("only if its service changed");
    world.sandbox(["run", "web", "ls"]).exits(2).says("`sandbox exec SERVICE CMD`");
}

#[test]
fn man_pages_are_written_where_they_are_wanted() {
    let world = World::new();

    world.sandbox(["completions", "--man", "man1"]).success();

    let page = std::fs::read_to_string(world.project().join("man1/sandbox-up.1")).unwrap();
    assert!(page.contains("abort"), "{page}");
}
