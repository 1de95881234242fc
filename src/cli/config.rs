//! `config` and `schema`: the resolved spec, and what a spec may say.

use super::{Context, Exit, Failure, SpecOptions};
use crate::report::Output;
use crate::spec::{self, Refusals};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    /// `yaml`, or the JSON of `docker compose config --format json`.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Print nothing: only check.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print the services' names.
    #[arg(long, conflicts_with = "quiet")]
    services: bool,
}

/// In which form a spec is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Runs `config`.
pub fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load(&args.spec, &[], Refusals::Warn)?;
    let mut errors = Output::stderr();
    for warning in &loaded.warnings {
        errors.line(&format!("warning: {warning}"));
    }
    let mut out = Output::stdout();
    if args.services {
        loaded.spec.services.keys().for_each(|name| out.line(name.as_str()));
    } else if !args.quiet {
        match args.format {
            Format::Yaml if !context.globals.json => out.text(&spec::to_yaml(&loaded.spec)),
            Format::Yaml | Format::Json => out.json(&spec::to_compose_json(&loaded.spec)),
        }
    }
    Ok(Exit::Done)
}

/// Runs `schema`.
pub fn schema() -> Exit {
    Output::stdout().json(&spec::schema());
    Exit::Done
}
