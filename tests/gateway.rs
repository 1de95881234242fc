//! What the gateway promises, against a real engine: published ports lead in, and nothing leads out but what the
//! policy lets out. The networks are made by hand, as the module documentation of `agent::gateway` asks for them.
//!
//! Needs Docker, root (for network namespaces that play "the outside") and the image `sbx-test/busybox`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use sandbox::agent::gateway::{
    control::{ControlAnswer, ControlReply},
    ledger::{LogSummary, RefusalKind},
};
use serde_json::{Value, json};

const BUSYBOX: &str = "sbx-test/busybox:latest";
static TURN: AtomicU8 = AtomicU8::new(0);

/// Runs a program and gives what it wrote, whatever its exit code.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a program that has to succeed.
fn must(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn docker(arguments: &[&str]) -> String {
    must("docker", arguments)
}

/// A sandbox's networks, its gateway, one service on each network, and a place outside.
struct Rig {
    name: String,
    block: u8,
    outside: Vec<Child>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.outside {
            let _ = child.kill();
            let _ = child.wait();
        }
        for container in ["gw", "web", "db"] {
            output("docker", &["rm", "-f", "-v", &self.called(container)]);
        }
        for network in ["edge", "front", "back"] {
            output("docker", &["network", "rm", &self.called(network)]);
        }
        output("docker", &["rmi", "-f", &self.called("image")]);
        output("ip", &["netns", "del", &self.called("out")]);
        output("ip", &["link", "del", &format!("gwo{}", self.block)]);
    }
}

impl Rig {
    /// Networks as a policy needs them; `front` has `web`, `back` has `db`.
    fn new(egress: Value, forwards: Value) -> Self {
        Self::with(egress, forwards, |_| ())
    }

    fn with(egress: Value, forwards: Value, change: impl FnOnce(&mut Value)) -> Self {
        let block =
            u8::try_from(std::process::id() % 10).unwrap() * 24 + TURN.fetch_add(1, Ordering::Relaxed) % 24;
        let rig = Self { name: format!("gwtest{block}"), block, outside: vec![] };
        let router = egress != "deny" && (egress == "allow" || egress.to_string().contains("0/"));
        let mut config = rig.config(egress, forwards, router);
        change(&mut config);
        rig.make_networks(router);
        rig.make_gateway(&config, router);
        for (service, network, host) in [("web", "front", 69), ("db", "back", 101)] {
            let dns = rig.address(if network == "front" { 66 } else { 98 }).to_string();
            docker(&[
                "run",
                "-d",
                "--name",
                &rig.called(service),
                "--network",
                &rig.called(network),
                "--ip",
                &rig.address(host).to_string(),
                "--dns",
                &dns,
                "--dns-search",
                ".",
                "--cap-drop",
                "NET_RAW",
                "--network-alias",
                service,
                BUSYBOX,
                "sleep",
                "600",
            ]);
        }
        rig.waits_for_gateway();
        rig
    }

