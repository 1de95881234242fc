//! What happens in a session, as plain data: the core emits these, reporters render them, and one JSON object per
//! line is their public shape (`--progress json`, `sandbox events --json`, the recording behind `timeline`).
//!
//! Nothing here is formatted for people: names, numbers, durations and sentences' parts only. Durations are
//! milliseconds in JSON, moments are RFC 3339.

mod log_text;
mod millis;
mod status;
mod work;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

pub use crate::agent::protocol::LeftObject;
pub use log_text::LogText;
pub use status::{Endpoint, Protocol, ServiceState, ServiceStatus};
pub use work::{BakeState, Phase, PlannedStep, Progress, StepId};

/// Something that happened, or that is now the case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A session begins to build (or to change) a sandbox.
    Started {
        /// The sandbox's name.
        name: String,
        /// This incarnation.
        id: String,
        /// Every service that takes part, in the spec's order.
        services: Vec<String>,
    },
    /// What is going to be done, in order.
    Plan {
        /// The planned steps.
        steps: Vec<PlannedStep>,
    },
    /// A step of the plan begins.
    StepStarted {
        /// Which step.
        id: StepId,
        /// What kind of work it is.
        phase: Phase,
        /// What it does: "create network `front`".
        what: String,
        /// The service it is for, if it is for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// A step of the plan is done.
    StepDone {
        /// Which step.
        id: StepId,
        /// What kind of work it was.
        phase: Phase,
        /// What it did.
        what: String,
        /// The service it was for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
    /// A step of the plan failed.
    StepFailed {
        /// Which step.
        id: StepId,
        /// What kind of work it was.
        phase: Phase,
        /// What it was to do.
        what: String,
        /// The service it was for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// How long it took to fail.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
        /// The cause, outermost first.
        error: String,
    },
    /// How far the pull of an image is. Sent often; the last one of an image has `done` set.
    Pull {
        /// The image as the spec names it.
        image: String,
        /// Layers that are there, of all known so far.
        layers: Progress,
        /// Bytes received, of all known so far.
        bytes: Progress,
        /// Bytes a second over the last moments.
        rate: u64,
        /// Whether the image is there.
        done: bool,
    },
    /// How far a snapshot file, or a copy of volumes, is on its way. Sent often; the last one has `done` set.
    Transfer {
        /// What is done: "exporting `NAME`".
        what: String,
        /// Bytes of data that are through, of all.
        bytes: Progress,
        /// Bytes a second.
        rate: u64,
        /// Whether it is through.
        done: bool,
    },
    /// A line of a build's output.
    BuildLine {
        /// The service whose image is built.
        service: String,
        /// The line, without its end.
        line: String,
    },
    /// A build failed. Every line of it was told before.
    BuildFailed {
        /// The service whose image is built.
        service: String,
        /// The last lines that its steps wrote.
        output: Vec<String>,
    },
    /// A service is not ready yet. Sent when the wait begins and whenever the last answer changes.
    Waiting {
        /// The service that is waited for.
        service: String,
        /// What is waited for: "tcp 5432", "`db` to be healthy".
        what: String,
        /// The last answer of the probe, if it was asked.
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
    /// A seed is applied.
    Seed {
        /// The service or volume that is seeded.
        target: String,
        /// The file, command or snapshot that is applied.
        what: String,
        /// How far: statements, entries or bytes, as the seed counts; `None` where it cannot be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<Progress>,
        /// Whether this seed is through.
        done: bool,
    },
    /// A baseline: made now, waited for, or found.
    Bake {
        /// The baseline's key.
        key: String,
        /// Its volumes.
        volumes: Vec<String>,
        /// What is the matter with it.
        state: BakeState,
    },
    /// Something the user should know, that does not stop anything.
    Warning {
        /// What is the matter.
        text: String,
        /// The way out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Something worth one line.
    Notice {
        /// The line.
        text: String,
    },
    /// A wished-for host port was taken; another one was given.
    PortMoved {
        /// The service.
        service: String,
        /// The port inside.
        target: u16,
        /// The host port that the spec asks for.
        wanted: u16,
        /// The host port that it has.
        given: u16,
    },
    /// A line of a service's log.
    Log {
        /// The service.
        service: String,
        /// Which replica, from 1 on.
        #[serde(default = "first")]
        replica: u32,
        /// Which stream it was written to.
        stream: Stream,
        /// When it was written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<Timestamp>,
        /// The line, without its end.
        line: LogText,
    },
    /// A service's process ended.
    ServiceExited {
        /// The service.
        service: String,
        /// Its exit code.
        code: i64,
        /// Its last log lines.
        log: Vec<String>,
        /// The services that wait for it.
        waited_for_by: Vec<String>,
        /// What follows from it.
        then: AfterExit,
    },
    /// The sandbox is up.
    Up {
        /// The sandbox's name.
        name: String,
        /// Every service and how to reach it.
        services: Vec<ServiceStatus>,
        /// When the sandbox ends if nobody does anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// Whether each use defers the deadline.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        if_unused: bool,
        /// Time from the session's start.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
        /// Whether this process stays attached to the sandbox.
        attached: bool,
        /// Whether the sandbox outlives this process.
        #[serde(default)]
        stays: bool,
    },
    /// A command of the user's takes over the terminal.
    CommandStarted {
        /// Notified once nothing of ours is drawn any more.
        #[serde(skip)]
        cleared: Acknowledgement,
    },
    /// A sandbox that is up is about to be changed.
    Changing {
        /// The sandbox's name.
        name: String,
        /// What changes it.
        why: String,
        /// Every service that takes part.
        services: Vec<String>,
    },
    /// A change is through, whatever came of it.
    Changed {
        /// The sandbox's name.
        name: String,
        /// When the sandbox ends, whatever happens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// Whether this process is the session.
        attached: bool,
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
    /// The sandbox has more time, or less.
    DeadlineMoved {
        /// When it ends now.
        deadline: Timestamp,
        /// Whether each use defers the deadline.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        if_unused: bool,
        /// Whether a use has deferred it just now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_use: bool,
    },
    /// The sandbox ends soon.
    DeadlineNear {
        /// The time that is left.
        #[serde(rename = "left_ms", with = "millis")]
        left: Duration,
    },
    /// Teardown begins.
    TearingDown {
        /// The sandbox's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Teardown is through and nothing is left.
    Torn {
        /// The sandbox's name.
        name: String,
        /// What was removed.
        removed: Removed,
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
    /// Teardown is through and something is left.
    Left {
        /// The sandbox's name.
        name: String,
        /// What is left and why.
        objects: Vec<LeftObject>,
    },
    /// What was asked for has failed.
    Failed {
        /// What failed, outermost first: the operation, then each cause.
        error: Vec<String>,
        /// The way out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// The stream that a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output (or a terminal's only stream).
    Stdout,
    /// Standard error.
    Stderr,
}

/// What follows when a service's process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterExit {
    /// It was to end, and has succeeded.
    Completed,
    /// It is started again.
    Restarts,
    /// Nothing: somebody stopped it, and may start it again.
    Stopped,
    /// Nothing: the sandbox lives on without it.
    Nothing,
    /// The session ends.
    Ends,
}

/// How many objects a teardown removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Containers.
    pub containers: usize,
    /// Networks.
    pub networks: usize,
    /// Volumes.
    pub volumes: usize,
}

/// An event and when it happened, counted from the session's start: one line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Time since the session began.
    #[serde(rename = "at_ms", with = "millis")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Tells the sender of an event that it has been rendered.
#[derive(Clone, Debug, Default)]
pub struct Acknowledgement(Arc<Notify>);

impl Acknowledgement {
    /// The event has been rendered.
    pub fn give(&self) {
        self.0.notify_one();
    }
}

impl PartialEq for Acknowledgement {
    /// Equal events need not have the same sender.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How long a terminal may take to be cleared: one that is held (Ctrl-S) never is.
const CLEARED: Duration = Duration::from_secs(2);

/// Where the core sends its events. Cheap to clone; a reporter that is gone is no error.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// A sender and the end that a reporter's loop reads.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// A sender that nobody listens to.
    pub fn nowhere() -> Self {
        Self::channel().0
    }

    /// Tells of `event`.
    pub fn emit(&self, event: Event) {
        // The reporter's end closes only when the process is about to end.
        let _ = self.0.send(event);
    }

    /// Hands the terminal over to a command: returns once nothing of ours is drawn any more.
    pub async fn hand_over(&self) {
        let cleared = Acknowledgement::default();
        if self.0.send(Event::CommandStarted { cleared: cleared.clone() }).is_ok() {
            // Without a reporter nothing is drawn.
            let _ = tokio::time::timeout(CLEARED, cleared.0.notified()).await;
        }
    }
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
                id: StepId(3),
                phase: Phase::Network,
                what: "create network `front`".into(),
                service: None,
                elapsed: Duration::from_millis(40),
            },
        };
        let line = serde_json::to_string(&recorded).unwrap();
        assert_eq!(
            line,
            r#"{"at_ms":12,"event":"step_done","id":3,"phase":"network","what":"create network `front`","elapsed_ms":40}"#
        );
        assert_eq!(serde_json::from_str::<Recorded>(&line).unwrap(), recorded);
    }

    #[test]
    fn an_event_that_nobody_listens_to_is_no_error() {
        Events::nowhere().emit(Event::Notice { text: "nobody".into() });
    }
}
