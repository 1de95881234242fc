//! `push`: pushes built images to their registries.

use super::support::context::ReportOptions;
use super::support::fetch::{ImageArgs, Which};
use super::{Context, Exit, Failure};
use crate::agent::client::in_full;
use crate::session::build::push;
use crate::session::event::Event;

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    images: ImageArgs,
    /// Push what can be pushed, and warn about the rest
    #[arg(long)]
    ignore_push_failures: bool,
}

/// Runs `push`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let spec = args.images.chosen(Which::Built, context)?;
    let references = push::references(&spec);
    let engine = context.engine().await?;
    let options = ReportOptions { quiet_pushes: args.images.quiet, ..ReportOptions::default() };
    let reporting = context.reporter_with(options);
    for service in spec.services.values() {
        if references.iter().all(|(owner, _)| owner.name != service.name) {
            let text = format!("`{}` is not pushed: it has no `image`, the name to push to", service.name);
            reporting.events.emit(Event::Notice { text });
        }
    }
    let mut outcome = Ok(Exit::Done);
    for (service, reference) in &references {
        match push::push(&*engine, &reporting.events, service, reference).await {
            Ok(()) => {}
            Err(failed) if args.ignore_push_failures => {
                let text = in_full(&failed);
                reporting.events.emit(Event::Warning { text, hint: failed.hint() });
            }
            Err(failed) => {
                outcome = Err(failed.into());
                break;
            }
        }
    }
    reporting.finish().await;
    outcome
}
