//! `cargo bench`: sandbox beside `docker compose` and beside the bare engine API, in one run on one machine.
//!
//! Prints ratios, for only these mean something on another machine. `SANDBOX_BENCH_ROUNDS` says how often each thing is
//! done; the median counts. The figures after "at most" are the limits that are checked.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::World;

/// The promised ratio of a warm `up` to `docker compose up --wait`.
const WARM_UP_PROMISE: f64 = 0.20;
/// The limit that this benchmark checks. It is wider than the promise, for machines that do other work at the same time.
const WARM_UP_LIMIT: f64 = 0.30;

/// The same three services for both, seeded from the same files.
const SANDBOX: &str = r#"
lifetime: { ttl: 1h }
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD: secret }
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
    seed:
      - sql: seeds/*.sql
  cache: { image: sbx-test/redis, ready: { tcp: 6379 } }
  web:
    image: sbx-test/web
    environment: { DB_PASSWORD: secret }
    depends_on: { db: { condition: service_healthy }, cache: { condition: service_healthy } }
    ports: ["8080"]
    ready: { http: /healthz }
volumes: { data: {} }
"#;

/// What a user of Compose writes for it. The healthchecks are asked often, in Compose's favour.
const COMPOSE: &str = r#"
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD: secret }
    volumes: ["data:/var/lib/postgresql/data", "./seeds:/docker-entrypoint-initdb.d:ro"]
    healthcheck: { test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, postgres], interval: 500ms, retries: 100 }
  cache:
    image: sbx-test/redis
    healthcheck: { test: [CMD, redis-cli, ping], interval: 500ms, retries: 100 }
  web:
    image: sbx-test/web
    environment: { DB_PASSWORD: secret }
    depends_on: { db: { condition: service_healthy }, cache: { condition: service_healthy } }
    ports: ["127.0.0.1::8080"]
    healthcheck:
      test: [CMD, python3, -c, "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz')"]
      interval: 500ms
      retries: 100
volumes: { data: {} }
"#;

fn main() {
    let rounds = std::env::var("SANDBOX_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("median of {rounds} rounds each\n");
    against_compose(rounds);
    against_the_engine(rounds);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ratio(what: &str, ours: Duration, theirs: Duration, limit: Option<f64>) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let verdict = limit.map_or(String::new(), |limit| {
        format!("  at most {limit:.2}: {}", if ratio <= limit { "held" } else { "NOT HELD" })
    });
    println!("{what:<58} {ours:>8.2?} / {theirs:>8.2?} = {ratio:.2}{verdict}");
}

fn shop() -> World {
    let world = World::with_spec(SANDBOX);
    let shop = support::repository().join("fixtures/shop");
    for file in ["10-schema.sql", "20-catalogue.sql"] {
        world.file(&format!("seeds/{file}"), std::fs::read(shop.join(file)).unwrap());
    }
    let orders = zstd::decode_all(std::fs::File::open(shop.join("orders.sql.zst")).unwrap()).unwrap();
    world.file("seeds/30-orders.sql", orders).file("compose.yaml", COMPOSE);
    world
}

fn against_compose(rounds: usize) {
    let world = shop();
    let compose = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["compose", "-p", world.name(), "-f", "compose.yaml"].iter().chain(arguments).copied().collect();
        world.host("docker", &all).run().success().took
    };
    // The first one bakes.
    let first = world.sandbox(["up", "-d"]).success().took;
    world.sandbox(["down"]).success();

    let (mut up, mut down, mut their_up, mut their_down) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        up.push(world.sandbox(["up", "-d"]).success().took);
        down.push(world.sandbox(["down"]).success().took);
        their_up.push(compose(&["up", "-d", "--wait", "--quiet-pull"]));
        their_down.push(compose(&["down", "-v", "-t", "0"]));
    }
    let their_up = median(their_up);
    ratio(
        "warm `up` of db + cache + web / `docker compose up --wait`",
        median(up),
        their_up,
        Some(WARM_UP_LIMIT),
    );
    println!("  (promised: {WARM_UP_PROMISE:.2})");
    ratio("first `up`, which bakes / the same", first, their_up, None);
    ratio("`down` / `docker compose down -v -t 0`", median(down), median(their_down), None);
}

/// One service without data: what we add to the engine's own calls.
fn against_the_engine(rounds: usize) {
    let world = World::with_spec(
        "services:\n  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }\n",
    );
    world.up();
    world.sandbox(["down"]).success();
    let (mut ours, mut bare) = (vec![], vec![]);
    for round in 0..rounds {
        let up = world.sandbox(["up", "-d"]).success().took;
        ours.push(up + world.sandbox(["down"]).success().took);
        bare.push(bare_cycle(&format!("bench-{}-{round}", world.name())));
    }
    ratio("`up` and `down` of one service / the bare engine API", median(ours), median(bare), None);
}

/// Creates and removes a network, and a container on it, by nothing but the engine's API.
fn bare_cycle(name: &str) -> Duration {
    let start = Instant::now();
    let network = format!(r#"{{"Name":"{name}","IPAM":{{"Config":[{{"Subnet":"10.217.255.0/29"}}]}}}}"#);
    call("POST", "/networks/create", &network);
    let container = format!(
        r#"{{"Image":"sbx-test/busybox","Cmd":["sleep","infinity"],"HostConfig":{{"NetworkMode":"{name}"}}}}"#
    );
    call("POST", &format!("/containers/create?name={name}"), &container);
    call("POST", &format!("/containers/{name}/start"), "");
    call("DELETE", &format!("/containers/{name}?force=1&v=1"), "");
    call("DELETE", &format!("/networks/{name}"), "");
    start.elapsed()
}

fn call(method: &str, path: &str, body: &str) {
    let mut stream = UnixStream::connect("/var/run/docker.sock").unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /v1.41{path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.split_whitespace().nth(1).is_some_and(|status| status.starts_with('2')),
        "{method} {path}: {answer}"
    );
}
