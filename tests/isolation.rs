//! What gets out of a sandbox, whatever its policy: to nobody but whom the policy names, and never to the host or to
//! another sandbox.
//!
//! Needs root: the host gets servers and a network namespace that plays the outside, and programs of the host's speak
//! from inside a service's network, with more rights than the service itself has.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use support::second::SecondEngine;
use support::{World, eventually};

fn spec(egress: &str) -> String {
    format!(
        "egress: {egress}
services:
  app: {{ image: sbx-test/busybox, command: [nc, -ll, -p, '5000', -e, echo, LEAKED], stop_signal: SIGKILL, ready: {{ tcp: 5000 }} }}
"
    )
}

fn must(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A namespace that plays the outside, with a server in it.
struct Outside {
    name: String,
    address: Ipv4Addr,
    server: Option<Child>,
}

impl Outside {
    const PORT: u16 = 4000;

    fn new(world: &World) -> Self {
        let number = rand::random::<u16>();
        let [high, low] = number.to_be_bytes();
        let name = format!("o{}", &world.name()[1..]);
        let mut outside = Self { address: Ipv4Addr::new(198, 19, high, low | 1), name, server: None };
        let (namespace, link, address) = (&outside.name, &outside.name, outside.address.to_string());
        // The host's side; the edge network's packets leave under it.
        let here = Ipv4Addr::new(198, 19, high, low & !1).to_string();
        must("ip", &["netns", "add", namespace]);
        must("ip", &["link", "add", link, "type", "veth", "peer", "name", "out0", "netns", namespace]);
        must("ip", &["addr", "add", &format!("{here}/31"), "dev", link]);
        must("ip", &["link", "set", link, "up"]);
        must("ip", &["-n", namespace, "addr", "add", &format!("{address}/31"), "dev", "out0"]);
        must("ip", &["-n", namespace, "link", "set", "out0", "up"]);
        must("ip", &["-n", namespace, "route", "add", "default", "via", &here]);
        let port = Self::PORT.to_string();
        let server =
            ["netns", "exec", namespace, "busybox", "nc", "-ll", "-p", &port, "-e", "echo", "WELCOME"];
        let child = Command::new("ip").args(server).stdin(Stdio::null()).spawn().unwrap();
        outside.server = Some(child);
        outside
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = (server.kill(), server.wait());
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
        let _ = Command::new("ip").args(["link", "del", &self.name]).output();
    }
}

/// The address that clouds answer with secrets, on this host for as long as a test needs it.
struct Metadata;

/// How many tests need it.
static USERS: Mutex<u32> = Mutex::new(0);

impl Metadata {
    const ADDRESS: &str = "169.254.169.254";

    fn new() -> Self {
        let mut users = USERS.lock().unwrap();
        *users += 1;
        must("ip", &["addr", "replace", "169.254.169.254/32", "dev", "lo"]);
        Self
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
        *users -= 1;
        if *users == 0 {
            let _ = Command::new("ip").args(["addr", "del", "169.254.169.254/32", "dev", "lo"]).output();
        }
    }
}

/// What a program of the host's writes in a service's network.
fn within(world: &World, container: &str, line: &str) -> String {
    let pid = world.engine().inspect(container)["State"]["Pid"].to_string();
    let said =
        world.host("nsenter", &["-t", &pid, "-n", "sh", "-c", line]).limit(Duration::from_mins(3)).run();
    said.stdout
}

/// A line that sends a datagram. Not every busybox has `nc -u`.
fn datagram(address: &str, port: u16, text: &str) -> String {
    format!(
        "python3 -c 'import socket; \
         family, kind, _, _, at = socket.getaddrinfo(\"{address}\", {port}, type=socket.SOCK_DGRAM)[0]; \
         socket.socket(family, kind).sendto(b\"{text}\", at)'"
    )
}

/// A program that sends datagrams with its arguments (a port and addresses of this machine) in every way that needs no
/// capability: as the routes say, past all routers, and to everybody.
const DATAGRAMS: &str = r"
import socket, struct, sys
port, addresses = int(sys.argv[1]), sys.argv[2:]
IP_PKTINFO, ANY = 8, socket.inet_aton('0.0.0.0')
link = socket.if_nametoindex('eth0')
bound, no_router, broadcast = [(socket.SOL_SOCKET, it) for it in (25, 5, 6)]
sent = 0
def send(address, way, options=(), ancillary=(), family=socket.AF_INET):
    global sent
    with socket.socket(family, socket.SOCK_DGRAM) as it:
        for option, value in options: it.setsockopt(*option, value)
        try:
            at = (address, port) if family == socket.AF_INET else (address, port, 0, link)
            it.sendmsg([f'{way} {address}'.encode()], ancillary, 0, at)
            sent += 1
        except OSError: pass
by_link = [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack('=I4s4s', link, ANY, ANY))]
for address in addresses:
    send(address, 'plain')
    send(address, 'bound', [(bound, b'eth0')])
    send(address, 'pktinfo', ancillary=by_link)
    send(address, 'no router', [(no_router, 1)])
    send(address, 'no router, bound', [(no_router, 1), (bound, b'eth0')])
    send(address, 'no router, pktinfo', [(no_router, 1)], by_link)
