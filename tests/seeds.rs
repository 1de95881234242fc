//! Seeds run once per content, and what they leave is as after a clean shutdown.

mod support;

use std::collections::BTreeSet;

use support::{Outcome, World};

const POSTGRES: &str = r#"
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD_FILE: /run/secrets/password }
    secrets: [password]
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
    seed: [{ sql: seed.sql }]
volumes: { data: {} }
secrets: { password: { generate: 24 } }
"#;

const TABLE: &str = "CREATE TABLE people (mail text); INSERT INTO people VALUES ('ann@example.com');";

/// A service whose seed writes what it never writes again.
const ONCE: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    seed: [{ exec: [sh, -c, "head -c 12 /dev/urandom | base64 > /data/once"] }]
volumes: { data: {} }
"#;

fn postgres() -> World {
    let world = World::with_spec(POSTGRES);
    world.file("seed.sql", TABLE);
    world
}

fn sql(world: &World, query: &str) -> String {
    let psql = ["psql", "-U", "postgres", "-d", "shop", "-Atc", query];
    world.in_container("db", &psql).success().text().to_owned()
}

fn log(world: &World, service: &str) -> String {
    let Outcome { stdout, stderr, .. } = world.engine().docker(&["logs", &world.container(service)]);
    stdout + &stderr
}

fn baselines(world: &World) -> usize {
    world.engine().stored("baseline").len()
}

#[test]
fn a_seeded_postgres_starts_as_after_a_clean_shutdown_and_knows_its_password() {
    let world = postgres();

    world.up();

    let log = log(&world, "db");
    assert!(log.contains("database system was shut down at"), "{log}");
    for sign in ["not properly shut down", "redo", "stale", "recovery", "postmaster.pid"] {
        assert!(!log.contains(sign), "{sign}: {log}");
    }
    assert_eq!(sql(&world, "SELECT count(*) FROM people"), "1");
    let by_password =
        "PGPASSWORD=$(cat /run/secrets/password) psql -h $(hostname -i) -U postgres -d shop -Atc 'SELECT 7'";
    assert_eq!(world.in_container("db", &["sh", "-c", by_password]).success().text(), "7");
    // A second sandbox of the same baseline has the same data, hence the same password.
    let password = world.in_container("db", &["cat", "/run/secrets/password"]).success().stdout;
    world.sandbox(["down"]).success();
    world.up();
    assert_eq!(world.in_container("db", &["cat", "/run/secrets/password"]).success().stdout, password);
    assert_eq!(world.in_container("db", &["sh", "-c", by_password]).success().text(), "7");
}

#[test]
fn a_seeded_mariadb_starts_as_after_a_clean_shutdown() {
    let world = World::with_spec(
        r#"
services:
  db:
    image: sbx-test/mariadb
    environment: { MARIADB_DATABASE: shop, MARIADB_ROOT_PASSWORD: secret }
    volumes: ["data:/var/lib/mysql"]
    ready: { exec: [healthcheck.sh] }
    seed: [{ sql: seed.sql }]
volumes: { data: {} }
"#,
    );
    world.file("seed.sql", "CREATE TABLE people (mail text); INSERT INTO people VALUES ('a'), ('b');");

    world.up();

    let query = ["mariadb", "-uroot", "-psecret", "shop", "-Ne", "SELECT count(*) FROM people"];
    assert_eq!(world.in_container("db", &query).success().text(), "2");
    let log = log(&world, "db");
    assert!(log.contains("ready for connections"), "{log}");
    assert!(!log.to_lowercase().contains("crash recovery") && !log.contains("was not properly"), "{log}");
}

#[test]
fn a_seeded_redis_has_its_keys() {
    let world = World::with_spec(
        r#"
services:
  cache:
    image: sbx-test/redis
    command: [redis-server, --save, "3600 1"]
    volumes: ["data:/data"]
    seed: [{ exec: [redis-cli, set, colour, teal] }]
volumes: { data: {} }
"#,
    );

    world.up();

    assert_eq!(world.in_container("cache", &["redis-cli", "get", "colour"]).success().text(), "teal");
    let log = log(&world, "cache");
    assert!(log.contains("DB loaded from disk") && !log.contains("corrupt"), "{log}");
}

