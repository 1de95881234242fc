//! A registry that lies, and a relay before a registry that does not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Listens on loopback and serves each connection in its own thread, which ends with the process at the latest.
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(stream));
        }
    });
    address
}

/// A registry that lies in a way that the repository names.
pub struct Fake {
    address: String,
    leaked: Arc<AtomicBool>,
}

impl Fake {
    pub fn start() -> Self {
        let leaked = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&leaked);
        let address = serve(move |stream| answer(stream, &told));
        Self { address, leaked }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn saw_credentials_elsewhere(&self) -> bool {
        self.leaked.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: TcpStream, leaked: &AtomicBool) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
        if request.first() == Some(&0x16) {
            // TLS, which this server does not speak.
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            return;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
    if path.starts_with("/elsewhere") && request.to_ascii_lowercase().contains("authorization:") {
        leaked.store(true, Ordering::Relaxed);
    }
    let repository = path.split('/').nth(2).unwrap_or_default().to_owned();
    // Whoever has refused the answer does not read it.
    let _ = if path.contains("/manifests/") {
        send_manifest(&mut stream, &repository)
    } else {
        send_blob(&mut stream, &repository, &path)
    };
    let _ = stream.shutdown(Shutdown::Both);
}

fn head(status: &str, headers: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n")
        .into_bytes()
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

/// An index with one chunk of 100 zeros in one pack.
fn index() -> Vec<u8> {
    let pack = [7u8; 100];
    let mut raw = b"sandbox-chunks-1".to_vec();
    for count in [1u32, 1, 1] {
        raw.extend_from_slice(&count.to_le_bytes());
    }
    raw.extend_from_slice(&Sha256::digest(pack));
    raw.extend_from_slice(&100u64.to_le_bytes());
    raw.extend_from_slice(blake3::hash(&[0; 100]).as_bytes());
    for number in [100u32, 0, 0, 100, 0] {
        raw.extend_from_slice(&number.to_le_bytes());
    }
    zstd::encode_all(raw.as_slice(), 1).unwrap()
}

fn send_manifest(stream: &mut TcpStream, repository: &str) -> std::io::Result<()> {
    if repository == "huge-manifest" {
        stream.write_all(&head("200 OK", "", 1 << 30))?;
        return endless(stream);
    }
    if repository == "token-elsewhere" {
        let challenge = "WWW-Authenticate: Bearer realm=\"http://192.0.2.1/token\"\r\n";
        return stream.write_all(&head("401 Unauthorized", challenge, 0));
    }
    let index = index();
    let (digest, size) = match repository {
        "wrong-index" => (sha256(b"other"), index.len() as u64),
        "huge-index" => (sha256(&index), 1 << 40),
        "bad-index" => (sha256(b"no index at all"), 15),
        "short-index" => (sha256(&index), index.len() as u64 + 50),
        _ => (sha256(&index), index.len() as u64),
    };
    let kind = "application/vnd.sandbox.snapshot";
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": format!("{kind}.v1"),
        "config": descriptor("application/vnd.oci.empty.v1+json", &sha256(b"{}"), 2),
        "layers": [
            descriptor(&format!("{kind}.index.v1+zstd"), &digest, size),
            descriptor(&format!("{kind}.pack.v1"), &sha256(&[7; 100]), 100),
        ],
    });
    if repository == "image" {
        manifest["artifactType"] = Value::Null;
    }
    let text = manifest.to_string();
    stream.write_all(&head("200 OK", "", text.len()))?;
    stream.write_all(text.as_bytes())
}

fn send_blob(stream: &mut TcpStream, repository: &str, path: &str) -> std::io::Result<()> {
    let to = |place: &str| head("307 Temporary Redirect", &format!("Location: {place}\r\n"), 0);
    match repository {
        "redirect-http" => return stream.write_all(&to("http://192.0.2.1/blob")),
        "redirect-private" => return stream.write_all(&to("https://127.0.0.1:1/elsewhere")),
        "redirect-loop" => return stream.write_all(&to(path)),
        _ => {}
    }
    let index = index();
    let blob = if path.ends_with(&sha256(&[7; 100])) {
        vec![7; 100]
    } else if repository == "bad-index" {
        b"no index at all".to_vec()
    } else {
        index
    };
    let range = format!("Content-Range: bytes 0-{}/{}\r\n", blob.len().max(1) - 1, blob.len());
    if repository == "endless-index" {
        let head = format!("HTTP/1.1 206 Partial Content\r\nConnection: close\r\n{range}\r\n");
        stream.write_all(head.as_bytes())?;
        return endless(stream);
    }
    stream.write_all(&head("206 Partial Content", &range, blob.len()))?;
    stream.write_all(&blob)
}

fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    loop {
        stream.write_all(&[b' '; 8192])?;
    }
}

/// What a relay does to connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Removes requests for parts.
    NoRanges,
    /// Ends each connection after this many bytes.
    Breaks(u64),
    /// Passes nothing on after this many bytes in all.
    Stops(u64),
}

struct State {
    behind: String,
    manner: Manner,
    passed: AtomicU64,
    connections: AtomicU64,
}

/// Passes connections on to a registry.
pub struct Relay {
    address: String,
    state: Arc<State>,
}

impl Relay {
    pub fn without_ranges(behind: &str) -> Self {
        Self::start(behind, Manner::NoRanges)
    }

    pub fn that_breaks_after(behind: &str, bytes: u64) -> Self {
        Self::start(behind, Manner::Breaks(bytes))
    }

    pub fn that_stops_after(behind: &str, bytes: u64) -> Self {
        Self::start(behind, Manner::Stops(bytes))
    }

    fn start(behind: &str, manner: Manner) -> Self {
        let (passed, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        let state = Arc::new(State { behind: behind.to_owned(), manner, passed, connections });
        let own = Arc::clone(&state);
        let address = serve(move |stream| pass(stream, &own));
        Self { address, state }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub fn has_stopped(&self) -> bool {
        matches!(self.state.manner, Manner::Stops(most) if self.state.passed.load(Ordering::Relaxed) >= most)
    }
}

fn pass(client: TcpStream, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(&state.behind) else { return };
    state.connections.fetch_add(1, Ordering::Relaxed);
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let own = Arc::clone(state);
    std::thread::spawn(move || copy(from_client, to_server, &own));
    copy(server, client, state);
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let (mut buffer, mut here) = (vec![0; 64 << 10], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        if state.manner == Manner::NoRanges
            && let Some(at) = bytes.windows(8).position(|name| name.eq_ignore_ascii_case(b"\r\nrange:"))
        {
            bytes[at + 2] = b'x';
        }
        here += length as u64;
        let all = state.passed.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
        match state.manner {
            Manner::Breaks(most) if here > most => break,
            Manner::Stops(most) if all > most => loop {
                std::thread::park();
            },
            _ => {}
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
