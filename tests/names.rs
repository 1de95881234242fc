//! What a list of names lets out, from the spec to a server outside: on an engine of its own, with a resolver of ours.
//!
//! Needs root: the outside is a network namespace.

mod support;

use std::process::{Command, Stdio};

use support::second::SecondEngine;
use support::{Session, eventually};

const SPEC: &str = "
egress: [api.example.com, '*.cdn.example.com', inward.example.com]
services:
  app: { image: sbx-test/python, command: [sleep, '600'], stop_signal: SIGKILL }
";

/// Where every name leads, but for those that lead to the engine's machine.
const OUTSIDE: &str = "198.19.0.1";

const RESOLVER: &str = "
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(('172.17.0.1', 53))
while True:
    question, client = here.recvfrom(512)
    end = question.index(b'\\0', 12) + 5
    address = '172.17.0.1' if b'inward' in question else '198.19.0.1'
    answer = question[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]) + question[12:end]
    here.sendto(answer + bytes([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]) + socket.inet_aton(address), client)
";

/// Says `WELCOME` and which host was asked for.
const SERVER: &str = "
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'WELCOME ' + self.headers['Host'].encode())
http.server.ThreadingHTTPServer(('', 80), Page).serve_forever()
";

/// Asks an address (or the name's own) for a host's page and prints what comes of it.
const ASK: &str = "
import http.client, sys
address, host = sys.argv[1:]
try:
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    connection.request('GET', '/', headers={'Host': host})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except OSError as error:
    print(error)
";

/// A namespace that plays the outside of an engine, with a server in it; and the resolver.
struct Outside {
    namespace: String,
    _servers: Vec<Session>,
}

impl Outside {
    fn of(engine: &SecondEngine) -> Self {
        let namespace = format!("out{:08x}", rand::random::<u32>());
        let (near, far) = ("198.19.0.0/31", format!("{OUTSIDE}/31"));
        let ip = |arguments: &str| {
            engine.in_its_network(&["sh", "-ec", &arguments.replace("NS", &namespace)]).success();
        };
        ip("ip netns add NS; ip link add out1 type veth peer name out0 netns NS");
        ip(&format!("ip addr add {near} dev out1; ip link set out1 up"));
        ip(&format!("ip -n NS addr add {far} dev out0; ip -n NS link set out0 up"));
        let served = ["ip", "netns", "exec", &namespace, "python3", "-c", SERVER];
        let servers = vec![
            engine.starts_in_its_network(&served),
            engine.starts_in_its_network(&["python3", "-c", RESOLVER]),
        ];
        Self { namespace, _servers: servers }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let deleted =
            Command::new("ip").args(["netns", "del", &self.namespace]).stderr(Stdio::null()).status();
        assert!(deleted.is_ok(), "`ip` is there");
    }
}

#[test]
fn a_listed_name_is_reached_and_nothing_that_only_looks_like_it() {
    let engine = SecondEngine::start(&["--", "--dns", "172.17.0.1"], &["sbx-test/python"]);
    let _outside = Outside::of(&engine);
    let world = engine.world(SPEC);
    world.up();
    let ask = |address: &str, host: &str| {
        world.in_container("app", &["python3", "-c", ASK, address, host]).success().stdout
    };

    eventually("the listed name answers", || {
        ask("api.example.com", "api.example.com").contains("200 WELCOME api.example.com")
    });
    let below = ask("a.b.cdn.example.com", "a.b.cdn.example.com");
    assert!(below.contains("200 WELCOME a.b.cdn.example.com"), "{below}");
    for (address, host) in [
        ("other.example.com", "other.example.com"),
        ("cdn.example.com", "cdn.example.com"),
        // Forged: the connection is to a listed name's address, or to the server's own.
        ("api.example.com", "other.example.com"),
        (OUTSIDE, "api.example.com"),
        // It resolves to the engine's machine.
        ("inward.example.com", "inward.example.com"),
    ] {
        let said = ask(address, host);
        assert!(!said.contains("WELCOME"), "{host} at {address}: {said}");
    }
    eventually("the refusals are told", || {
        let told = world.sandbox(["egress"]).success().stdout;
        [r#"egress: ["other.example.com"]"#, r#"egress: ["cdn.example.com"]"#, "inward.example.com"]
            .iter()
            .all(|line| told.contains(line))
    });
    world.sandbox(["down"]).success();
}