for address in ('255.255.255.255', '224.0.0.1', '239.1.2.3'):
    send(address, 'everybody', [(broadcast, 1), (bound, b'eth0')])
for address in ('ff02::1', 'fe80::1'):
    send(address, 'everybody', family=socket.AF_INET6)
print('sent', sent)
";

fn addresses_of(world: &World, container: &str) -> Vec<String> {
    let inspected = world.engine().inspect(container);
    let networks = inspected["NetworkSettings"]["Networks"].as_object().unwrap();
    networks.values().map(|network| network["IPAddress"].as_str().unwrap().to_owned()).collect()
}

/// Every address of the host, the loopback's left out.
fn host_addresses() -> Vec<String> {
    let output = Command::new("ip").args(["-j", "-4", "addr"]).output().unwrap();
    listed(&output.stdout)
}

/// The addresses in what `ip -j addr` writes, the loopback's left out.
fn listed(written: &[u8]) -> Vec<String> {
    let all: serde_json::Value = serde_json::from_slice(written).unwrap();
    let interfaces = all.as_array().unwrap().iter();
    let addresses = interfaces.flat_map(|interface| interface["addr_info"].as_array().unwrap());
    let addresses = addresses.map(|address| address["local"].as_str().unwrap().to_owned());
    addresses.filter(|address| !address.starts_with("127.")).collect()
}

