//! Errors of a session.

mod hints;

use std::path::PathBuf;
use std::time::Duration;

use crate::agent::client::KeeperError;
use crate::data::registry::RegistryError;
use crate::engine::EngineError;
use crate::plan::PlanError;
use crate::spec::{SandboxName, ServiceName};
use crate::storage::{BadName, StorageError};

/// Outbound connections of a service that were blocked.
#[derive(Debug, Default)]
pub struct Refused {
    /// One line for each, with the rule that would allow it.
    pub lines: Vec<String>,
}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The engine returned an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The storage returned an error.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The keeper returned an error.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// A registry returned an error.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No plan could be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A service exited that should be running.
    #[error("service `{service}` exited with code {code}{}", waited(.waited_for_by))]
    Exited {
        /// The service's name.
        service: String,
        /// Its exit code.
        code: i64,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that wait for it.
        waited_for_by: Vec<String>,
        /// Its blocked connections, each with the rule that would allow it.
        refused: Box<Refused>,
    },
    /// A service exits each time that it is started.
    #[error("service `{service}` keeps exiting (code {code}, {times} times){}", waited(.waited_for_by))]
    KeepsExiting {
        /// The service's name.
        service: String,
        /// Its last exit code.
        code: i64,
        /// How many times it has exited.
        times: u32,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that wait for it.
        waited_for_by: Vec<String>,
        /// Its blocked connections, each with the rule that would allow it.
        refused: Box<Refused>,
    },
    /// A service did not get ready in time.
    #[error("service `{service}` was not ready after {}: {last}{}", seconds(.after), waited(.waited_for_by))]
    NotReady {
        /// The service's name.
        service: String,
        /// How long the session waited.
        after: Duration,
        /// Whether the service itself sets this timeout.
        says_so: bool,
        /// The last result of its probe.
        last: String,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that wait for it.
        waited_for_by: Vec<String>,
        /// Its blocked connections, each with the rule that would allow it.
        refused: Box<Refused>,
    },
    /// The engine reports that a service is unhealthy.
    #[error("service `{service}` is unhealthy{}{}", because(.last), waited(.waited_for_by))]
    Unhealthy {
        /// The service's name.
        service: String,
        /// The last output of its healthcheck.
        last: String,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that wait for it.
        waited_for_by: Vec<String>,
        /// Its blocked connections, each with the rule that would allow it.
        refused: Box<Refused>,
    },
    /// The sandbox ended before its session did.
    #[error("sandbox `{name}` has ended: {why}")]
    Ended {
        /// The sandbox's name.
        name: SandboxName,
        /// The cause of its end.
        why: String,
    },
    /// A seed failed.
    #[error("seed {what} of `{target}` failed: {cause}")]
    Seed {
        /// The service or volume that was seeded.
        target: String,
        /// The seed, with the statement if it is known.
        what: String,
        /// The cause of the failure.
        cause: String,
        /// The output of the client and the service.
        log: Vec<String>,
    },
    /// A seed is invalid.
    #[error(transparent)]
    BadSeed(#[from] crate::data::seed::SeedError),
    /// A hook failed.
    #[error("`{command}` in service `{service}` exited with code {code}")]
    Hook {
        /// The service's name.
        service: String,
        /// The command of the hook.
        command: String,
        /// Its exit code.
        code: i64,
        /// The hook's output.
        log: Vec<String>,
    },
    /// A file that the spec names could not be read.
    #[error("cannot read {what} from `{path}`")]
    File {
        /// What the file is for.
        what: String,
        /// The path that was tried.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// A secret or config has no value.
    #[error("{what} has no value: {reason}")]
    NoValue {
        /// Which secret or config it is.
        what: String,
        /// Why it has none.
        reason: String,
    },
    /// A volume of that name exists, with other data.
    #[error("volume `{name}` exists and is not this sandbox's")]
    ForeignVolume {
        /// The volume's name.
        name: String,
    },
    /// Another session holds the sandbox.
    #[error("sandbox `{name}` is up, or being built, in another session")]
    Held {
        /// The sandbox's name.
        name: SandboxName,
    },
    /// A host port that the user requires is taken.
    #[error("port {port} of this machine is taken")]
    PortBusy {
        /// The port's number.
        port: u16,
    },
    /// There is no sandbox of that name.
    #[error("there is no sandbox `{name}`")]
    NoSuchSandbox {
        /// The requested name.
        name: SandboxName,
    },
    /// There is no such service in the sandbox.
    #[error("sandbox `{name}` has no service `{service}`")]
    NoSuchService {
        /// The sandbox's name.
        name: SandboxName,
        /// The service's name.
        service: ServiceName,
    },
    /// Some objects of a sandbox could not be destroyed.
    #[error("sandbox `{name}` is not gone: {} left", .left.join(", "))]
    LeftBehind {
        /// The sandbox's name.
        name: SandboxName,
        /// The remaining objects, each with the cause.
        left: Vec<String>,
    },
    /// The user's own limits are exceeded.
    #[error("{reason}")]
    Limit {
        /// The limit and its current use.
        reason: String,
    },
    /// A name of stored data is invalid.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A blocking task was cancelled or panicked.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    /// An operation on this machine failed.
    #[error("{what}: {cause}")]
    Io {
        /// What could not be done.
        what: String,
        /// The I/O error.
        cause: std::io::Error,
    },
    /// An option, a setting or a value of the spec is invalid.
    #[error("{what}")]
    Invalid {
        /// Where it is set, and what is wrong with it.
        what: String,
        /// What is valid.
        hint: Option<String>,
    },
    /// The engine cannot do what the spec needs.
    #[error("{what}")]
    EngineLacks {
        /// What would happen on this engine.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// The machine does not have what the spec requires.
    #[error("this machine does not have what the spec requires:\n{}", .unmet.join("\n"))]
    Requirements {
        /// What there is, and what is required, for each.
        unmet: Vec<String>,
        /// The way out for each.
        ways_out: Vec<String>,
    },
    /// Stored data does not fit what it is wanted for.
    #[error("{what}")]
    UnfitData {
        /// Which data, and what it lacks.
        what: String,
        /// What is available.
        hint: Option<String>,
    },
    /// The image of a service was not built.
    #[error("the engine has no image `{reference}`, of service `{service}`")]
    NotBuilt {
        /// The image's reference.
        reference: String,
        /// The service's name.
        service: ServiceName,
    },
    /// An image is not the one that the data was made with.
    #[error("image `{reference}` of service `{service}` is not the one that the data was made with")]
    ImageDrift {
        /// The image's reference.
        reference: String,
        /// The service's name.
        service: ServiceName,
    },
    /// Services ran while their data was cloned or replaced.
    #[error("{what} while its data was not to change")]
    Disturbed {
        /// What happened.
        what: String,
    },
    /// Inputs of a bake changed during the bake.
    #[error("a seed, or a file that is mounted, changed while the data was made from it")]
    InputsChanged,
    /// A snapshot file could not be written or read.
    #[error("{what}")]
    Transfer {
        /// The operation and the cause.
        what: String,
        /// How to solve it, as the other side says.
        hint: Option<String>,
    },
    /// A fault cannot be imposed.
    #[error("{what}")]
    Fault {
        /// The cause.
        what: String,
        /// How to impose it.
        hint: Option<String>,
    },
    /// A database to lend cannot be made.
    #[error("{what}")]
    Lend {
        /// The cause.
        what: String,
        /// What else can be lent.
        hint: Option<String>,
    },
    /// Files that were removed here could not be removed in a service.
    #[error("cannot remove {paths}: {cause}")]
    NotRemoved {
        /// The paths in the service.
        paths: String,
        /// The cause.
        cause: String,
    },
    /// Another command pauses or stops services of the sandbox.
    #[error("another command is working on sandbox `{name}`")]
    Busy {
        /// The sandbox's name.
        name: SandboxName,
    },
    /// The keeper has no record of a sandbox.
    #[error("the keeper has no record of sandbox `{name}`: it is half-made or being destroyed")]
    NotRecorded {
        /// The sandbox's name.
        name: String,
    },
    /// Steps of a plan wait for each other.
    #[error("these steps of the plan wait for each other: `{}`", .steps.join("`, `"))]
    StuckPlan {
        /// The steps.
        steps: Vec<String>,
    },
    /// Another client created a network of this name at the same time.
    #[error("network `{network}` was created by another client at the same time")]
    Overtaken {
        /// The network's name.
        network: String,
    },
    /// The operation was cancelled.
    #[error("interrupted")]
    Cancelled,
}

fn waited(by: &[String]) -> String {
    if by.is_empty() { String::new() } else { format!(" (waited for by `{}`)", by.join("`, `")) }
}

fn because(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn seconds(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