    fn called(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, self.block, host)
    }

    fn config(&self, egress: Value, forwards: Value, router: bool) -> Value {
        let network = |name: &str, first: u8| {
            json!({
                "name": name, "subnet": format!("{}/27", self.address(first)), "address": self.address(first + 2),
                "adopt": router.then(|| self.address(first + 1)), "internal": !router,
            })
        };
        let service = |name: &str, network: &str, host: u8| {
            json!({
                "service": name, "container": self.called(name), "aliases": [],
                "addresses": {network: self.address(host)},
            })
        };
        json!({
            "sandbox": self.name,
            "networks": [network("front", 64), network("back", 96)],
            "edge": {"subnet": format!("{}/27", self.address(0)), "bridge": self.address(1)},
            "forwards": forwards,
            "egress": egress,
            "services": [service("web", "front", 69), service("db", "back", 101)],
            "forbidden": host_addresses(),
            "resolver": null,
        })
    }

    fn make_networks(&self, router: bool) {
        let edge = format!("{}/27", self.address(0));
        let icc = "com.docker.network.bridge.enable_icc=false";
        docker(&[
            "network",
            "create",
            "--subnet",
            &edge,
            "--gateway",
            &self.address(1).to_string(),
            "-o",
            icc,
            &self.called("edge"),
        ]);
        for (network, first) in [("front", 64), ("back", 96)] {
            let (subnet, gateway) =
                (format!("{}/27", self.address(first)), self.address(first + 1).to_string());
            let name = self.called(network);
            let mut arguments = vec![
                "network",
                "create",
                "--subnet",
                &subnet,
                "--gateway",
                &gateway,
                "-o",
                "com.docker.network.bridge.inhibit_ipv4=true",
            ];
            if router {
                arguments.extend(["-o", "com.docker.network.bridge.enable_ip_masquerade=false"]);
            } else {
                arguments.push("--internal");
            }
            arguments.push(&name);
            docker(&arguments);
        }
    }

    fn make_gateway(&self, config: &Value, router: bool) {
        let image = self.called("image");
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_sandbox"), folder.path().join("sandbox")).unwrap();
        let import = format!("tar -C {} -c sandbox | docker import - {image}", folder.path().display());
        must("sh", &["-c", &import]);
        let name = self.called("gw");
        let edge = self.called("edge");
        let ports: Vec<String> = config["forwards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|forward| {
                format!("127.0.0.1::{}/{}", forward["edge_port"], forward["protocol"].as_str().unwrap())
            })
            .collect();
        let mut arguments = vec![
            "create",
            "--name",
            &name,
            "--network",
            &edge,
            "--cap-drop",
            "ALL",
            "--read-only",
            "--volume",
            "/config",
            "--security-opt",
            "no-new-privileges",
            "--pids-limit",
            "64",
        ];
        if router {
            arguments.extend(["--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.ip_forward=1"]);
        }
        for port in &ports {
            arguments.extend(["-p", port]);
        }
        arguments.extend([image.as_str(), "/sandbox", "agent", "gateway", "/config/gateway.json"]);
        docker(&arguments);
        std::fs::write(folder.path().join("gateway.json"), config.to_string()).unwrap();
        let file = folder.path().join("gateway.json").display().to_string();
        docker(&["cp", &file, &format!("{name}:/config/gateway.json")]);
        for (network, host) in [("front", 66), ("back", 98)] {
            docker(&[
                "network",
                "connect",
                "--ip",
                &self.address(host).to_string(),
                &self.called(network),
                &name,
            ]);
        }
        docker(&["start", &name]);
    }

    fn waits_for_gateway(&self) {
        self.eventually("the gateway says that it started", || self.log().contains(r#""event":"started""#));
    }

    fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}; the log: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        output("docker", &["logs", &self.called("gw")])
    }

    /// What a shell line in a service writes.
    fn within(&self, service: &str, line: &str) -> String {
        output("docker", &["exec", &self.called(service), "timeout", "20", "sh", "-c", line])
    }

    /// What an HTTP request writes that goes to where `name` leads.
    fn web_get(&self, name: &str) -> String {
        let line = format!(
            "to=$(nslookup {name} | tail -n +3 | sed -n 's/^Address.*: *//p' | head -n 1); \
             timeout 5 wget -S -O- --header 'Host: {name}' http://$to/index.html"
        );
        self.within("web", &line)
    }

    /// What a program of the host's writes in a service's network.
    fn in_network_of(&self, service: &str, arguments: &[&str]) -> String {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.called(service)]);
        output("nsenter", &[&["-t", &pid, "-n"], arguments].concat())
    }

    /// A server of the host's Python in a service's network.
    fn python_in(&self, service: &str, script: &str) -> Child {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.called(service)]);
        Command::new("nsenter").args(["-t", &pid, "-n", "python3", "-c", script]).spawn().unwrap()
    }

    /// Whether the gateway counted a refusal of `kind` that names `target`.
    fn refused(&self, service: &str, kind: RefusalKind, target: &str) -> bool {
        LogSummary::read(&self.log()).refusals.iter().any(|refusal| {
            refusal.key.service == service && refusal.key.kind == kind && refusal.key.target == target
        })
    }

    /// Where the engine published an edge port.
    fn published(&self, edge_port: &str) -> SocketAddr {
        docker(&["port", &self.called("gw"), edge_port]).lines().next().unwrap().parse().unwrap()
    }

    /// A namespace that plays the outside, with `servers` in it; its address.
    fn outside(&mut self, servers: &[&[&str]]) -> Ipv4Addr {
        let (namespace, link) = (self.called("out"), format!("gwo{}", self.block));
        let (here, there) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(198, 18, self.block, 9));
        must("ip", &["netns", "add", &namespace]);
        must("ip", &["link", "add", &link, "type", "veth", "peer", "name", "out0", "netns", &namespace]);
        must("ip", &["link", "set", &link, "up"]);
        must("ip", &["route", "add", &there.to_string(), "dev", &link]);
        let inside = |arguments: &[&str]| must("ip", &[&["-n", &namespace], arguments].concat());
        inside(&["link", "set", "lo", "up"]);
        inside(&["link", "set", "out0", "up"]);
        inside(&["addr", "add", &there.to_string(), "dev", "out0"]);
        let edge_host = self.address(1);
        inside(&["route", "add", &here.to_string(), "dev", "out0"]);
        inside(&["route", "add", &edge_host.to_string(), "dev", "out0"]);
        inside(&["route", "add", "default", "via", &here.to_string(), "onlink", "dev", "out0"]);
        must("ip", &["addr", "replace", &format!("{here}/32"), "dev", &link]);
        for server in servers {
            let child = Command::new("ip")
                .args(["netns", "exec", &namespace])
                .args(*server)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            self.outside.push(child);
        }
        there
    }
}

