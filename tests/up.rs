//! `up -d` and `down`: what the spec says stands, is reached, and is gone afterwards.

mod support;

use std::net::{TcpListener, UdpSocket};

use support::{World, eventually, http_get};

const PAGE: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
"#;

#[test]
fn a_service_runs_and_is_reached_on_loopback() {
    let world = World::with_spec(PAGE);

    world.up();

    assert_eq!(world.engine().running_services(), [world.container("web")]);
    let address = world.address("web", 80);
    assert!(address.ip().is_loopback(), "{address}");
    assert_eq!(http_get(address, "/").unwrap(), (200, "hello\n".to_owned()));
}

#[test]
fn down_leaves_nothing() {
    let world = World::with_spec(
        r#"
services:
  data:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["named:/named", "/anonymous"]
    networks: [front, back]
    secrets: [key]
networks: { front: {}, back: {} }
volumes: { named: {} }
secrets: { key: { generate: 16 } }
"#,
    );
    world.up();
    assert!(world.engine().remains().len() >= 5, "{:?}", world.engine().remains());

    world.sandbox(["down"]).success();

    world.engine().is_clean();
}

#[test]
fn down_of_what_is_not_there_says_so_with_exit_code_4() {
    let world = World::with_spec(PAGE);

    world.sandbox(["down"]).exits(4);
}

#[test]
fn services_find_each_other_by_name_and_alias() {
    let world = World::with_spec(
        r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    expose: ["80"]
    networks: { default: { aliases: [page] } }
  client:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    depends_on: { web: { condition: service_healthy } }
"#,
    );

    world.up();

    for name in ["web", "page"] {
        let answer = world.in_container("client", &["wget", "-qO-", &format!("http://{name}/")]);
        assert_eq!(answer.success().stdout, "hello\n");
    }
}

#[test]
fn frontend_and_backend_stay_apart() {
    let world = World::with_spec(
        r"
services:
  front: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, networks: [front] }
  back: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, networks: [back] }
networks: { front: {}, back: {} }
",
    );

    world.up();

    let lookup = world.in_container("front", &["nslookup", "back"]);
    assert_ne!(lookup.code, Some(0), "{lookup}");
}

#[test]
fn a_copied_seed_is_there_before_the_service_starts() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "cat /files/one /files/deep/two; sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["files:/files"]
volumes:
  files: { seed: [{ copy: seed }] }
"#,
    );
    world.file("seed/one", "1\n").file("seed/deep/two", "2\n");

    world.up();

    eventually("the service has read its seed", || {
        world.engine().docker(&["logs", &world.container("app")]).stdout == "1\n2\n"
    });
}

