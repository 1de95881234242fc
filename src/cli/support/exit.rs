//! The exit codes documented in the manual.

use crate::session::lifecycle::control::StopReason;

/// The outcome of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success: 0.
    Done,
    /// Failure: 1.
    Failed,
    /// The command line or the spec is wrong: 2.
    Usage,
    /// No engine replied: 3.
    NoEngine,
    /// There is no such sandbox: 4.
    NoSandbox,
    /// The user interrupted it: 130.
    Interrupted,
    /// A signal terminated it: 128 plus the signal's number.
    Signalled(u8),
    /// A command's own exit code (`run`, `exec`), or `run`'s own 125, 126 and 127.
    Command(u8),
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoEngine => 3,
            Self::NoSandbox => 4,
            Self::Interrupted => 130,
            Self::Signalled(signal) => 128 + signal,
            Self::Command(code) => code,
        }
    }

    /// The exit for a session that stopped for this reason; `Some` only if the user or the system stopped it.
    pub(in crate::cli) fn of_signal(reason: StopReason) -> Option<Self> {
        match reason {
            StopReason::Interrupted | StopReason::Forced => Some(Self::Interrupted),
            StopReason::Terminated => Some(Self::Signalled(15)),
            StopReason::HungUp => Some(Self::Signalled(1)),
            StopReason::CommandEnded(_)
            | StopReason::ServicesEnded
            | StopReason::Vanished
            | StopReason::Unused
            | StopReason::DeadlinePassed
            | StopReason::Lost
            | StopReason::EngineRestarted
            | StopReason::BuildFailed => None,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
