//! A client of `sandbox lend`, line by line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Session, World};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// A `lend` and its client on standard input and output.
pub struct Borrower {
    session: Session,
    heard: usize,
    /// The first line.
    pub ready: Value,
}

/// A database that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub id: Value,
    pub url: String,
    pub env: Value,
}

impl From<Value> for Taken {
    fn from(reply: Value) -> Self {
        let taken = &reply["taken"];
        let url = taken["url"].as_str().unwrap_or_else(|| panic!("no url: {reply}")).to_owned();
        Self { id: taken["id"].clone(), url, env: taken["env"].clone() }
    }
}

impl Taken {
    /// Runs a statement with `psql` of this machine and returns its rows.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    pub fn try_sql(&self, statement: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        let output = command.args(["-X", "-q", "-A", "-t", &self.url, "-c", statement]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The host port.
    pub fn port(&self) -> u16 {
        let url = self.url.split('/').nth(2).unwrap();
        url.rsplit(':').next().unwrap().parse().unwrap()
    }
}

impl Borrower {
    /// Starts `lend` and waits until it is ready.
    #[track_caller]
    pub fn start(world: &World, options: &[&str]) -> Self {
        let session = world.spawn(["lend"].iter().chain(options));
        let mut borrower = Self { session, heard: 0, ready: Value::Null };
        borrower.ready = borrower.hear()["ready"].clone();
        assert!(borrower.ready.is_object(), "the first line is another");
        borrower
    }

    /// Sends a line.
    pub fn say(&mut self, line: &Value) {
        self.session.write(&format!("{line}\n"));
    }

    /// The next line.
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        let start = Instant::now();
        loop {
            let text = self.session.stdout();
            let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
            if let Some(line) = whole.lines().nth(self.heard) {
                self.heard += 1;
                return serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
            let running = self.session.is_running();
            assert!(running && start.elapsed() < PATIENCE, "no reply\n{text}\n{}", self.session.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes a database, however long it waits.
    #[track_caller]
    pub fn take(&mut self) -> Taken {
        self.say(&json!({ "take": {} }));
        loop {
            let reply = self.hear();
            if reply.get("waiting").is_none() {
                return reply.into();
            }
        }
    }

    #[track_caller]
    pub fn give(&mut self, taken: &Taken) {
        self.say(&json!({ "give": { "id": taken.id } }));
        assert_eq!(self.hear(), json!({ "given": { "id": taken.id } }));
    }

    /// Closes standard input and waits for the end.
    pub fn close(mut self) {
        self.session.close_stdin();
        self.session.wait(Duration::from_mins(1)).success();
    }

    pub fn kill(mut self) {
        self.session.kill();
    }
}

/// A client on a socket.
pub struct Visitor {
    stream: BufReader<UnixStream>,
}

impl Visitor {
    /// Connects, and reads the first line.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut visitor = Self { stream: BufReader::new(stream) };
        assert!(visitor.hear()["ready"].is_object());
        visitor
    }

    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.stream.get_mut(), "{request}").unwrap();
        loop {
            let reply = self.hear();
            if reply.get("waiting").is_none() {
                return reply;
            }
        }
    }

    /// Takes a database with this name.
    pub fn take(&mut self, id: &str) -> Taken {
        self.ask(&json!({ "take": { "id": id } })).into()
    }
}
