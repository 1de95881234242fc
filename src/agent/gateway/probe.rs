//! Readiness probes from inside the sandbox: every 20 ms at first, every 50 ms later.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::context::Serving;

/// The pause between two attempts at first.
const SHORTEST: Duration = Duration::from_millis(20);
/// The pause between two attempts later.
const LONGEST: Duration = Duration::from_millis(50);
/// How long the short pause is used.
const SHORT_FOR: Duration = Duration::from_secs(2);
/// A connection attempt that takes longer than this is repeated: its first packet was lost.
const CONNECT_FOR: Duration = Duration::from_secs(1);
/// How long an HTTP answer may take.
const ANSWER_FOR: Duration = Duration::from_secs(10);
/// The longest head of an HTTP answer, in bytes.
const MOST_HEAD_BYTES: usize = 64 * 1024;

/// A probe and its timeout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// A service of the configuration, or an address.
    pub target: String,
    /// The network to reach it by; any network if absent.
    #[serde(default)]
    pub network: Option<String>,
    /// The port.
    pub port: u16,
    /// The HTTP request to send; without one, a TCP connection is enough.
    #[serde(default)]
    pub http: Option<HttpProbe>,
    /// The timeout, in milliseconds.
    pub timeout_ms: u64,
}

/// The request of an HTTP probe, and the statuses that count as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// The path with its query, beginning with a slash.
    pub path: String,
    /// The statuses that count as ready; 200 to 399 if empty.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Headers to send; a `Host` header replaces the default one.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// Probes until the service is ready. Calls `tell` with each new result; on a timeout returns the last one as an error.
pub async fn until_ready(serving: &Serving, probe: &Probe, tell: impl Fn(&str)) -> Result<(), String> {
    let started = Instant::now();
    let deadline = started + Duration::from_millis(probe.timeout_ms);
    let mut last = String::new();
    loop {
        let tried = Instant::now();
        let result = tokio::time::timeout_at(deadline, try_once(serving, probe)).await;
        let said = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(said)) => said,
            Err(_elapsed) => return Err(if last.is_empty() { "no answer".to_owned() } else { last }),
        };
        if said != last {
            tell(&said);
            last = said;
        }
        let pause = if started.elapsed() < SHORT_FOR { SHORTEST } else { LONGEST };
        if tried + pause >= deadline {
            return Err(last);
        }
        sleep_until(tried + pause).await;
    }
}

async fn try_once(serving: &Serving, probe: &Probe) -> Result<(), String> {
    let at = locate(serving, probe).await.map_err(|error| said(&error))?;
    let mut stream = match timeout(CONNECT_FOR, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(said(&error)),
        Err(_elapsed) => return Err("no answer to a connection".to_owned()),
    };
    let Some(http) = &probe.http else { return Ok(()) };
    let status = match timeout(ANSWER_FOR, ask_status(&mut stream, http, probe)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(said(&error)),
        Err(_elapsed) => return Err("connected, but no answer".to_owned()),
    };
    let counts =
        if http.status.is_empty() { (200..400).contains(&status) } else { http.status.contains(&status) };
    if counts { Ok(()) } else { Err(status.to_string()) }
}

async fn locate(serving: &Serving, probe: &Probe) -> io::Result<SocketAddr> {
    if let Ok(address) = probe.target.parse() {
        return Ok(SocketAddr::new(address, probe.port));
    }
    serving.roster.locate_port(&probe.target, probe.network.as_deref(), probe.port).await
}

async fn ask_status(stream: &mut TcpStream, http: &HttpProbe, probe: &Probe) -> io::Result<u16> {
    let mut head = format!("GET {} HTTP/1.1\r\n", http.path);
    if !http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {}:{}\r\n", probe.target, probe.port);
    }
    head += "User-Agent: sandbox\r\nAccept: */*\r\nConnection: close\r\n";
    for (name, value) in &http.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await?;
    read_status(stream).await
}

