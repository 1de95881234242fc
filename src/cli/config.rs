//! `config`: prints the resolved spec.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;
use sha2::{Digest, Sha256};

use super::{Context, Exit, Failure, SpecOptions, complete};
use crate::plan;
use crate::report::Output;
use crate::spec::{self, Loaded, Refusals, Spec, Warning};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services to print (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    only: Vec<String>,
    #[command(flatten)]
    spec: SpecOptions,
    /// Form of the output
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Write to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only check the spec
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print the names of the services
    #[arg(long, group = "list", conflicts_with = "quiet")]
    services: bool,
    /// Print the names of the volumes
    #[arg(long, group = "list", conflicts_with = "quiet")]
    volumes: bool,
    /// Print the names of the networks
    #[arg(long, group = "list", conflicts_with = "quiet")]
    networks: bool,
    /// Print the images of the services
    #[arg(long, group = "list", conflicts_with = "quiet")]
    images: bool,
    /// Print the names of the profiles
    #[arg(long = "profiles", group = "list", conflicts_with = "quiet")]
    list_profiles: bool,
    /// Print a hash of each of these services (separated by commas, or `*`), which changes with its configuration
    #[arg(long, group = "list", conflicts_with = "quiet", value_name = "SERVICES")]
    hash: Option<String>,
    /// Print the variables that the spec can use
    #[arg(long, group = "list", conflicts_with = "quiet")]
    environment: bool,
    /// Print the merged files with variables as they are written
    #[arg(long, conflicts_with = "list")]
    no_interpolate: bool,
    /// Accepted for Compose
    #[arg(long, hide = true)]
    no_normalize: bool,
    /// Accepted for Compose
    #[arg(long, hide = true)]
    no_path_resolution: bool,
    /// Accepted for Compose
    #[arg(long, hide = true)]
    no_consistency: bool,
}

impl Args {
    /// The lines of the requested list, if any.
    fn list(&self, loaded: &Loaded) -> Result<Option<Vec<String>>, Failure> {
        let spec = &loaded.spec;
        Ok(if self.services {
            Some(spec.services.keys().map(ToString::to_string).collect())
        } else if self.volumes {
            Some(spec.volumes.keys().map(ToString::to_string).collect())
        } else if self.networks {
            Some(spec.networks.keys().map(ToString::to_string).collect())
        } else if self.images {
            Some(spec.services.values().map(|service| plan::image_reference(spec, service)).collect())
        } else if self.list_profiles {
            let profiles: BTreeSet<&String> = spec.services.values().flat_map(|one| &one.profiles).collect();
            Some(profiles.into_iter().cloned().collect())
        } else if let Some(services) = &self.hash {
            Some(hashes(spec, services)?)
        } else if self.environment {
            Some(loaded.variables.iter().map(|(name, value)| format!("{name}={value}")).collect())
        } else {
            None
        })
    }

    /// The options for loading the spec. All profiles are enabled for the list of profiles.
    fn options(&self) -> SpecOptions {
        let mut options = self.spec.clone();
        if self.list_profiles {
            options.profiles = vec!["*".to_owned()];
        }
        options
    }
}

/// A hash of each service's configuration, taken over its Compose form.
fn hashes(spec: &Spec, services: &str) -> Result<Vec<String>, Failure> {
    let json = spec::to_compose_json(spec);
    let known = spec.services.keys().map(AsRef::as_ref);
    let wanted: Vec<&str> = if services == "*" { known.collect() } else { services.split(',').collect() };
    wanted
        .into_iter()
        .map(|name| match json["services"].get(name) {
            Some(service) => Ok(format!("{name} {}", hex::encode(Sha256::digest(service.to_string())))),
            None => Err(no_such_service(spec, name)),
        })
        .collect()
}

fn no_such_service(spec: &Spec, name: &str) -> Failure {
    let hint = spec::did_you_mean(name, spec.services.keys().map(AsRef::as_ref));
    Failure::usage(format!("the spec has no service `{name}`"), Some(hint))
}

/// In which form a spec is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// YAML that sandbox and Compose read
    Yaml,
    /// JSON as `docker compose config` prints it
    Json,
}

impl Args {
    /// The merged files with variables as they are written.
    fn merged(&self, context: &Context) -> Result<String, Failure> {
        let request = context.load_request(&self.options(), &self.only, Refusals::Warn)?;
        let (mut merged, warnings) = spec::merged(&request).map_err(Failure::Spec)?;
        warn(&warnings);
        if let Some(services) = merged["services"].as_object_mut().filter(|_| !self.only.is_empty()) {
            if let Some(name) = self.only.iter().find(|name| !services.contains_key(*name)) {
                let hint = spec::did_you_mean(name, services.keys().map(String::as_str));
                return Err(Failure::usage(format!("the spec has no service `{name}`"), Some(hint)));
            }
            services.retain(|name, _| self.only.contains(name));
        }
        let is_json = self.format == Format::Json || context.globals.json;
        Ok(if is_json { format!("{merged:#}\n") } else { spec::json_to_yaml(&merged) })
    }

    fn print(&self, text: String, what: Printed) -> Result<Exit, Failure> {
        match &self.output {
            _ if self.quiet => {}
            Some(file) => std::fs::write(file, text).map_err(|error| {
                Failure::failed(format!("cannot write `{}`: {error}", file.display()), None)
            })?,
            None if what == Printed::Document => Output::stdout().document(&text),
            None => Output::stdout().data(&text),
        }
        Ok(Exit::Done)
    }
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// YAML or JSON.
    Document,
    /// A list, one entry a line.
    Lines,
}

fn warn(warnings: &[Warning]) {
    let mut errors = Output::stderr();
    for warning in warnings {
        errors.line(&format!("warning: {warning}"));
    }
}

/// Runs `config`.
pub fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.no_interpolate {
        return args.print(args.merged(context)?, Printed::Document);
    }
    let mut loaded = context.load(&args.options(), &args.only, Refusals::Warn)?;
    if !args.only.is_empty() {
        loaded.spec.services.retain(|name, _| args.only.iter().any(|wanted| wanted == name.as_str()));
    }
    warn(&loaded.warnings);
    let list = args.list(&loaded)?;
    let is_json = args.format == Format::Json || context.globals.json;
    let is_document = list.is_none() || is_json;
    let text = match list {
        Some(list) if is_json => format!("{}\n", serde_json::json!(list)),
        Some(list) if list.is_empty() => String::new(),
        Some(list) => list.join("\n") + "\n",
        None if is_json => {
            format!("{:#}\n", spec::to_compose_json(&loaded.spec))
        }
        None => spec::to_yaml(&loaded.spec),
    };
    args.print(text, if is_document { Printed::Document } else { Printed::Lines })
}
