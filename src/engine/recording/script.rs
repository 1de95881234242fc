//! What containers and commands of the model do.

use tokio::io::DuplexStream;

/// What a container does when it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// It runs until it is told to end.
    Runs,
    /// It ends at once with this code.
    Exits(i64),
    /// It writes this and ends at once.
    WritesAndExits(String, i64),
    /// It runs and ignores its stop signal, so that a stop ends in a kill (code 137).
    IgnoresStop,
    /// The engine cannot start it, in these words.
    CannotStart(String),
}

/// A command that talks: it is given its stdin to read and its stdout to write, and answers its exit code by
/// dropping them (0).
pub type Serve = Box<dyn FnOnce(DuplexStream, DuplexStream) + Send>;

/// What a command does.
pub enum Script {
    /// It reads its stdin to the end (if it has one), writes this and exits.
    Answer {
        /// To stdout.
        stdout: String,
        /// To stderr.
        stderr: String,
        /// The exit code.
        code: i64,
    },
    /// It talks.
    Serve(Serve),
    /// It writes nothing and never exits.
    Hang,
}

impl Script {
    /// It writes this to stdout and exits with this code.
    pub fn answer(stdout: &str, code: i64) -> Self {
        Self::Answer { stdout: stdout.to_owned(), stderr: String::new(), code }
    }

    /// It writes this to stderr and exits with this code.
    pub fn fail(stderr: &str, code: i64) -> Self {
        Self::Answer { stdout: String::new(), stderr: stderr.to_owned(), code }
    }
}
