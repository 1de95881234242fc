//! `cargo bench --bench compare`: sandbox beside `docker compose` (2.40 and 2.26) and beside bare calls of the engine's
//! API, in one run on one machine.
//!
//! `SANDBOX_BENCH_ROUNDS` says how often each thing is done (5); the median counts. `SANDBOX_BENCH_MANY` says how many
//! sandboxes are made for the figures of scale (100). With `SANDBOX_BENCH_WRITE` the figures are written into
//! `man/figures.md`, `man/figures.svg` and the README.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints")]

mod call_counter;
mod engine_api;
mod figures;
mod shop;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use call_counter::CallCounter;
use engine_api::Floor;
use figures::{Figure, Peer, Times, short};
use shop::{SeededData, shop};
use support::World;

/// What a user of Compose writes for the shop. The healthchecks are asked often, in Compose's favour.
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

const SMALL: &str =
    "services:\n  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }\n";

const MS: fn(u64) -> Duration = Duration::from_millis;

fn main() {
    let rounds = number("SANDBOX_BENCH_ROUNDS", 5);
    println!("{}\nmedian of {rounds} rounds each (least–most)\n", machine());
    let mut figures = shop_figures(rounds);
    let scale = scale(number("SANDBOX_BENCH_MANY", 100), &mut figures);
    figures.push(help());
    println!("{}\n{scale}", figures::table(&figures));
    println!("binary: {:.1} MB (promised: 16)", binary_size());
    if std::env::var_os("SANDBOX_BENCH_WRITE").is_some() {
        write(rounds, &figures, &scale);
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Processors, memory, kernel and engine.
fn machine() -> String {
    let output = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let memory: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    format!(
        "{} processors, {} GiB of memory, Linux {}, Docker {}",
        std::thread::available_parallelism().unwrap(),
        memory.div_ceil(1 << 20),
        output("uname", &["-r"]).split('-').next().unwrap_or_default(),
        output("docker", &["info", "--format", "{{.ServerVersion}} ({{.Driver}})"]),
    )
}

fn binary_size() -> f64 {
    f64::from(u32::try_from(std::fs::metadata(env!("CARGO_BIN_EXE_sandbox")).unwrap().len()).unwrap()) / 1e6
}

/// A release of Compose, on the project of the world.
struct Compose<'a> {
    world: &'a World,
    program: String,
}

impl<'a> Compose<'a> {
    fn new(world: &'a World, release: &str) -> Self {
        let script = support::repository().join("fixtures/engines/compose");
        let path = world.host(script.to_str().unwrap(), &["path", release]).run().success();
        Self { world, program: path.text().trim().to_owned() }
    }

    fn run(&self, arguments: &[&str]) -> Duration {
        let project = ["-p", self.world.name(), "-f", "compose.yaml"];
        let all: Vec<&str> = project.iter().chain(arguments).copied().collect();
        self.world.host(&self.program, &all).run().success().took
    }
}

#[derive(Default)]
struct Cycle {
    up: Times,
    again: Times,
    down: Times,
}

impl Cycle {
    fn compose(&mut self, compose: &Compose) {
        let up = ["up", "-d", "--wait", "--quiet-pull"];
        self.up.push(compose.run(&up));
        self.again.push(compose.run(&up));
        self.down.push(compose.run(&["down", "-v", "-t", "0"]));
    }
}

/// The figures of a sandbox with a database, a cache and a web service.
fn shop_figures(rounds: usize) -> Vec<Figure> {
    let world = shop();
    world.file("compose.yaml", COMPOSE);
    let ours = |arguments: &[&str]| world.sandbox(arguments).success().took;
    let (new, old) = (Compose::new(&world, "forky"), Compose::new(&world, "trixie"));
    // The first one bakes.
    let first = ours(&["up", "-d"]);
    let floor = Floor::new(world.name());
    let seeded = SeededData::of(&world);
    ours(&["down"]);

    let (mut sandbox, mut theirs, mut older, mut bare) =
        (Cycle::default(), Cycle::default(), Cycle::default(), Cycle::default());
    let (mut reset, mut fork, mut snapshot) = (Times::default(), Times::default(), Times::default());
    for round in 0..rounds {
        sandbox.up.push(ours(&["up", "-d"]));
        sandbox.again.push(ours(&["up", "-d"]));
        reset.push(ours(&["reset", "db"]));
        let copy = format!("{}-copy", world.name());
        fork.push(ours(&["fork", &copy]));
        ours(&["down", &copy]);
        snapshot.push(ours(&["snapshot", "create", &format!("round-{round}")]));
        sandbox.down.push(ours(&["down"]));
        theirs.compose(&new);
        older.compose(&old);
        seeded.give_to(&floor);
        bare.up.push(floor.up());
        bare.down.push(floor.down());
    }
    let first_of_theirs = new.run(&["up", "-d", "--wait", "--quiet-pull"]);
    new.run(&["down", "-v", "-t", "0"]);
    vec![
        Figure::new("warm `up` of db, cache and web", sandbox.up)
            .against(Peer::NewCompose, theirs.up)
            .against(Peer::OldCompose, older.up)
            .against(Peer::BareApi, bare.up)
            .promise(Peer::NewCompose, 0.30)
            .promise(Peer::BareApi, 1.15),
        Figure::new("`up` again, nothing changed", sandbox.again)
            .against(Peer::NewCompose, theirs.again)
            .against(Peer::OldCompose, older.again)
            .promise_time(MS(60)),
        Figure::new("`down`", sandbox.down)
            .against(Peer::NewCompose, theirs.down)
            .against(Peer::OldCompose, older.down)
            .against(Peer::BareApi, bare.down)
            .promise(Peer::NewCompose, 0.40),
        Figure::new("first `up`, which runs the seeds", Times::from_iter([first]))
            .against(Peer::NewCompose, Times::from_iter([first_of_theirs])),
        Figure::new("`reset db`", reset).promise_time(MS(350)),
        Figure::new("`fork`", fork),
        Figure::new("`snapshot create`", snapshot),
    ]
}

/// The cost of each sandbox while there are more and more of them.
fn scale(count: usize, figures: &mut Vec<Figure>) -> String {
    let world = World::with_spec(SMALL);
    world.up();
    let counter_folder = tempfile::tempdir().unwrap();
    let counter = CallCounter::new(counter_folder.path());
    let name = |number: usize| format!("{}-{number}", world.name());
    let mut text = "| sandboxes | `up` | engine calls | `ls` | engine calls | keeper's memory |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    let mut listing = Times::default();
    let marks = [1, 10, count / 4, count / 2, count];
    let mut recent = vec![];
    for number in 2..=count {
        recent
            .push(world.sandbox(["up", "-d", "--progress", "quiet", "--name", &name(number)]).success().took);
        if !marks.contains(&number) {
            continue;
        }
        let up: Times = recent.split_off(recent.len().saturating_sub(5)).into_iter().collect();
        recent.clear();
        listing = (0..5).map(|_| world.sandbox(["ls"]).success().took).collect();
        let counted = |arguments: &[&str]| {
            let _ = counter.take();
            world.command(arguments).env("DOCKER_HOST", &counter.address()).run().success();
            counter.take()
        };
        let extra = format!("{}-counted", world.name());
        let up_calls = counted(&["up", "-d", "--progress", "quiet", "--name", &extra]);
        let ls_calls = counted(&["ls"]);
        world.sandbox(["down", &extra]).success();
        let _ = writeln!(
            text,
            "| {number} | {} | {up_calls} | {} | {ls_calls} | {:.1} MiB |",
            short(up.median()),
            short(listing.median()),
            keeper_memory(&world)
        );
    }
    figures.push(Figure::new("`ls` of all sandboxes at the end", listing).promise_time(MS(100)));
    text
}

/// Resident memory of the keeper in MiB.
fn keeper_memory(world: &World) -> f64 {
    let pid = world.engine().pid(&format!("sandbox-keeper-{}", world.name()));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

fn help() -> Figure {
    let times = (0..11).map(|_| {
        let start = Instant::now();
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_sandbox")).arg("--help").output().unwrap();
        assert!(output.status.success());
        start.elapsed()
    });
    Figure::new("`--help`", times.collect()).promise_time(MS(10))
}

/// Writes the figures into the documents.
fn write(rounds: usize, figures: &[Figure], scale: &str) {
    let root = support::repository();
    let head = format!("{}. Median of {rounds} rounds (least–most)", machine());
    let text = format!(
        "# Figures\n\n{head}, all in one run:\n\n```\nSANDBOX_BENCH_WRITE=1 cargo bench --bench compare\n```\n\n\
         The bare API calls make the same containers and network with as many calls at once as the dependencies allow, and\n\
         wait for the same answers. Compose's healthchecks run every 500 ms. The binary has {:.1} MB (promised: 16).\n\n{}\n\
         ## Many sandboxes\n\nOne service each, made one after the other.\n\n{scale}",
        binary_size(),
        figures::table(figures)
    );
    std::fs::write(root.join("man/figures.md"), text).unwrap();
    std::fs::write(root.join("man/figures.svg"), figures::bars(figures)).unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (before, rest) = readme.split_once("<!-- figures -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of figures -->").unwrap();
    let new = format!(
        "{before}<!-- figures -->\n{}\n{head}: [man/figures.md](man/figures.md).\n<!-- end of figures -->{after}",
        figures::short_table(figures)
    );
    std::fs::write(root.join("README.md"), new).unwrap();
}
