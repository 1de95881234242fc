//! `sandbox up`: builds the sandbox and shows how to reach it; in the foreground it is the session.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::snapshot_spec::{Source, loaded, source};
use super::{Context, Exit, Failure, SpecOptions};
use crate::agent::protocol::Lifetime;
use crate::report::Output;
use crate::session::control::StopReason;
use crate::session::observe::{self, Passwords};
use crate::session::open::{self, Opening};
use crate::session::origin::Drift;
use crate::session::raise::{self, PortWish};
use crate::session::run::{Follow, OnFailure, Outcome, Purpose};
use crate::session::watch::{self, Watching};
use crate::spec::{self, Loaded, PullPolicy, Refusals, ServiceName, Spec};

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The services to build, with what they depend on (default: all).
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub spec: SpecOptions,
    #[command(flatten)]
    pub build: BuildOptions,
    /// Leave the sandbox running and return once it is ready.
    #[arg(long, short = 'd', visible_alias = "wait")]
    pub detach: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not show the services' logs.
    #[arg(long)]
    pub no_logs: bool,
    /// Leave what exists so far detached if the sandbox cannot be built, instead of destroying it
    #[arg(long)]
    pub keep_on_failure: bool,
    /// Follow changes: of the spec, and of the files that its `develop.watch` names.
    #[arg(long, short = 'w', conflicts_with_all = ["detach", "dry_run"])]
    pub watch: bool,
}

/// How a sandbox is built; shared by the verbs that build one.
#[derive(Debug, Clone, clap::Args)]
pub struct BuildOptions {
    /// When it ends, whatever happens: `90m`, `8h`, `2h30m`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// The data (and the spec, unless one is named) of a snapshot, by name or file.
    #[arg(long, value_name = "SNAPSHOT")]
    pub from: Option<String>,
    /// What may leave the sandbox: deny, allow, or names and addresses separated by commas.
    #[arg(long, value_name = "POLICY")]
    pub egress: Option<String>,
    /// Build images even if they are there.
    #[arg(long)]
    pub build: bool,
    /// When images are pulled, whatever the spec says.
    #[arg(long, value_name = "WHEN", value_enum)]
    pub pull: Option<Pull>,
    /// How many containers a service has.
    #[arg(long, value_name = "SERVICE=NUMBER", value_parser = scale)]
    pub scale: Vec<(ServiceName, u32)>,
    /// Remove containers of services that the spec has no longer; an `up` of the whole spec always does.
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
    /// Make containers anew even if nothing has changed.
    #[arg(long)]
    pub force_recreate: bool,
    /// Fail if a written host port is not free.
    #[arg(long)]
    pub strict_ports: bool,
    /// The longest to wait for a service to get ready, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub wait_timeout: u64,
    /// Use a snapshot although an image differs from the one it was made with.
    #[arg(long)]
    pub allow_image_drift: bool,
}

/// When images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// Always.
    Always,
    /// If they are not there.
    Missing,
    /// Never.
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

impl BuildOptions {
    /// Says of a spec's services what these options say.
    fn apply(&self, spec: &mut Spec) {
        for service in spec.services.values_mut().filter(|service| service.build().is_none()) {
            service.pull_policy = self.pull.map(PullPolicy::from).or(service.pull_policy);
        }
        for (name, number) in &self.scale {
            if let Some(service) = spec.services.get_mut(name) {
                service.scale = Some(*number);
            }
        }
    }

