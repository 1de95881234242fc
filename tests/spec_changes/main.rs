//! A sandbox whose spec changes while it stands: every verb works on the spec as it is now, and what stays keeps its place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod at_random;
#[path = "../support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use support::{World, eventually, http_get};

/// A service that serves its own name at port 80.
fn page(name: &str, more: &str) -> String {
    format!(
        "  {name}:\n    image: sbx-test/busybox\n    command: [sh, -c, \"mkdir -p /www; echo {name} > /www/index.html; \
         exec httpd -f -p 80 -h /www\"]\n    stop_signal: SIGKILL\n{more}"
    )
}

fn spec(services: &[(&str, &str)]) -> String {
    services.iter().fold("services:\n".to_owned(), |text, (name, more)| text + &page(name, more))
}

const PORT: &str = "    ports: [\"80\"]\n";

fn served(address: SocketAddr) -> String {
    http_get(address, "/").map_or_else(|error| error.to_string(), |(_, body)| body.trim().to_owned())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_port_keeps_its_address_while_services_come_and_go() {
    let world = World::with_spec(&spec(&[("web", PORT)]));
    world.up();
    let address = world.address("web", 80);

    world.spec(&spec(&[("api", PORT), ("web", PORT), ("zoo", PORT)]));
    let outcome = world.up();

    assert!(!outcome.stderr.contains("not published") && !outcome.stderr.contains("taken"), "{outcome}");
    assert_eq!(world.address("web", 80), address);
    for service in ["api", "web", "zoo"] {
        assert_eq!(served(world.address(service, 80)), service);
    }

    let zoo = world.address("zoo", 80);
    world.spec(&spec(&[("web", PORT), ("zoo", PORT)]));
    world.up();
    assert_eq!((world.address("web", 80), world.address("zoo", 80)), (address, zoo));
    assert_eq!((served(address), served(zoo)), ("web".to_owned(), "zoo".to_owned()));
}

#[test]
fn another_host_port_is_applied() {
    let port = |number: u16| format!("    ports: [\"{number}:80\"]\n");
    let (first, second) = (free_port(), free_port());
    let world = World::with_spec(&spec(&[("web", &port(first))]));
    world.up();
    assert_eq!(world.address("web", 80).port(), first);

    world.spec(&spec(&[("web", &port(second))]));
    world.up();

    assert_eq!(world.address("web", 80).port(), second);
    assert_eq!(served(world.address("web", 80)), "web");
}

#[test]
fn every_verb_works_on_the_spec_as_it_is_now() {
    let world = World::with_spec(&spec(&[("web", PORT)]));
    world.up();
    let kept = format!("    volumes: [\"kept:/kept\"]\n{PORT}");
    world.spec(&(spec(&[("store", &kept)]) + "volumes: { kept: {} }\n"));
    world.up();
    world.in_container("store", &["sh", "-c", "echo first > /kept/file"]);

    world.sandbox(["restart", "store"]).success();
    world.sandbox(["snapshot", "create", "one"]).success();
    world.in_container("store", &["sh", "-c", "echo second > /kept/file"]);
    world.sandbox(["reset", "--to", "one"]).success();

    assert_eq!(world.in_container("store", &["cat", "/kept/file"]).stdout, "first\n");
    let copy = format!("{}-copy", world.name());
    world.sandbox(["fork", &copy]).success();
    let running = world.engine().running_services();
    assert!(running.iter().all(|name| !name.ends_with(".web")), "{running:?}");
    assert!(running.contains(&format!("sbx-{copy}.store")), "{running:?}");
    world.sandbox(["down", "--all"]).success();
    world.sandbox(["snapshot", "rm", "one"]).success();
}

#[test]
fn no_object_of_the_engine_holds_the_spec() {
    let world =
        World::with_spec(&(spec(&[("web", "")]) + "tasks: { say: { run: \"echo WORD-OF-A-TASK\" } }\n"));
    world.up();

    let engine = world.engine();
    for object in engine.containers().iter().chain(&engine.networks()).chain(&engine.volumes()) {
        let shown = engine.inspect(object).to_string();
        assert!(!shown.contains("WORD-OF-A-TASK"), "{object}: {shown}");
    }
}

#[test]
fn the_first_datagram_to_a_published_port_is_answered() {
    let world = World::with_spec(
        r#"
services:
  echo:
    image: sbx-test/python
    command: ["python3", "-u", "-c", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 5000))\nopen('/tmp/bound', 'w')\nwhile True:\n    data, peer = s.recvfrom(9999)\n    s.sendto(data, peer)"]
    ready: { exec: [test, -e, /tmp/bound] }
    stop_signal: SIGKILL
    ports: ["5000/udp"]
"#,
    );
    world.up();
    let address: SocketAddr =
        world.sandbox(["port", "echo", "5000/udp"]).success().stdout.trim().parse().unwrap();
    for round in 0..5_u8 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&[round], address).unwrap();
        let mut answer = [0; 8];
        assert_eq!(socket.recv(&mut answer).map_err(|error| error.kind()), Ok(1), "datagram {round}");
    }
}

