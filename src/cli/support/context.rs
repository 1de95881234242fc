//! What verbs share: which engine, which keeper, which spec, which sandbox, and where to report.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
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
use crate::session::event::{Event, Events, Recorded};
use crate::session::existing;
use crate::session::inspect::{self, Choice, NoSandbox, ObservedSandbox};
use crate::spec::{self, HostAccess, LoadRequest, Loaded, Refusals, SandboxName, Spec};

/// What verbs share. Everything is looked up when it is first asked for.
pub struct Context {
    /// The options that every verb takes.
    pub globals: Globals,
    /// What was written before the verb about the spec.
    spec: SpecOptions,
    engine: OnceCell<Arc<dyn Engine>>,
}

impl Context {
    /// A context for one run of the program.
    pub fn new(globals: Globals, spec: SpecOptions) -> Self {
        Self { globals, spec, engine: OnceCell::new() }
    }

    /// What the command line says about the spec, before and after the verb.
    pub fn spec_options(&self, verb: &SpecOptions) -> SpecOptions {
        self.spec.with(verb)
    }

    /// The same context for another sandbox; for this one if none is named.
    #[must_use]
    pub fn clone_for(&self, name: Option<SandboxName>) -> Self {
        let mut globals = self.globals.clone();
        globals.name = name.or(globals.name);
        Self { globals, spec: self.spec.clone(), engine: self.engine.clone() }
    }

