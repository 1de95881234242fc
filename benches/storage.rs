//! `cargo bench --bench storage`: what data costs, with much of it and with little, against what one would use instead.
//!
//! Prints ratios taken in one run; the figures after "at most" and "at least" are what we promise. It needs the engine
//! and the test images; root, to compare file against file. `SANDBOX_BENCH_ROUNDS` says how often each thing is done (the
//! median counts), `SANDBOX_BENCH_MIB` the larger amount (default: 1024), and arguments which parts are wanted:
//! `sizes`, `compose`, `pgbench`, `files`, `memory`, `folders` (default: all).

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "storage/figures.rs"]
mod figures;
#[path = "storage/files.rs"]
mod files;
#[path = "storage/folders.rs"]
mod folders;

use std::time::{Duration, Instant};

use figures::{Bound, median, ratio};
use support::World;

const SANDBOX: &str = r#"
lifetime: { ttl: 2h }
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD: secret }
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
    seed: [{ sql: filling.sql }]
volumes: { data: {} }
"#;

/// The healthcheck is asked often, in Compose's favour.
const COMPOSE: &str = r#"
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD: secret }
    volumes: ["data:/var/lib/postgresql/data", "./filling.sql:/docker-entrypoint-initdb.d/filling.sql:ro"]
    healthcheck: { test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, postgres], interval: 500ms, retries: 1000 }
volumes: { data: {} }
"#;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this too; there it has nothing to say.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let parts: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|text| !text.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let (rounds, mebibytes) = (number("SANDBOX_BENCH_ROUNDS", 5), number("SANDBOX_BENCH_MIB", 1024));
    println!("median of {rounds} rounds each; much is {mebibytes} MiB\n");
    if wanted("folders") {
        folders::run(mebibytes);
    }
    if ["sizes", "compose", "files", "memory"].into_iter().any(wanted) {
        let large = database(mebibytes);
        if wanted("sizes") {
            by_size(&database(1), &large, rounds);
        }
        if wanted("files") {
            files::run(&large);
        }
        if wanted("memory") {
            files::memory(&large);
        }
        if wanted("compose") {
            against_compose(&large, rounds);
        }
    }
    if wanted("pgbench") {
        transactions();
    }
}

/// A database of a size, ready to be cloned.
fn database(mebibytes: usize) -> World {
    let world = World::with_spec(SANDBOX);
    // A row takes about a kibibyte.
    let filling = format!(
        "CREATE TABLE filling (n integer PRIMARY KEY, stuff text);\nALTER TABLE filling ALTER stuff SET STORAGE PLAIN;\nINSERT INTO filling SELECT n, repeat(md5(n::text), 31) FROM generate_series(1, {}) AS n;\nCHECKPOINT;\n",
        mebibytes * 1024
    );
    world.file("filling.sql", filling).file("compose.yaml", COMPOSE);
    world.command(["bake"]).limit(Duration::from_mins(15)).run().success();
    world
}

fn query(world: &World, sandbox: &str, statement: &str) {
    let container = format!("sbx-{sandbox}.db");
    let psql = ["exec", &container, "psql", "-U", "postgres", "-d", "shop", "-Atc", statement];
    world.engine().docker(&psql).success();
}

const SELECT: &str = "SELECT stuff FROM filling WHERE n = 1";
const UPDATE: &str = "UPDATE filling SET stuff = 'new' WHERE n = 2";

/// What is timed, each up to the first answer of the database.
const ACTS: [&str; 5] = [
    "a clone, up to the first SELECT",
    "its first UPDATE",
    "`reset`, up to the first SELECT",
    "`snapshot create`, up to the first SELECT",
    "`fork`, up to the second one's first SELECT",
];

fn by_size(small: &World, large: &World, rounds: usize) {
    let mut times: [[Vec<Duration>; 5]; 2] = Default::default();
    for _ in 0..rounds {
        for (world, times) in [small, large].into_iter().zip(&mut times) {
            let second = format!("{}-second", world.name());
            let mut timed = |index: usize, act: &dyn Fn()| {
                let start = Instant::now();
                act();
                times[index].push(start.elapsed());
            };
            let select = |sandbox: &str| query(world, sandbox, SELECT);
            timed(0, &|| {
                world.up();
                select(world.name());
            });
            timed(1, &|| query(world, world.name(), UPDATE));
            timed(2, &|| {
                world.sandbox(["reset"]).success();
                select(world.name());
            });
            timed(3, &|| {
                world.sandbox(["snapshot", "create", "bench"]).success();
                select(world.name());
            });
            timed(4, &|| {
                world.sandbox(["fork", world.name(), &second]).success();
                select(&second);
            });
            world.sandbox(["snapshot", "rm", "bench"]).success();
            world.sandbox(["down", world.name(), &second]).success();
        }
    }
    let [small, large] = times;
    for (act, (small, large)) in ACTS.into_iter().zip(small.into_iter().zip(large)) {
        ratio(&format!("{act}: much / 1 MiB"), median(large), median(small), Bound::AtMost(1.2));
    }
}

/// Compose loads the data each time; it is asked once.
fn against_compose(world: &World, rounds: usize) {
    let mut up = Vec::new();
    for _ in 0..rounds {
        up.push(world.up().took);
        world.sandbox(["down"]).success();
    }
    let compose = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["compose", "-p", world.name(), "-f", "compose.yaml"].iter().chain(arguments).copied().collect();
        world.host("docker", &all).limit(Duration::from_mins(20)).run().success().took
    };
    let theirs = compose(&["up", "-d", "--wait", "--quiet-pull"]);
    compose(&["down", "-v", "-t", "0"]);
    ratio(
        "warm `up` of a database / `docker compose up --wait` that loads it",
        median(up),
        theirs,
        Bound::AtMost(0.1),
    );
}

/// Transactions a second of pgbench in a container.
fn tps(world: &World, container: &str) -> f64 {
    let bench = |arguments: &[&str]| {
        let all: Vec<&str> = ["exec", container, "pgbench", "-U", "postgres", "-d", "shop"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        world.engine().docker(&all).success().stdout
    };
    bench(&["-i", "-q", "-s", "10"]);
    let said = bench(&["-c", "4", "-j", "2", "-T", "20"]);
    let line = said.lines().find(|line| line.starts_with("tps")).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

fn transactions() {
    let world = database(1);
    world.up();
    let ours = tps(&world, &world.container("db"));
    world.sandbox(["down"]).success();

    let plain = format!("sbx-{}-plain", world.name());
    let docker = |arguments: &[&str]| world.engine().docker(arguments);
    let mount = format!("{plain}:/var/lib/postgresql/data");
    let run =
        ["run", "-d", "--name", &plain, "-v", &mount, "-e", "POSTGRES_PASSWORD=x", "-e", "POSTGRES_DB=shop"];
    docker(&run.into_iter().chain(["sbx-test/postgres"]).collect::<Vec<_>>()).success();
    support::eventually("the plain database answers", || {
        docker(&["exec", &plain, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"]).code == Some(0)
    });
    let theirs = tps(&world, &plain);
    docker(&["rm", "-f", &plain]).success();
    docker(&["volume", "rm", &plain]).success();
    figures::quotient(
        "pgbench in a sandbox / on a plain volume with fsync (tps)",
        (format!("{ours:.0}"), ours),
        (format!("{theirs:.0}"), theirs),
        Bound::AtLeast(1.2),
    );
}
