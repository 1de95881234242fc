//! `up` waits for what the spec says it should, no longer, and says why when it cannot.

mod support;

use std::time::Duration;

use support::World;

/// A page that is served two seconds after its container starts.
fn late_page(more: &str) -> String {
    format!(
        r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "sleep 2; mkdir /www; echo ok > /www/healthz; echo now it is open; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    expose: ["80"]
{more}
"#
    )
}

/// `up` returns only once the page is served.
fn waits_for_the_page(more: &str) {
    let world = World::with_spec(&late_page(more));

    world.up();

    world.in_container("web", &["wget", "-qO-", "http://127.0.0.1/healthz"]).success();
}

#[test]
fn a_port_is_waited_for() {
    waits_for_the_page("    ready: { tcp: 80 }");
}

#[test]
fn an_http_answer_is_waited_for() {
    waits_for_the_page("    ready: { http: /healthz }");
}

#[test]
fn an_http_answer_is_the_one_that_is_asked_for_or_none() {
    const PAGE: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command:
      - sh
      - -c
      - |
        mkdir -p /www/cgi-bin
        printf '#!/bin/sh\nsleep 1; [ "$$HTTP_X_WHO" = me ] && printf "Status: 418 Teapot\r\n\r\n" || printf "Status: 200 OK\r\n\r\n"\n' > /www/cgi-bin/who
        chmod +x /www/cgi-bin/who
        exec httpd -f -p 80 -h /www
    stop_signal: SIGKILL
    ready: { http: { port: 80, path: /cgi-bin/who, status: STATUS, headers: { X-Who: me } }, timeout: 20s }
"#;
    let world = World::with_spec(&PAGE.replace("STATUS", "418"));
    world.up();

    let other = World::with_spec(&PAGE.replace("STATUS", "204").replace("20s", "5s"));
    let failed = other.sandbox(["up", "-d"]).exits(1);
    assert!(failed.stderr.contains("418"), "{failed}");
}

#[test]
fn a_service_in_the_network_of_another_is_waited_for_where_that_one_is() {
    let world = World::with_spec(
        "services:
  app: { image: sbx-test/busybox, command: [sleep, '600'], stop_signal: SIGKILL }
  aside:
    image: sbx-test/busybox
    command: [sh, -c, \"sleep 2; mkdir /www; echo ok > /www/healthz; exec httpd -f -p 80 -h /www\"]
    network_mode: service:app
    stop_signal: SIGKILL
    ready: { http: /healthz, timeout: 20s }
",
    );

    world.up();

    world.in_container("app", &["wget", "-qO-", "http://127.0.0.1/healthz"]).success();
}

#[test]
fn a_command_is_waited_for() {
    waits_for_the_page("    ready: { exec: [wget, -qO-, 'http://127.0.0.1/healthz'] }");
}

#[test]
fn a_line_in_the_log_is_waited_for() {
    let world = World::with_spec(&late_page("    ready: { log: 'now it is \\w+' }"));

    world.up();

    let log = world.engine().docker(&["logs", &world.container("web")]).stdout;
    assert!(log.contains("now it is open"), "{log}");
}

#[test]
fn a_published_port_is_waited_for_when_nothing_else_is_said() {
    waits_for_the_page("    ports: [\"80\"]");
}

#[test]
fn a_service_that_says_nothing_is_ready_when_it_runs() {
    let world = World::with_spec(
        r#"
services:
  worker: { image: sbx-test/nginx, command: [sleep, "1000"], stop_signal: SIGKILL }
  dns: { image: sbx-test/busybox, command: [sleep, "1000"], ports: ["5000/udp"], stop_signal: SIGKILL }
  late:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    ports: ["80"]
    ready: none
    stop_signal: SIGKILL
"#,
    );

    let outcome = world.up();

    assert!(!outcome.stderr.contains("accepts no connection"), "{outcome}");
    assert!(outcome.took < Duration::from_secs(40), "{outcome}");
}

#[test]
fn a_published_port_that_never_opens_is_warned_about() {
    let world = World::with_spec(
        "services:\n  web: { image: sbx-test/busybox, command: [sleep, '1000'], ports: ['80'], stop_signal: SIGKILL }\n",
    );

    world.up().says("`web` runs, but accepts no connection on port 80").says("ready: none");

    assert!(world.engine().runs(&world.container("web")));
}

#[test]
fn a_service_with_a_healthcheck_is_shown_as_ready_once_it_is_up() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    healthcheck: { test: "true", interval: 60s }
"#,
    );

    let outcome = world.up();

    let shown = outcome.stderr.clone() + &outcome.stdout;
    assert!(shown.contains("ready") && !shown.contains("starting"), "{outcome}");
}

