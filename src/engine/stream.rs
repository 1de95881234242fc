//! What flows: logs, commands' input and output, events, use of resources.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncWrite;

use super::LogStream;
use super::error::ObjectKind;

/// Which of a process's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StdStream {
    /// Standard output; with a terminal, everything.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output, cut anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Where it was written to.
    pub stream: StdStream,
    /// What was written.
    pub bytes: Bytes,
    /// Whether this piece starts a message of the log. Known only where output is framed (no terminal).
    pub starts_message: bool,
}

/// Which part of a container's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// Only what was written until then.
    pub until: Option<Timestamp>,
    /// How many of the last lines.
    pub tail: Tail,
    /// Put RFC 3339 times before lines.
    pub timestamps: bool,
}

/// How many of the last lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tail {
    /// All of them.
    #[default]
    All,
    /// That many.
    Lines(u64),
}

/// A command to be run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// Variables added to the container's.
    pub env: BTreeMap<String, String>,
    /// User, perhaps with a group; `None`: the container's.
    pub user: Option<String>,
    /// Where it starts; `None`: the container's.
    pub workdir: Option<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Give it a stdin; without, it reads end-of-file at once.
    pub stdin: bool,
    /// Give it all capabilities.
    pub privileged: bool,
    /// Size of the terminal at the start: rows, columns.
    pub size: Option<(u16, u16)>,
}

impl Exec {
    /// A command and nothing else.
    pub fn new<S: Into<String>>(cmd: impl IntoIterator<Item = S>) -> Self {
        Self { cmd: cmd.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// A writer to a process's stdin; shutting it down (or dropping it) is end-of-file.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// A command that has been started.
pub struct ExecSession {
    /// Its id, for the exit code and the terminal's size.
    pub id: String,
    /// Its stdin.
    pub input: Input,
    /// What it writes; ends when it ends.
    pub output: LogStream,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A container's own stdin and output.
pub struct Attached {
    /// Its stdin, if it was made with one.
    pub input: Input,
    /// What it writes.
    pub output: LogStream,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// Something that happened on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// When.
    pub time: Timestamp,
    /// To what kind of thing.
    pub object: ObjectKind,
    /// What, in the engine's words: `start`, `die`, `oom`, `health_status: healthy`, `exec_die`, …
    pub action: String,
    /// The thing's id.
    pub id: String,
    /// The thing's name.
    pub name: String,
    /// Its labels and more, such as `exitCode`.
    pub attributes: BTreeMap<String, String>,
}

/// A container's use of resources at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Processors in use since the sample before: 1.0 is one whole processor.
    pub cpus: f64,
    /// Bytes of memory, without the page cache.
    pub memory: u64,
    /// The limit of memory.
    pub memory_limit: u64,
    /// Bytes received on all networks.
    pub received: u64,
    /// Bytes sent on all networks.
    pub sent: u64,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What is at a path of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// What it points to, if it is a symbolic link.
    pub link_target: Option<String>,
}
