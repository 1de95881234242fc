//! Runs a command with a sandbox: on the host with the sandbox's addresses in its environment, or in a service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, host_environment};
use crate::engine::identity::{self, Scope};
use crate::engine::{ContainerState, Engine, Exec, StdStream};
use crate::report::ci::capture::Capture;
use crate::report::{self, Output};
use crate::session::exec::{self, Outcome, OutputTap};
use crate::session::inspect;
use crate::session::lifecycle::run::exit_code;
use crate::spec::{HostAccess, SandboxName, ServiceName};

/// Exit code of our own failures, as of `docker run`.
pub const OURS: u8 = 125;
/// Exit code for a command that is not executable.
const NOT_EXECUTABLE: i32 = 126;
/// Exit code for a command that was not found.
const NOT_FOUND: i32 = 127;
/// Exit code for a command that was stopped because its sandbox ended.
const STOPPED: i32 = 143;
/// How long a command on the host may take to exit then.
const LAST_WORDS: Duration = Duration::from_millis(700);

/// How long to wait for the end of a command's output once it has exited.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// The signal for a command whose output is no longer read.
pub const SIGPIPE: u8 = 13;

/// The sandbox for a command.
pub struct Target {
    /// Its engine.
    pub engine: Arc<dyn Engine>,
    /// Its scope.
    pub scope: Scope,
    /// Its name.
    pub name: SandboxName,
    /// Whether its spec may set variables on this machine, whatever its origin.
    pub access: HostAccess,
}

/// Where a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandTarget {
    /// On the host.
    Host,
    /// In the first container of this service.
    Service(ServiceName),
}

/// How a command is connected to our own input and output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Streams {
    /// To ours, with the terminal if there is one.
    #[default]
    Ours,
    /// Without input and terminal, so that each run is the same. All its output goes to our standard error.
    Unattended,
}

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// Whether it runs on the host or in a service.
    pub place: CommandTarget,
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Additional environment variables.
    pub environment: BTreeMap<String, String>,
    /// The working directory, if not the user's or the service's.
    pub folder: Option<PathBuf>,
    /// How it is connected to our input and output.
    pub streams: Streams,
    /// Also gets the command's output, for a report.
    pub capture: Option<Capture>,
}

impl Command {
    /// Creates a command without additional environment.
    pub fn new(place: CommandTarget, words: Vec<OsString>) -> Self {
        Self {
            place,
            words,
            environment: BTreeMap::new(),
            folder: None,
            streams: Streams::Ours,
            capture: None,
        }
    }

    /// Runs the command to its end and returns its exit code. Prints the cause on standard error if it cannot run.
    pub async fn run(self, target: &Target) -> i32 {
        self.run_until(target, CancellationToken::new()).await
    }

    /// Same as [`Command::run`], but stops the command when the token is cancelled.
    pub async fn run_until(self, target: &Target, stop: CancellationToken) -> i32 {
        match self.place.clone() {
            CommandTarget::Host => self.on_host(target, stop).await,
            CommandTarget::Service(service) => {
                let ended = stop.run_until_cancelled(self.in_service(target, &service)).await;
                ended.unwrap_or(STOPPED)
            }
        }
    }

