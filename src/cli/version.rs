//! `version`: prints the versions of sandbox and of the engine.

use serde::Serialize;

use super::{Context, Exit, Failure};
use crate::report::Output;

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print only the number
    #[arg(long)]
    short: bool,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "pretty")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Pretty,
    /// One JSON object
    Json,
}

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<String>,
}

/// Runs `version`. Without an engine, only the client's version is printed.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut output = Output::stdout();
    let version = env!("CARGO_PKG_VERSION");
    if args.short {
        output.line(version);
        return Ok(Exit::Done);
    }
    let info = match context.engine().await {
        Ok(engine) => engine.info().await.ok(),
        Err(_) => None,
    };
    let engine = info.as_ref().map(|info| format!("{} {}", info.kind, info.version));
    let versions = Versions { version, engine, api: info.map(|info| info.api.to_string()) };
    if context.globals.json || args.format == Format::Json {
        output.json(&versions);
        return Ok(Exit::Done);
    }
    output.line(&format!("sandbox {version}"));
    match (versions.engine, versions.api) {
        (Some(engine), Some(api)) => output.line(&format!("engine {engine} (API {api})")),
        _ => output.line("engine: none answers; `sandbox doctor` says why"),
    }
    Ok(Exit::Done)
}
