//! `version`: prints the versions of sandbox, of the program that it runs on the engine, and of the engine.

use std::sync::Arc;

use serde::Serialize;

use super::{Context, Exit, Failure, keeper};
use crate::agent::image;
use crate::engine::{Engine, EngineInfo};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Agent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeper: Option<String>,
}

/// The program that runs on the engine.
#[derive(Serialize)]
#[serde(untagged)]
enum Agent {
    There { version: String, platform: String, build: String },
    Missing { error: String },
}

impl Agent {
    async fn of(engine: &dyn Engine, info: &EngineInfo) -> Self {
        match image::payload(engine, &info.arch, None).await {
            Ok(payload) => Self::There {
                version: payload.build().version.map(|number| number.to_string()).join("."),
                platform: format!("linux/{}", info.arch),
                build: payload.build().digest.clone(),
            },
            Err(error) => Self::Missing { error: crate::report::error::chain(&error).join(": ") },
        }
    }

    fn line(&self) -> String {
        match self {
            Self::There { version, platform, build } => {
                format!("agent {version} ({platform}, build {build})")
            }
            Self::Missing { error } => format!("agent: {error}"),
        }
    }
}

/// The version of the keeper that runs, if there is one.
async fn keeper_version(engine: &Arc<dyn Engine>) -> Option<String> {
    let keeper = keeper::running(engine).await.ok()??;
    Some(keeper.greeting().build.version.map(|number| number.to_string()).join("."))
}

/// Runs `version`. Without an engine, only the client's version is printed.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut output = Output::stdout();
    let version = env!("CARGO_PKG_VERSION");
    if args.short {
        output.line(version);
        return Ok(Exit::Done);
    }
    let mut versions = Versions { version, engine: None, api: None, agent: None, keeper: None };
    if let Ok(engine) = context.engine().await
        && let Ok(info) = engine.info().await
    {
        versions.engine = Some(format!("{} {}", info.kind, info.version));
        versions.api = Some(info.api.to_string());
        versions.agent = Some(Agent::of(&*engine, &info).await);
        versions.keeper = keeper_version(&engine).await;
    }
    if context.globals.json || args.format == Format::Json {
        output.json(&versions);
        return Ok(Exit::Done);
    }
    output.line(&format!("sandbox {version}"));
    if let Some(agent) = &versions.agent {
        output.line(&agent.line());
    }
    if let Some(keeper) = &versions.keeper {
        output.line(&format!("keeper {keeper}, running"));
    }
    match (versions.engine, versions.api) {
        (Some(engine), Some(api)) => output.line(&format!("engine {engine} (API {api})")),
        _ => output.line("engine: none answers; `sandbox doctor` says why"),
    }
    Ok(Exit::Done)
}
