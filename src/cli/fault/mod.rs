//! `fault`: adds, lists and removes faults in the traffic of services. One file for each of its verbs.

mod add;
mod ls;
mod rm;

use serde_json::json;

use super::{Context, Exit, Failure, build_options, change, complete};
use crate::agent::fault_injector::Fault;
use crate::agent::fault_injector::container::Imposed;
use crate::session::existing::fault;

/// Arguments of `fault`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Inject latency, loss or bandwidth limits into a service's traffic; adds to existing faults
    Add(add::Args),
    /// List faults
    Ls,
    /// Remove faults from services
    Rm(rm::Args),
}

/// Runs `fault`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Add(args) => add::run(args, context).await,
        Verb::Ls => ls::run(context).await,
        Verb::Rm(args) => rm::run(args, context).await,
    }
}

/// The faults of the selected sandbox, by service.
async fn imposed(context: &Context) -> Result<Vec<Imposed>, Failure> {
    let engine = context.engine().await?;
    let mut faults = fault::all(&*engine, &context.chosen().await?).await?;
    faults.sort_by_key(fault::service_of);
    Ok(faults)
}

/// A fault's values with their units.
fn figures(fault: &Fault) -> serde_json::Value {
    json!({
        "latency_ms": fault.latency.map(|length| length.as_millis()),
        "jitter_ms": fault.jitter.map(|length| length.as_millis()),
        "loss": fault.loss,
        "bandwidth_bits_per_second": fault.bandwidth,
        "cut": fault.cut,
    })
}