/// Every address of this machine: the engine's host.
fn host_addresses() -> Vec<String> {
    let all: Value = serde_json::from_str(&must("ip", &["-j", "-4", "addr"])).unwrap();
    all.as_array()
        .unwrap()
        .iter()
        .flat_map(|interface| interface["addr_info"].as_array().unwrap())
        .map(|address| format!("{}/32", address["local"].as_str().unwrap()))
        .collect()
}

/// A resolver on `at` that has one address for every name.
fn resolver_saying(at: SocketAddr, address: Ipv4Addr) {
    let socket = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            let end = 12 + bytes[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = bytes[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
            let _ = socket.send_to(&answer, client);
        }
    });
}

fn no_forwards() -> Value {
    json!([])
}

#[test]
fn under_deny_nothing_leaves() {
    let mut rig = Rig::new(json!("deny"), no_forwards());
    let outside = rig.outside(&[&["busybox", "nc", "-ll", "-p", "80", "-e", "echo", "leaked"]]);
    let host = TcpListener::bind((rig.address(1), 0)).unwrap();
    let host_port = host.local_addr().unwrap().port();
    let other = rig.address(101);
    let gateway_edge = rig.address(2);
    let mut line = String::new();
    for (target, port) in [
        (outside.to_string(), 80),
        (rig.address(1).to_string(), host_port),
        (rig.address(65).to_string(), host_port),
        ("169.254.169.254".to_owned(), 80),
        (other.to_string(), 1),
        (gateway_edge.to_string(), 53),
        ("::1%eth0".to_owned(), 80),
        ("fe80::1%eth0".to_owned(), 80),
        ("2001:db8::1".to_owned(), 80),
    ] {
        write!(line, "echo x | timeout 2 nc {target} {port} && echo REACHED {target}; ").unwrap();
        write!(line, "ping -c 1 -W 1 {target} >/dev/null 2>&1 && echo PINGED {target}; ").unwrap();
    }
    let said = rig.within("web", &line);
    assert!(!said.contains("REACHED") && !said.contains("PINGED") && !said.contains("leaked"), "{said}");
    let host_socket = UdpSocket::bind((rig.address(1), 0)).unwrap();
    host_socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let udp_port = host_socket.local_addr().unwrap().port();
    rig.within("web", &format!("echo x | nc -u -w 1 {} {udp_port}", rig.address(1)));
    assert!(host_socket.recv_from(&mut [0; 8]).is_err(), "a datagram reached the host");
    assert!(rig.within("web", "cat /proc/net/if_inet6").trim().is_empty(), "the service has an IPv6 address");
}

