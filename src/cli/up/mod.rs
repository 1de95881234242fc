//! `sandbox up`: builds the sandbox and shows its addresses; in the foreground it is the session.

mod checkout;

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use clap_complete::engine::ArgValueCandidates;

use super::build_options::BuildArgs;
use super::context::ReportOptions;
use super::snapshot_spec::{loaded, source};
use super::{Context, Exit, Failure, complete};
use crate::agent::protocol::Lifetime;
use crate::plan::AnonymousVolumes;
use crate::report::Output;
use crate::report::logs::{LogFormat, Names, Times};
use crate::report::style::{Colours, set_colours};
use crate::session::build::up_report;
use crate::session::git::address::Reference;
use crate::session::git::checkout::Checkout;
use crate::session::inspect::{self, Passwords};
use crate::session::lifecycle::control::StopReason;
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::{EndsWith, Follow, LogSelection, Outcome, Purpose};
use crate::session::request::{OnFailure, UpOptions};
use crate::session::watch::{self, Watching};
use crate::spec::{self, Loaded, Refusals, ServiceName, Spec};

/// Arguments of `up`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub target: BuildArgs,
    /// Build from this branch, commit or pull request (by its number), in a temporary worktree
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<Reference>,
    /// Leave the sandbox running and return once it is ready
    #[arg(long, short)]
    pub detach: bool,
    /// The same as --detach
    #[arg(long)]
    pub wait: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Create the containers without starting them; implies --detach
    #[arg(long)]
    pub no_start: bool,
    /// Do not start the services that those named depend on
    #[arg(long)]
    pub no_deps: bool,
    /// Apply changes of the spec and of the files that its `develop.watch` names
    #[arg(long, short, conflicts_with_all = ["detach", "wait", "no_start", "dry_run"])]
    pub watch: bool,
    /// End the session when any service ends, with that service's exit code
    #[arg(long, conflicts_with_all = ["detach", "wait", "no_start"])]
    pub abort_on_container_exit: bool,
    /// End the session when any service fails, with that service's exit code
    #[arg(long, conflicts_with_all = ["detach", "wait", "no_start"])]
    pub abort_on_container_failure: bool,
    /// Exit with the code of this service; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["detach", "wait", "no_start"],
          add = ArgValueCandidates::new(complete::services))]
    pub exit_code_from: Option<ServiceName>,
    /// Show only the logs of these services
    #[arg(long, value_name = "SERVICE", value_delimiter = ',', conflicts_with_all = ["detach", "wait", "no_start"],
          add = ArgValueCandidates::new(complete::services))]
    pub attach: Vec<String>,
    /// Do not show the logs of these services
    #[arg(long, value_name = "SERVICE", value_delimiter = ',', add = ArgValueCandidates::new(complete::services))]
    pub no_attach: Vec<String>,
    /// Accepted for Compose; the logs of dependencies are always shown
    #[arg(long, hide = true)]
    pub attach_dependencies: bool,
    /// Do not show the logs of services
    #[arg(long)]
    pub no_logs: bool,
    /// Leave what exists so far detached if the sandbox cannot be built, instead of destroying it
    #[arg(long)]
    pub keep_on_failure: bool,
    /// Show the time of each line of a log
    #[arg(long)]
    pub timestamps: bool,
    /// Do not show the service of each line of a log
    #[arg(long, visible_alias = "no-prefix")]
    pub no_log_prefix: bool,
    /// Do not use colours
    #[arg(long)]
    pub no_color: bool,
    /// Seconds to wait for each service to stop, before it is killed (default: the spec's `stop_grace_period`)
    #[arg(long, short, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Do not show the progress of pulls
    #[arg(long)]
    pub quiet_pull: bool,
    /// Do not show the output of builds
    #[arg(long)]
    pub quiet_build: bool,
    /// Give containers that are recreated new anonymous volumes instead of those of their predecessors
    #[arg(long, short = 'V')]
    pub renew_anon_volumes: bool,
    /// Accepted for Compose
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub menu: Option<bool>,
    /// Accepted for Compose; nothing is asked
    #[arg(long, short, hide = true)]
    pub yes: bool,
}

impl Args {
    fn is_detached(&self) -> bool {
        self.detach || self.wait || self.no_start
    }

    fn ends_with(&self) -> EndsWith {
        if self.exit_code_from.is_some() || self.abort_on_container_exit {
            EndsWith::AnyService { code_from: self.exit_code_from.clone() }
        } else if self.abort_on_container_failure {
            EndsWith::AnyFailure
        } else {
            EndsWith::AllServices
        }
    }

    fn logs(&self) -> Follow {
        if self.no_logs {
            return Follow::Nothing;
        }
        Follow::Logs(LogSelection { only: self.attach.clone(), except: self.no_attach.clone() })
    }

    fn report(&self) -> ReportOptions {
        let logs = LogFormat {
            names: if self.no_log_prefix { Names::Hidden } else { Names::Shown },
            times: if self.timestamps { Times::Shown } else { Times::Hidden },
        };
        ReportOptions {
            logs,
            quiet_pulls: self.quiet_pull,
            quiet_builds: self.quiet_build,
            welcome: true,
            ..ReportOptions::default()
        }
    }

    fn anonymous_volumes(&self) -> AnonymousVolumes {
        if self.renew_anon_volumes { AnonymousVolumes::Renewed } else { AnonymousVolumes::Kept }
    }

