//! The floor: the objects of the benchmark's spec, made by nothing but the engine's API, with as many calls at once as the
//! dependencies of the services allow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Pause between two tries to reach a service.
const RETRY: Duration = Duration::from_millis(3);
const SUBNET: [u8; 3] = [10, 217, 255];
/// The last number of each container's address.
const DB: u8 = 3;
const CACHE: u8 = 4;
const WEB: u8 = 5;

/// The engine that the environment names.
pub fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    Path::new(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock")).to_owned()
}

/// Sends one request and fails the benchmark unless the engine accepts it.
pub fn call(method: &str, path: &str, body: &Value) {
    let (status, answer) = request(method, path, body);
    assert!((200..300).contains(&status), "{method} {path}: {answer}");
}

fn request(method: &str, path: &str, body: &Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = UnixStream::connect(socket()).unwrap();
    write!(
        stream,
        "{method} /v1.41{path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

/// The objects of one floor; removed on drop.
pub struct Floor {
    name: String,
}

impl Floor {
    /// Makes the network for published ports, which all sandboxes share.
    pub fn new(name: &str) -> Self {
        let floor = Self { name: format!("bench-{name}") };
        let edge = json!({"Name": floor.object("edge"), "Options": {"com.docker.network.bridge.enable_icc": "false"}});
        call("POST", "/networks/create", &edge);
        floor
    }

    fn object(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// The volume that [`Self::up`] gives to the database.
    pub fn volume(&self) -> String {
        self.object("data")
    }

    /// From nothing to an answer of the web service.
    pub fn up(&self) -> Duration {
        let start = Instant::now();
        let network = json!({
            "Name": self.object("net"), "Internal": true,
            "IPAM": {"Config": [{"Subnet": format!("{}/28", address(0))}]},
        });
        call("POST", "/networks/create", &network);
        thread::scope(|scope| {
            let gateway = scope.spawn(|| {
                self.create("gateway", &self.gateway());
                let address = json!({"IPAMConfig": {"IPv4Address": address(2).to_string()}});
                let connect = json!({"Container": self.object("gateway"), "EndpointConfig": address});
                call("POST", &format!("/networks/{}/connect", self.object("net")), &connect);
                self.start("gateway");
            });
            let web = scope.spawn(|| self.create("web", &self.service("web", "sbx-test/web", WEB)));
            let cache = scope.spawn(|| {
                self.create("cache", &self.service("cache", "sbx-test/redis", CACHE));
                self.start("cache");
                until(|| TcpStream::connect((address(CACHE), 6379)).is_ok());
            });
            self.create("db", &self.service("db", "sbx-test/postgres", DB));
            self.start("db");
            until(|| postgres_answers().unwrap_or(false));
            cache.join().unwrap();
            web.join().unwrap();
            self.start("web");
            until(|| web_answers().unwrap_or(false));
            gateway.join().unwrap();
        });
        start.elapsed()
    }

    /// From there to nothing.
    pub fn down(&self) -> Duration {
        let start = Instant::now();
        thread::scope(|scope| {
            for service in ["gateway", "web", "cache", "db"] {
                scope.spawn(move || {
                    let path = format!("/containers/{}?force=1&v=1", self.object(service));
                    call("DELETE", &path, &Value::Null);
                });
            }
        });
        call("DELETE", &format!("/networks/{}", self.object("net")), &Value::Null);
        call("DELETE", &format!("/volumes/{}", self.volume()), &Value::Null);
        start.elapsed()
    }

    fn create(&self, service: &str, body: &Value) {
        call("POST", &format!("/containers/create?name={}", self.object(service)), body);
    }

    fn start(&self, service: &str) {
        call("POST", &format!("/containers/{}/start", self.object(service)), &Value::Null);
    }

    fn gateway(&self) -> Value {
        json!({
            "Image": "sbx-test/busybox", "Cmd": ["sleep", "infinity"], "ExposedPorts": {"8080/tcp": {}},
            "HostConfig": {
                "NetworkMode": self.object("edge"),
                "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            },
        })
    }

    fn service(&self, name: &str, image: &str, number: u8) -> Value {
        let net = self.object("net");
        let binds =
            if name == "db" { vec![format!("{}:/var/lib/postgresql/data", self.volume())] } else { vec![] };
        json!({
            "Image": image, "Env": ["POSTGRES_DB=shop", "POSTGRES_PASSWORD=secret", "DB_PASSWORD=secret"],
            "HostConfig": {"NetworkMode": net, "Binds": binds},
            "NetworkingConfig": {"EndpointsConfig": {
                net: {"Aliases": [name], "IPAMConfig": {"IPv4Address": address(number).to_string()}},
            }},
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for service in ["gateway", "web", "cache", "db"] {
            request("DELETE", &format!("/containers/{}?force=1&v=1", self.object(service)), &Value::Null);
        }
        for network in ["net", "edge"] {
            request("DELETE", &format!("/networks/{}", self.object(network)), &Value::Null);
        }
        request("DELETE", &format!("/volumes/{}?force=1", self.volume()), &Value::Null);
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(SUBNET[0], SUBNET[1], SUBNET[2], number)
}

fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_mins(1), "a service of the floor does not answer");
        thread::sleep(RETRY);
    }
}

/// What `pg_isready` asks: the response to a start-up message is a request for authentication.
fn postgres_answers() -> std::io::Result<bool> {
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
    message.extend(b"user\0postgres\0\0");
    message[3] = u8::try_from(message.len()).unwrap();
    let mut stream = TcpStream::connect((address(DB), 5432))?;
    stream.write_all(&message)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}

fn web_answers() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((address(WEB), 8080))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_whitespace().nth(1) == Some("200"))
}