/// Whatever the policy: neither the host nor another sandbox is reached, by TCP, UDP or ICMP.
fn nothing_inward_is_reached(egress: &str, outside_is_reached: bool) {
    let world = World::with_spec(&spec(egress));
    let (outside, _metadata) = (Outside::new(&world), Metadata::new());
    let other = format!("{}-other", world.name());
    world.up();
    world.sandbox(["up", "-d", "--name", &other]).success();
    let app = world.container("app");
    let (server, datagrams) =
        (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
    let (tcp, udp) = (server.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());

    let host = host_addresses();
    assert!(host.iter().any(|address| address == Metadata::ADDRESS));
    let mut targets: Vec<(String, u16)> = host.into_iter().map(|address| (address, tcp)).collect();
    let theirs = [format!("sbx-{other}.app"), format!("sbx-{other}")];
    let theirs = theirs.iter().flat_map(|container| addresses_of(&world, container));
    targets.extend(theirs.map(|address| (address, 5000)));
    targets.push(("::1%eth0".to_owned(), tcp));
    targets.push(("2001:db8::1".to_owned(), tcp));
    let lines = targets.iter().map(|(address, port)| {
        format!(
            "(busybox timeout 2 nc {address} {port} </dev/null && echo REACHED {address}; \
             {}; \
             busybox ping -c 1 -W 2 {address} >/dev/null && echo PINGED {address}) 2>/dev/null &",
            datagram(address, udp, "x")
        )
    });
    let script = format!("{}\nwait", lines.collect::<Vec<_>>().join("\n"));
    let said = within(&world, &app, &script);

    assert!(!["REACHED", "PINGED", "LEAKED"].iter().any(|word| said.contains(word)), "{said}");
    server.set_nonblocking(true).unwrap();
    let accepted = server.accept();
    assert!(accepted.is_err(), "a connection reached the host: {accepted:?}");
    assert_eq!(heard(&world, &datagrams), [""; 0]);

    let ask = format!("busybox timeout 3 nc {} {} </dev/null", outside.address, Outside::PORT);
    if outside_is_reached {
        eventually("the outside answers", || within(&world, &app, &ask).contains("WELCOME"));
    } else {
        assert!(!within(&world, &app, &ask).contains("WELCOME"));
    }
}

/// What comes to a socket, until what this machine itself sends it comes.
fn heard(world: &World, datagrams: &UdpSocket) -> Vec<String> {
    let port = datagrams.local_addr().unwrap().port();
    datagrams.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    world.host("sh", &["-c", &datagram("127.0.0.1", port, "the end")]).run().success();
    let mut received = [0; 64];
    let each = std::iter::from_fn(|| {
        let length = datagrams.recv(&mut received).unwrap();
        Some(String::from_utf8_lossy(&received[..length]).into_owned()).filter(|text| text != "the end")
    });
    each.collect()
}

/// A service without a capability, which sends what it is asked to.
const SPEAKER: &str = "
services:
  app: { image: sbx-test/python, user: '1000', cap_drop: [ALL], command: [sleep, '600'], stop_signal: SIGKILL }
";

/// Has the service send [`DATAGRAMS`] to a port of these addresses and answers how many went.
fn speak(world: &World, port: u16, addresses: Vec<String>) -> u32 {
    let port = port.to_string();
    let mut words = vec!["python3", "-c", DATAGRAMS, &port];
    words.extend(addresses.iter().map(String::as_str));
    let said = world.in_container("app", &words).success().stdout;
    said.trim().strip_prefix("sent ").unwrap().parse().unwrap()
}

fn setting(bridge: &str, name: &str) -> PathBuf {
    format!("/proc/sys/net/ipv4/conf/{bridge}/{name}").into()
}

fn set(bridge: &str, name: &str, value: &str) {
    std::fs::write(setting(bridge, name), value).unwrap();
}

/// Whether this machine takes in nothing from a bridge.
fn is_closed(bridge: &str) -> bool {
    let has = |name, value| std::fs::read_to_string(setting(bridge, name)).unwrap().trim() == value;
    has("rp_filter", "1") && has("arp_ignore", "8")
}

/// The name of the bridge of the sandbox's network.
fn bridge(world: &World) -> String {
    let network = world.engine().docker(&["network", "inspect", &format!("sbx-{}.default", world.name())]);
    let network: serde_json::Value = serde_json::from_str(&network.success().stdout).unwrap();
    format!("br-{}", &network[0]["Id"].as_str().unwrap()[..12])
}

#[test]
fn the_host_hears_nothing_from_who_goes_past_all_routers_or_speaks_to_everybody() {
    for egress in ["deny", "allow"] {
        let world = World::with_spec(&format!("egress: {egress}{SPEAKER}"));
        world.up();
        let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = datagrams.local_addr().unwrap().port();
        assert!(speak(&world, port, host_addresses()) > 3);
        assert_eq!(heard(&world, &datagrams), [""; 0], "under {egress}");

        // As it would be without the filter: the check hears what there is to hear.
        world.engine().docker(&["rm", "-f", &format!("sandbox-host-firewall-{}", world.name())]).success();
        let bridge = bridge(&world);
        set(&bridge, "rp_filter", "0");
        set(&bridge, "arp_ignore", "0");
        speak(&world, port, host_addresses());
        assert_ne!(heard(&world, &datagrams), [""; 0], "under {egress}, without the filter");

        // What a start of the engine's machine undoes is done again.
        world.sandbox(["stop"]).success();
        world.sandbox(["start"]).success();
        assert!(is_closed(&bridge));
    }
}

#[test]
fn the_filter_has_one_capability_returns_when_removed_and_ends_with_its_keeper() {
    let world = World::with_spec(SPEAKER);
    let [filter, keeper] = ["host-firewall", "keeper"].map(|what| format!("sandbox-{what}-{}", world.name()));
    world.up();
    assert!(is_closed(&bridge(&world)));
    let inspected = world.engine().inspect(&filter);
    let host = &inspected["HostConfig"];
    assert_eq!(host["NetworkMode"], "host", "{host}");
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{host}");
    assert_eq!(host["CapAdd"].as_array().map(Vec::len), Some(1), "{host}");
    assert!(host["CapAdd"][0].as_str().unwrap().ends_with("NET_ADMIN"), "{host}");
    assert_eq!((&host["Privileged"], &host["ReadonlyRootfs"]), (&false.into(), &true.into()), "{host}");
    assert_eq!(inspected["Mounts"].as_array().map(Vec::len), Some(0), "{inspected}");

    world.engine().docker(&["rm", "-f", &filter]).success();
    world.sandbox(["down"]).success();
    world.up();
    assert!(is_closed(&bridge(&world)));
    assert!(world.engine().runs(&filter));

    world.engine().docker(&["rm", "-f", &keeper]).success();
    eventually("the filter has ended", || !world.engine().runs(&filter));
    assert!(is_closed(&bridge(&world)), "what it has made stays");
}

#[test]
fn what_others_do_to_a_bridge_is_taken_back() {
    let world = World::with_spec(SPEAKER);
    world.up();
    let bridge = bridge(&world);
    set(&bridge, "rp_filter", "0");
    eventually("the setting is made again", || is_closed(&bridge));
    // As of a program that has every new interface ask for an address, which a service may answer.
    must("ip", &["addr", "add", "10.99.99.1/24", "dev", &bridge]);
    eventually("the address is taken away", || {
        let output = Command::new("ip").args(["-j", "-4", "addr", "show", "dev", &bridge]).output().unwrap();
        listed(&output.stdout).is_empty()
    });
    assert!(is_closed(&bridge));
}

#[test]
fn nor_does_the_machine_of_an_engine_that_gives_internal_networks_no_default_route() {
    const PORT: u16 = 9999;
    const EAR: &str = "
import socket
ear = socket.create_server(('127.0.0.1', 9998))
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind(('0.0.0.0', 9999))
ear.accept()
heard.settimeout(0.5)
try:
    while True: print(heard.recv(100).decode())
except socket.timeout: print('the end')
";
    let newer = SecondEngine::start(&["--release", "trixie"], &["sbx-test/python"]);
    let world = newer.world(&format!("egress: deny{SPEAKER}"));
    world.up();
    let addresses = listed(newer.in_its_network(&["ip", "-j", "-4", "addr"]).success().stdout.as_bytes());
    assert!(!addresses.is_empty());
    let bridge = bridge(&world);
    let set = |name, value| {
        let line = format!("echo {value} > {}", setting(&bridge, name).display());
        newer.in_its_network(&["sh", "-c", &line]).success();
    };
    let hears = || {
        std::thread::scope(|scope| {
            let ear = scope.spawn(|| newer.in_its_network(&["python3", "-c", EAR]).success().stdout);
            let connect = "import socket; socket.create_connection(('127.0.0.1', 9998), 5)";
            eventually("it is listened to", || {
                newer.in_its_network(&["sh", "-c", "ss -Hltn 'sport = :9998' | grep -q ."]).code == Some(0)
            });
            assert!(speak(&world, PORT, addresses.clone()) > 3);
            newer.in_its_network(&["python3", "-c", connect]).success();
            ear.join().unwrap()
        })
    };
    assert_eq!(hears(), "the end\n");
    world.engine().docker(&["rm", "-f", &format!("sandbox-host-firewall-{}", world.name())]).success();
    set("rp_filter", 0);
    set("arp_ignore", 0);
    assert!(hears().contains("bound "), "without the filter");
    world.sandbox(["down"]).success();
}

#[test]
fn under_deny_neither_the_outside_nor_the_host_nor_another_sandbox_is_reached() {
    nothing_inward_is_reached("deny", false);
}

#[test]
fn under_a_list_of_addresses_only_these_are_reached() {
    nothing_inward_is_reached("['198.19.0.0/16:4000']", true);
}

#[test]
fn an_address_of_the_host_is_reached_if_it_is_listed_itself_and_then_on_that_port_alone() {
    let (listed, other) = (TcpListener::bind("0.0.0.0:0").unwrap(), TcpListener::bind("0.0.0.0:0").unwrap());
    let [listed, other] = [listed, other].map(|server| {
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::Write;
            server.incoming().flatten().for_each(|mut client| drop(client.write_all(b"WELCOME")));
        });
        port
    });
    let address = host_addresses().into_iter().find(|address| *address != Metadata::ADDRESS).unwrap();
    let world = World::new();
    let app = world.container("app");
    let ask = |port| within(&world, &app, &format!("busybox timeout 3 nc {address} {port} </dev/null"));

    world.spec(&spec(&format!("['{address}:{listed}']")));
    world.up();
    assert!(ask(listed).contains("WELCOME"));
    assert!(!ask(other).contains("WELCOME"));
    world.sandbox(["down"]).success();

    let around: ipnet::Ipv4Net = format!("{address}/24").parse().unwrap();
    world.spec(&spec(&format!("['{}']", around.trunc())));
    world.up();
    assert!(!ask(listed).contains("WELCOME"), "a network is not an address");
    let line = format!(r#"egress: ["{address}:{listed}"]"#);
    eventually("the line is told that lets it out", || {
        world.sandbox(["egress"]).success().stdout.contains(&line)
    });
}

