//! `fault`: what it says happens to a service's packets, from other services and from the host, until it is taken back.
//!
//! Needs root and the programs `nsenter` and `busybox`, to ping in a service's network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{World, eventually, http_get};

/// `web` serves a page and a megabyte; `client` is another service.
const PAIR: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; head -c 1000000 /dev/zero > /www/big; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
  client:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
"#;

/// How long one request of the host's takes.
fn host_get(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let answer = http_get(address, "/index.html");
    assert_eq!(answer.ok(), Some((200, "hello\n".to_owned())));
    start.elapsed()
}

/// The round trips in milliseconds of pings from `client` to `web`, those that came back. Services have no raw
/// sockets: the host's root pings in the client's network.
fn pings(world: &World, count: u32) -> Vec<f64> {
    let pid = world.engine().inspect(&world.container("client"))["State"]["Pid"].to_string();
    let networks = world.engine().inspect(&world.container("web"))["NetworkSettings"]["Networks"].clone();
    let network = networks.as_object().unwrap().values().next().unwrap();
    let (address, count) = (network["IPAddress"].as_str().unwrap(), count.to_string());
    let ping = ["-t", &pid, "-n", "busybox", "ping", "-i", "0.02", "-W", "2", "-c", &count, address];
    let said = world.host("nsenter", &ping).run().stdout;
    let times = said.lines().filter_map(|line| line.split_once("time=")?.1.split_once(' ')?.0.parse().ok());
    times.collect()
}

fn client_reaches(world: &World) -> bool {
    world.in_container("client", &["timeout", "3", "wget", "-qO-", "http://web/"]).stdout == "hello\n"
}

#[test]
fn latency_is_felt_by_another_service_and_by_the_host_and_is_gone_when_taken_back() {
    let world = World::with_spec(PAIR);
    world.up();
    let address = world.address("web", 80);

    let said = world.sandbox(["fault", "add", "web", "--latency", "200ms", "--jitter", "50ms"]).success();

    assert_eq!(said.stdout, "web: latency 200ms, jitter 50ms\n");
    let round_trips = pings(&world, 10);
    assert_eq!(round_trips.len(), 10);
    assert!(round_trips.iter().all(|time| *time > 149.0), "{round_trips:?}");
    // A connection and a request are two round trips.
    let slow = host_get(address);
    assert!(slow > Duration::from_millis(300), "{slow:?}");
    world.sandbox(["fault", "rm", "web"]).success();
    let fastest = pings(&world, 10).into_iter().fold(f64::MAX, f64::min);
    assert!(fastest < 50.0, "{fastest} ms");
    eventually("the host is not held up either", || host_get(address) < Duration::from_millis(150));
    assert_eq!(world.sandbox(["fault", "ls", "--json"]).success().json(), serde_json::json!([]));
}

#[test]
fn a_share_of_packets_is_lost() {
    let world = World::with_spec(PAIR);
    world.up();

    world.sandbox(["fault", "add", "web", "--loss", "50%"]).success();

    // Each way: one in four comes back. Of 80, fewer than 4 or more than 48 do once in a million times.
    let back = pings(&world, 80).len();
    assert!((4..=48).contains(&back), "{back} of 80");
}

#[test]
fn bandwidth_is_shared_out_at_the_rate_that_was_asked_for() {
    let world = World::with_spec(PAIR);
    world.up();
    let address = world.address("web", 80);

    world.sandbox(["fault", "add", "web", "--bandwidth", "8mbit"]).success();

    let start = Instant::now();
    assert_eq!(http_get(address, "/big").unwrap().1.len(), 1_000_000);
    let host = start.elapsed();
    let start = Instant::now();
    let length = world.in_container("client", &["sh", "-c", "wget -qO- http://web/big | wc -c"]);
    let client = start.elapsed();
    assert_eq!(length.stdout.trim(), "1000000");
    for took in [host, client] {
        // A megabyte at a megabyte a second; what was in flight may come a little earlier.
        assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&took), "{took:?}");
    }
}

#[test]
fn a_service_that_is_cut_off_is_unreachable_until_it_is_joined_again() {
    let world = World::with_spec(PAIR);
    world.up();
    let address = world.address("web", 80);

    world.sandbox(["fault", "add", "web", "--cut"]).success();

    assert!(!client_reaches(&world));
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let answer = std::io::Read::read(&mut stream, &mut [0; 1]);
    assert!(!answer.is_ok_and(|length| length > 0), "the host was answered");
    world.sandbox(["fault", "rm", "--all"]).success();
    assert!(client_reaches(&world));
    eventually("the host reaches it", || http_get(address, "/").is_ok());
}

#[test]
fn a_fault_outlives_a_restart_of_its_service() {
    let world = World::with_spec(PAIR);
    world.up();
    world.sandbox(["fault", "add", "web", "--latency", "100ms"]).success();

    world.sandbox(["restart", "web"]).success();

    eventually("the fault is in force again", || pings(&world, 1).first().is_some_and(|time| *time > 99.0));
    let listed = world.sandbox(["fault", "ls"]).success().stdout;
    assert!(listed.contains("latency 100ms") && listed.contains("in force"), "{listed}");
}

#[test]
fn faults_add_up_and_go_with_the_sandbox() {
    let world = World::with_spec(PAIR);
    world.up();
    world.sandbox(["fault", "add", "web", "--latency", "100ms"]).success();

    let said = world.sandbox(["fault", "add", "web", "--loss", "1%"]).success();

    assert_eq!(said.stdout, "web: latency 100ms, loss 1%\n");
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}

#[test]
fn a_fault_that_cannot_be_is_refused_with_the_reason() {
    let world = World::with_spec(PAIR);
    world.up();

    let nothing = world.sandbox(["fault", "add", "web"]).exits(2);
    assert!(nothing.stderr.contains("--latency"), "{nothing}");
    let nobody = world.sandbox(["fault", "add", "wbe", "--cut"]).exits(2);
    assert!(nobody.stderr.contains("did you mean `web`?"), "{nobody}");
    world.sandbox(["stop", "web"]).success();
    let stopped = world.sandbox(["fault", "add", "web", "--cut"]).exits(1);
    assert!(stopped.stderr.contains("sandbox start web"), "{stopped}");
}
