//! `exec`: runs a command in a service.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use clap_complete::engine::ArgValueCandidates;

use super::command::SIGPIPE;
use super::{Context, Exit, Failure, complete, keeper};
use crate::engine::{self, ContainerState};
use crate::session::exec::{self, Outcome};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service
    #[arg(add = ArgValueCandidates::new(complete::services))]
    service: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Do not allocate a terminal
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY")]
    no_tty: bool,
    /// User (and group) to run as
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short, long)]
    workdir: Option<String>,
    /// Set an environment variable; without a value it is taken from this shell
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Index of the replica
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    index: u32,
    /// Run the command in the background
    #[arg(short, long)]
    detach: bool,
    /// Accepted for Compose; standard input is always open
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Accepted for Compose; a terminal is allocated if this is one
    #[arg(short, long, hide = true, conflicts_with = "no_tty")]
    tty: bool,
    /// Refused: a command in a sandbox cannot be privileged
    #[arg(long, hide = true)]
    privileged: bool,
}

/// Runs `exec`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if self.privileged {
            return Err(Failure::usage(
                "a command in a sandbox cannot be privileged",
                Some("give the service the capability it needs with `cap_add`".to_owned()),
            ));
        }
        let engine = context.engine().await?;
        let observed = context.chosen().await?;
        let container = observed.container(&self.service, self.index)?.clone();
        if !container.state.is_alive() {
            return Err(super::command::not_running(&self.service, container.state));
        }
        if container.state == ContainerState::Paused {
            let hint = format!("`sandbox unpause {}` resumes it", self.service);
            return Err(Failure::failed(format!("service `{}` is paused", self.service), Some(hint)));
        }
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let request = engine::Exec {
            cmd: self.command,
            env: variables(&self.env, |name| std::env::var(name).ok())?,
            user: self.user,
            workdir: self.workdir,
            tty: !self.no_tty && !self.detach && terminal,
            stdin: !self.detach,
            ..engine::Exec::default()
        };
        let _use = keeper::UsageGuard::of(&engine, &observed.name);
        if self.detach {
            engine.exec(&container.name, &request).await?;
            return Ok(Exit::Done);
        }
        let command = request.cmd.first().cloned().unwrap_or_default();
        Ok(match exec::run(&engine, &container.name, request).await? {
            Outcome::NotBegun(code) => {
                Exit::Command(super::command::not_begun(&self.service, &command, code))
            }
            Outcome::Exited(code) => Exit::Command(u8::try_from(code).unwrap_or(1)),
            Outcome::Abandoned => Exit::Interrupted,
            Outcome::ReaderLeft => Exit::Signalled(SIGPIPE),
        })
    }
}

fn variables(
    written: &[String],
    ours: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for pair in written {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (pair.as_str(), ours(pair)),
        };
        if key.is_empty() {
            return Err(Failure::usage(
                format!("`{pair}` names no variable"),
                Some("write `-e KEY=VALUE`".to_owned()),
            ));
        }
        if let Some(value) = value {
            variables.insert(key.to_owned(), value);
        }
    }
    Ok(variables)
}