#[test]
fn under_a_list_of_names_no_address_is_reached() {
    nothing_inward_is_reached("[api.example.com]", false);
}

#[test]
fn under_allow_the_outside_is_reached_and_nothing_inward() {
    nothing_inward_is_reached("allow", true);
}

/// A program that asks the addresses of its arguments (`ADDRESS:PORT`) in every way, also under the mark of what a gateway
/// lets out on purpose, and says whom it reached.
const ASK: &str = r"
import socket, subprocess, sys
for target in sys.argv[1:]:
    address, port = target.split(':')
    at = (address, int(port))
    for tos in (0, 0xac, 0x5c):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
            it.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            try: it.sendto(f'datagram {target} {tos}'.encode(), at)
            except OSError: pass
        with socket.socket() as it:
            it.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            it.settimeout(2)
            try:
                it.connect(at)
                print('REACHED', target, tos)
            except OSError: pass
    if subprocess.run(['busybox', 'ping', '-c', '1', '-W', '1', address], capture_output=True).returncode == 0:
        print('PINGED', address)
print('asked')
";

/// An address that this machine has for as long as a test needs it.
struct Gained(String);

impl Gained {
    fn new() -> Self {
        let [.., high, low] = rand::random::<u32>().to_be_bytes();
        let address = format!("198.51.{}.{}", high.max(1), low.max(1));
        must("ip", &["addr", "add", &format!("{address}/32"), "dev", "lo"]);
        Self(address)
    }
}

