//! `rm`: removes the containers of stopped services.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use clap_complete::engine::ArgValueCandidates;

use super::change::existing;
use super::support::containers;
use super::{Context, Exit, Failure, complete};
use crate::engine::ContainerSummary;
use crate::report::Output;
use crate::session::inspect::{log_name, service_of};
use crate::spec::ServiceName;

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all that are stopped)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Remove without confirmation
    #[arg(long, short)]
    force: bool,
    /// Stop the services first
    #[arg(long, short)]
    stop: bool,
    /// Accepted for Compose; the data of anonymous volumes stays until `reset` or `down`
    #[arg(long, short = 'v', hide = true)]
    volumes: bool,
}

/// Runs `rm`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let mut chosen = containers::chosen(&observed, &args.services)?;
    if !args.stop {
        chosen.retain(|one| !one.state.is_alive());
    }
    if chosen.is_empty() {
        Output::stderr().line("no stopped containers");
        return Ok(Exit::Done);
    }
    if !args.force && !confirm(&chosen)? {
        return Ok(Exit::Done);
    }
    if args.stop {
        stop(&chosen, context).await?;
    }
    for container in chosen {
        engine.remove_container(&container.name, args.stop, false).await?;
    }
    Ok(Exit::Done)
}

fn confirm(chosen: &[&ContainerSummary]) -> Result<bool, Failure> {
    let names: Vec<String> = chosen.iter().map(|one| log_name(one)).collect();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "cannot ask for confirmation: standard input is not a terminal",
            Some(format!("`sandbox rm --force {}` removes without asking", names.join(" "))),
        ));
    }
    let question = format!("Remove {}?", names.join(", "));
    dialoguer::Confirm::new()
        .with_prompt(question)
        .default(false)
        .interact()
        .map_err(|error| Failure::failed(error.to_string(), None))
}

async fn stop(chosen: &[&ContainerSummary], context: &Context) -> Result<(), Failure> {
    let reporting = context.reporter();
    let outcome = async {
        let existing = existing(context, &reporting).await?;
        let which: BTreeSet<ServiceName> =
            chosen.iter().filter_map(|one| service_of(one).parse().ok()).collect();
        existing.busy("stopping", async { existing.stop(&which, None).await.map(drop) }).await?;
        Ok(())
    }
    .await;
    reporting.finish().await;
    outcome
}
