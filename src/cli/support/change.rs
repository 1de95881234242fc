//! What `start`, `stop` and `restart` share: a change of services of an existing sandbox.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;

use super::context::Reporting;
use super::{Context, Exit, Failure, complete};
use crate::session::existing::ExistingSandbox;
use crate::spec::ServiceName;

/// The services that `start`, `stop` and `restart` change.
#[derive(Debug, clap::Args)]
pub struct ChangedServices {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<ServiceName>,
}

/// How long the verbs that start services wait.
#[derive(Debug, clap::Args)]
pub struct WaitOptions {
    /// Seconds to wait for a service to get ready
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait_timeout: u64,
}

impl WaitOptions {
    /// The longest time to wait for a service.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.wait_timeout)
    }
}

/// Options of the verbs that stop services.
#[derive(Debug, clap::Args)]
pub struct StopOptions {
    /// Seconds to wait for each service to stop, before it is killed (default: the spec's `stop_grace_period`)
    #[arg(long, short = 't', value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

impl StopOptions {
    /// The timeout for each service, if given.
    pub fn within(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

/// The requested change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Start the services, and wait for each this long.
    Start { patience: Duration },
    /// Stop them, with this timeout if given.
    Stop { within: Option<Duration> },
    /// Stop them, with this timeout if given, start them, and wait for each this long.
    Restart { within: Option<Duration>, patience: Duration },
}

impl Change {
    fn doing(self) -> &'static str {
        match self {
            Self::Start { .. } => "starting",
            Self::Stop { .. } => "stopping",
            Self::Restart { .. } => "restarting",
        }
    }
}

/// Runs `start`, `stop` or `restart`.
pub async fn change(args: ChangedServices, change: Change, context: &Context) -> Result<Exit, Failure> {
    let reporting = context.reporter();
    let outcome = perform(&args, change, context, &reporting).await;
    reporting.finish().await;
    outcome.map(|()| Exit::Done)
}

async fn perform(
    args: &ChangedServices,
    change: Change,
    context: &Context,
    reporting: &Reporting,
) -> Result<(), Failure> {
    let existing = existing(context, reporting).await?;
    let mut which = existing.services(&args.services)?;
    if matches!(change, Change::Start { .. }) {
        which = existing.with_dependencies(&which);
    }
    let names: Vec<String> = which.iter().map(ToString::to_string).collect();
    let why = format!("{} {}", change.doing(), names.join(", "));
    let work = async {
        match change {
            Change::Start { patience } => existing.start(&which, patience).await,
            Change::Stop { within } => existing.stop(&which, within).await.map(drop),
            Change::Restart { within, patience } => existing.restart(&which, within, patience).await,
        }
    };
    existing.busy(&why, work).await?;
    Ok(())
}

/// Opens the selected sandbox for a change.
pub async fn existing(context: &Context, reporting: &Reporting) -> Result<ExistingSandbox, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    Ok(ExistingSandbox::of(&engine, &context.scope()?, observed, reporting.events.clone()).await?)
}
