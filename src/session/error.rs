//! What can go wrong while a plan runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::agent::client::KeeperError;
use crate::engine::EngineError;
use crate::plan::PlanError;
use crate::spec::{SandboxName, ServiceName};
use crate::storage::StorageError;

/// What a service asked for outside and was refused.
#[derive(Debug, Default)]
pub struct Refused {
    /// Each with the line that would let it out.
    pub lines: Vec<String>,
}

/// Why a session could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The storage refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The keeper refused.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// No plan could be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A service ended that should be running.
    #[error("service `{service}` exited with code {code}{}", waited(.waited_for_by))]
    Exited {
        /// Which service.
        service: String,
        /// Its exit code.
        code: i64,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that waited for it.
        waited_for_by: Vec<String>,
        /// What it asked for outside and was refused, each with the line that would let it out.
        refused: Box<Refused>,
    },
    /// A service ends each time that it is started.
    #[error("service `{service}` keeps exiting (code {code}, {times} times){}", waited(.waited_for_by))]
    KeepsExiting {
        /// Which service.
        service: String,
        /// Its last exit code.
        code: i64,
        /// How often it has ended.
        times: u32,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that waited for it.
        waited_for_by: Vec<String>,
        /// What it asked for outside and was refused, each with the line that would let it out.
        refused: Box<Refused>,
    },
    /// A service did not get ready in time.
    #[error("service `{service}` was not ready after {}: {last}{}", seconds(.after), waited(.waited_for_by))]
    NotReady {
        /// Which service.
        service: String,
        /// How long it was waited for.
        after: Duration,
        /// Whether the service itself says how long that may be.
        says_so: bool,
        /// The last answer.
        last: String,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that waited for it.
        waited_for_by: Vec<String>,
        /// What it asked for outside and was refused, each with the line that would let it out.
        refused: Box<Refused>,
    },
    /// The engine says that a service is not healthy.
    #[error("service `{service}` is unhealthy{}{}", because(.last), waited(.waited_for_by))]
    Unhealthy {
        /// Which service.
        service: String,
        /// What its healthcheck wrote last.
        last: String,
        /// The last lines of its log.
        log: Vec<String>,
        /// Services that waited for it.
        waited_for_by: Vec<String>,
        /// What it asked for outside and was refused, each with the line that would let it out.
        refused: Box<Refused>,
    },
    /// The sandbox ended before its session did.
    #[error("sandbox `{name}` has ended: {why}")]
    Ended {
        /// Its name.
        name: SandboxName,
        /// Who or what ended it.
        why: String,
    },
    /// A seed failed.
    #[error("seed {what} of `{target}` failed: {cause}")]
    Seed {
        /// The service or volume.
        target: String,
        /// The seed, and the statement where it is known.
        what: String,
        /// What went wrong.
        cause: String,
        /// What the client and the service wrote.
        log: Vec<String>,
    },
    /// A seed cannot be run as it is written.
    #[error(transparent)]
    BadSeed(#[from] crate::data::seed::SeedError),
    /// A hook failed.
    #[error("`{command}` in service `{service}` exited with code {code}")]
    Hook {
        /// Which service.
        service: String,
        /// The command.
        command: String,
        /// Its exit code.
        code: i64,
        /// What it wrote.
        log: Vec<String>,
    },
    /// A file that the spec names could not be read.
    #[error("cannot read {what} from `{path}`")]
    File {
        /// What it was to be.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A secret or config has no value.
    #[error("{what} has no value: {reason}")]
    NoValue {
        /// Which secret or config.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A volume of that name but with other data is in the way.
    #[error("volume `{name}` exists and is not this sandbox's")]
    ForeignVolume {
        /// The volume.
        name: String,
    },
    /// Another session holds the sandbox.
    #[error("sandbox `{name}` is up, or being built, in another session")]
    Held {
        /// The sandbox.
        name: SandboxName,
    },
    /// A host port that must be had is taken.
    #[error("port {port} of this machine is taken")]
    PortBusy {
        /// Which port.
        port: u16,
    },
    /// No sandbox of the name.
    #[error("there is no sandbox `{name}`")]
    NoSuchSandbox {
        /// The name.
        name: SandboxName,
    },
    /// There is no such service in the sandbox.
    #[error("sandbox `{name}` has no service `{service}`")]
    NoSuchService {
        /// The sandbox.
        name: SandboxName,
        /// The service.
        service: ServiceName,
    },
    /// Something of a sandbox could not be destroyed.
    #[error("sandbox `{name}` is not gone: {} left", .left.join(", "))]
    LeftBehind {
        /// The sandbox.
        name: SandboxName,
        /// What is left, each with the cause.
        left: Vec<String>,
    },
    /// The user's own limits are reached.
    #[error("{reason}")]
    Limit {
        /// Which limit, and how it stands.
        reason: String,
    },
    /// Something about data.
    #[error("{what}")]
    Data {
        /// What went wrong.
        what: String,
        /// The way out.
        hint: Option<String>,
    },
    /// Somebody else made a network of this name at the same time.
    #[error("network `{network}` was made by somebody else at the same time")]
    Overtaken {
        /// The network.
        network: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl SessionError {
    /// The way out, where one is known.
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

    /// Whether what was written last says that a program missed the privileges that its file would give it.
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

    /// The last lines that whoever failed has written.
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
