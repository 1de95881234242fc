//! `config` and `schema`: the resolved spec, and what a spec may say.

use super::{Context, Exit, Failure, SpecOptions};
use crate::plan;
use crate::report::Output;
use crate::spec::{self, Refusals, Spec};

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
    #[arg(long, group = "list", conflicts_with = "quiet")]
    services: bool,
    /// Print the volumes' names.
    #[arg(long, group = "list", conflicts_with = "quiet")]
    volumes: bool,
    /// Print the images that the services are made from.
    #[arg(long, group = "list", conflicts_with = "quiet")]
    images: bool,
}

impl Args {
    /// The names that are asked for, if only names are.
    fn names(&self, spec: &Spec) -> Option<Vec<String>> {
        if self.services {
            Some(spec.services.keys().map(ToString::to_string).collect())
        } else if self.volumes {
            Some(spec.volumes.keys().map(ToString::to_string).collect())
        } else if self.images {
            Some(spec.services.values().map(|service| plan::image_reference(spec, service)).collect())
        } else {
            None
        }
    }
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
    if let Some(names) = args.names(&loaded.spec) {
        out.lines(names);
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
