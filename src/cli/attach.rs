//! `attach`: connects this terminal to a service's main process.

use clap_complete::engine::ArgValueCandidates;

use super::{Context, Exit, Failure, command, complete, keeper};
use crate::session::exec::Outcome;
use crate::session::exec::attach::{self, Attaching};

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service
    #[arg(add = ArgValueCandidates::new(complete::services))]
    service: String,
    /// Index of the replica
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    index: u32,
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Proxy received signals to the process
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

/// Runs `attach`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let container = observed.container(&args.service, args.index)?;
    if !container.state.is_alive() {
        return Err(command::not_running(&args.service, container.state));
    }
    let _use = keeper::UsageGuard::of(&engine, &observed.name);
    let attaching = Attaching { stdin: !args.no_stdin, pass_signals: args.sig_proxy };
    Ok(match attach::run(&engine, &container.name, attaching).await? {
        Outcome::Exited(code) | Outcome::NotBegun(code) => Exit::Command(u8::try_from(code).unwrap_or(1)),
        Outcome::Abandoned => Exit::Done,
        Outcome::ReaderLeft => Exit::Signalled(command::SIGPIPE),
    })
}