#[test]
fn a_healthcheck_is_looked_at_at_once_and_not_after_its_interval() {
    let world = World::with_spec(&late_page(
        "    healthcheck: { test: [CMD, wget, -qO-, 'http://127.0.0.1/healthz'], interval: 60s, start_period: 60s }",
    ));

    let outcome = world.up();

    world.in_container("web", &["wget", "-qO-", "http://127.0.0.1/healthz"]).success();
    assert!(outcome.took < Duration::from_secs(30), "it took {:?}", outcome.took);
}

#[test]
fn a_dependency_is_ready_before_what_needs_it_starts() {
    let world = World::with_spec(&late_page(
        r#"
  client:
    image: sbx-test/busybox
    command: [sh, -c, "wget -qO- http://web/healthz && sleep infinity"]
    stop_signal: SIGKILL
    depends_on: { web: { condition: service_healthy } }
"#,
    ));

    world.up();

    assert!(world.engine().runs(&world.container("client")));
}

#[test]
fn what_must_complete_first_has_completed() {
    let world = World::with_spec(
        r#"
services:
  migrate:
    image: sbx-test/busybox
    command: [sh, -c, "sleep 1; echo done > /shared/mark"]
    volumes: ["shared:/shared"]
  app:
    image: sbx-test/busybox
    command: [sh, -c, "cat /shared/mark && sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["shared:/shared"]
    depends_on: { migrate: { condition: service_completed_successfully } }
volumes: { shared: {} }
"#,
    );

    world.up();

    assert!(world.engine().runs(&world.container("app")));
    let migrate = world.engine().inspect(&world.container("migrate"));
    assert_eq!(migrate["State"]["ExitCode"], 0);
}

#[test]
fn a_service_that_exits_ends_up_with_its_last_words() {
    let world = World::with_spec(
        r#"
services:
  broken:
    image: sbx-test/busybox
    command: [sh, -c, "echo these are my last words >&2; exit 3"]
    expose: ["80"]
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    depends_on: { broken: { condition: service_healthy } }
"#,
    );

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    for text in ["broken", "these are my last words", "3", "app"] {
        assert!(outcome.stderr.contains(text), "{text:?} is not said\n{outcome}");
    }
    world.engine().becomes_clean();
}

#[test]
fn a_service_that_cannot_begin_ends_up_though_nothing_tells_when_it_is_ready() {
    let world = World::with_spec(
        "services:\n  worker: { image: sbx-test/busybox, command: [sh, -c, 'echo no such queue >&2; exit 5'] }\n",
    );

    world.sandbox(["up", "-d"]).exits(1).says("worker").says("code 5").says("no such queue");

    world.engine().becomes_clean();
}

#[test]
fn a_service_that_fails_while_others_are_waited_for_ends_up() {
    let world = World::with_spec(
        r#"
services:
  worker: { image: sbx-test/busybox, command: [sh, -c, "sleep 1; echo lost my queue >&2; exit 6"] }
  slow:
    image: sbx-test/busybox
    command: [sh, -c, "sleep 3; touch /ready; exec sleep infinity"]
    stop_signal: SIGKILL
    ready: { exec: [test, -e, /ready] }
"#,
    );

    world.sandbox(["up", "-d"]).exits(1).says("worker").says("code 6").says("lost my queue");

    world.engine().becomes_clean();
}

#[test]
fn a_command_is_tried_even_if_no_exposed_port_is_open() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    expose: ["80"]
    ready: { exec: ["true"] }
"#,
    );

    world.up();

    assert!(world.engine().runs(&world.container("app")));
}

