//! What to do about an error of a session.

use super::SessionError;

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
            Self::Registry(error) => error.hint(),
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
            Self::Invalid { hint, .. }
            | Self::UnfitData { hint, .. }
            | Self::Transfer { hint, .. }
            | Self::Lend { hint, .. }
            | Self::Fault { hint, .. } => hint.clone(),
            Self::Requirements { ways_out, .. } => Some(ways_out.join("\n")),
            Self::EngineLacks { hint, .. } => Some((*hint).to_owned()),
            Self::NotBuilt { service, .. } => Some(format!("`sandbox build {service}` builds it")),
            Self::ImageDrift { .. } => Some("`--allow-image-drift` uses the one that is here".to_owned()),
            Self::Disturbed { .. } => Some("nothing was done; try again".to_owned()),
            Self::InputsChanged => Some("nothing was kept; try again".to_owned()),
            Self::NotRemoved { .. } => Some(
                "what is removed here stays in the service until it is removed there or the service is recreated".to_owned(),
            ),
            Self::Busy { .. } => Some("nothing was done; try again once it is through".to_owned()),
            Self::NotRecorded { name } => {
                Some(format!("`sandbox up` completes it, `sandbox down {name}` destroys what there is"))
            }
            Self::StuckPlan { .. } => Some(
                "this is a fault of sandbox; `sandbox up --dry-run` shows the plan to report".to_owned(),
            ),
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
            | Self::Name(_)
            | Self::Task(_)
            | Self::Io { .. }
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