#[test]
fn sql_runs_once_the_database_is_ready_in_the_order_written() {
    let world = World::with_spec(
        r#"
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD_FILE: /run/secrets/password }
    secrets: [password]
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
    seed:
      - sql: sql/*.sql
      - exec: [psql, -q, -v, ON_ERROR_STOP=1, -U, postgres, -d, shop]
        stdin: more.sql
volumes: { data: {} }
secrets: { password: { generate: 24 } }
"#,
    );
    world.file("sql/1-schema.sql", "CREATE TABLE t (n integer);");
    world.file("sql/2-rows.sql", "INSERT INTO t SELECT generate_series(1, 1000);");
    world.file("more.sql", "INSERT INTO t SELECT max(n) + 1 FROM t;");

    world.up();

    let query = ["psql", "-U", "postgres", "-d", "shop", "-Atc", "SELECT count(*), max(n) FROM t"];
    assert_eq!(world.in_container("db", &query).success().text(), "1001|1001");
}

#[test]
fn a_failing_seed_shows_its_statement_and_nothing_stays() {
    let world = World::with_spec(
        r#"
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_PASSWORD: x }
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
    seed: [{ sql: broken.sql }]
volumes: { data: {} }
"#,
    );
    world.file("broken.sql", "CREATE TABLE t (n integer);\nINSERT INTO nowhere VALUES (1);\n");

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    assert!(outcome.stderr.contains("nowhere") && outcome.stderr.contains("broken.sql"), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn the_example_comes_up_and_answers() {
    let mut world = World::new();
    world.env("POSTGRES_IMAGE", support::POSTGRES).env("REDIS_IMAGE", support::REDIS);
    world.env("WEB_BASE", "sbx-test/python");
    let spec = support::repository().join("sandbox.example.yaml");

    world.sandbox(["up", "-d", "-f", spec.to_str().unwrap()]).success();

    let (status, body) = http_get(world.address("web", 8080), "/").unwrap();
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["rows"],
        serde_json::json!({"customers": 500, "products": 200, "orders": 3000, "order_lines": 7480})
    );
    assert_eq!(body["visits"], 1);
    let (_, uploads) = http_get(world.address("web", 8080), "/uploads").unwrap();
    assert!(uploads.contains("invoices/20.txt"), "{uploads}");
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}

#[test]
fn a_dry_run_prints_the_plan_and_makes_nothing() {
    let world = World::with_spec(PAGE);

    let outcome = world.sandbox(["up", "--dry-run"]).success();

    assert!(outcome.stdout.contains("web"), "{outcome}");
    world.engine().is_clean();
}

#[test]
fn a_second_up_keeps_what_has_not_changed() {
    let spec = |greeting: &str| {
        format!(
            r"
lifetime: {{ ttl: 1h }}
secrets: {{ word: {{ generate: 12 }} }}
services:
  same: {{ image: sbx-test/busybox, secrets: [word], command: [sleep, infinity], stop_signal: SIGKILL }}
  other: {{ image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, environment: {{ GREETING: {greeting} }} }}
"
        )
    };
    let world = World::with_spec(&spec("hello"));
    world.up();
    assert_eq!(world.sandbox(["up", "--dry-run"]).success().stdout, "nothing to do\n");
    let before =
        ["same", "other"].map(|service| world.engine().inspect(&world.container(service))["Id"].clone());

    world.spec(&spec("bonjour"));
    let plan = world.sandbox(["up", "--dry-run"]).success().stdout;
    assert!(plan.contains(&world.container("other")) && !plan.contains(&world.container("same")), "{plan}");
    world.up();

    let after =
        ["same", "other"].map(|service| world.engine().inspect(&world.container(service))["Id"].clone());
    assert_eq!(before[0], after[0], "what has not changed was recreated");
    assert_ne!(before[1], after[1], "what has changed was not recreated");
    assert!(world.in_container("other", &["env"]).stdout.contains("GREETING=bonjour"));
}

#[test]
fn a_written_port_that_is_taken_gives_way() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let world = World::with_spec(&PAGE.replace(r#""80""#, &format!("\"{port}:80\"")));

    let outcome = world.up();

    let address = world.address("web", 80);
    assert_ne!(address.port(), port);
    assert_eq!(http_get(address, "/").unwrap().0, 200);
    assert!(outcome.stderr.contains(&port.to_string()), "up does not say that the port was taken\n{outcome}");
}

#[test]
fn a_written_port_that_is_taken_is_an_error_under_strict_ports() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let world = World::with_spec(&PAGE.replace(r#""80""#, &format!("\"{port}:80\"")));

    world.sandbox(["up", "-d", "--strict-ports"]).exits(1).says(&port.to_string());

    world.engine().becomes_clean();
}

#[test]
fn a_written_port_that_is_free_is_given() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let world = World::with_spec(&PAGE.replace(r#""80""#, &format!("\"{port}:80\"")));

    world.up();

    assert_eq!(world.address("web", 80).port(), port);
}

#[test]
fn only_the_services_asked_for_and_what_they_need_are_started() {
    let world = World::with_spec(
        r"
services:
  one: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, depends_on: [two] }
  two: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
  three: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
",
    );

    world.sandbox(["up", "-d", "one"]).success();

    assert_eq!(world.engine().running_services(), [world.container("one"), world.container("two")]);
}

#[test]
fn a_profile_is_off_unless_it_is_asked_for() {
    let world = World::with_spec(
        r"
services:
  always: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
  sometimes: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, profiles: [extra] }
",
    );

    world.up();
    assert_eq!(world.engine().running_services(), [world.container("always")]);

    world.sandbox(["up", "-d", "--profile", "extra"]).success();
    assert_eq!(world.engine().running_services(), [world.container("always"), world.container("sometimes")]);
}

#[test]
fn two_sandboxes_of_one_spec_stand_side_by_side() {
    let mut world = World::with_spec(PAGE);
    let (first, second) = (format!("{}a", world.name()), format!("{}b", world.name()));

    world.sandbox(["up", "-d", "--name", &first]).success();
    world.sandbox(["up", "-d", "--name", &second]).success();

    world.env("SANDBOX_NAME", &first);
    let one = world.address("web", 80);
    world.env("SANDBOX_NAME", &second);
    let two = world.address("web", 80);
    assert_ne!(one, two);
    for address in [one, two] {
        assert_eq!(http_get(address, "/").unwrap().0, 200);
    }
    world.sandbox(["down", &first, &second]).success();
    world.engine().is_clean();
}

#[test]
fn a_generated_secret_is_a_file_and_no_label_or_environment_holds_it() {
    let world = World::with_spec(
        r"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    secrets: [key]
secrets: { key: { generate: 24 } }
",
    );

    world.up();

    let key = world.in_container("app", &["cat", "/run/secrets/key"]).success().stdout;
    assert_eq!(key.trim().len(), 24, "{key}");
    for object in world.engine().containers().into_iter().chain(world.engine().networks()) {
        assert!(
            !world.engine().inspect(&object).to_string().contains(key.trim()),
            "{object} tells the secret"
        );
    }
}

#[test]
fn a_sandbox_of_the_same_name_in_another_world_is_left_alone() {
    let (world, other) = (World::with_spec(PAGE), World::with_spec(PAGE));
    world.up();
    let state = || world.engine().inspect(&world.container("web"))["State"].clone();
    let before = state();

    other.sandbox(["up", "-d", "--name", world.name()]).exits(1);

    assert_eq!(state(), before);
    other.engine().is_clean();
}

#[test]
fn a_udp_port_that_is_taken_gives_way_alone_and_a_range_gives_its_first_free_one() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = taken.local_addr().unwrap().port();
    let (busy, first) = loop {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let next = busy.local_addr().unwrap().port().saturating_add(1);
        if TcpListener::bind(("127.0.0.1", next)).is_ok() && next != udp {
            break (busy, next);
        }
    };
    let range = format!("{}-{}", busy.local_addr().unwrap().port(), first);
    let world = World::with_spec(&format!(
        "services:\n  web:\n    image: sbx-test/busybox\n    command: [httpd, -f, -p, '80']\n    ports: ['{udp}:80', '{udp}:53/udp', '{range}:81']\n    ready: {{ tcp: 80 }}\n"
    ));

    let up = world.sandbox(["up", "-d"]).success();

    assert!(!up.stderr.contains("80 of"), "{up}");
    assert_eq!(world.address("web", 80).port(), udp, "{up}");
    assert_ne!(world.address("web", 53).port(), udp, "{up}");
    assert_eq!(world.address("web", 81).port(), first, "{up}");
}