    async fn on_host(self, target: &Target, stop: CancellationToken) -> i32 {
        let mut environment = target.environment().await;
        environment.extend(self.environment);
        let Some((program, arguments)) = self.words.split_first() else { return NOT_FOUND };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(environment);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if self.streams == Streams::Unattended {
            command.stdin(Stdio::null());
        }
        if self.capture.is_some() {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        match command.spawn() {
            Ok(mut child) => {
                let copying = self.capture.map(|capture| copy_output(&mut child, &capture, self.streams));
                let code = wait(child, stop).await.map_or(1, exit_code);
                if let Some(copying) = copying {
                    // A process that the command left behind may hold its output open.
                    let _ = tokio::time::timeout(LAST_OUTPUT, copying).await;
                }
                code
            }
            Err(error) => {
                let folder = self.folder.filter(|folder| !folder.is_dir());
                let place = folder.map(|folder| format!(" in `{}`", folder.display())).unwrap_or_default();
                Output::stderr().line(&format!("cannot run `{}`{place}: {error}", program.display()));
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                if missing { NOT_FOUND } else { NOT_EXECUTABLE }
            }
        }
    }

    async fn in_service(self, target: &Target, service: &ServiceName) -> i32 {
        let container = identity::service(target.name.as_str(), service.as_str(), 1);
        let words = self.words.into_iter().map(|word| word.to_string_lossy().into_owned());
        let attended = self.streams == Streams::Ours;
        let exec = Exec {
            tty: attended && std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
            stdin: attended,
            env: self.environment,
            workdir: self.folder.map(|folder| folder.to_string_lossy().into_owned()),
            ..Exec::new(words)
        };
        let command = exec.cmd.first().cloned().unwrap_or_default();
        let tap: OutputTap = match self.capture {
            Some(capture) => Box::new(move |stream, bytes| capture.push(stream, bytes)),
            None => Box::new(|_, _| {}),
        };
        let stdout = if attended { StdStream::Stdout } else { StdStream::Stderr };
        match exec::run_tapped(&target.engine, &container, exec, stdout, tap).await {
            Ok(Outcome::NotBegun(code)) => i32::from(not_begun(service.as_str(), &command, code)),
            Ok(Outcome::Exited(code)) => i32::try_from(code).unwrap_or(1),
            Ok(Outcome::Abandoned) => 130,
            Ok(Outcome::ReaderLeft) => 128 + i32::from(SIGPIPE),
            Err(error) => {
                Output::stderr().line(&format!("cannot run in `{service}`: {error}"));
                i32::from(OURS)
            }
        }
    }
}

impl Target {
    async fn environment(&self) -> BTreeMap<String, String> {
        let observed = inspect::sandbox(&*self.engine, &self.scope, &self.name).await.ok().flatten();
        let Some(observed) = observed else { return BTreeMap::new() };
        host_environment::of(&self.engine, &observed, self.access).await.unwrap_or_else(|error| {
            let cause = report::error::chain(&error).join(": ");
            Output::stderr().line(&format!("warning: the command gets no addresses: {cause}"));
            BTreeMap::new()
        })
    }
}

/// Reports that a command could not be started in a service, and returns the exit code for that.
pub fn not_begun(service: &str, command: &str, code: i64) -> u8 {
    let why = if code == i64::from(NOT_FOUND) { "it is not in the image" } else { "it may not be executed" };
    Output::stderr().line(&format!("cannot run `{command}` in `{service}`: {why}"));
    u8::try_from(code).unwrap_or(1)
}

/// The error for a command in a service that is not running.
pub fn not_running(service: &str, state: ContainerState) -> Failure {
    Failure::failed(
        format!("service `{service}` does not run: it is {state}"),
        Some(format!("`sandbox logs {service}` says why, `sandbox start {service}` starts it")),
    )
}

/// Copies a child's output to ours and into `capture`, until it ends.
fn copy_output(child: &mut Child, capture: &Capture, streams: Streams) -> impl Future<Output = ()> + use<> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (out, err) = (capture.clone(), capture.clone());
    let to: Box<dyn AsyncWrite + Send + Unpin> = match streams {
        Streams::Ours => Box::new(tokio::io::stdout()),
        Streams::Unattended => Box::new(tokio::io::stderr()),
    };
    let stdout = tokio::spawn(copy_stream(stdout, to, StdStream::Stdout, out));
    let stderr = tokio::spawn(copy_stream(stderr, tokio::io::stderr(), StdStream::Stderr, err));
    async move {
        // A copy that failed has no more output.
        let _ = tokio::join!(stdout, stderr);
    }
}

/// Copies one stream. If our output has no reader, the pipe is closed, so that the child gets `SIGPIPE`.
async fn copy_stream(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    stream: StdStream,
    capture: Capture,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..length];
        capture.push(stream, bytes);
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Whether this process has a terminal, which sends Ctrl-C to a child on its own.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Waits for a child. A terminal sends Ctrl-C to the child directly, so this process only ignores it; without a terminal
/// it is forwarded, and so is a SIGTERM.
async fn wait(mut child: Child, stop: CancellationToken) -> std::io::Result<ExitStatus> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupted.recv() => {
                if !has_terminal() {
                    signal_child(&child, Signal::INT);
                }
            }
            _ = terminated.recv() => signal_child(&child, Signal::TERM),
            () = stop.cancelled() => break,
        }
    }
    // An interactive shell ignores SIGTERM, but exits when its terminal hangs up.
    signal_child(&child, Signal::TERM);
    signal_child(&child, Signal::HUP);
    if let Ok(status) = tokio::time::timeout(LAST_WORDS, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}

fn signal_child(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // The child may have exited meanwhile.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
