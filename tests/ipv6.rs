//! IPv6 inside a sandbox that asks for it: services speak it with each other, and with nobody else.
//!
//! Needs root: what the host hears is changed to show that it would be heard.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use support::{World, eventually};

const SPEC: &str = "
egress: allow
services:
  app:
    image: sbx-test/python
    command:
      - python3
      - -c
      - |
        import socket
        server = socket.create_server(('::', 5000), family=socket.AF_INET6, dualstack_ipv6=True)
        while True:
            client, _ = server.accept()
            client.sendall(b'HELLO')
            client.close()
    stop_signal: SIGKILL
    ready: { tcp: 5000 }
  peer: { image: sbx-test/python, command: [sleep, '600'], stop_signal: SIGKILL }
networks: { default: { enable_ipv6: true } }
";

/// Connects to a name or an address and prints what that says.
const ASK: &str = "
import socket, sys
try:
    family, kind, _, _, at = socket.getaddrinfo(sys.argv[1], 5000, socket.AF_INET6, socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as it:
        it.settimeout(3)
        it.connect(at)
        print(it.recv(9).decode())
except OSError as error: print(error)
";

/// Sends datagrams to a port of these addresses, those of the link included.
const DATAGRAMS: &str = "
import socket, sys
port, link = int(sys.argv[1]), socket.if_nametoindex('eth0')
for address in sys.argv[2:] + ['ff02::1', 'fe80::1']:
    for bound in (False, True):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as it:
            if bound: it.setsockopt(socket.SOL_SOCKET, 25, b'eth0')
            it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link)
            try: it.sendto(f'to {address}'.encode(), (address, port, 0, link))
            except OSError: pass
";

fn ask(world: &World, name: &str) -> String {
    world.in_container("peer", &["python3", "-c", ASK, name]).success().stdout
}

fn send(world: &World, port: u16, addresses: &[String]) {
    let port = port.to_string();
    let mut words = vec!["python3", "-c", DATAGRAMS, &port];
    words.extend(addresses.iter().map(String::as_str));
    world.in_container("peer", &words).success();
}

/// What comes to a socket, until what this machine itself sends it comes.
fn heard(datagrams: &UdpSocket) -> Vec<String> {
    let port = datagrams.local_addr().unwrap().port();
    UdpSocket::bind("[::1]:0").unwrap().send_to(b"the end", ("::1", port)).unwrap();
    let mut received = [0; 64];
    let each = std::iter::from_fn(|| {
        let length = datagrams.recv(&mut received).unwrap();
        Some(String::from_utf8_lossy(&received[..length]).into_owned()).filter(|text| text != "the end")
    });
    each.collect()
}

/// This machine's addresses, or those of one interface, the loopback's left out.
fn addresses_of_host(interface: Option<&str>) -> Vec<String> {
    let mut command = Command::new("ip");
    command.args(["-j", "-6", "addr", "show"]).args(interface.map(|it| ["dev", it]).into_iter().flatten());
    let all: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let interfaces = all.as_array().unwrap().iter().filter_map(|interface| interface["addr_info"].as_array());
    let addresses = interfaces.flatten().filter_map(|address| address["local"].as_str().map(str::to_owned));
    addresses.filter(|address| address != "::1").collect()
}

fn network(world: &World) -> serde_json::Value {
    let network = world.engine().docker(&["network", "inspect", &format!("sbx-{}.default", world.name())]);
    serde_json::from_str::<serde_json::Value>(&network.success().stdout).unwrap()[0].clone()
}

#[test]
fn services_speak_ipv6_only_with_each_other() {
    let world = World::with_spec(SPEC);
    world.up();
    assert!(ask(&world, "app").contains("HELLO"), "{}", ask(&world, "app"));

    // Another sandbox that has it, too.
    let other = World::with_spec(SPEC);
    other.up();
    let theirs = other.engine().inspect(&other.container("app"));
    let networks = theirs["NetworkSettings"]["Networks"].as_object().unwrap();
    let theirs = networks.values().next().unwrap()["GlobalIPv6Address"].as_str().unwrap().to_owned();
    assert!(theirs.starts_with("fd"), "{theirs}");
    assert!(!ask(&world, &theirs).contains("HELLO"), "another sandbox is reached");

    let network = network(&world);
    let bridge = format!("br-{}", &network["Id"].as_str().unwrap()[..12]);
    assert_eq!(addresses_of_host(Some(&bridge)), [""; 0]);
    let datagrams = UdpSocket::bind("[::]:0").unwrap();
    datagrams.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = datagrams.local_addr().unwrap().port();
    let pools = network["IPAM"]["Config"].as_array().unwrap().iter();
    let gateways =
        pools.filter_map(|pool| pool["Gateway"].as_str().map(|it| it.trim_end_matches("/64").to_owned()));
    let mut targets: Vec<String> = gateways.filter(|gateway| gateway.contains(':')).collect();
    targets.extend(addresses_of_host(None));
    send(&world, port, &targets);
    assert_eq!(heard(&datagrams), [""; 0]);

    // It is turned off again if somebody turns it on; without the filter it would be heard.
    let setting = format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6");
    let reads = |value: &str| std::fs::read_to_string(&setting).unwrap().trim() == value;
    std::fs::write(&setting, "0").unwrap();
    eventually("it is turned off again", || reads("1"));
    world.engine().docker(&["rm", "-f", &format!("sandbox-host-firewall-{}", world.name())]).success();
    std::fs::write(&setting, "0").unwrap();
    eventually("the host hears", || {
        send(&world, port, &targets);
        !heard(&datagrams).is_empty()
    });
    world.sandbox(["stop"]).success();
    world.sandbox(["start"]).success();
    assert!(reads("1"));
    assert!(ask(&world, "app").contains("HELLO"));
}

#[test]
fn a_fault_holds_for_ipv6_too_and_a_second_up_takes_ipv6_away() {
    let world = World::with_spec(SPEC);
    world.up();
    assert!(ask(&world, "app").contains("HELLO"));
    world.sandbox(["fault", "add", "app", "--cut"]).success();
    assert!(!ask(&world, "app").contains("HELLO"), "a cut service is reached");
    world.sandbox(["fault", "rm", "app"]).success();
    assert!(ask(&world, "app").contains("HELLO"));

    world.spec(&SPEC.replace("enable_ipv6: true", "enable_ipv6: false"));
    world.sandbox(["up", "-d"]).success();
    assert!(!ask(&world, "app").contains("HELLO"), "there is IPv6 still");
}

#[test]
fn who_does_not_ask_for_ipv6_has_none() {
    let world = World::with_spec(&SPEC.replace("enable_ipv6: true", ""));
    world.up();
    let addresses = world.in_container("peer", &["cat", "/proc/net/if_inet6"]).success().stdout;
    assert!(addresses.lines().all(|line| line.ends_with("lo")), "{addresses}");
}