#[test]
fn under_deny_a_tunnel_of_names_finds_no_answer_and_is_counted() {
    let asked = UdpSocket::bind("0.0.0.0:0").unwrap();
    asked.set_nonblocking(true).unwrap();
    let port = asked.local_addr().unwrap().port();
    let rig = Rig::with(json!("deny"), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let said =
        rig.within("web", "nslookup c2VjcmV0.tunnel.example.com; nslookup db.; nslookup x.example.org");
    assert!(said.contains("NXDOMAIN") || said.contains("can't resolve"), "{said}");
    rig.eventually("the names are counted", || {
        rig.refused("web", RefusalKind::Name, "c2VjcmV0.tunnel.example.com".to_lowercase().as_str())
            && rig.refused("web", RefusalKind::Name, "x.example.org")
    });
    assert!(!rig.log().contains(r#""target":"db""#), "a name of the sandbox's own is no refusal");
    assert!(asked.recv_from(&mut [0; 512]).is_err(), "the outside was asked");
}

#[test]
fn a_published_port_leads_in_and_its_use_is_counted() {
    let rig = Rig::new(
        json!("deny"),
        json!([
            {"edge_port": 20000, "protocol": "tcp", "service": "web", "container_port": 7000},
            {"edge_port": 20001, "protocol": "udp", "service": "web", "container_port": 7001},
            {"edge_port": 20002, "protocol": "tcp", "service": "db", "container_port": 7002},
        ]),
    );
    docker(&["exec", "-d", &rig.called("web"), "nc", "-ll", "-p", "7000", "-e", "cat"]);
    let echo = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('0.0.0.0',7001))\n\
        while 1:\n  b,a=s.recvfrom(65535);s.sendto(b,a)\n";
    let mut server = rig.python_in("web", echo);
    rig.eventually("the service answers", || {
        let mut stream = TcpStream::connect(rig.published("20000/tcp")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = String::new();
        stream.write_all(b"hello").is_ok()
            && stream.shutdown(std::net::Shutdown::Write).is_ok()
            && stream.read_to_string(&mut said).is_ok()
            && said == "hello"
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut said = [0; 64];
    rig.eventually("the datagram comes back", || {
        let _ = socket.send_to(b"datagram", rig.published("20001/udp"));
        socket.recv(&mut said).is_ok_and(|length| &said[..length] == b"datagram")
    });
    let _ = (server.kill(), server.wait());
    let refused =
        TcpStream::connect(rig.published("20002/tcp")).and_then(|mut stream| stream.read(&mut [0; 1]));
    assert!(refused.is_err() || refused.is_ok_and(|length| length == 0), "nobody listens on `db`");
    rig.eventually("the connections are counted", || LogSummary::read(&rig.log()).connections.total >= 1);
}

#[test]
fn a_thousand_connections_at_once_all_get_their_answer() {
    let rig = Rig::new(
        json!("deny"),
        json!([{"edge_port": 20000, "protocol": "tcp", "service": "web", "container_port": 7000}]),
    );
    let script = "import socket,threading\ns=socket.create_server(('0.0.0.0',7000),backlog=4096)\n\
        def serve(c):\n  c.sendall(c.recv(8));c.close()\n\
        while 1:\n  c,_=s.accept();threading.Thread(target=serve,args=(c,),daemon=True).start()\n";
    let mut server = rig.python_in("web", script);
    let at = SocketAddr::from((edge_address(&rig), 20000));
    rig.eventually("the server listens", || {
        TcpStream::connect(at).is_ok_and(|mut stream| {
            stream.write_all(b"ping").is_ok() && stream.read(&mut [0; 4]).is_ok_and(|length| length == 4)
        })
    });
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(at).unwrap()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{number:04}").as_bytes()).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("{number:04}"));
    }
    let _ = server.kill();
    let _ = server.wait();
}

fn edge_address(rig: &Rig) -> Ipv4Addr {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", rig.called("edge"));
    docker(&["inspect", "-f", &format, &rig.called("gw")]).parse().unwrap()
}

#[test]
fn a_running_gateway_holds_no_capability_and_little_memory() {
    for egress in [json!("deny"), json!("allow")] {
        let rig = Rig::new(egress, no_forwards());
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &rig.called("gw")]);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for held in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{held}:\t0000000000000000")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kilobytes: u64 = anonymous.split_whitespace().next().unwrap().parse().unwrap();
        assert!(kilobytes < 4096, "{kilobytes} kB");
    }
}

#[test]
fn a_probe_tells_what_it_meets_until_the_service_is_ready() {
    let rig = Rig::new(json!("deny"), no_forwards());
    let mut control = Command::new("docker")
        .args(["exec", "-i", &rig.called("gw"), "/sandbox", "agent", "control"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asking = control.stdin.take().unwrap();
    let probe = json!({
        "id": 7, "do": "probe", "target": "web", "port": 8000, "http": {"path": "/index.html"}, "timeout_ms": 15000,
    });
    writeln!(asking, "{probe}").unwrap();
    let mut answers = BufReader::new(control.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<ControlReply>(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        next(),
        ControlReply { id: 7, answer: ControlAnswer::Waiting { last: "connection refused".into() } }
    );
    rig.within("web", "mkdir -p /tmp/www && httpd -p 8000 -h /tmp/www");
    assert_eq!(next(), ControlReply { id: 7, answer: ControlAnswer::Waiting { last: "404".into() } });
    rig.within("web", "echo hi > /tmp/www/index.html");
    let ready = next();
    assert!(matches!(ready, ControlReply { id: 7, answer: ControlAnswer::Ready { .. } }), "{ready:?}");
    drop(asking);
    assert!(control.wait().unwrap().success());
}

#[test]
fn a_listed_name_is_reached_by_http_and_by_tls_and_a_forged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("index.html"), "from outside").unwrap();
    must(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=api.example.com",
            "-days",
            "1",
            "-keyout",
            &path("key"),
            "-out",
            &path("cert"),
        ],
    );
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut rig = Rig::with(json!(["api.example.com", "*.wild.example"]), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let outside = rig.outside(&[
        &["busybox", "httpd", "-f", "-p", "80", "-h", folder.path().to_str().unwrap()],
        &["openssl", "s_server", "-accept", "443", "-www", "-key", &path("key"), "-cert", &path("cert")],
    ]);
    resolver_saying((rig.address(1), port).into(), outside);
    rig.eventually("a listed name is reached", || rig.web_get("api.example.com").contains("from outside"));
    assert!(rig.web_get("a.b.wild.example").contains("from outside"));
    let unlisted = rig.web_get("evil.example");
    assert!(!unlisted.contains("from outside"), "{unlisted}");

    let gateway = rig.address(66).to_string();
    let forged = rig.within(
        "web",
        &format!("timeout 5 wget -O- --header 'Host: evil.example' http://{gateway}/index.html"),
    );
    assert!(!forged.contains("from outside"), "{forged}");
    let second = "printf 'GET /none HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\nGET /index.html HTTP/1.1\\r\\nHost: evil.example\\r\\nConnection: close\\r\\n\\r\\n'";
    let smuggled = rig.within("web", &format!("({second}; sleep 2) | nc {gateway} 80"));
    assert!(
        smuggled.contains("404") && smuggled.contains("403") && !smuggled.contains("from outside"),
        "{smuggled}"
    );

    let tls = |name: &str| {
        let to = format!("{name}:443:{gateway}");
        rig.in_network_of(
            "web",
            &["curl", "-sk", "-m", "8", "--resolve", &to, "-v", &format!("https://{name}/")],
        )
    };
    rig.eventually("a listed name is reached by TLS", || {
        tls("api.example.com").contains("CN=api.example.com")
    });
    let forged = tls("evil.example");
    assert!(forged.contains("unrecognized name") && !forged.contains("CN=api"), "{forged}");
    rig.eventually("the forged names are counted", || {
        rig.refused("web", RefusalKind::Http, "evil.example")
            && rig.refused("web", RefusalKind::Tls, "evil.example")
    });
    let direct = rig.within("web", &format!("timeout 3 wget -O- http://{outside}/index.html"));
    assert!(!direct.contains("from outside"), "{direct}");
}

#[test]
fn a_listed_name_that_resolves_to_the_host_is_not_followed() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let rig = Rig::with(json!(["api.example.com"]), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let bridge = rig.address(1);
    let _host = TcpListener::bind((bridge, 80)).unwrap();
    resolver_saying((bridge, port).into(), bridge);
    let said = rig.web_get("api.example.com");
    assert!(said.contains("403"), "{said}");
    rig.eventually("it is counted", || rig.refused("web", RefusalKind::Http, "api.example.com"));
}

#[test]
fn a_listed_address_is_reached_on_its_port_and_the_rest_is_refused_and_counted() {
    let block_rule = |port: u16| format!("198.18.0.0/16:{port}");
    let mut rig = Rig::new(json!([block_rule(80)]), no_forwards());
    let outside = rig.outside(&[
        &["busybox", "nc", "-ll", "-p", "80", "-e", "echo", "welcome"],
        &["busybox", "nc", "-ll", "-p", "81", "-e", "echo", "leaked"],
    ]);
    rig.eventually("the listed port answers", || {
        rig.within("web", &format!("timeout 3 nc {outside} 80 </dev/null")).contains("welcome")
    });
    let said = rig.within(
        "web",
        &format!("timeout 3 nc {outside} 81 </dev/null; ping -c 1 -W 1 {outside}; nslookup x.example.com"),
    );
    assert!(!said.contains("leaked") && !said.contains("1 packets received"), "{said}");
    rig.eventually("the refusals are counted", || {
        rig.refused("web", RefusalKind::Tcp, &outside.to_string())
            && rig.refused("web", RefusalKind::Name, "x.example.com")
    });
    let refused = LogSummary::read(&rig.log()).refusals;
    let rule = refused
        .iter()
        .find(|refusal| refusal.key.kind == RefusalKind::Tcp)
        .and_then(|refusal| refusal.key.rule());
    assert_eq!(rule, Some(format!("{outside}:81")));
}

#[test]
fn allow_opens_all_but_the_host_and_other_networks() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut rig = Rig::with(json!("allow"), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let outside = rig.outside(&[&["busybox", "nc", "-ll", "-p", "4000", "-e", "echo", "welcome"]]);
    resolver_saying((rig.address(1), port).into(), outside);
    rig.eventually("the outside answers by name", || {
        rig.within("web", &format!("nslookup any.example.com; timeout 3 nc {outside} 4000 </dev/null"))
            .contains("welcome")
    });
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let host_port = host.local_addr().unwrap().port();
    docker(&["exec", "-d", &rig.called("db"), "nc", "-ll", "-p", "5000", "-e", "echo", "leaked"]);
    let mut line = String::new();
    let mut targets: Vec<(String, u16)> =
        host_addresses().iter().map(|net| (net.trim_end_matches("/32").to_owned(), host_port)).collect();
    targets.retain(|(address, _)| address != "127.0.0.1");
    targets.push((rig.address(1).to_string(), host_port));
    targets.push((edge_address(&rig).to_string(), 53));
    targets.push((rig.address(98).to_string(), 53));
    targets.push((rig.address(101).to_string(), 5000));
    for (address, port) in &targets {
        write!(line, "timeout 2 nc {address} {port} </dev/null && echo REACHED {address}; ").unwrap();
    }
    let said = rig.within("web", &line);
    assert!(!said.contains("REACHED") && !said.contains("leaked"), "{said}");
    host.set_nonblocking(true).unwrap();
    let accepted = host.accept();
    assert!(accepted.is_err(), "a connection reached the host: {accepted:?}");
    rig.eventually("the refusals are counted", || {
        rig.refused("web", RefusalKind::Tcp, &rig.address(1).to_string())
    });
}
