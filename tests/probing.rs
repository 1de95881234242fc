//! How soon a service's readiness is seen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::{Session, World};

/// How soon a port or a page is seen.
const SEEN_WITHIN: Duration = Duration::from_millis(60);

/// One measures at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// `SANDBOX_TELL=1` prints the figures.
fn tell(figures: &str) {
    if std::env::var_os("SANDBOX_TELL").is_some() {
        let _ = writeln!(std::io::stderr(), "{figures}");
    }
}

/// Servers that begin one after the other, each telling the moment at which it did.
fn staggered(ready: &str, server: &str) -> String {
    let service = |number: u32| {
        format!(
            r"
  s{number}:
    image: sbx-test/python
    stop_signal: SIGKILL
    ready: {{ {ready} }}
    command:
      - python3
      - -uc
      - |
        import http.server, socket, time
        time.sleep(1 + {number} * 0.3)
        {server}
"
        )
    };
    format!("services:\n{}", (0..7).map(service).collect::<String>())
}

/// When each service's readiness was told.
fn told(up: &mut Session) -> Vec<(String, SystemTime)> {
    let mut told: Vec<(String, SystemTime)> = Vec::new();
    while told.len() < 7 {
        assert!(up.is_running(), "{}", up.stderr());
        let said = up.stderr() + &up.stdout();
        let now = SystemTime::now();
        for line in said.lines().filter(|line| line.contains(r#""event":"ready""#) && line.ends_with('}')) {
            let event: Value = serde_json::from_str(line).unwrap();
            let service = event["service"].as_str().unwrap();
            if !told.iter().any(|(known, _)| known == service) {
                told.push((service.to_owned(), now));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    told
}

/// How much later than it should a sleeping thread wakes on this machine, at this time: nobody can see anything sooner.
fn oversleep(until: impl Fn() -> bool) -> Duration {
    let nap = Duration::from_millis(10);
    let mut late = Vec::new();
    while !until() {
        let began = std::time::Instant::now();
        thread::sleep(nap);
        late.push(began.elapsed().saturating_sub(nap));
    }
    median(late)
}

fn median(mut measured: Vec<Duration>) -> Duration {
    measured.sort_unstable();
    measured[measured.len() / 2]
}

fn is_seen_soon(ready: &str, server: &str) {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::with_spec(&staggered(ready, server));
    let mut up = world.spawn(["up", "--progress", "json", "--no-logs"]);
    let (told, late) = thread::scope(|scope| {
        let told = scope.spawn(|| told(&mut up));
        let late = oversleep(|| told.is_finished());
        (told.join().unwrap(), late)
    });
    let delays = told.iter().map(|(service, told)| {
        let log = world.engine().docker(&["logs", &world.container(service)]).stdout;
        let began: f64 = log.lines().next().unwrap().parse().unwrap();
        told.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(began)).unwrap_or_default()
    });
    let delays: Vec<Duration> = delays.collect();
    let median = median(delays.clone());
    tell(&format!("seen after {median:?} ({delays:?}); threads wake {late:?} late"));

    assert!(median <= SEEN_WITHIN + late, "seen after {median:?} ({delays:?}); threads wake {late:?} late");
    up.interrupt();
    up.wait(Duration::from_mins(1));
}

#[test]
fn a_port_is_seen_within_sixty_milliseconds() {
    is_seen_soon(
        "tcp: 80",
        "here = socket.create_server(('0.0.0.0', 80)); print(time.time()); time.sleep(600)",
    );
}

#[test]
fn a_page_is_seen_within_sixty_milliseconds() {
    is_seen_soon(
        "http: /",
        "here = http.server.HTTPServer(('0.0.0.0', 80), http.server.SimpleHTTPRequestHandler); print(time.time()); here.serve_forever()",
    );
}

#[test]
fn the_gateway_starts_while_the_services_do() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::with_spec(&staggered(
        "tcp: 80",
        "here = socket.create_server(('0.0.0.0', 80)); time.sleep(600)",
    ));
    let up = world.sandbox(["up", "-d", "--progress", "json"]).success();
    let events: Vec<Value> =
        (up.stderr.clone() + &up.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |event: &str, what: &str| {
        let wanted = |it: &&Value| it["event"] == event && it["what"] == what;
        events.iter().find(wanted).unwrap_or_else(|| panic!("no {event} of {what}\n{up}"))["at_ms"]
            .as_u64()
            .unwrap()
    };
    let gateway = format!("start `sbx-{}`", world.name());
    let services: Vec<String> =
        (0..7).map(|number| format!("start `{}`", world.container(&format!("s{number}")))).collect();

    let last = services.iter().map(|service| at("step_done", service)).max().unwrap();
    let first = services.iter().map(|service| at("step_started", service)).min().unwrap();
    assert!(at("step_started", &gateway) < last, "the gateway starts only after all services\n{up}");
    assert!(first < at("step_done", &gateway), "services start only after the gateway\n{up}");
}
