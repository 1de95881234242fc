//! What `start`, `stop` and `restart` share: a change of services of an existing sandbox.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;

use super::context::Reporting;
use super::{Context, Exit, Failure, complete};
use crate::session::existing::ExistingSandbox;
use crate::spec::ServiceName;

/// Arguments of `start`, `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub struct ChangeArgs {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<ServiceName>,
    /// Seconds to wait for a service to get ready
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub wait_timeout: u64,
    /// Accepted for Compose; services are always waited for
    #[arg(long, hide = true)]
    pub wait: bool,
}

/// Arguments of `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub args: ChangeArgs,
    /// Seconds to wait for each service to stop, before it is killed (default: the spec's `stop_grace_period`)
    #[arg(long, short = 't', value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Accepted for Compose; dependents are not restarted
    #[arg(long, hide = true)]
    pub no_deps: bool,
}

impl StopArgs {
    /// The timeout for each service, if given.
    pub fn within(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

/// The requested change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Start the services.
    Start,
    /// Stop them, with this timeout if given.
    Stop(Option<Duration>),
    /// Stop them, with this timeout if given, and start them.
    Restart(Option<Duration>),
}

impl Change {
    fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop(_) => "stopping",
            Self::Restart(_) => "restarting",
        }
    }
}

/// Runs `start`, `stop` or `restart`.
pub async fn change(args: ChangeArgs, change: Change, context: &Context) -> Result<Exit, Failure> {
    let reporting = context.reporter();
    let outcome = perform(&args, change, context, &reporting).await;
    reporting.finish().await;
    outcome.map(|()| Exit::Done)
}

async fn perform(
    args: &ChangeArgs,
    change: Change,
    context: &Context,
    reporting: &Reporting,
) -> Result<(), Failure> {
    let present = present(context, reporting).await?;
    let mut which = present.services(&args.services)?;
    if change == Change::Start {
        which = present.with_dependencies(&which);
    }
    let names: Vec<String> = which.iter().map(ToString::to_string).collect();
    let why = format!("{} {}", change.doing(), names.join(", "));
    let work = async {
        let patience = Duration::from_secs(args.wait_timeout);
        match change {
            Change::Start => present.start(&which, patience).await,
            Change::Stop(within) => present.stop(&which, within).await.map(drop),
            Change::Restart(within) => present.restart(&which, within, patience).await,
        }
    };
    present.busy(&why, work).await?;
    Ok(())
}

/// Opens the selected sandbox for a change.
pub async fn present(context: &Context, reporting: &Reporting) -> Result<ExistingSandbox, Failure> {
    let engine = context.engine().await?;
    let sighting = context.chosen().await?;
    Ok(ExistingSandbox::of(&engine, &context.scope()?, sighting, reporting.events.clone()).await?)
}
