//! Support for the end-to-end tests: an isolated environment for each test, and access to the engine.
//!
//! A [`World`] has its own folder, HOME, cleared environment, scope and sandbox name, so that tests run concurrently
//! and do not affect the user's own sandboxes. On drop it removes everything, even after a panic; in that case it
//! keeps the commands and their output under `target/test-failures/`.
#![expect(dead_code, reason = "each test uses a part")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine;
mod listing;
mod loops;
mod process;
mod remains;
pub mod second;
mod terminal;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use engine::Engine;
use listing::Listing;
pub use process::{Outcome, Run, Session};
pub use terminal::Terminal;

/// The image that most tests use: two megabytes, with every applet of busybox.
pub const BUSYBOX: &str = "sbx-test/busybox";
pub const POSTGRES: &str = "sbx-test/postgres";
pub const REDIS: &str = "sbx-test/redis";
pub const NGINX: &str = "sbx-test/nginx";
pub const MARIADB: &str = "sbx-test/mariadb";
pub const WEB: &str = "sbx-test/web";

/// Timeout of a condition. Much longer than needed, because machines may be under load.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The commands and output of a test, kept if it fails.
pub type Record = Arc<Mutex<String>>;

/// The isolated environment of one test.
pub struct World {
    folder: tempfile::TempDir,
    id: String,
    environment: Vec<(String, String)>,
    record: Record,
}

impl World {
    /// Creates a world with an empty project folder.
    pub fn new() -> Self {
        let id = format!("t{:08x}", rand::random::<u32>());
        let folder = tempfile::Builder::new().prefix(&format!("sandbox-{id}-")).tempdir().unwrap();
        for part in ["home", "run", "project"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        Self { folder, id, environment: Vec::new(), record: Record::default() }
    }

    /// Creates a world whose project contains `sandbox.yaml`.
    pub fn with_spec(spec: &str) -> Self {
        let world = Self::new();
        world.spec(spec);
        world
    }

    /// Sets an environment variable for all later commands.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Writes `sandbox.yaml`.
    pub fn spec(&self, text: &str) -> &Self {
        self.file("sandbox.yaml", text)
    }

    /// Writes a file of the project.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The name of this world's sandbox, and of its scope.
    pub fn name(&self) -> &str {
        &self.id
    }

    /// The container name of a service.
    pub fn container(&self, service: &str) -> String {
        format!("sbx-{}.{service}", self.id)
    }

    /// The engine's objects of this world.
    pub fn engine(&self) -> Engine {
        Engine::new(&self.id, self.outer_engine())
    }

    /// Prepares `sandbox ARGS…`.
    pub fn command<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        Run::new(self.bare_command(arguments), self.record.clone())
    }

    /// Runs `sandbox ARGS…` and waits for its end.
    pub fn sandbox<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        self.command(arguments).run()
    }

    /// Starts `sandbox ARGS…` with pipes in the background.
    pub fn spawn<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Session {
        self.command(arguments).spawn()
    }

    /// Starts `sandbox ARGS…` on a new terminal in the background.
    pub fn terminal<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Terminal {
        let mut command = self.bare_command(arguments);
        command.env("TERM", "xterm-256color");
        Terminal::start(command, self.record.clone())
    }

    /// Prepares a command of the host in the project's folder.
    pub fn host(&self, program: &str, arguments: &[&str]) -> Run {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.project());
        Run::new(command, self.record.clone())
    }

    /// Starts a command of the host on a new terminal.
    pub fn on_terminal(&self, program: &str, arguments: &[&str]) -> Terminal {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.project());
        Terminal::start(command, self.record.clone())
    }

    /// Starts the sandbox detached; fails the test if that fails.
    pub fn up(&self) -> Outcome {
        self.sandbox(["up", "-d"]).success()
    }

    /// The address of a service's published port, from `sandbox port`.
    pub fn address(&self, service: &str, port: u16) -> SocketAddr {
        let outcome = self.sandbox(["port", service, &port.to_string()]).success();
        outcome.stdout.trim().parse().unwrap_or_else(|_| panic!("not an address: {}", outcome.stdout))
    }

    /// Runs a command in a service's container through the engine's own client.
    pub fn in_container(&self, service: &str, command: &[&str]) -> Outcome {
        let container = self.container(service);
        let arguments: Vec<&str> = ["exec", &container].into_iter().chain(command.iter().copied()).collect();
        self.engine().docker(&arguments)
    }

    /// Adds a line to the record of the test.
    pub fn note(&self, text: &str) {
        let _ = writeln!(self.record.lock().unwrap(), "# {text}");
    }

    fn outer_engine(&self) -> Option<String> {
        let own = self.environment.iter().find(|(name, _)| name == "DOCKER_HOST");
        own.map(|(_, value)| value.clone()).or_else(|| std::env::var("DOCKER_HOST").ok())
    }

    fn bare_command<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        command.current_dir(self.project()).env_clear();
        for name in ["PATH", "DOCKER_HOST", "SANDBOX_STORAGE", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.folder.path().join("run"));
        command.env("SANDBOX_SCOPE", &self.id).env("SANDBOX_NAME", &self.id);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn keep_record(&self) {
        let test = std::thread::current().name().unwrap_or("test").replace("::", ".");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-failures");
        let _ = fs::create_dir_all(&folder);
        let path = folder.join(format!("{test}.txt"));
        let text = format!(
            "project: {}\nscope and name: {}\n\n{}\n\n{}",
            self.project().display(),
            self.id,
            self.record.lock().unwrap(),
            self.engine().portrait()
        );
        if fs::write(&path, text).is_ok() {
            let _ = writeln!(std::io::stderr(), "what was run and said is kept in {}", path.display());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_record();
        }
        remains::remove(&self.engine());
        self.remove_built_images();
    }
}

impl World {
    /// Removes images that were built for this world's folder.
    fn remove_built_images(&self) {
        let label = format!("label=dev.sandbox.folder={}", self.project().display());
        let engine = self.engine();
        for image in engine.docker(&["images", "-aq", "--filter", &label]).stdout.lines() {
            engine.docker(&["rmi", "-f", image]);
        }
    }
}

/// Waits until a condition holds; fails the test after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until a condition holds; fails the test after the given time.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "after {limit:?} still not so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends an HTTP GET request and returns the status and the body.
pub fn http_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Reads everything that a TCP server sends before it closes the connection.
pub fn tcp_read(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The Python interpreter with the packages of a file of the repository; `None` where they cannot be had, which fails
/// where everything must be tested.
pub fn python(requirements: &str) -> Option<PathBuf> {
    let mut command = Command::new(repository().join("fixtures/python"));
    let output = command.arg(repository().join(requirements)).output().expect("fixtures/python");
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(std::env::var_os("CI").is_none(), "no packages of {requirements}: {reason}");
    let _ = writeln!(std::io::stdout(), "skipped: no packages of {requirements}: {reason}");
    None
}

/// The root folder of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
