//! `sandbox fork`: creates a second sandbox with the current data of the first.

use std::time::Duration;

use super::change::existing;
use super::up::lifetime;
use super::{Context, Exit, Failure, complete};
use crate::agent::protocol::Reason;
use crate::engine::identity::SandboxId;
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::Purpose;
use crate::spec::SandboxName;
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `fork`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sandbox to copy (default: that of the directory) and the name of the new one
    #[arg(value_name = "[NAME] NEW", num_args = 1..=2, required = true,
          add = ArgValueCandidates::new(complete::sandboxes))]
    names: Vec<SandboxName>,
}

/// Runs `fork`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut names = args.names;
    let Some(new) = names.pop() else { return Ok(Exit::Usage) };
    let context = names.pop().map_or_else(|| context.clone_for(None), |name| context.clone_for(Some(name)));
    let reporting = context.reporter();
    let outcome = async {
        let existing = existing(&context, &reporting).await?;
        let id = SandboxId::random();
        let order = existing.fork(new, id.clone(), Duration::from_mins(5)).await?;
        let ends = lifetime(&order.spec.lifetime, None);
        let session = open::begin(existing.context.clone(), order, false).await?;
        if let Err(error) = existing.lend(&id).await {
            session.lease.release(Reason::Failed).await?;
            return Err(error.into());
        }
        drop(existing);
        Ok::<_, Failure>(session.run(Purpose::Detached { lifetime: ends }).await?)
    }
    .await;
    reporting.finish().await;
    outcome.map(|_| Exit::Done)
}