    /// Fails if an option names a service that the spec does not have.
    fn check_services(&self, spec: &Spec) -> Result<(), Failure> {
        let named = self.exit_code_from.iter().map(ServiceName::as_str);
        let named = named.chain(self.attach.iter().chain(&self.no_attach).map(String::as_str));
        let mut unknown = named.filter(|name| !spec.services.contains_key(*name));
        let Some(name) = unknown.next() else { return Ok(()) };
        let hint = spec::did_you_mean(name, spec.services.keys().map(AsRef::as_ref));
        Err(Failure::usage(format!("the spec has no service `{name}`"), Some(hint)))
    }

    /// The purpose of the session.
    fn purpose(&self, context: &Context, loaded: &Loaded, opening: &UpOptions) -> Result<Purpose, Failure> {
        if self.is_detached() {
            return Ok(Purpose::Detached { lifetime: lifetime(&loaded.spec.lifetime, opening.ttl) });
        }
        let watching = self.watch.then(|| watching(self, context, loaded, opening.clone())).transpose()?;
        Ok(Purpose::Attached {
            logs: self.logs(),
            ends_with: self.ends_with(),
            stop_timeout: self.timeout.map(Duration::from_secs),
            beside: watching.map(watch::beside),
        })
    }
}

/// Runs `up`.
pub async fn run(mut args: Args, context: &Context) -> Result<Exit, Failure> {
    if args.no_color {
        set_colours(Colours::Never);
    }
    let Some(source) = checkout::source(&mut args)? else { return build(args, context, None).await };
    let checkout = checkout::make(source, context).await?;
    let outcome = build(args, context, Some(&checkout)).await;
    checkout::release(checkout, context).await;
    outcome
}

async fn build(args: Args, context: &Context, checkout: Option<&Checkout>) -> Result<Exit, Failure> {
    let from = source(context, args.target.build.from.as_deref()).await?;
    let loaded = match checkout {
        Some(checkout) => checkout::loaded(context, &args, checkout).await?,
        None => loaded(context, &args.target.spec, from.as_ref(), &args.target.services).await?,
    };
    let mut loaded = args.target.build.applied(loaded)?;
    args.check_services(&loaded.spec)?;
    if args.no_deps {
        without_dependencies(&mut loaded.spec, &args.target.services);
    }
    let engine = context.engine().await?;
    let reporting = context.reporter_with(args.report());
    reporting.warn(&loaded.warnings);
    let opening = UpOptions {
        on_failure: if args.keep_on_failure { OnFailure::Keep } else { OnFailure::Destroy },
        only_create: args.no_start,
        anonymous_volumes: args.anonymous_volumes(),
        ..args.target.build.opening(context, &args.target.spec, &args.target.services, from.as_ref())
    };
    if checkout.is_some() {
        let name = opening.name.as_ref().unwrap_or(&loaded.sandbox);
        checkout::name_is_free(&*engine, &context.scope()?, name).await?;
    }
    if args.dry_run {
        let plan = open::dry_run(&engine, &context.scope()?, &loaded, &opening).await?;
        reporting.finish().await;
        Output::stdout().block(&plan.to_string());
        return Ok(Exit::Done);
    }
    let purpose = args.purpose(context, &loaded, &opening)?;
    let session = open::open(&engine, &context.scope()?, &loaded, &opening, reporting.events.clone()).await?;
    let name = session.order.name.clone();
    let outcome = session.run(purpose).await;
    reporting.finish().await;
    let outcome = outcome?;
    if context.globals.json && matches!(outcome, Outcome::LeftUp) {
        let observed = context.clone_for(Some(name)).chosen().await?;
        let statuses = inspect::statuses(&*engine, &observed, Passwords::LeftOut).await?;
        Output::stdout().json(
            &statuses
                .into_iter()
                .map(|status| up_report::found_ready(&loaded.spec, status))
                .collect::<Vec<_>>(),
        );
    }
    Ok(exit(outcome))
}

/// Removes dependencies of the named services on services that are not named.
fn without_dependencies(spec: &mut Spec, named: &[String]) {
    for service in spec.services.values_mut().filter(|one| named.iter().any(|name| name == one.name.as_str()))
    {
        service.depends_on.retain(|name, _| named.iter().any(|named| named == name.as_str()));
    }
}

/// The parameters by which `--watch` reloads the spec.
fn watching(
    args: &Args,
    context: &Context,
    loaded: &Loaded,
    opening: UpOptions,
) -> Result<Watching, Failure> {
    let options = context.spec_options(&args.target.spec);
    if args.target.build.from.is_some() && options.files.is_empty() {
        return Err(Failure::usage(
            "a snapshot's own spec does not change: there is nothing to watch",
            Some("name a spec with `-f`".to_owned()),
        ));
    }
    if options.files.iter().any(|file| file.as_os_str() == "-") {
        return Err(Failure::usage(
            "a spec on standard input does not change: there is nothing to watch",
            Some("name a file with `-f`".to_owned()),
        ));
    }
    let request = context.load_request(&args.target.spec, &args.target.services, Refusals::Fail)?;
    let folder = &request.folder;
    let mut beside: Vec<PathBuf> = request.env_files.iter().map(|file| folder.join(file)).collect();
    if beside.is_empty() {
        beside.push(loaded.spec.folder.join(".env"));
    }
    let build = args.target.build.clone();
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
        Outcome::Ended(StopReason::CommandEnded(code)) if code != 0 => {
            Exit::Command(u8::try_from(code).unwrap_or(1))
        }
        Outcome::LeftUp | Outcome::Ended(StopReason::CommandEnded(_) | StopReason::ServicesEnded) => {
            Exit::Done
        }
        Outcome::Ended(reason) => Exit::of_signal(reason).unwrap_or(Exit::Failed),
    }
}