#[test]
fn what_is_mounted_for_the_images_entrypoint_is_a_seed_whose_bytes_count_and_a_port_does_not() {
    let spec = POSTGRES.replace("    seed: [{ sql: seed.sql }]\n", "    ports: [\"5432\"]\n");
    let spec =
        spec.replace("postgresql/data\"]", "postgresql/data\", \"./init:/docker-entrypoint-initdb.d:ro\"]");
    let world = World::with_spec(&spec);
    world.file("init/one.sql", TABLE);
    world.sandbox(["bake"]).success();
    assert_eq!(baselines(&world), 1);

    world.spec(&spec.replace("[\"5432\"]", "[\"15432:5432\"]"));
    world.sandbox(["bake"]).success();
    assert_eq!(baselines(&world), 1, "a port shapes no data");
    world.file("init/one.sql", format!("-- a comment\n{TABLE}"));
    world.sandbox(["bake"]).success();
    assert_eq!(baselines(&world), 2, "a comment is another seed");

    world.up();
    assert_eq!(sql(&world, "SELECT mail FROM people"), "ann@example.com");
    assert!(!log(&world, "db").contains("init process complete"), "it was done in the bake");
}

/// A database whose image runs the files of `init` at its first start.
fn initialized(image: &str, environment: &str, data: &str, ready: &str) -> World {
    World::with_spec(&format!(
        r#"
services:
  db:
    image: {image}
    restart: unless-stopped
    environment: {{ {environment} }}
    volumes: ["data:{data}", "./init:/docker-entrypoint-initdb.d:ro"]
    {ready}
volumes: {{ data: {{}} }}
"#
    ))
}

fn postgres_with(ready: &str) -> World {
    let environment = "POSTGRES_DB: shop, POSTGRES_HOST_AUTH_METHOD: trust";
    initialized("sbx-test/postgres", environment, "/var/lib/postgresql/data", ready)
}

const PG_ISREADY: &str =
    "healthcheck: { test: [CMD, pg_isready, -q, -U, postgres], interval: 1s, retries: 60 }";

#[test]
fn a_file_of_the_images_entrypoint_that_fails_leaves_no_baseline_and_its_statement_is_shown() {
    let world = postgres_with("");
    world.file("init/1.sql", TABLE).file("init/2.sql", "SELECT 1;\nSELECT nonsense;\n");

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    outcome.says("init/2.sql:2: SELECT nonsense;");
    assert_eq!(baselines(&world), 0);
    world.engine().becomes_clean();
}

#[test]
fn the_temporary_server_of_an_entrypoint_is_not_the_service() {
    for ready in [PG_ISREADY, "ready: { log: ready to accept connections }"] {
        let world = postgres_with(ready);
        world.file("init/1.sql", TABLE).file("init/2.sql", "SELECT pg_sleep(12);");
        world.file("init/3.sql", "INSERT INTO people VALUES ('late@example.com');");

        world.up();

        assert_eq!(sql(&world, "SELECT count(*) FROM people"), "2");
    }
}

#[test]
fn an_entrypoint_that_fails_late_leaves_no_baseline() {
    let world = postgres_with(PG_ISREADY);
    world.file("init/1.sql", TABLE).file("init/2.sql", "SELECT pg_sleep(12);\nSELECT nonsense;");

    world.sandbox(["up", "-d"]).exits(1).says("init/2.sql:2: SELECT nonsense;");

    assert_eq!(baselines(&world), 0);
}

#[test]
fn the_temporary_server_of_mariadb_is_not_the_service() {
    let world = initialized(
        "sbx-test/mariadb",
        "MARIADB_DATABASE: shop, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD: 1",
        "/var/lib/mysql",
        "healthcheck: { test: [CMD, mariadb-admin, ping, --silent], interval: 1s, retries: 60 }",
    );
    world.file(
        "init/1.sql",
        "CREATE TABLE people (mail text); SELECT SLEEP(12); INSERT INTO people VALUES ('a');",
    );

    world.up();

    let query = ["mariadb", "-uroot", "shop", "-Ne", "SELECT count(*) FROM people"];
    assert_eq!(world.in_container("db", &query).success().text(), "1");
}

#[test]
fn a_migration_run_in_one_service_is_in_the_data_of_another() {
    let spec = r#"
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_HOST_AUTH_METHOD: trust }
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
  web:
    image: sbx-test/postgres
    entrypoint: [sh, -c, "echo web is up; exec sleep infinity"]
    stop_signal: SIGKILL
    ready: { log: web is up }
    depends_on: { db: { condition: service_healthy } }
    volumes: ["scratch:/var/lib/postgresql/data"]
    seed: [{ exec: [psql, -h, db, -U, postgres, -d, shop, -c, "CREATE TABLE migrated AS SELECT 1 AS version"] }]
volumes: { data: {}, scratch: {} }
"#;
    let world = World::with_spec(spec);

    world.up();
    assert_eq!(sql(&world, "SELECT version FROM migrated"), "1");
    assert_eq!(baselines(&world), 1);

    world.sandbox(["down"]).success();
    world.spec(&spec.replace("SELECT 1 AS", "SELECT 2 AS"));
    world.up();
    assert_eq!(sql(&world, "SELECT version FROM migrated"), "2");
    assert_eq!(baselines(&world), 2);
}