#[test]
fn each_replica_has_a_port_of_a_range() {
    let first = free_port().min(60_000);
    let ports = format!("    scale: 3\n    ports: [\"{first}-{}:80\"]\n", first + 20);
    let world = World::with_spec(&spec(&[("web", &ports)]));

    world.up();

    let mut addresses: Vec<SocketAddr> = (1..=3)
        .map(|index| world.sandbox(["port", "web", "80", "--index", &index.to_string()]).success())
        .map(|outcome| outcome.stdout.trim().parse().unwrap())
        .collect();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for address in addresses {
        assert!((first..=first + 20).contains(&address.port()), "{address}");
        eventually("the replica answers", || served(address) == "web");
    }
}

#[test]
fn a_service_that_the_spec_has_no_longer_stays_as_it_is_while_only_others_are_brought_up() {
    let world = World::with_spec(&spec(&[("old", PORT), ("web", PORT)]));
    world.up();
    let (old, web) = (world.address("old", 80), world.address("web", 80));
    let before = world.engine().pid(&world.container("old"));

    world.spec(&spec(&[("api", PORT), ("web", PORT)]));
    let outcome = world.sandbox(["up", "-d", "api"]).success();

    assert!(outcome.stderr.contains("`old` is not in the spec any more"), "{outcome}");
    assert_eq!(world.engine().pid(&world.container("old")), before);
    assert_eq!((world.address("old", 80), world.address("web", 80)), (old, web));
    for (service, address) in [("old", old), ("web", web), ("api", world.address("api", 80))] {
        eventually(service, || served(address) == service);
    }
    assert_eq!(world.in_container("api", &["wget", "-qO-", "http://old/"]).stdout, "old\n");
    world.sandbox(["restart", "old"]).success();
    world.sandbox(["stop", "old"]).success();
    world.sandbox(["start", "old"]).success();

    world.up();
    assert!(!world.engine().exists(&world.container("old")));
}

#[test]
fn a_recreated_container_has_new_anonymous_volumes_when_asked() {
    let with = |value: &str| {
        format!("    volumes: [/cache, \"kept:/kept\"]\n    environment: {{ V: \"{value}\" }}\n")
    };
    let text = |value: &str| spec(&[("web", &with(value))]) + "volumes: { kept: {} }\n";
    let world = World::with_spec(&text("1"));
    world.up();
    let write = || world.in_container("web", &["sh", "-c", "echo x > /cache/file; echo x > /kept/file"]);
    let files = || world.in_container("web", &["find", "/cache", "/kept", "-type", "f"]).stdout;
    write().success();

    world.spec(&text("2"));
    world.up();
    assert_eq!(files(), "/cache/file\n/kept/file\n");
    world.sandbox(["up", "-d", "-V"]).success();
    assert_eq!(files(), "/cache/file\n/kept/file\n", "an unchanged container keeps its volumes");

    world.spec(&text("3"));
    world.sandbox(["up", "-d", "--renew-anon-volumes"]).success();
    assert_eq!(files(), "/kept/file\n");
    world.sandbox(["reset", "web"]).success();
}

