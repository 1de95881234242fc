//! What it costs to wait for a service, and how soon its readiness is seen.
//!
//! Needs root: it reads what processes in containers have used and written.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use support::{Session, World};

/// The most that waiting may take of one core.
const SHARE: f64 = 0.1;
/// What one start of a command costs the engine and all of its helpers, measured: more than the part that we can see here.
const START: Duration = Duration::from_millis(41);
/// How soon a port or a page is seen.
const SEEN_WITHIN: Duration = Duration::from_millis(60);

/// One measures at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// What a process has computed, and what its children that have ended have.
fn computed(pid: u64) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields[11..15].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// `SANDBOX_TELL=1` prints the figures.
fn tell(figures: &str) {
    if std::env::var_os("SANDBOX_TELL").is_some() {
        let _ = writeln!(std::io::stderr(), "{figures}");
    }
}

fn parent(pid: u64) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What a wait has taken: of a client that runs `up`, and of the shim that starts commands in the service's container.
#[derive(Clone, Copy)]
struct Spent {
    tries: u64,
    elapsed: Duration,
    client: Duration,
    container: Duration,
}

/// Waits `window` long for a service that is never ready, and sees what that takes: to the last try, which the pause
/// after it would have paid for, or to the end where nothing is tried.
fn spent_in(world: &World, window: Duration) -> Spent {
    let limit = window.as_secs().to_string();
    let mut up: Session = world.spawn(["up", "-d", "--wait-timeout", &limit, "--progress", "json"]);
    up.says(r#""event":"waiting""#);
    let container = world.container("app");
    let pid = world.engine().inspect(&container)["State"]["Pid"].as_u64().unwrap();
    let (shim, client) = (parent(pid), u64::from(up.pid()));
    let tries = || fs::metadata(format!("/proc/{pid}/root/tries")).map_or(0, |file| file.len());
    let (shim_before, client_before) = (computed(shim).unwrap(), computed(client).unwrap());
    let began = Instant::now();
    let nothing =
        Spent { tries: 0, elapsed: Duration::ZERO, client: Duration::ZERO, container: Duration::ZERO };
    let (mut spent, mut to_the_last) = (nothing, None);
    while !up.stderr().contains("not ready") && up.is_running() {
        // The container's end takes with it what can be read here.
        let tries = tries().max(spent.tries);
        if tries > spent.tries {
            to_the_last = Some(spent);
        }
        if let (Some(shim), Some(client)) = (computed(shim), computed(client)) {
            spent = Spent {
                tries,
                elapsed: began.elapsed(),
                client: client.saturating_sub(client_before),
                container: shim.saturating_sub(shim_before),
            };
        }
        thread::sleep(Duration::from_millis(20));
    }
    up.wait(Duration::from_mins(1)).exits(1);
    to_the_last.unwrap_or(spent)
}

/// A command that fails each time; `work` is what it does before.
fn never_ready(work: &str) -> World {
    World::with_spec(&format!(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    ready: {{ exec: [sh, -c, "printf x >> /tries; {work} exit 1"] }}
"#
    ))
}

fn takes_a_tenth_at_most(work: &str, window: Duration) {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let world = never_ready(work);

    let spent = spent_in(&world, window);

    let tries = u32::try_from(spent.tries).unwrap();
    assert!(tries >= 2, "it was tried {tries} times");
    // Ours and the command's as measured, and the engine's own part as it was measured alone.
    let seen = spent.client + spent.container;
    let with_engine = spent.client + spent.container.max(START * tries);
    let elapsed = spent.elapsed;
    let share = with_engine.as_secs_f64() / elapsed.as_secs_f64();
    tell(&format!("{tries} tries took {seen:?} in {elapsed:?}: {share:.3} of a core"));
    assert!(share <= SHARE, "{tries} tries took {seen:?} in {elapsed:?}: {share:.3} of a core");
}

#[test]
fn a_command_that_never_succeeds_takes_a_tenth_of_a_core_at_most() {
    takes_a_tenth_at_most("", Duration::from_secs(12));
}

#[test]
fn a_costly_command_is_tried_so_seldom_that_it_takes_no_more() {
    takes_a_tenth_at_most(&counting_to(200_000), Duration::from_secs(12));
}

/// About a second and a half of a processor each, which is more than a cap on the pause would pay for.
#[test]
fn nor_does_one_that_computes_for_seconds() {
    takes_a_tenth_at_most(&counting_to(900_000), Duration::from_secs(45));
}

#[test]
fn a_command_that_only_waits_is_tried_again_soon_beside_a_busy_service() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "while :; do :; done"]
    cpus: 0.3
    stop_signal: SIGKILL
    ready: { exec: [sh, -c, "printf x >> /tries; sleep 3; exit 1"] }
"#,
    );

    let spent = spent_in(&world, Duration::from_secs(30));

    tell(&format!("{} tries of three seconds in {:?}", spent.tries, spent.elapsed));
    // Each is left alone for as long as a cheap one, or until it is known to have been one.
    assert!(spent.tries >= 4, "{} tries of three seconds in {:?}", spent.tries, spent.elapsed);
}

/// What a shell does to be busy.
fn counting_to(number: u32) -> String {
    format!("i=0; while [ $$i -lt {number} ]; do i=$$((i+1)); done;")
}

/// Reading what this writes, which is never what is waited for, takes the client a tenth of a core at most.
fn reading_takes_a_tenth_at_most(writer: &str) {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::with_spec(&format!(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "{writer}"]
    stop_signal: SIGKILL
    logging: {{ driver: json-file, options: {{ max-size: 5m, max-file: "2" }} }}
    ready: {{ log: 'never \w+ said' }}
"#
    ));
    let window = Duration::from_secs(10);

    let spent = spent_in(&world, window);

    let share = spent.client.as_secs_f64() / window.as_secs_f64();
    tell(&format!("reading a log took {:?} in {window:?}: {share:.3} of a core", spent.client));
    assert!(share <= SHARE, "the client took {:?} in {window:?}: {share:.3} of a core", spent.client);
}

#[test]
fn a_log_that_never_says_it_takes_a_tenth_of_a_core_at_most() {
    reading_takes_a_tenth_at_most(
        "while :; do echo 0123456789012345678901234567890123456789; usleep 1000; done",
    );
}

#[test]
fn a_log_without_end_takes_no_more() {
    reading_takes_a_tenth_at_most("exec yes 0123456789012345678901234567890123456789");
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