    /// A spec with what these options say of its services.
    ///
    /// # Errors
    /// When it does not have a service that is scaled.
    pub(super) fn applied(&self, mut loaded: Loaded) -> Result<Loaded, Failure> {
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

    /// The opening that these options ask for.
    pub(super) fn opening(
        &self,
        context: &Context,
        spec: &SpecOptions,
        services: &[String],
        from: Option<&Source>,
    ) -> Opening {
        Opening {
            services: services.to_vec(),
            name: context.globals.name.clone(),
            ttl: self.ttl,
            from: from.map(|source| source.set.clone()),
            egress: self.egress.clone(),
            rebuild: self.build,
            recreate: self.force_recreate,
            ports: if self.strict_ports { PortWish::Strict } else { PortWish::Any },
            patience: Duration::from_secs(self.wait_timeout),
            drift: if self.allow_image_drift { Drift::Allowed } else { Drift::Refused },
            allow_host_access: spec.allow_host_access,
            ..Opening::default()
        }
    }
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let from = source(context, args.build.from.as_deref()).await?;
    let loaded = args.build.applied(loaded(context, &args.spec, from.as_ref(), &args.services).await?)?;
    let engine = context.engine().await?;
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let on_failure = if args.keep_on_failure { OnFailure::Keep } else { OnFailure::Destroy };
    let opening =
        Opening { on_failure, ..args.build.opening(context, &args.spec, &args.services, from.as_ref()) };
    if args.dry_run {
        let plan = open::dry_run(&engine, &context.scope()?, &loaded, &opening).await?;
        reporting.finish().await;
        Output::stdout().block(&plan.to_string());
        return Ok(Exit::Done);
    }
    let purpose = if args.detach {
        Purpose::Detached { lifetime: lifetime(&loaded.spec.lifetime, opening.ttl) }
    } else {
        let logs = if args.no_logs { Follow::Nothing } else { Follow::Logs };
        let watching = args.watch.then(|| watching(&args, context, &loaded, opening.clone())).transpose()?;
        Purpose::Attached { logs, beside: watching.map(watch::beside) }
    };
    let session = open::open(&engine, &context.scope()?, &loaded, &opening, reporting.events.clone()).await?;
    let name = session.order.name.clone();
    let outcome = session.run(purpose).await;
    reporting.finish().await;
    let outcome = outcome?;
    if context.globals.json && matches!(outcome, Outcome::LeftUp) {
        let sighting = context.clone_for(Some(name)).chosen().await?;
        let statuses = observe::statuses(&*engine, &sighting, Passwords::LeftOut).await?;
        Output::stdout().json(&statuses.into_iter().map(raise::found_ready).collect::<Vec<_>>());
    }
    Ok(exit(outcome))
}

/// What `--watch` needs to read the spec anew.
fn watching(args: &Args, context: &Context, loaded: &Loaded, opening: Opening) -> Result<Watching, Failure> {
    if args.build.from.is_some() && args.spec.files.is_empty() {
        return Err(Failure::usage(
            "a snapshot's own spec does not change: there is nothing to watch",
            Some("name a spec with `-f`".to_owned()),
        ));
    }
    if args.spec.files.iter().any(|file| file.as_os_str() == "-") {
        return Err(Failure::usage(
            "a spec on standard input does not change: there is nothing to watch",
            Some("name a file with `-f`".to_owned()),
        ));
    }
    let request = context.load_request(&args.spec, &args.services, Refusals::Fail)?;
    let folder = &request.folder;
    let mut beside: Vec<PathBuf> = request.env_files.iter().map(|file| folder.join(file)).collect();
    if beside.is_empty() {
        beside.push(loaded.spec.folder.join(".env"));
    }
    let build = args.build.clone();
    let reload = move || {
        let mut loaded = spec::load(&request)?;
        build.apply(&mut loaded.spec);
        Ok(loaded)
    };
    Ok(Watching { reload: Box::new(reload), beside, opening })
}

/// What ends a detached sandbox.
pub(super) fn lifetime(written: &crate::spec::Lifetime, ttl: Option<Duration>) -> Lifetime {
    let until = ttl
        .or(written.ttl)
        .and_then(|ttl| SignedDuration::try_from(ttl).ok())
        .and_then(|ttl| Timestamp::now().checked_add(ttl).ok());
    Lifetime { until, idle: written.idle, ..Lifetime::default() }
}

fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::LeftUp | Outcome::Ended(StopReason::CommandEnded(_) | StopReason::ServicesEnded) => {
            Exit::Done
        }
        Outcome::Ended(reason) => Exit::of_signal(reason).unwrap_or(Exit::Failed),
    }
}

/// `web=3`.
fn scale(text: &str) -> Result<(ServiceName, u32), String> {
    let (name, number) = text.split_once('=').ok_or("not a service and a number such as web=3")?;
    let number = number
        .parse()
        .ok()
        .filter(|number| *number <= spec::MAX_CONTAINERS)
        .ok_or_else(|| format!("`{number}` is not a number of containers"))?;
    Ok((name.parse().map_err(|error: crate::spec::InvalidName| error.to_string())?, number))
}

/// `90m`, `8h`, `2h30m`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    super::moment::duration(text)
        .filter(|length| !length.is_zero())
        .ok_or_else(|| "not a duration such as 90m, 8h or 2h30m".to_owned())
}