#[test]
fn a_started_service_has_what_it_depends_on_started_before() {
    let world = World::with_spec(&spec(&[("db", ""), ("web", "    depends_on: [db]\n")]));
    world.up();
    world.sandbox(["stop"]).success();

    world.sandbox(["start", "web"]).success();

    assert_eq!(world.engine().running_services(), [world.container("db"), world.container("web")]);
}

#[test]
fn a_container_name_is_a_host_name_inside() {
    let world = World::with_spec(&spec(&[("web", "    container_name: api\n"), ("client", "")]));
    world.up();

    assert_eq!(world.in_container("client", &["wget", "-qO-", "http://api/"]).stdout, "web\n");
}

#[test]
fn a_service_with_a_number_in_its_name_is_none_of_another_s_replicas() {
    let world = World::with_spec(&spec(&[("web", "    scale: 2\n"), ("web.2", "")]));

    world.up();

    assert_eq!(world.engine().running_services().len(), 3);
    let shown = world.sandbox(["logs", "web.2"]).success();
    assert_eq!(shown.code, Some(0));
}

#[test]
fn logs_follow_services_and_replicas_that_come_later() {
    let say =
        |text: &str| format!("    command: [sh, -c, \"while true; do echo {text}; sleep 0.2; done\"]\n");
    let service = |name: &str, more: &str| {
        format!(
            "  {name}:\n    image: sbx-test/busybox\n    stop_signal: SIGKILL\n{}{more}",
            say(&format!("from-{name}"))
        )
    };
    let world = World::with_spec(&format!("services:\n{}", service("one", "")));
    world.up();
    let mut logs = world.spawn(["logs", "-f"]);
    logs.says("from-one");

    world.spec(&format!("services:\n{}{}", service("one", "    scale: 2\n"), service("two", "")));
    world.up();

    logs.says("from-two");
    logs.says("one.2");
    logs.kill();
}

#[test]
fn a_network_that_has_changed_or_gone_is_followed_and_a_volume_s_new_label_is_said() {
    let spec = |networks: &str, label: &str| {
        format!(
            "services:\n{}volumes: {{ kept: {{ labels: {{ tier: \"{label}\" }} }} }}\nnetworks: {{ {networks} }}\n",
            page("web", "    volumes: [\"kept:/kept\"]\n    networks: [front]\n")
        )
    };
    let both = "front: { labels: { tier: one } }, back: {}";
    let world = World::with_spec(&spec(both, "one").replace("[front]", "[front, back]"));
    world.up();
    world.in_container("web", &["sh", "-c", "echo data > /kept/file"]);

    world.spec(&spec("front: { labels: { tier: two } }", "two"));
    let outcome = world.up();

    let name = world.name();
    let front = world.engine().inspect(&format!("sbx-{name}.front"));
    assert_eq!(front["Labels"]["tier"], "two");
    assert!(!world.engine().exists(&format!("sbx-{name}.back")));
    assert_eq!(world.in_container("web", &["cat", "/kept/file"]).stdout, "data\n");
    assert!(outcome.stderr.contains("labels of volume `kept`"), "{outcome}");
    assert!(world.sandbox(["up", "--dry-run"]).success().stdout.contains("nothing to do"));
}

#[test]
fn an_ipv6_loopback_address_is_served() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let world = World::with_spec(&spec(&[("web", "    ports: [\"[::1]::80\"]\n")]));

    world.up();

    let address = world.address("web", 80);
    assert_eq!(address.ip(), std::net::Ipv6Addr::LOCALHOST);
    assert_eq!(served(address), "web");
}
