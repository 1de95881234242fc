//! Options of the verbs that build a sandbox.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;

use super::{Context, Failure, SpecOptions, complete};
use crate::cli::snapshot_spec::Source;
use crate::plan;
use crate::session::request::{Drift, PreferredPort, UpOptions};
use crate::spec::{self, ImageSource, Loaded, PullPolicy, ServiceName, Spec};

/// What is built, from which spec, and how; shared by `up`, `create` and `watch`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BuildArgs {
    /// Services to build, with their dependencies (default: all); with `up`, a git repository before them, as
    /// `URL[#REF][:FOLDER]` or a path
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<String>,
    #[command(flatten)]
    pub spec: SpecOptions,
    #[command(flatten)]
    pub build: BuildOptions,
}

/// How images are provided and how long services are waited for; shared by the verbs that build a sandbox, and `bake`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BakeOptions {
    /// Allowed outbound connections: deny, allow, or names and addresses separated by commas
    #[arg(long, value_name = "POLICY")]
    pub egress: Option<String>,
    /// Build images even if they exist
    #[arg(long, conflicts_with = "no_build")]
    pub build: bool,
    /// Do not build images; fail if one is missing
    #[arg(long)]
    pub no_build: bool,
    /// When to pull images, whatever the spec says
    #[arg(long, value_name = "WHEN", value_enum)]
    pub pull: Option<Pull>,
    /// Seconds to wait for a service to get ready (default: 300)
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
}

/// How a sandbox is built; shared by the verbs that build one.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BuildOptions {
    #[command(flatten)]
    pub bake: BakeOptions,
    /// Longest life of the sandbox: `90m`, `8h`, `2h30m`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Start with the data (and the spec, unless one is named) of a snapshot: its name, a file or oci://REF
    #[arg(long, value_name = "SNAPSHOT", add = ArgValueCandidates::new(complete::snapshots))]
    pub from: Option<String>,
    /// Number of containers of a service
    #[arg(long, value_name = "SERVICE=NUMBER", value_parser = scale)]
    pub scale: Vec<(ServiceName, u32)>,
    /// Remove containers of services that the spec has no longer; an `up` of the whole spec always does
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
    /// Recreate containers even if nothing has changed
    #[arg(long)]
    pub force_recreate: bool,
    /// Fail if a fixed host port is taken, instead of using another one
    #[arg(long)]
    pub strict_ports: bool,
    /// Use a snapshot although an image differs from the one it was made with
    #[arg(long)]
    pub allow_image_drift: bool,
}

/// Default timeout for a service to become ready, in seconds.
const PATIENCE: u64 = 300;

/// When images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// Every time
    Always,
    /// Only if the engine does not have them
    Missing,
    /// Never
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
        }
    }
}

impl BakeOptions {
    /// Applies these options to a spec's services.
    pub(in crate::cli) fn apply(&self, spec: &mut Spec) {
        for service in spec.services.values_mut().filter(|service| service.build().is_none()) {
            service.pull_policy = self.pull.map(PullPolicy::from).or(service.pull_policy);
        }
        if self.no_build {
            without_builds(spec);
        }
    }

    /// Converts these options to [`UpOptions`].
    pub(in crate::cli) fn opening(&self, context: &Context, spec: &SpecOptions) -> UpOptions {
        UpOptions {
            name: context.globals.name.clone(),
            egress: self.egress.clone(),
            rebuild: self.build,
            patience: Duration::from_secs(self.wait_timeout.unwrap_or(PATIENCE)),
            allow_host_access: context.spec_options(spec).allow_host_access,
            ..UpOptions::default()
        }
    }
}

impl BuildOptions {
    /// Applies these options to a spec's services.
    pub(in crate::cli) fn apply(&self, spec: &mut Spec) {
        self.bake.apply(spec);
        for (name, number) in &self.scale {
            if let Some(service) = spec.services.get_mut(name) {
                service.scale = Some(*number);
            }
        }
    }

    /// Returns a spec with these options applied.
    ///
    /// # Errors
    /// Fails if the spec does not have a service that is scaled.
    pub(in crate::cli) fn applied(&self, mut loaded: Loaded) -> Result<Loaded, Failure> {
        let services = &loaded.spec.services;
        if let Some((name, _)) = self.scale.iter().find(|(name, _)| !services.contains_key(name)) {
            let known: Vec<&str> = services.keys().map(ServiceName::as_str).collect();
            let hint = format!("the services are {}", known.join(", "));
            return Err(Failure::usage(
                format!("cannot scale `{name}`: there is no such service"),
                Some(hint),
            ));
        }
        self.apply(&mut loaded.spec);
        Ok(loaded)
    }

    /// Converts these options to [`UpOptions`].
    pub(in crate::cli) fn opening(
        &self,
        context: &Context,
        spec: &SpecOptions,
        services: &[String],
        from: Option<&Source>,
    ) -> UpOptions {
        UpOptions {
            services: services.to_vec(),
            ttl: self.ttl,
            from: from.map(|source| source.set.clone()),
            recreate: self.force_recreate,
            ports: if self.strict_ports { PreferredPort::Strict } else { PreferredPort::Any },
            drift: if self.allow_image_drift { Drift::Allowed } else { Drift::Refused },
            ..self.bake.opening(context, spec)
        }
    }
}

/// Uses existing images instead of building them.
fn without_builds(spec: &mut Spec) {
    let built = spec.services.values().filter(|service| service.build().is_some());
    let references: Vec<_> =
        built.map(|service| (service.name.clone(), plan::image_reference(spec, service))).collect();
    for (name, reference) in references {
        if let Some(service) = spec.services.get_mut(&name) {
            service.source = ImageSource::Image(reference);
            service.pull_policy = Some(PullPolicy::Never);
        }
    }
}

/// Parses `web=3`.
pub(in crate::cli) fn scale(text: &str) -> Result<(ServiceName, u32), String> {
    let (name, number) = text.split_once('=').ok_or("not a service and a number such as web=3")?;
    let number = number
        .parse()
        .ok()
        .filter(|number| *number <= spec::MAX_CONTAINERS)
        .ok_or_else(|| format!("`{number}` is not a number of containers"))?;
    Ok((name.parse().map_err(|error: crate::spec::InvalidName| error.to_string())?, number))
}

/// Parses `90m`, `8h`, `2h30m`, `1d`.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    super::moment::duration(text)
        .filter(|length| !length.is_zero())
        .ok_or_else(|| "not a duration such as 90m, 8h or 2h30m".to_owned())
}
