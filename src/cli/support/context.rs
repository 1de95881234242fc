//! The shared context of the verbs: the engine, the keeper, the spec, the selected sandbox, and the reporter.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use super::{Failure, Globals, SpecOptions};
use crate::agent::client::{self, Keeper};
use crate::engine::Engine;
use crate::engine::docker::{ConnectRequest, Docker};
use crate::engine::identity::Scope;
use crate::report::logs::LogFormat;
use crate::report::{self, Reporter};
use crate::session;
use crate::session::event::{Event, Events, Recorded};
use crate::session::git::store;
use crate::session::inspect::{self, Choice, NoSandbox, ObservedSandbox};
use crate::spec::{self, LoadRequest, Loaded, Refusals, SandboxName, Spec};

/// The shared context of the verbs. Each part is loaded on first use.
pub struct Context {
    /// The global options.
    pub globals: Globals,
    /// The options for the spec that were given before the verb.
    spec: SpecOptions,
    engine: OnceCell<Arc<dyn Engine>>,
}

impl Context {
    /// Creates the context for one run of the program.
    pub fn new(globals: Globals, spec: SpecOptions) -> Self {
        Self { globals, spec, engine: OnceCell::new() }
    }

    /// The options for the spec, merged from before and after the verb.
    pub fn spec_options(&self, verb: &SpecOptions) -> SpecOptions {
        self.spec.with(verb)
    }

    /// The same context with another sandbox selected, if `name` is given.
    #[must_use]
    pub fn clone_for(&self, name: Option<SandboxName>) -> Self {
        let mut globals = self.globals.clone();
        globals.name = name.or(globals.name);
        Self { globals, spec: self.spec.clone(), engine: self.engine.clone() }
    }