impl Drop for Gained {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["addr", "del", &format!("{}/32", self.0), "dev", "lo"]).output();
    }
}

#[test]
fn the_machine_is_not_reached_at_an_address_that_it_gained_since() {
    for egress in ["allow", "['198.51.0.0/16']"] {
        let world = World::with_spec(&spec(egress));
        world.up();
        let gained = Gained::new();
        let app = world.container("app");
        let (server, datagrams) = (
            TcpListener::bind((gained.0.as_str(), 0)).unwrap(),
            UdpSocket::bind((gained.0.as_str(), 53)).unwrap(),
        );
        datagrams.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        let tcp = server.local_addr().unwrap().port();
        // What somebody else publishes is the machine's as well.
        let stranger = format!("{}-stranger", world.name());
        let run = ["run", "-d", "--name", &stranger, "-p", "5000", "sbx-test/busybox"];
        let serve = ["nc", "-ll", "-p", "5000", "-e", "echo", "LEAKED"];
        world.engine().docker(&[&run[..], &serve[..]].concat()).success();
        let published = world.engine().docker(&["port", &stranger, "5000"]).success().stdout;
        let published = published.lines().next().unwrap().rsplit(':').next().unwrap().trim().to_owned();

        let targets =
            [format!("{}:{tcp}", gained.0), format!("{}:53", gained.0), format!("{}:{published}", gained.0)];
        let said = within(&world, &app, &format!("python3 -c \"{ASK}\" {}", targets.join(" ")));
        world.engine().docker(&["rm", "-f", &stranger]).success();

        assert_eq!(said.trim(), "asked", "under {egress}");
        assert!(server.accept().is_err(), "under {egress}");
        let mut received = [0; 64];
        let heard = datagrams
            .recv(&mut received)
            .map(|length| String::from_utf8_lossy(&received[..length]).into_owned());
        assert!(heard.is_err(), "under {egress}: {heard:?}");
    }
}

