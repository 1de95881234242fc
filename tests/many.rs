//! Many sandboxes of one spec at once: all ready, none meets another, all gone again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{World, http_get};

/// Three services that find each other by name.
const THREE: &str = r#"
services:
  db:
    image: sbx-test/busybox
    command: [sh, -c, "exec nc -ll -p 5432 -e echo data"]
    stop_signal: SIGKILL
    ready: { tcp: 5432 }
  cache:
    image: sbx-test/busybox
    command: [sh, -c, "exec nc -ll -p 6379 -e echo cached"]
    stop_signal: SIGKILL
    ready: { tcp: 6379 }
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; nc db 5432 > /www/index.html; nc cache 6379 >> /www/index.html; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    depends_on: { db: { condition: service_healthy }, cache: { condition: service_healthy } }
    ports: ["80"]
    ready: { http: / }
"#;

/// Clients at once: each is a process of its own, on a machine that may have two processors.
const CLIENTS: usize = 6;

/// Does something for each number below `count`, `CLIENTS` at a time.
fn for_each(count: usize, act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS.min(count) {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|it| *it < count) {
                    act(number);
                }
            });
        }
    });
}

fn at_once(count: usize) {
    let world = World::with_spec(THREE);
    let name = |number: usize| format!("{}-{number}", world.name());
    let start = Instant::now();
    for_each(count, |number| {
        let up = ["up", "-d", "--name", &name(number), "--progress", "quiet"];
        world.command(up).limit(Duration::from_mins(5)).run().success();
    });
    let up = start.elapsed();

    assert_eq!(world.engine().running_services().len(), 3 * count);
    let subnets: BTreeSet<String> = (0..count)
        .map(|number| {
            let network = world.engine().inspect(&format!("sbx-{}.default", name(number)));
            let bridge = format!("br-{}", &network["Id"].as_str().unwrap()[..12]);
            let filter = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{bridge}/rp_filter"));
            assert_eq!(filter.unwrap().trim(), "1", "packets to the host are taken in from {bridge}");
            network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(subnets.len(), count, "two of them share a subnet");
    for_each(count, |number| {
        let port = world.sandbox(["port", "web", "80", "--name", &name(number)]).success();
        let page = http_get(port.text().parse().unwrap(), "/").unwrap();
        assert_eq!(page, (200, "data\ncached\n".to_owned()));
    });

    let start = Instant::now();
    world.command(["down", "--all"]).limit(Duration::from_mins(10)).run().success();
    world.engine().is_clean();
    world.note(&format!("{count} sandboxes: up {up:.1?}, down {:.1?}", start.elapsed()));
    if std::env::var_os("SANDBOX_TELL").is_some() {
        let told = format!("{count} sandboxes: up in {up:.1?}, down in {:.1?}\n", start.elapsed());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
    }
}

#[test]
fn twelve_sandboxes_of_one_spec_stand_at_once_and_are_gone_again() {
    at_once(12);
}

/// `SANDBOX_TELL=1` prints how long it took.
#[test]
#[ignore = "takes minutes, and three hundred containers"]
fn a_hundred_sandboxes_of_one_spec_stand_at_once_and_are_gone_again() {
    at_once(100);
}
