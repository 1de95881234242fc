//! Errors of a session.

use std::path::PathBuf;
use std::time::Duration;

use crate::agent::client::KeeperError;
use crate::engine::EngineError;
use crate::plan::PlanError;
use crate::spec::{SandboxName, ServiceName};
use crate::storage::StorageError;

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
    /// An operation on data failed.
    #[error("{what}")]
    Data {
        /// What went wrong.
        what: String,
        /// How to solve it.
        hint: Option<String>,
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

impl SessionError {
    /// How to solve it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exited { refused, .. }
            | Self::KeepsExiting { refused, .. }
            | Self::NotReady { refused, .. }
            | Self::Unhealthy { refused, .. }
                if !refused.lines.is_empty() =>
            {
                Some(format!("it was refused what it asked for outside: {}", refused.lines.join("; ")))
            }
            _ if self.wants_privileges() => Some(
                "services get no new privileges (sudo, su and other setuid programs do not work): \
                 `security_opt: [no-new-privileges:false]` lets this one, with `--allow-host-access`"
                    .to_owned(),
            ),
            Self::Engine(error) => error.hint(),
            Self::Storage(error) => error.hint().map(str::to_owned),
            Self::Keeper(error) => error.hint(),
            Self::Plan(error) => Some(error.hint().to_owned()),
            Self::NotReady { says_so: true, .. } => {
                Some("give it longer with `timeout` in its `ready:`".to_owned())
            }
            Self::NotReady { .. } => {
                Some("give it longer with `--wait-timeout`, or say what ready means with `ready:`".to_owned())
            }
            Self::Held { name } => Some(format!(
                "`sandbox shell` and `sandbox exec` work in it, `--name` builds another, `sandbox down {name}` destroys it"
            )),
            Self::PortBusy { port } => Some(format!(
                "stop what listens on {port} (`ss -ltnp sport = :{port}`), or leave `--strict-ports` out"
            )),
            Self::Ended { .. } => Some("`sandbox events --past` shows when; `sandbox up` builds another".to_owned()),
            Self::NoSuchSandbox { .. } => Some("`sandbox ls` shows those that are there".to_owned()),
            Self::ForeignVolume { name } => Some(format!("remove it with `docker volume rm {name}`")),
            Self::BadSeed(error) => error.hint().map(str::to_owned),
            Self::Data { hint, .. } => hint.clone(),
            Self::LeftBehind { name, .. } => Some(format!("try `sandbox down {name}` again")),
            Self::Exited { code: 126 | 127, .. } | Self::KeepsExiting { code: 126 | 127, .. } => {
                Some("the command was not found in the image, or may not be executed".to_owned())
            }
            Self::Unhealthy { .. } => Some(
                "its healthcheck failed as often as its `retries` allow; see its `interval` and `start_period`".to_owned(),
            ),
            Self::Exited { .. }
            | Self::KeepsExiting { .. }
            | Self::Seed { .. }
            | Self::Hook { .. }
            | Self::File { .. }
            | Self::NoValue { .. }
            | Self::NoSuchService { .. }
            | Self::Limit { .. }
            | Self::Overtaken { .. }
            | Self::Cancelled => None,
        }
    }

    /// Whether the last output shows that a program lacked the privileges that its file would give it.
    fn wants_privileges(&self) -> bool {
        const WORDS: [&str; 5] = [
            "no new privileges",
            "must be setuid root",
            "must be suid",
            "effective uid is not 0",
            "must be owned by uid 0 and have the setuid bit set",
        ];
        let said = |line: &String| {
            let line = line.to_ascii_lowercase();
            WORDS.iter().any(|words| line.contains(words))
        };
        self.log().iter().any(said)
    }

    /// The last output of the service or command that failed.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Exited { log, .. }
            | Self::KeepsExiting { log, .. }
            | Self::NotReady { log, .. }
            | Self::Unhealthy { log, .. }
            | Self::Seed { log, .. }
            | Self::Hook { log, .. } => log,
            _ => &[],
        }
    }
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
