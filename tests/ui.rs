//! `ui`: the page, what it shows, what its buttons do, and who is let in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Session, World, eventually};

const SPEC: &str = r#"
services:
  web:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir /www; echo web is up; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: ["80"]
    volumes: ["data:/data"]
volumes: { data: {} }
"#;

/// A page that is served.
struct Page {
    address: SocketAddr,
    token: String,
    _session: Session,
}

impl Page {
    fn of(world: &World) -> Self {
        let mut session = world.spawn(["ui"]);
        session.says("http://127.0.0.1:");
        let mut url = String::new();
        eventually("the whole address is there", || {
            url = session.stdout();
            url.ends_with('\n')
        });
        let rest = url.trim().strip_prefix("http://").unwrap();
        let (address, token) = rest.split_once('/').unwrap();
        let token = token.trim_end_matches('/').to_owned();
        Self { address: address.parse().unwrap(), token, _session: session }
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut answer = String::new();
        self.send(method, path, headers, body).read_to_string(&mut answer).unwrap();
        let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    fn host(&self) -> String {
        format!("Host: {}\r\n", self.address)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", &format!("/{}/{path}", self.token), &self.host(), "")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let headers = format!("{}X-Sandbox: 1\r\n", self.host());
        self.ask("POST", &format!("/{}/{path}", self.token), &headers, &body.to_string())
    }

    fn sandboxes(&self) -> Value {
        let (status, answer) = self.get("api/sandboxes");
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

#[test]
fn the_page_is_whole_in_itself_and_tells_the_browser_so() {
    let world = World::new();
    let page = Page::of(&world);

    let (status, answer) = page.get("");

    assert_eq!(status, 200);
    assert!(answer.contains("default-src 'none'") && answer.contains("frame-ancestors 'none'"), "{answer}");
    let foreign = ["src=\"http", "href=\"http", "@import", "url(http"];
    assert!(foreign.iter().all(|part| !answer.contains(part)), "{answer}");
    assert_eq!(page.sandboxes(), json!([]));
}

#[test]
fn it_shows_services_with_state_and_address_and_the_time_left() {
    let world = World::with_spec(SPEC);
    world.sandbox(["up", "-d", "--ttl", "2h"]).success();
    let page = Page::of(&world);

    let shown = &page.sandboxes()[0];

    assert_eq!(shown["name"], world.name());
    assert_eq!(shown["services"][0]["service"], "web");
    let port = world.address("web", 80).port();
    assert_eq!(shown["services"][0]["endpoints"][0]["port"], port);
    assert!(shown["ends"].is_string(), "{shown}");
}

#[test]
fn its_buttons_extend_reset_and_destroy() {
    let world = World::with_spec(SPEC);
    world.sandbox(["up", "-d", "--ttl", "2h"]).success();
    world.in_container("web", &["touch", "/data/mark"]).success();
    let page = Page::of(&world);
    let ends = page.sandboxes()[0]["ends"].clone();

    let (status, answer) = page.post("api/extend", &json!({ "name": world.name(), "minutes": 60 }));
    assert_eq!(status, 200, "{answer}");
    assert_ne!(page.sandboxes()[0]["ends"], ends);

    let (status, answer) = page.post("api/reset", &json!({ "name": world.name() }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(world.in_container("web", &["ls", "/data"]).text(), "");

    let (status, answer) = page.post("api/down", &json!({ "name": world.name() }));
    assert_eq!(status, 200, "{answer}");
    world.engine().is_clean();
    assert_eq!(page.sandboxes(), json!([]));
}

#[test]
fn a_log_is_told_line_by_line_as_it_is_written() {
    let world = World::with_spec(SPEC);
    world.up();
    let page = Page::of(&world);
    let path = format!("/{}/api/logs?name={}&service=web", page.token, world.name());
    let mut lines = BufReader::new(page.send("GET", &path, &page.host(), "")).lines().map_while(Result::ok);

    assert!(lines.any(|line| line.starts_with("data: ") && line.contains("web is up")));
    world.in_container("web", &["sh", "-c", "echo one more line > /proc/1/fd/1"]).success();
    assert!(lines.any(|line| line.contains("one more line")));
}

#[test]
fn without_the_address_nothing_is_read_or_changed() {
    let world = World::with_spec(SPEC);
    world.up();
    let page = Page::of(&world);
    let (host, down) = (page.host(), format!("/{}/api/down", page.token));
    let body = json!({ "name": world.name() }).to_string();

    assert_eq!(page.ask("GET", "/", &host, "").0, 404);
    assert_eq!(page.ask("GET", &format!("/{}/", "0".repeat(32)), &host, "").0, 404);
    assert_eq!(page.ask("GET", &format!("/{}/", page.token), "Host: evil.example\r\n", "").0, 421);
    assert_eq!(page.ask("POST", &down, &host, &body).0, 403);
    let foreign = format!("{host}X-Sandbox: 1\r\nOrigin: http://evil.example\r\n");
    assert_eq!(page.ask("POST", &down, &foreign, &body).0, 403);

    assert!(world.engine().runs(&world.container("web")));
}

#[test]
fn what_cannot_be_done_is_told_with_its_cause() {
    let world = World::new();
    let page = Page::of(&world);

    let (status, answer) = page.post("api/down", &json!({ "name": "nobody" }));

    assert_eq!(status, 404, "{answer}");
    assert!(answer.contains("nobody"), "{answer}");
}