#[test]
fn a_volume_seeded_by_a_snapshot_is_scrubbed_before_anyone_sees_it() {
    let world = postgres();
    world.up();
    world.sandbox(["snapshot", "create", "prod"]).success();
    world.sandbox(["snapshot", "export", "prod", "prod.sandbox.tar.zst"]).success();
    world.sandbox(["down"]).success();
    world.file("seed.sql", "UPDATE people SET mail = 'scrubbed';");
    let from = |reference: &str| {
        let seed = format!("volumes: {{ data: {{ seed: [{{ snapshot: {reference} }}] }} }}");
        POSTGRES.replace("volumes: { data: {} }", &seed)
    };

    for reference in ["prod", "./prod.sandbox.tar.zst"] {
        world.spec(&from(reference));
        world.up();
        assert_eq!(sql(&world, "SELECT mail FROM people"), "scrubbed", "{reference}");
        assert!(!log(&world, "db").contains("not properly shut down"));
        world.sandbox(["down"]).success();
        // The second time it is all there.
        let again = world.up();
        assert!(!again.stderr.contains("runs the seeds once"), "{again}");
        world.sandbox(["down"]).success();
    }
    world.spec(&from("never-taken"));
    world.sandbox(["up", "-d"]).exits(1).says("never-taken");
    world.engine().becomes_clean();
}

#[test]
fn a_seed_that_changes_while_it_is_baked_is_not_kept_under_the_key_of_what_it_was() {
    let spec = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data", "./beside:/beside"]
    seed:
      - exec: [sh, -c, "cat > /data/word"]
        stdin: beside/word
      - exec: [sh, -c, "WHAT"]
volumes: { data: {} }
"#;
    let world = World::with_spec(&spec.replace("WHAT", "echo later > /beside/word"));
    world.file("beside/word", "sooner\n");

    world.sandbox(["bake"]).exits(1).says("changed while the data was made").says("try again");

    assert_eq!(baselines(&world), 0);
    // What a service leaves in a folder that it may write to is no reason.
    world.spec(&spec.replace("WHAT", "echo done > /beside/mark"));
    world.sandbox(["bake"]).success();
    assert_eq!(baselines(&world), 1);
}

#[test]
fn a_failing_seed_leaves_no_baseline_and_keeps_its_log() {
    let world = World::with_spec(
        &ONCE
            .replace("head -c", "echo half > /data/half; echo cannot go on >&2; exit 3; head -c")
            .replace("[sleep, infinity]", "[sh, -c, \"echo the service speaks; exec sleep infinity\"]"),
    );

    let outcome = world.sandbox(["up", "-d"]).exits(1).says("cannot go on").says("the service speaks");

    world.engine().becomes_clean();
    for shelf in ["baseline", "making", "live"] {
        assert_eq!(world.engine().stored(shelf), [] as [&str; 0], "{shelf}");
    }
    let hidden = outcome.stderr.split("sandbox artifacts ").nth(1).and_then(|rest| rest.split('`').next());
    let hidden = hidden.unwrap_or_else(|| panic!("it does not say where the log is\n{outcome}"));
    world.sandbox(["artifacts", hidden]).success();
    let kept = world.host("sh", &["-c", "cat $(find . -name 'app.log')"]).run().success();
    assert!(kept.stdout.contains("the service speaks"), "{kept}");
}

#[test]
fn twenty_at_once_bake_once() {
    let world = World::with_spec(ONCE);
    let names: Vec<String> = (0..20).map(|number| format!("{}-{number}", world.name())).collect();
    // The keeper and our image are made once beforehand: this is about the bake.
    world.sandbox(["snapshot", "ls"]).success();

    std::thread::scope(|scope| {
        for name in &names {
            let world = &world;
            scope.spawn(move || world.sandbox(["up", "-d", "--progress", "quiet", "--name", name]).success());
        }
    });

    let container = |name: &str| format!("sbx-{name}.app");
    let seen: BTreeSet<String> = names
        .iter()
        .map(|name| world.engine().docker(&["exec", &container(name), "cat", "/data/once"]).success().stdout)
        .collect();
    assert_eq!(seen.len(), 1, "the seed ran more than once: {seen:?}");
    assert_eq!((baselines(&world), world.engine().stored("making")), (1, vec![]));
    world
        .sandbox(["down", "--progress", "quiet"].iter().copied().chain(names.iter().map(String::as_str)))
        .success();
    world.engine().is_clean();
}
