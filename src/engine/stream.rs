//! Types for streams: logs, commands' input and output, events, resource usage.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncWrite;

use super::LogStream;
use super::error::ObjectKind;

/// An output stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StdStream {
    /// Standard output; with a terminal, all output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A chunk of output, split at any byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The stream it was written to.
    pub stream: StdStream,
    /// The bytes of the chunk.
    pub bytes: Bytes,
    /// Whether this chunk starts a log message. Known only for framed output (no terminal).
    pub starts_message: bool,
}

/// Selects a part of a container's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Stream new output until the container exits.
    pub follow: bool,
    /// Only output since this time.
    pub since: Option<Timestamp>,
    /// Only output until this time.
    pub until: Option<Timestamp>,
    /// Number of lines from the end.
    pub tail: Tail,
    /// Prefix lines with RFC 3339 timestamps.
    pub timestamps: bool,
}

/// Number of lines from the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tail {
    /// All lines.
    #[default]
    All,
    /// At most this many lines.
    Lines(u64),
}

/// The parameters of a command in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// Variables added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// User, optionally with a group; `None` for the container's.
    pub user: Option<String>,
    /// Working directory; `None` for the container's.
    pub workdir: Option<String>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Attach stdin; without it, the command reads end-of-file immediately.
    pub stdin: bool,
    /// Grant all capabilities.
    pub privileged: bool,
    /// Initial size of the terminal: rows, columns.
    pub size: Option<(u16, u16)>,
}

impl Exec {
    /// A command with default settings.
    pub fn new<S: Into<String>>(cmd: impl IntoIterator<Item = S>) -> Self {
        Self { cmd: cmd.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// A writer to a process's stdin; shutting it down (or dropping it) sends end-of-file.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// A command that has been started.
pub struct ExecSession {
    /// The exec id, for the exit code and the terminal's size.
    pub id: String,
    /// The command's stdin.
    pub input: Input,
    /// The command's output; ends when it exits.
    pub output: LogStream,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A container's stdin and output.
pub struct Attached {
    /// The stdin, if the container was created with one.
    pub input: Input,
    /// The container's output.
    pub output: LogStream,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// An event of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// The time of the event.
    pub time: Timestamp,
    /// The kind of the object.
    pub object: ObjectKind,
    /// The action in the engine's notation: `start`, `die`, `oom`, `health_status: healthy`, `exec_die`, …
    pub action: String,
    /// The object's id.
    pub id: String,
    /// The object's name.
    pub name: String,
    /// The object's labels and further attributes, such as `exitCode`.
    pub attributes: BTreeMap<String, String>,
}

/// A sample of a container's resource usage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Processors in use since the previous sample; 1.0 is one full processor.
    pub cpus: f64,
    /// Bytes of memory, without the page cache.
    pub memory: u64,
    /// Memory limit in bytes.
    pub memory_limit: u64,
    /// Bytes received on all networks.
    pub received: u64,
    /// Bytes sent on all networks.
    pub sent: u64,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
    /// Number of processes and threads.
    pub pids: u64,
}

/// The metadata of a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last component of the path.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The target, if it is a symbolic link.
    pub link_target: Option<String>,
}
