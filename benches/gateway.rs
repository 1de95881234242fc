//! `cargo bench --bench gateway`: what the gateway costs, in one run on one machine, by turns: a port that a sandbox
//! publishes beside one that the engine publishes itself, and an `up` beside one without a gateway.
//!
//! `SANDBOX_BENCH_ROUNDS` says how often each is measured; the median counts. The figures after "at least" and "at most"
//! are what we promise.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints")]

#[path = "gateway/start.rs"]
mod start;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::{BUSYBOX, World, eventually};

/// One port sends without end, the other answers what it is asked.
const SERVER: &str = "nc -ll -p 7000 -e cat /dev/zero & exec nc -ll -p 7001 -e cat";
const SOURCE: u16 = 7000;
const ECHO: u16 = 7001;
/// How long bytes are counted.
const COUNTED: Duration = Duration::from_secs(2);
/// Round trips of one measurement.
const TRIPS: usize = 3000;

fn main() {
    let rounds = std::env::var("SANDBOX_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("median of {rounds} rounds each, by turns\n");
    let spec = format!(
        "services:\n  app: {{ image: {BUSYBOX}, command: [sh, -c, '{SERVER}'], stop_signal: SIGKILL, ports: ['{SOURCE}', '{ECHO}'], ready: {{ tcp: {ECHO} }} }}\n"
    );
    let mut world = World::with_spec(&spec);
    // Another build than this one may be measured.
    if let Ok(binary) = std::env::var("SANDBOX_AGENT_BINARY") {
        world.env("SANDBOX_AGENT_BINARY", &binary);
    }
    world.up();
    let bare = Bare::start(&world);
    let (ours, theirs) = (world.address("app", SOURCE), bare.address(&world, SOURCE));
    let (our_echo, their_echo) = (world.address("app", ECHO), bare.address(&world, ECHO));
    eventually("the engine's own port answers", || round_trips(their_echo, 1).is_some());

    let (mut our_rate, mut their_rate, mut our_trip, mut their_trip) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        our_rate.push(bytes_a_second(ours));
        their_rate.push(bytes_a_second(theirs));
        our_trip.push(round_trips(our_echo, TRIPS).unwrap());
        their_trip.push(round_trips(their_echo, TRIPS).unwrap());
    }
    let (ours, theirs) = (median(our_rate), median(their_rate));
    #[expect(clippy::cast_precision_loss, reason = "bytes a second")]
    let (ratio, [ours, theirs]) = (ours as f64 / theirs as f64, [ours, theirs].map(|rate| rate >> 20));
    println!("throughput {ours} / {theirs} MiB/s = {ratio:.2}  at least 0.70: {}", held(ratio >= 0.7));
    let (ours, theirs) = (median(our_trip), median(their_trip));
    let more = ours.saturating_sub(theirs);
    let limit = Duration::from_micros(200);
    println!(
        "round trip {ours:.1?} - {theirs:.1?} = {more:.1?}  at most {limit:.1?}: {}",
        held(more <= limit)
    );
    drop((bare, world));
    start::measure(rounds);
}

fn held(holds: bool) -> &'static str {
    if holds { "held" } else { "NOT HELD" }
}

fn median<T: Ord + Copy>(mut measured: Vec<T>) -> T {
    measured.sort_unstable();
    measured[measured.len() / 2]
}

/// The same server, published by the engine alone.
struct Bare(String);

impl Bare {
    fn start(world: &World) -> Self {
        let name = format!("bench-{}", world.name());
        let ports = [SOURCE, ECHO].map(|port| format!("127.0.0.1::{port}"));
        world
            .engine()
            .docker(&[
                "run", "-d", "--name", &name, "-p", &ports[0], "-p", &ports[1], BUSYBOX, "sh", "-c", SERVER,
            ])
            .success();
        Self(name)
    }

    fn address(&self, world: &World, port: u16) -> SocketAddr {
        let said = world.engine().docker(&["port", &self.0, &format!("{port}/tcp")]).success().stdout;
        said.lines().next().unwrap().parse().unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

fn bytes_a_second(from: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(from).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    // The first bytes pay for the connection.
    stream.read_exact(&mut buffer).unwrap();
    let (start, mut bytes) = (Instant::now(), 0_u64);
    while start.elapsed() < COUNTED {
        bytes += stream.read(&mut buffer).unwrap() as u64;
    }
    bytes * 1_000_000 / u64::try_from(start.elapsed().as_micros()).unwrap()
}

/// The median of so many questions and answers of one byte; `None` where nobody answers.
fn round_trips(to: SocketAddr, count: usize) -> Option<Duration> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut trips = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(b"?").ok()?;
        stream.read_exact(&mut [0]).ok()?;
        trips.push(start.elapsed());
    }
    Some(median(trips))
}