    /// The engine that the environment names.
    ///
    /// # Errors
    /// When none answers.
    pub async fn engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        let connect = || async {
            let engine = Docker::connect(&ConnectRequest::from_env()).await.map_err(Failure::NoEngine)?;
            // Whatever is asked for: what has expired while no keeper ran goes. That it cannot be is for the verbs
            // that need a keeper to say.
            if let Ok(options) = client::Options::from_env()
                && let Err(error) = client::sweep_expired(&engine, &options).await
            {
                tracing::debug!(%error, "what has expired was not looked for");
            }
            Ok::<_, Failure>(engine)
        };
        self.engine.get_or_try_init(connect).await.cloned()
    }

    /// The world that the environment names.
    ///
    /// # Errors
    /// When its name is no name.
    pub fn scope(&self) -> Result<Scope, Failure> {
        Scope::from_env().map_err(|error| Failure::usage(error.to_string(), None))
    }

    /// The folder that the user stands in.
    ///
    /// # Errors
    /// When it has been removed.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        Ok(std::env::current_dir()?)
    }

    /// Loads the spec.
    ///
    /// # Errors
    /// All problems that were found in it.
    pub fn load(
        &self,
        options: &SpecOptions,
        services: &[String],
        refusals: Refusals,
    ) -> Result<Loaded, Failure> {
        spec::load(&self.load_request(options, services, refusals)?).map_err(Failure::Spec)
    }

    /// What [`Context::load`] asks for.
    ///
    /// # Errors
    /// When the folder that the user stands in has been removed.
    pub fn load_request(
        &self,
        options: &SpecOptions,
        services: &[String],
        refusals: Refusals,
    ) -> Result<LoadRequest, Failure> {
        let SpecOptions { files, mut env_files, profiles, project_directory, allow_host_access } =
            self.spec_options(options);
        let mut folder = self.folder()?;
        if env_files.is_empty() {
            let listed = std::env::var("COMPOSE_ENV_FILES").unwrap_or_default();
            env_files = listed.split(',').filter(|file| !file.is_empty()).map(PathBuf::from).collect();
        }
        let project_folder = project_directory.map(|directory| folder.join(directory));
        if let Some(project) = project_folder.as_ref().filter(|_| files.is_empty()) {
            // There the spec is looked for; the other files are named from here.
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
            allow_host_access: if allow_host_access { HostAccess::Allowed } else { HostAccess::Refused },
            refusals,
            ..LoadRequest::default()
        })
    }

    /// The name of the sandbox that a spec's `up` makes.
    pub fn sandbox_name(&self, loaded: &Loaded) -> SandboxName {
        self.globals.name.clone().unwrap_or_else(|| loaded.sandbox.clone())
    }

    /// The sandbox that the verb is about: the named one, the branch's, or the folder's only one.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn chosen(&self) -> Result<ObservedSandbox, Failure> {
        let engine = self.engine().await?;
        let sightings = inspect::sandboxes(&*engine, &self.scope()?).await?;
        Ok(self.choose(&sightings)?.clone())
    }

    /// The same among sandboxes that have been looked at already.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn choose<'a>(&self, sightings: &'a [ObservedSandbox]) -> Result<&'a ObservedSandbox, Failure> {
        let folder = self.folder()?;
        let derived = if self.globals.name.is_some() { None } else { self.derived_name() };
        let choice = Choice { name: self.globals.name.as_ref(), derived: derived.as_ref(), folder: &folder };
        inspect::choose(sightings, &choice).map_err(Failure::from)
    }

    /// The sandbox that belongs to the folder, or the named one: what a verb may destroy without being told its name.
    ///
    /// # Errors
    /// When there is none; others that were made from the folder are named.
    pub fn own<'a>(&self, sightings: &'a [ObservedSandbox]) -> Result<&'a ObservedSandbox, Failure> {
        let folder = self.folder()?;
        let derived = if self.globals.name.is_some() { None } else { self.derived_name() };
        let choice = Choice { name: self.globals.name.as_ref(), derived: derived.as_ref(), folder: &folder };
        inspect::own(sightings, &choice).map_err(Failure::from)
    }

    /// The name of the sandbox that the verb would be about if it were there: the named one, else the folder's.
    pub fn derived_name(&self) -> Option<SandboxName> {
        let of_folder = || self.load(&SpecOptions::default(), &[], Refusals::Warn).ok();
        self.globals.name.clone().or_else(|| of_folder().map(|loaded| loaded.sandbox))
    }

    /// The spec here, as it is written now; where there is none, the one that the sandbox was made from.
    ///
    /// # Errors
    /// When it has problems, or there is neither.
    pub async fn spec_here(&self, options: &SpecOptions) -> Result<Spec, Failure> {
        let named =
            !self.spec_options(options).files.is_empty() || std::env::var_os("COMPOSE_FILE").is_some();
        let folder = self.spec_options(options).project_directory.map_or_else(|| self.folder(), Ok)?;
        if named || spec::files_for(&folder).is_some() {
            return Ok(self.load(options, &[], Refusals::Warn)?.spec);
        }
        let sighting = self.chosen().await?;
        let keeper = Keeper::ensure(&self.engine().await?, client::Options::from_env()?).await?;
        existing::declared(&keeper, &sighting).await?.ok_or_else(|| {
            let hint = format!("`sandbox down {}` destroys what there is", sighting.name);
            Failure::failed(format!("sandbox `{}` is half-made", sighting.name), Some(hint))
        })
    }

    /// Starts a reporter of events on standard error.
    pub fn reporter(&self) -> Reporting {
        self.reporter_with(ReportOptions::default())
    }

    /// The same with options of the verb's own.
    pub fn reporter_with(&self, options: ReportOptions) -> Reporting {
        let (events, receiver) = Events::channel();
        let activity = Arc::new(Activity::default());
        let inner = report::to_stderr(self.globals.progress.into(), options.logs);
        let reporter = Box::new(Observed { inner, options, activity: Arc::clone(&activity) });
        let driver = tokio::spawn(report::drive(reporter, receiver));
        Reporting { events, driver, activity }
    }
}

/// A reporter at work.
pub struct Reporting {
    /// Where to tell what happens.
    pub events: Events,
    driver: JoinHandle<Vec<Recorded>>,
    activity: Arc<Activity>,
}

/// What a reporter does at the moment.
#[derive(Default)]
struct Activity {
    writing: AtomicBool,
    written: AtomicU64,
}

/// What a verb's options say about its report.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportOptions {
    /// How lines of logs are shown.
    pub logs: LogFormat,
    /// Whether the progress of pulls is left out.
    pub quiet_pulls: bool,
    /// Whether the output of builds is left out.
    pub quiet_builds: bool,
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

/// How long a reporter that has nothing to write is waited for. Something that still holds a sender must not hold up the
/// end.
const IDLE: Duration = Duration::from_secs(5);

impl Reporting {
    /// Tells a warning of the spec's.
    pub fn warn(&self, warnings: &[spec::Warning]) {
        for warning in warnings {
            self.events.emit(Event::Warning { text: warning.to_string(), hint: None });
        }
    }

    /// Waits until everything that was emitted is written, however slow the reader is. All other senders must be gone.
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

/// A little more than the longest spec that is read: what is too long is for the loader to say.
const LONGEST_INPUT: u64 = 64 << 20;

fn read_input() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The variables of this process that are text.
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