    /// Connects to the engine that the environment names.
    ///
    /// # Errors
    /// Fails if the engine does not reply.
    pub async fn engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        let connect = || async {
            let engine = Docker::connect(&ConnectRequest::from_env()).await.map_err(Failure::NoEngine)?;
            // Every verb removes sandboxes that expired while no keeper was running. Failures are ignored here; verbs
            // that need a keeper report them.
            if let Ok(options) = client::Options::from_env()
                && let Err(error) = client::sweep_expired(&engine, &options).await
            {
                tracing::debug!(%error, "cannot look for expired sandboxes");
            }
            // And temporary checkouts whose sandbox is gone.
            if let Ok(scope) = self.scope()
                && let Err(error) = store::sweep(&*engine, &scope).await
            {
                tracing::debug!(%error, "cannot remove unused checkouts");
            }
            Ok::<_, Failure>(engine)
        };
        self.engine.get_or_try_init(connect).await.cloned()
    }

    /// Opens the context of the session layer, for a verb that uses it without a session.
    ///
    /// # Errors
    /// Fails if there is no engine or no keeper.
    pub async fn session_context(&self, events: Events) -> Result<session::context::Context, Failure> {
        let engine = self.engine().await?;
        let keeper = Keeper::ensure(&engine, client::Options::from_env()?).await?;
        Ok(session::context::Context::open(&engine, &self.scope()?, keeper, events).await?)
    }

    /// The scope from `SANDBOX_SCOPE`.
    ///
    /// # Errors
    /// Fails if it is not a valid scope name.
    #[expect(clippy::unused_self, reason = "verbs ask the context for what they share")]
    pub fn scope(&self) -> Result<Scope, Failure> {
        Scope::from_env().map_err(|error| Failure::usage(error.to_string(), None))
    }

    /// The working directory.
    ///
    /// # Errors
    /// Fails if it has been removed.
    pub fn folder() -> Result<PathBuf, Failure> {
        Ok(std::env::current_dir()?)
    }

    /// Loads the spec.
    ///
    /// # Errors
    /// Fails with all problems that were found in it.
    pub fn load(
        &self,
        options: &SpecOptions,
        services: &[String],
        refusals: Refusals,
    ) -> Result<Loaded, Failure> {
        spec::load(&self.load_request(options, services, refusals)?).map_err(Failure::Spec)
    }

    /// The request for [`Context::load`].
    ///
    /// # Errors
    /// Fails if the working directory has been removed.
    pub fn load_request(
        &self,
        options: &SpecOptions,
        services: &[String],
        refusals: Refusals,
    ) -> Result<LoadRequest, Failure> {
        let options = self.spec_options(options);
        let access = options.host_access();
        let SpecOptions { files, mut env_files, profiles, project_directory, .. } = options;
        let mut folder = Self::folder()?;
        if env_files.is_empty() {
            let listed = std::env::var("COMPOSE_ENV_FILES").unwrap_or_default();
            env_files = listed.split(',').filter(|file| !file.is_empty()).map(PathBuf::from).collect();
        }
        let project_folder = project_directory.map(|directory| folder.join(directory));
        if let Some(project) = project_folder.as_ref().filter(|_| files.is_empty()) {
            // The spec is searched in the project directory; paths of environment files are relative to the working
            // directory.
            env_files = env_files.into_iter().map(|file| folder.join(file)).collect();
            folder.clone_from(project);
        }
        Ok(LoadRequest {
            input: files.iter().any(|file| file.as_os_str() == "-").then(read_input).transpose()?,
            files,
            folder,
            project_folder,
            env: environment(),
            env_files,
            profiles,
            services: services.to_vec(),
            allow_host_access: access,
            refusals,
            ..LoadRequest::default()
        })
    }

    /// The selected sandbox: the named one, that of the branch, or the folder's only one.
    ///
    /// # Errors
    /// Fails if there is none, or more than one.
    pub async fn chosen(&self) -> Result<ObservedSandbox, Failure> {
        let engine = self.engine().await?;
        let observed = inspect::sandboxes(&*engine, &self.scope()?).await?;
        Ok(self.choose(&observed)?.clone())
    }

    /// Same as [`Context::chosen`], for sandboxes that have already been listed.
    ///
    /// # Errors
    /// Fails if there is none, or more than one.
    pub fn choose<'a>(&self, observed: &'a [ObservedSandbox]) -> Result<&'a ObservedSandbox, Failure> {
        let folder = Self::folder()?;
        let derived = if self.globals.name.is_some() { None } else { self.derived_name() };
        let choice = Choice { name: self.globals.name.as_ref(), derived: derived.as_ref(), folder: &folder };
        inspect::choose(observed, &choice).map_err(Failure::from)
    }

    /// The sandbox of the folder, or the named one: the sandbox that a verb may destroy without being given its name.
    ///
    /// # Errors
    /// Fails if there is none, and lists others that were created from the folder.
    pub fn own<'a>(&self, observed: &'a [ObservedSandbox]) -> Result<&'a ObservedSandbox, Failure> {
        let folder = Self::folder()?;
        let derived = if self.globals.name.is_some() { None } else { self.derived_name() };
        let choice = Choice { name: self.globals.name.as_ref(), derived: derived.as_ref(), folder: &folder };
        inspect::own(observed, &choice).map_err(Failure::from)
    }

    /// The name that the selected sandbox would have if it existed: the given one, else the folder's.
    pub fn derived_name(&self) -> Option<SandboxName> {
        let of_folder = || self.load(&SpecOptions::default(), &[], Refusals::Warn).ok();
        self.globals.name.clone().or_else(|| of_folder().map(|loaded| loaded.sandbox))
    }

    /// The current spec of the folder; without one, the spec that the sandbox was created from.
    ///
    /// # Errors
    /// Fails if the spec has problems, or if there is neither.
    pub async fn spec_here(&self, options: &SpecOptions) -> Result<Spec, Failure> {
        let named =
            !self.spec_options(options).files.is_empty() || std::env::var_os("COMPOSE_FILE").is_some();
        let folder = self.spec_options(options).project_directory.map_or_else(Self::folder, Ok)?;
        let here = named || spec::files_for(&folder).is_some();
        if here && (named || !self.is_elsewhere(&folder).await) {
            return Ok(self.load(options, &[], Refusals::Warn)?.spec);
        }
        let observed = self.chosen().await?;
        let keeper = Keeper::ensure(&self.engine().await?, client::Options::from_env()?).await?;
        inspect::declared(&keeper, &observed).await?.ok_or_else(|| {
            let hint = format!("`sandbox down {}` destroys what there is", observed.name);
            Failure::failed(format!("sandbox `{}` is half-made", observed.name), Some(hint))
        })
    }

    /// Whether the sandbox that the user names was created from another folder, such as a temporary checkout.
    async fn is_elsewhere(&self, folder: &Path) -> bool {
        let Some(name) = &self.globals.name else { return false };
        let (Ok(engine), Ok(scope)) = (self.engine().await, self.scope()) else { return false };
        let observed = inspect::sandbox(&*engine, &scope, name).await.ok().flatten();
        observed.is_some_and(|observed| !folder.starts_with(&observed.folder))
    }

    /// Starts a reporter of events on standard error.
    pub fn reporter(&self) -> Reporting {
        self.reporter_with(ReportOptions::default())
    }

    /// Same as [`Context::reporter`], with options of the verb.
    pub fn reporter_with(&self, options: ReportOptions) -> Reporting {
        Self::reporter_around(report::to_stderr(self.globals.progress.into(), options.logs), options)
    }

    /// Same as [`Context::reporter_with`], with another renderer.
    pub fn reporter_around(inner: Box<dyn Reporter>, options: ReportOptions) -> Reporting {
        let (events, receiver) = Events::channel();
        let activity = Arc::new(Activity::default());
        let reporter = Box::new(Observed { inner, options, activity: Arc::clone(&activity) });
        let driver = tokio::spawn(report::drive(reporter, receiver));
        Reporting { events, driver, activity }
    }
}