/// Returns the status of the final answer, after any 1xx answers.
async fn read_status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let before = bytes.len();
        stream.read_buf(&mut bytes).await?;
        let not_http = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
        let line_end = bytes.iter().position(|byte| *byte == b'\n');
        if let Some(line_end) = line_end {
            let line = String::from_utf8_lossy(&bytes[..line_end]);
            let mut words = line.split_ascii_whitespace();
            let version = words.next().unwrap_or_default();
            let status = words.next().and_then(|word| word.parse().ok());
            let status: u16 = status.filter(|_| version.starts_with("HTTP/1.")).ok_or_else(not_http)?;
            if !(100..200).contains(&status) || status == 101 {
                return Ok(status);
            }
            match find(&bytes, b"\r\n\r\n") {
                Some(end) => {
                    bytes.drain(..end + 4);
                    if !bytes.is_empty() {
                        continue;
                    }
                }
                None if bytes.len() > MOST_HEAD_BYTES => return Err(not_http()),
                None => {}
            }
        } else if bytes.len() > MOST_HEAD_BYTES {
            return Err(not_http());
        }
        if bytes.len() == before {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
        }
    }
}

fn find(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes.windows(sought.len()).position(|window| window == sought)
}

/// Formats an error in its well-known words.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the container".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, net::Ipv4Addr};

    use tokio::net::TcpListener;

    use super::*;
    use crate::agent::gateway::config::{EgressPolicy, GatewayConfig};

    fn serving() -> std::sync::Arc<Serving> {
        Serving::new(GatewayConfig {
            sandbox: "t".into(),
            networks: vec![],
            edge: None,
            forwards: vec![],
            egress: EgressPolicy::Deny,
            services: vec![],
            forbidden: vec![],
            resolver: None,
        })
    }

    fn probe(port: u16, http: Option<HttpProbe>) -> Probe {
        Probe { target: Ipv4Addr::LOCALHOST.to_string(), network: None, port, http, timeout_ms: 5000 }
    }

    /// A server that sends the next of `answers` on each connection.
    async fn server(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn an_http_probe_tells_each_status_until_the_one_that_counts() {
        let port = server(&[
            "HTTP/1.1 503 Busy\r\n\r\n",
            "",
            "SSH-2.0\r\n",
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ])
        .await;
        let http = HttpProbe { path: "/healthz".into(), status: vec![], headers: vec![] };
        let heard = RefCell::new(Vec::new());
        until_ready(&serving(), &probe(port, Some(http)), |last| heard.borrow_mut().push(last.to_owned()))
            .await
            .unwrap();
        assert_eq!(*heard.borrow(), ["503", "closed without an answer", "the answer is not HTTP"]);
    }

    /// Measures how long it takes until an open port is noticed.
    async fn seen_after() -> Duration {
        let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = reserved.local_addr().unwrap();
        drop(reserved);
        let opened = std::cell::Cell::new(None);
        let opening = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let listener = TcpListener::bind(at).await.unwrap();
            opened.set(Some(Instant::now()));
            std::future::pending::<()>().await;
            drop(listener);
        };
        let (serving, probe) = (serving(), probe(at.port(), None));
        let heard = RefCell::new(Vec::new());
        tokio::select! {
            () = opening => unreachable!("never ends"),
            ready = until_ready(&serving, &probe, |last| heard.borrow_mut().push(last.to_owned())) => ready.unwrap(),
        }
        assert_eq!(*heard.borrow(), ["connection refused"]);
        opened.get().unwrap().elapsed()
    }

    #[tokio::test]
    async fn a_port_that_opens_is_seen_within_sixty_milliseconds() {
        // One fast attempt is enough: a slow prober would delay all of them, a busy machine only some.
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.push(seen_after().await);
            if seen.last().is_some_and(|after| *after < Duration::from_millis(60)) {
                return;
            }
        }
        panic!("{seen:?}");
    }

    #[tokio::test]
    async fn a_probe_gives_up_with_the_last_result() {
        let at = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let probe = Probe { timeout_ms: 80, ..probe(at.port(), None) };
        assert_eq!(until_ready(&serving(), &probe, |_| ()).await.unwrap_err(), "connection refused");
    }
}
