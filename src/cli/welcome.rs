//! `welcome`: shows what the spec says to its users, and its tasks.

use super::{Context, Exit, Failure, SpecOptions};
use crate::report::{Output, summary};
use crate::session::event::ListedTask;

/// Arguments of `welcome`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
}

/// Runs `welcome`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let spec = context.spec_here(&args.spec).await?;
    let tasks = ListedTask::all(&spec);
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&serde_json::json!({ "text": spec.welcome, "tasks": tasks }));
        return Ok(Exit::Done);
    }
    if spec.welcome.is_none() && tasks.is_empty() {
        Output::stderr().line("the spec has neither `welcome` nor tasks");
        return Ok(Exit::Done);
    }
    let lines = summary::welcome(out.look(), spec.welcome.as_deref().unwrap_or_default(), &tasks);
    // Without a text the list begins at once.
    let lines = lines.into_iter().skip_while(String::is_empty);
    out.lines(lines);
    Ok(Exit::Done)
}