/// A running reporter.
pub struct Reporting {
    /// Receives the events to report.
    pub events: Events,
    driver: JoinHandle<Vec<Recorded>>,
    activity: Arc<Activity>,
}

/// State of the reporter's thread.
#[derive(Default)]
struct Activity {
    writing: AtomicBool,
    written: AtomicU64,
}

/// Reporting options of a verb.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportOptions {
    /// The format of log lines.
    pub logs: LogFormat,
    /// Whether to hide the progress of pulls.
    pub quiet_pulls: bool,
    /// Whether to hide the output of builds.
    pub quiet_builds: bool,
    /// Whether to hide the progress of pushes.
    pub quiet_pushes: bool,
    /// Whether to show what the spec greets the user with.
    pub welcome: bool,
}

struct Observed {
    inner: Box<dyn Reporter>,
    options: ReportOptions,
    activity: Arc<Activity>,
}

impl Reporter for Observed {
    fn event(&mut self, event: &Event) {
        let hidden = match event {
            Event::Pull { .. } => self.options.quiet_pulls,
            Event::BuildLine { .. } => self.options.quiet_builds,
            Event::Transfer { .. } | Event::Notice { .. } => self.options.quiet_pushes,
            Event::Welcome { .. } => !self.options.welcome,
            _ => false,
        };
        if hidden {
            return;
        }
        self.activity.writing.store(true, Ordering::Relaxed);
        self.inner.event(event);
        self.activity.written.fetch_add(1, Ordering::Relaxed);
        self.activity.writing.store(false, Ordering::Relaxed);
    }

    fn tick(&mut self) {
        self.inner.tick();
    }

    fn finish(&mut self) {
        self.inner.finish();
    }
}

/// How long to wait for a reporter that writes nothing. A task that still holds a sender must not delay the exit.
const IDLE: Duration = Duration::from_secs(5);

impl Reporting {
    /// Reports the warnings of a spec.
    pub fn warn(&self, warnings: &[spec::Warning]) {
        for warning in warnings {
            self.events.emit(Event::Warning { text: warning.to_string(), hint: None });
        }
    }

    /// Waits until all events have been written, however slow the output is. All other senders must have been dropped.
    /// Ctrl-C ends the wait.
    pub async fn finish(self) -> Vec<Recorded> {
        let Self { events, mut driver, activity } = self;
        drop(events);
        let mut written = activity.written.load(Ordering::Relaxed);
        loop {
            tokio::select! {
                recorded = &mut driver => return recorded.unwrap_or_default(),
                _ = tokio::signal::ctrl_c() => return Vec::new(),
                () = tokio::time::sleep(IDLE) => {}
            }
            let now = activity.written.load(Ordering::Relaxed);
            if now == written && !activity.writing.load(Ordering::Relaxed) {
                return Vec::new();
            }
            written = now;
        }
    }
}

/// Slightly more than the maximum size of a spec, so that the loader reports a spec that is too large.
const LONGEST_INPUT: u64 = 64 << 20;

fn read_input() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The environment variables of this process that are valid UTF-8.
pub(in crate::cli) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl From<NoSandbox> for Failure {
    fn from(error: NoSandbox) -> Self {
        Self::NoSandbox(error)
    }
}
