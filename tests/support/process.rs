//! Runs commands, in the foreground with a time limit or in the background.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{PATIENCE, Record, within};

/// Time limit of a command.
const LIMIT: Duration = Duration::from_mins(3);

/// A command that has not been started.
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
    limit: Duration,
    record: Record,
}

impl Run {
    pub(super) fn new(command: Command, record: Record) -> Self {
        Self { command, input: None, limit: LIMIT, record }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn current_dir(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub fn stdin(mut self, input: impl AsRef<[u8]>) -> Self {
        self.input = Some(input.as_ref().to_vec());
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command to its end; fails the test at the time limit.
    #[track_caller]
    pub fn run(mut self) -> Outcome {
        let limit = self.limit;
        let input = self.input.take();
        if input.is_none() {
            self.command.stdin(Stdio::null());
        }
        let mut session = self.start(input.is_some());
        if let (Some(mut pipe), Some(input)) = (session.stdin.take(), input) {
            // A command need not read all of its input.
            let _ = pipe.write_all(&input);
        }
        session.wait(limit)
    }

    /// Starts the command with pipes and keeps its stdin open.
    pub fn spawn(self) -> Session {
        self.start(true)
    }

    fn start(mut self, piped_input: bool) -> Session {
        if piped_input {
            self.command.stdin(Stdio::piped());
        }
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // A background job of a shell ignores Ctrl-C, and so would all commands of the tests.
        // SAFETY: signal is async-signal-safe and touches no memory of the parent's.
        unsafe {
            self.command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let line = line_of(&self.command);
        let _ = writeln!(self.record.lock().unwrap(), "$ {line}");
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
        let stdout = Heard::from(child.stdout.take().unwrap());
        let stderr = Heard::from(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Session {
            child,
            line,
            stdin,
            stdout,
            stderr,
            record: self.record,
            recorded: false,
            began: Instant::now(),
        }
    }
}

/// The command as a user would type it.
pub(super) fn line_of(command: &Command) -> String {
    let program =
        std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    command.get_args().fold(program.into_owned(), |line, argument| {
        let argument = argument.to_string_lossy();
        let quoted = shlex::try_quote(&argument).unwrap_or_else(|_| "?".into());
        format!("{line} {quoted}")
    })
}

/// Whether a signal has stopped a process.
pub(super) fn is_stopped(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The output of a pipe so far.
pub(super) struct Heard {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Heard {
    pub(super) fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    pub(super) fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// The complete output. The wait is limited, because a grandchild may hold the pipe open.
    pub(super) fn drained(&mut self) -> String {
        let start = Instant::now();
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            if start.elapsed() > Duration::from_secs(2) {
                return self.so_far();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.so_far()
    }
}

/// A command in the background. It is killed on drop.
pub struct Session {
    child: Child,
    line: String,
    stdin: Option<ChildStdin>,
    stdout: Heard,
    stderr: Heard,
    record: Record,
    recorded: bool,
    began: Instant,
}

impl Session {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Whether a signal has stopped the command.
    pub fn is_stopped(&self) -> bool {
        is_stopped(self.child.id())
    }

    /// Waits until stdout or stderr contains a text; fails at once if the command ends without it.
    #[track_caller]
    pub fn says(&mut self, text: &str) -> &mut Self {
        let start = Instant::now();
        loop {
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return self;
            }
            if !self.is_running() {
                let (out, err) = (self.stdout.drained(), self.stderr.drained());
                assert!(
                    out.contains(text) || err.contains(text),
                    "`{}` ended and never said {text:?}\nstdout:\n{out}\nstderr:\n{err}",
                    self.line
                );
                return self;
            }
            assert!(
                start.elapsed() < LIMIT,
                "`{}` does not say {text:?}\nstdout:\n{}\nstderr:\n{}",
                self.line,
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to the command only, not to its process group.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two integers; the child is ours and not yet reaped.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    pub fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }

    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().expect("stdin is open").write_all(text.as_bytes()).unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for the command's end; fails the test at the time limit.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > limit {
                let line = self.line.clone();
                let (out, err) = (self.stdout(), self.stderr());
                panic!("`{line}` did not end within {limit:?}\nstdout:\n{out}\nstderr:\n{err}");
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        self.outcome(status)
    }

    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        let outcome = Outcome {
            line: self.line.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.drained(),
            stderr: self.stderr.drained(),
            took: self.began.elapsed(),
        };
        let _ = writeln!(self.record.lock().unwrap(), "{outcome}");
        self.recorded = true;
        outcome
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // SAFETY: kill takes two integers; the group is the child's own.
            unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGKILL) };
        }
        if let (false, Ok(status)) = (self.recorded, self.child.wait()) {
            self.outcome(status);
        }
    }
}

/// The exit status and output of a command.
#[derive(Debug)]
pub struct Outcome {
    pub line: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Fails the test unless the command exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        self
    }

    /// Fails the test unless stdout contains a text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected {text:?} on stdout\n{self}");
        self
    }

    /// Fails the test unless stderr contains a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected {text:?} on stderr\n{self}");
        self
    }

    /// Fails the test unless stdout is one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{self}"))
    }

    /// Stdout without leading and trailing white space.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        writeln!(f, "`{}`: {end} after {:.1?}", self.line, self.took)?;
        writeln!(f, "--- stdout\n{}", self.stdout)?;
        writeln!(f, "--- stderr\n{}", self.stderr)
    }
}

/// Waits until a process has ended.
#[track_caller]
pub fn gone(pid: u32) {
    within(PATIENCE, "the process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}
