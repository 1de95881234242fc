//! The scripted behaviour of the model's containers and commands.

use tokio::io::DuplexStream;

/// What a container does when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// It runs until it is stopped.
    Runs,
    /// It exits immediately with this code.
    Exits(i64),
    /// It runs and ignores its stop signal, so that a stop ends in a kill (code 137).
    IgnoresStop,
}

/// An interactive command: it gets its stdin to read and its stdout to write, and exits with 0 by dropping them.
pub type Serve = Box<dyn FnOnce(DuplexStream, DuplexStream) + Send>;

/// What a command does.
pub enum Script {
    /// It reads its stdin to the end (if it has one), writes this and exits.
    Answer {
        /// Output on stdout.
        stdout: String,
        /// Output on stderr.
        stderr: String,
        /// The exit code.
        code: i64,
    },
    /// It is interactive.
    Serve(Serve),
}

impl Script {
    /// A command that writes this to stdout and exits with this code.
    pub fn answer(stdout: &str, code: i64) -> Self {
        Self::Answer { stdout: stdout.to_owned(), stderr: String::new(), code }
    }
}
