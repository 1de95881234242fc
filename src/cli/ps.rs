//! `ps`: a sandbox's services.

use super::{Context, Exit, Failure, complete};
use crate::report::Output;
use crate::report::logs::log_name;
use crate::report::summary;
use crate::session::observe::{self, Passwords};
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services
    #[arg(add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Containers' names only
    #[arg(short, long, conflicts_with = "names")]
    quiet: bool,
    /// Services' names only
    #[arg(long = "services")]
    names: bool,
    /// Stopped services too; they always are
    #[arg(short, long, hide = true)]
    all: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    /// Shows them.
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let mut sighting = context.chosen().await?;
        for service in &self.services {
            sighting.container(service, 1)?;
        }
        if !self.services.is_empty() {
            sighting
                .services
                .retain(|container| self.services.iter().any(|s| s == observe::service_of(container)));
        }
        let mut out = Output::stdout();
        if self.quiet {
            out.lines(sighting.services.iter().map(|container| &container.name));
            return Ok(Exit::Done);
        }
        if self.names {
            out.lines(sighting.service_names());
            return Ok(Exit::Done);
        }
        let statuses = observe::statuses(engine.as_ref(), &sighting, Passwords::LeftOut).await?;
        if context.globals.json {
            out.json(&statuses);
        } else if statuses.is_empty() {
            Output::stderr().line(&format!("sandbox `{}` has no services", log_name(&sighting.name, 1)));
        } else {
            out.table(&summary::table(out.look(), &statuses));
        }
        Ok(Exit::Done)
    }
}