#[test]
fn a_second_up_opens_and_closes_a_standing_sandbox_and_its_data_stays() {
    const SPEC: &str = "
services:
  app: { image: sbx-test/busybox, command: [sleep, '600'], stop_signal: SIGKILL, volumes: ['kept:/kept'] }
  other: { image: sbx-test/busybox, command: [sleep, '600'], stop_signal: SIGKILL, network_mode: 'service:app' }
volumes: { kept: {} }
";
    let with = |egress: &str| format!("egress: {egress}{SPEC}");
    let world = World::with_spec(&with("deny"));
    let outside = Outside::new(&world);
    let app = world.container("app");
    let ask = || {
        let line = format!("busybox timeout 3 nc {} {} </dev/null", outside.address, Outside::PORT);
        ["app", "other"].map(|service| within(&world, &world.container(service), &line).contains("WELCOME"))
    };
    world.up();
    world.in_container("app", &["sh", "-c", "echo here > /kept/file"]).success();
    assert_eq!(ask(), [false, false]);

    world.spec(&with("allow"));
    let changed = world.sandbox(["up", "-d"]).success();
    assert!(changed.stderr.contains("remove network"), "{changed}");
    assert_eq!(ask(), [true, true]);
    assert_eq!(world.in_container("app", &["cat", "/kept/file"]).success().stdout, "here\n");
    let again = world.sandbox(["up", "-d"]).success();
    assert!(!again.stderr.contains("remove network"), "{again}");

    world.spec(&with("deny"));
    world.sandbox(["up", "-d"]).success();
    assert_eq!(ask(), [false, false]);
    assert!(is_closed(&bridge(&world)));
    assert!(world.engine().runs(&app));
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}