#[test]
fn a_failed_one_shot_names_what_waited_for_it() {
    let world = World::with_spec(
        r#"
services:
  migrate: { image: sbx-test/busybox, command: [sh, -c, "echo no such column; exit 1"] }
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    depends_on: { migrate: { condition: service_completed_successfully } }
"#,
    );

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    for text in ["migrate", "no such column", "app"] {
        assert!(outcome.stderr.contains(text), "{text:?} is not said\n{outcome}");
    }
    world.engine().becomes_clean();
}

#[test]
fn a_service_that_keeps_exiting_ends_up_soon() {
    for (restart, more) in [
        ("always", ""),
        ("always", "healthcheck: { test: \"true\", interval: 1s }"),
        ("\"on-failure:2\"", ""),
    ] {
        let world = World::with_spec(&format!(
            r#"
services:
  api:
    image: sbx-test/busybox
    command: [sh, -c, "echo no such table; sleep 0.1; exit 1"]
    restart: {restart}
    {more}
"#
        ));

        let outcome = world.sandbox(["up", "-d"]).exits(1);

        outcome.says("`api` keeps exiting (code 1, 3 times)").says("no such table");
        world.engine().becomes_clean();
    }
}

#[test]
fn two_crashes_before_a_start_that_goes_well_are_waited_for() {
    let world = World::with_spec(
        r#"
services:
  shy:
    image: sbx-test/busybox
    command: [sh, -c, "echo x >> /lives/n; if [ $$(wc -l < /lives/n) -gt 2 ]; then exec sleep 1000; fi; exit 1"]
    stop_signal: SIGKILL
    restart: on-failure
    healthcheck: { test: "test $$(wc -l < /lives/n) -gt 2", interval: 200ms, retries: 2 }
    volumes: ["lives:/lives"]
volumes: { lives: {} }
"#,
    );

    world.up();

    assert!(world.engine().runs(&world.container("shy")));
}

#[test]
fn a_dependency_that_is_not_required_may_fail() {
    let world = World::with_spec(
        r#"
services:
  x: { image: sbx-test/busybox, command: [sh, -c, "echo no licence; exit 3"] }
  app:
    image: sbx-test/busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: { x: { condition: service_completed_successfully, required: false } }
"#,
    );

    world.up().says("`x` exited with code 3").says("starts without it");

    assert!(world.engine().runs(&world.container("app")));
}

#[test]
fn an_unhealthy_service_ends_up() {
    let world = World::with_spec(
        r#"
services:
  sick:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    healthcheck: { test: "echo it hurts; exit 1", interval: 200ms, retries: 3 }
"#,
    );

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    assert!(outcome.stderr.contains("sick") && outcome.stderr.contains("it hurts"), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn the_wait_has_an_end() {
    let world = World::with_spec(
        r"
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, ready: { tcp: 81 } }
",
    );

    let outcome = world.sandbox(["up", "-d", "--wait-timeout", "2"]).exits(1);

    assert!(outcome.stderr.contains("app") && outcome.stderr.contains("81"), "{outcome}");
    assert!(outcome.took < Duration::from_secs(40), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn a_service_may_say_itself_how_long_it_is_waited_for() {
    let world = World::with_spec(
        r"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    ready: { tcp: 81, timeout: 2s }
",
    );

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    assert!(outcome.stderr.contains("app") && outcome.stderr.contains("after 2."), "{outcome}");
    assert!(outcome.stderr.contains("connection refused"), "{outcome}");
    assert!(outcome.stderr.contains("with `timeout` in its `ready:`"), "{outcome}");
    assert!(outcome.took < Duration::from_secs(40), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn a_one_shot_that_succeeds_is_a_success() {
    let world = World::with_spec(
        r#"
services:
  once: { image: sbx-test/busybox, command: ["true"] }
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
"#,
    );

    world.up();

    assert_eq!(world.engine().running_services(), [world.container("app")]);
}
