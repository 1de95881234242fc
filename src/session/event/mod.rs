//! The events of a session as plain data. The core emits them and reporters render them. As JSON, one object per line,
//! they are public (`--progress json`, `sandbox events --json`, the recording behind `timeline`).
//!
//! Events contain no formatted text, only names, numbers, durations and parts of sentences. In JSON, durations are
//! milliseconds and times are RFC 3339.

mod channel;
mod log_text;
mod status;
mod work;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::agent::protocol::LeftObject;
use crate::agent::protocol::millis;
pub use crate::plan::{Phase, StepId};
pub use channel::{Acknowledgement, EventReceiver, Events};
pub use log_text::LogText;
pub use status::{Endpoint, Protocol, ServiceState, ServiceStatus};
pub use work::{BakeState, ListedTask, PlannedStep, Progress};

/// A change or a state that a session reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A session begins to build (or to change) a sandbox.
    Started {
        /// The sandbox's name.
        name: String,
        /// The instance id.
        id: String,
        /// Every service that takes part, in the order of the spec.
        services: Vec<String>,
    },
    /// The plan that the session is about to execute, in order.
    Plan {
        /// The planned steps.
        steps: Vec<PlannedStep>,
    },
    /// A step of the plan starts.
    StepStarted {
        /// The step's id.
        id: StepId,
        /// The kind of work.
        phase: Phase,
        /// The action: "create network `front`".
        what: String,
        /// The service that the step belongs to, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// A step of the plan is done.
    StepDone {
        /// The step's id.
        id: StepId,
        /// The kind of work.
        phase: Phase,
        /// The action.
        what: String,
        /// The service that the step belongs to, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
    /// A step of the plan failed.
    StepFailed {
        /// The step's id.
        id: StepId,
        /// The kind of work.
        phase: Phase,
        /// The action that failed.
        what: String,
        /// The service that the step belongs to, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Time until the failure.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
        /// The cause, outermost first.
        error: String,
    },
    /// Progress of an image pull. Sent often; the last event of an image has `done` set.
    Pull {
        /// The image as the spec names it.
        image: String,
        /// Complete layers, of all layers known so far.
        layers: Progress,
        /// Bytes received, of all bytes known so far.
        bytes: Progress,
        /// Current rate in bytes per second.
        rate: u64,
        /// Whether the pull is complete.
        done: bool,
    },
    /// Progress of a snapshot file, or of a copy of volumes. Sent often; the last event has `done` set.
    Transfer {
        /// The action: "exporting `NAME`".
        what: String,
        /// Bytes of data transferred, of all.
        bytes: Progress,
        /// Rate in bytes per second.
        rate: u64,
        /// Whether the transfer is complete.
        done: bool,
    },
    /// An output line of a build.
    BuildLine {
        /// The service whose image is built.
        service: String,
        /// The line, without its line ending.
        line: String,
    },
    /// A build failed. Its complete output was sent before.
    BuildFailed {
        /// The service whose image is built.
        service: String,
        /// The last output lines of its steps.
        output: Vec<String>,
    },
    /// A service is not ready yet. Sent when the wait begins and whenever the probe's result changes.
    Waiting {
        /// The service that is not ready.
        service: String,
        /// The condition: "tcp 5432", "`db` to be healthy".
        what: String,
        /// The last result of the probe, if it has run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
        /// How long the wait has lasted.
        #[serde(rename = "since_ms", with = "millis")]
        since: Duration,
    },
    /// A service is ready (or, for a one-shot service, has succeeded).
    Ready {
        /// The service.
        service: String,
        /// Time from its start until ready.
        #[serde(rename = "after_ms", with = "millis")]
        after: Duration,
    },
    /// A seed is being applied.
    Seed {
        /// The service or volume that is seeded.
        target: String,
        /// The file, command or snapshot that is applied.
        what: String,
        /// Progress in statements, entries or bytes, depending on the seed; `None` if it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<Progress>,
        /// Whether this seed is complete.
        done: bool,
    },
    /// A baseline is made, awaited or found.
    Bake {
        /// The baseline's key.
        key: String,
        /// Its volumes.
        volumes: Vec<String>,
        /// The state of the baseline.
        state: BakeState,
    },
    /// A problem that does not stop the session.
    Warning {
        /// The problem.
        text: String,
        /// How to solve it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// A one-line message for the user.
    Notice {
        /// The text of the message.
        text: String,
    },
    /// A preferred host port was taken, and another one is used.
    PortMoved {
        /// The service.
        service: String,
        /// The port in the container.
        target: u16,
        /// The host port that the spec prefers.
        wanted: u16,
        /// The host port that is used.
        given: u16,
    },
    /// A line of a service's log.
    Log {
        /// The service.
        service: String,
        /// The replica's number, from 1.
        #[serde(default = "first")]
        replica: u32,
        /// The stream that it was written to.
        stream: Stream,
        /// When it was written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<Timestamp>,
        /// The line, without its line ending.
        line: LogText,
    },
    /// A service's process exited.
    ServiceExited {
        /// The service.
        service: String,
        /// Its exit code.
        code: i64,
        /// Its last log lines.
        log: Vec<String>,
        /// The services that wait for it.
        waited_for_by: Vec<String>,
        /// The consequence.
        then: AfterExit,
    },
    /// The sandbox is up.
    Up {
        /// The sandbox's name.
        name: String,
        /// Every service, with its addresses.
        services: Vec<ServiceStatus>,
        /// When the sandbox ends if it is not extended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// Whether each use extends the deadline.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        if_unused: bool,
        /// Time since the session started.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
        /// Whether this process stays attached to the sandbox.
        attached: bool,
        /// Whether the sandbox outlives this process.
        #[serde(default)]
        stays: bool,
    },
    /// The text that the spec greets the user with, once the sandbox is up.
    Welcome {
        /// The text.
        text: String,
        /// The tasks of the spec.
        tasks: Vec<ListedTask>,
    },
    /// A command of the user takes over the terminal.
    CommandStarted {
        /// Notified once our display is cleared.
        #[serde(skip)]
        cleared: Acknowledgement,
    },
    /// A running sandbox is about to be changed.
    Changing {
        /// The sandbox's name.
        name: String,
        /// The cause of the change.
        why: String,
        /// Every service that takes part.
        services: Vec<String>,
    },
    /// A change has ended, successfully or not.
    Changed {
        /// The sandbox's name.
        name: String,
        /// When the sandbox ends at the latest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// Whether this process is the sandbox's session.
        attached: bool,
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
    /// The sandbox's deadline has changed.
    DeadlineMoved {
        /// The new deadline.
        deadline: Timestamp,
        /// Whether each use extends the deadline.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        if_unused: bool,
        /// Whether a use caused this change.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_use: bool,
    },
    /// The sandbox's deadline is near.
    DeadlineNear {
        /// The remaining time.
        #[serde(rename = "left_ms", with = "millis")]
        left: Duration,
    },
    /// Teardown begins.
    TearingDown {
        /// The sandbox's name.
        name: String,
        /// The reason for the teardown.
        reason: String,
        /// Whether a signal is the reason.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        interrupted: bool,
    },
    /// Teardown is complete and nothing remains.
    Torn {
        /// The sandbox's name.
        name: String,
        /// The number of removed objects.
        removed: Removed,
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
    /// Teardown is complete, but some objects remain.
    Left {
        /// The sandbox's name.
        name: String,
        /// The remaining objects, with the causes.
        objects: Vec<LeftObject>,
    },
    /// The requested operation failed.
    Failed {
        /// The operation and then each cause, outermost first.
        error: Vec<String>,
        /// How to solve it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// The output stream of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output (or the only stream of a terminal).
    Stdout,
    /// Standard error.
    Stderr,
}

/// The consequence of a service's exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterExit {
    /// It was a one-shot service and has succeeded.
    Completed,
    /// The keeper restarts it.
    Restarts,
    /// None: the user stopped it, and may start it again.
    Stopped,
    /// None: the sandbox continues without it.
    Nothing,
    /// The session ends.
    Ends,
}

/// Numbers of objects that a teardown removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Containers.
    pub containers: usize,
    /// Networks.
    pub networks: usize,
    /// Volumes.
    pub volumes: usize,
}

/// An event with its time since the session's start: one line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Time since the session started.
    #[serde(rename = "at_ms", with = "millis")]
    pub at: Duration,
    /// The recorded event.
    #[serde(flatten)]
    pub event: Event,
}

fn first() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_and_reads_back() {
        let recorded = Recorded {
            at: Duration::from_millis(12),
            event: Event::StepDone {
                id: StepId::new("network", "front"),
                phase: Phase::Network,
                what: "create network `front`".into(),
                service: None,
                elapsed: Duration::from_millis(40),
            },
        };
        let line = serde_json::to_string(&recorded).unwrap();
        assert_eq!(
            line,
            r#"{"at_ms":12,"event":"step_done","id":"network front","phase":"network","what":"create network `front`","elapsed_ms":40}"#
        );
        assert_eq!(serde_json::from_str::<Recorded>(&line).unwrap(), recorded);
    }
}