#[test]
fn a_service_has_no_raw_sockets_unless_it_is_let() {
    let world = World::with_spec(&spec("deny"));
    world.up();
    let ping = world.in_container("app", &["ping", "-c", "1", "127.0.0.1"]);
    assert_ne!(ping.code, Some(0), "{ping}");
    let held = world.in_container("app", &["grep", "CapBnd", "/proc/1/status"]).stdout;
    let held = u64::from_str_radix(held.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(held & 1 << 13, 0, "NET_RAW is held: {held:x}");

    world.spec(&spec("deny").replace("stop_signal", "cap_add: [NET_RAW], stop_signal"));
    let refused = world.sandbox(["up", "-d"]).exits(2);
    assert!(
        refused.stderr.contains("NET_RAW") && refused.stderr.contains("--allow-host-access"),
        "{refused}"
    );
    let let_in = world.sandbox(["up", "-d", "--allow-host-access"]).success();
    assert!(let_in.stderr.contains("NET_RAW"), "no warning: {let_in}");
    world.in_container("app", &["ping", "-c", "1", "127.0.0.1"]).success();
}

#[test]
fn a_service_can_put_no_frame_of_its_own_on_the_wire() {
    let world = World::with_spec(&spec("deny"));
    world.up();
    let gateway = addresses_of(&world, &format!("sbx-{}", world.name())).remove(0);
    let ask = ["exec", "app", "busybox", "arping", "-c", "1", "-w", "2", "-I", "eth0", &gateway];
    world.sandbox(ask).exits(1).says("Operation not permitted");
}

/// `front`, and `peer` with `back`, which keeps whatever datagram comes.
const APART: &str = "
services:
  front: { image: sbx-test/busybox, command: [sleep, '600'], stop_signal: SIGKILL, networks: [a] }
  peer: { image: sbx-test/busybox, command: [sleep, '600'], stop_signal: SIGKILL, networks: [b] }
  back:
    image: sbx-test/python
    command:
      - python3
      - -c
      - |
        import socket, threading
        heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        heard.bind(('', 6000))
        def keep():
            while True:
                with open('/tmp/got', 'ab') as got: got.write(heard.recv(100))
        threading.Thread(target=keep).start()
        server = socket.create_server(('', 5000))
        while True:
            client, _ = server.accept()
            client.sendall(b'LEAKED')
            client.close()
    stop_signal: SIGKILL
    networks: [b]
    ports: ['5000']
    ready: { tcp: 5000 }
networks: { a: {}, b: {} }
";

#[test]
fn networks_stay_apart_even_for_who_makes_a_way_through_the_gateway() {
    let world = World::with_spec(APART);
    world.up();
    let [front, peer, back] = ["front", "peer", "back"].map(|service| world.container(service));
    let (target, gateway) = (addresses_of(&world, &back).remove(0), format!("sbx-{}", world.name()));
    let of_gateway = world.engine().inspect(&gateway);
    let networks = of_gateway["NetworkSettings"]["Networks"].as_object().unwrap();
    let at = |suffix: &str| {
        let found = networks.iter().find(|(name, _)| name.ends_with(suffix));
        found.unwrap().1["IPAddress"].as_str().unwrap().to_owned()
    };
    let edge =
        networks.iter().find(|(name, _)| name.starts_with("sandbox-edge")).unwrap().1["IPAddress"].clone();
    let (edge, near) = (edge.as_str().unwrap().to_owned(), at(".a"));
    let edge_port = of_gateway["HostConfig"]["PortBindings"].as_object().unwrap().keys().next().unwrap();
    let edge_port = edge_port.trim_end_matches("/tcp").to_owned();

    let speak = |who: &str| {
        let words = datagram(&target, 6000, &format!("from {who}"));
        format!("busybox timeout 2 nc {target} 5000 </dev/null; {words}")
    };
    let got = || world.in_container("back", &["sh", "-c", "cat /tmp/got 2>/dev/null; true"]).success().stdout;
    let said = within(&world, &front, &format!("({}) 2>&1", speak("front")));
    assert!(!said.contains("LEAKED"), "{said}");
    let with_a_way = format!(
        "(ip route add {target}/32 via {near}; {}; ip route add {edge}/32 dev eth0; \
          busybox timeout 2 nc {edge} {edge_port} </dev/null) 2>&1",
        speak("front")
    );
    let said = within(&world, &front, &with_a_way);
    assert!(!said.contains("LEAKED"), "{said}");
    assert_eq!(got(), "", "a datagram came through");

    let said = within(&world, &peer, &format!("({}) 2>&1", speak("peer")));
    assert!(said.contains("LEAKED"), "{said}");
    eventually("the neighbour's datagram comes", || got().contains("from peer"));
    assert!(support::tcp_read(world.address("back", 5000)).unwrap().contains("LEAKED"), "the host is let in");
}

#[test]
fn a_gateway_holds_neither_the_engine_nor_a_right_that_it_does_not_need() {
    for (egress, added, forwards) in [("deny", None, "0"), ("allow", Some("NET_ADMIN"), "1")] {
        let world = World::with_spec(&spec(egress));
        world.up();
        let gateway = world.engine().inspect(&format!("sbx-{}", world.name()));
        let host = &gateway["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{host}");
        assert_eq!(host["Privileged"], false, "{host}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{host}");
        let caps: Vec<&str> =
            host["CapAdd"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
        let caps: Vec<&str> = caps.into_iter().map(|cap| cap.trim_start_matches("CAP_")).collect();
        assert_eq!(caps, added.into_iter().collect::<Vec<_>>(), "{host}");
        assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{host}");
        assert_eq!(host["Sysctls"]["net.ipv4.ip_forward"], forwards, "{host}");
        assert_eq!(gateway["Mounts"].as_array().map(Vec::len), Some(0), "{}", gateway["Mounts"]);
        for mode in ["PidMode", "UTSMode", "UsernsMode"] {
            assert_eq!(host[mode], "", "{mode}");
        }
    }
}
