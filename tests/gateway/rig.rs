//! A sandbox's networks and its gateway, made by hand, and a place outside.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use sandbox::agent::gateway::stats::{LogSummary, RefusalKind};
use serde_json::{Value, json};

pub const BUSYBOX: &str = "sbx-test/busybox:latest";
static TURN: AtomicU8 = AtomicU8::new(0);

/// Runs a program and gives what it wrote, whatever its exit code.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a program that has to succeed.
pub fn must(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub fn docker(arguments: &[&str]) -> String {
    must("docker", arguments)
}

/// A sandbox's networks, its gateway, one service on each network, and a place outside.
pub struct Rig {
    name: String,
    pub block: u8,
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
    pub fn new(egress: Value, forwards: Value) -> Self {
        Self::with(egress, forwards, |_| ())
    }

    pub fn with(egress: Value, forwards: Value, change: impl FnOnce(&mut Value)) -> Self {
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

    pub fn called(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    pub fn address(&self, host: u8) -> Ipv4Addr {
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
            "--security-opt",
            "no-new-privileges",
            "--pids-limit",
            "64",
        ];
        if router {
            arguments.extend(["--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.ip_forward=1"]);
        } else {
            arguments.extend(["--sysctl", "net.ipv4.ip_forward=0"]);
        }
        for port in &ports {
            arguments.extend(["-p", port]);
        }
        let told = format!("SANDBOX_GATEWAY_0={config}");
        arguments.extend(["--env", &told, image.as_str(), "/sandbox", "agent", "gateway"]);
        docker(&arguments);
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

    pub fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}; the log: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        output("docker", &["logs", &self.called("gw")])
    }

    /// What a shell line in a service writes.
    pub fn within(&self, service: &str, line: &str) -> String {
        output("docker", &["exec", &self.called(service), "timeout", "20", "sh", "-c", line])
    }

    /// What an HTTP request writes that goes to where `name` leads.
    pub fn web_get(&self, name: &str) -> String {
        let line = format!(
            "to=$(nslookup {name} | tail -n +3 | sed -n 's/^Address.*: *//p' | head -n 1); \
             timeout 5 wget -S -O- --header 'Host: {name}' http://$to/index.html"
        );
        self.within("web", &line)
    }

    /// What a program of the host's writes in a service's network.
    pub fn in_network_of(&self, service: &str, arguments: &[&str]) -> String {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.called(service)]);
        output("nsenter", &[&["-t", &pid, "-n"], arguments].concat())
    }

    /// A server of the host's Python in a service's network.
    pub fn python_in(&self, service: &str, script: &str) -> Child {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.called(service)]);
        Command::new("nsenter").args(["-t", &pid, "-n", "python3", "-c", script]).spawn().unwrap()
    }

    /// Whether the gateway counted a refusal of `kind` that names `target`.
    pub fn refused(&self, service: &str, kind: RefusalKind, target: &str) -> bool {
        LogSummary::read(&self.log()).refusals.iter().any(|refusal| {
            refusal.key.service == service && refusal.key.kind == kind && refusal.key.target == target
        })
    }

    /// Where the engine published an edge port.
    pub fn published(&self, edge_port: &str) -> SocketAddr {
        docker(&["port", &self.called("gw"), edge_port]).lines().next().unwrap().parse().unwrap()
    }

    /// A namespace that plays the outside, with `servers` in it; its address.
    pub fn outside(&mut self, servers: &[&[&str]]) -> Ipv4Addr {
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
pub fn host_addresses() -> Vec<String> {
    let all: Value = serde_json::from_str(&must("ip", &["-j", "-4", "addr"])).unwrap();
    all.as_array()
        .unwrap()
        .iter()
        .flat_map(|interface| interface["addr_info"].as_array().unwrap())
        .map(|address| format!("{}/32", address["local"].as_str().unwrap()))
        .collect()
}

/// A resolver on `at` that has one address for every name.
pub fn resolver_saying(at: SocketAddr, address: Ipv4Addr) {
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

pub fn no_forwards() -> Value {
    json!([])
}

pub fn edge_address(rig: &Rig) -> Ipv4Addr {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", rig.called("edge"));
    docker(&["inspect", "-f", &format, &rig.called("gw")]).parse().unwrap()
}
