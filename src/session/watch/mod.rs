//! `up --watch`: applies changes of files of this machine to the sandbox.
//!
//! It watches the paths in the spec's `develop.watch`, and the spec itself. A changed spec is read again, and only the
//! changes are applied. An invalid spec, or one that cannot be applied, is reported, and the running sandbox is left
//! unchanged.

mod files;
mod rules;
mod sync;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::build::bake::Missing;
use super::build::clean_stop::{in_stop_order, with_dependents};
use super::build::converge::{self, StartRequest};
use super::build::hooks;
use super::build::up_report;
use super::error::SessionError;
use super::event::Event;
use super::inspect;
use super::lifecycle::open;
use super::lifecycle::run::{RunningSandbox, SideTask};
use super::request::UpOptions;
use crate::plan::PreStart;
use crate::session::data::secret_files::{Generated, Values};
use crate::session::request::BuildRequest;
use crate::spec::{self, ConfigSource, Loaded, Problems, SecretSource, ServiceName, Spec};
use files::Files;
use rules::{Rules, Work};

/// The options of `--watch`.
pub struct Watching {
    /// Reads the spec again.
    pub reload: Box<dyn Fn() -> Result<Loaded, Problems> + Send + Sync>,
    /// Other files that the spec depends on: `.env`.
    pub beside: Vec<PathBuf>,
    /// The options of `up`.
    pub opening: UpOptions,
}

/// A side task that watches for changes during a session.
pub fn beside(watching: Watching) -> SideTask {
    Box::new(move |raised| Box::pin(Watch { watching, raised }.run()))
}

/// The state of a running watch.
struct Watch {
    watching: Watching,
    raised: RunningSandbox,
}

/// The state of the spec's files.
struct Written {
    spec: Spec,
    /// The files that the spec was read from.
    read: BTreeSet<PathBuf>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Whole,
    Broken,
}

impl Watch {
    /// Applies changes until the token is cancelled.
    async fn run(mut self) {
        if let Err(error) = self.follow().await {
            let (text, hint) = (format!("changes are not followed: {error}"), files::hint(&error));
            self.tell(Event::Warning { text, hint });
        }
    }

    fn tell(&self, event: Event) {
        self.raised.context.events.emit(event);
    }

    async fn follow(&mut self) -> notify::Result<()> {
        let spec = (*self.raised.order.spec).clone();
        let mut written = Written { read: spec.files.iter().cloned().collect(), spec, state: State::Whole };
        if let Ok(loaded) = (self.watching.reload)() {
            (written.spec, written.read) = (loaded.spec, loaded.read);
        }
        let mut files = Files::new()?;
        let mut rules = self.rules(&written.spec);
        let found = self.cover(&mut files, &rules, &written)?;
        self.tell_what_is_watched(&rules);
        if rules.has_a_first() {
            self.work(rules.at_first(&found)).await;
        }
        while !self.raised.token.is_cancelled() {
            let skips = |folder: &Path| rules.skips(folder);
            let changed = tokio::select! {
                changed = files.changed(&skips) => changed,
                () = self.raised.token.cancelled() => break,
            };
            if self.spec_files(&written).any(|file| changed.contains(&file)) {
                self.reload(&mut written).await;
                rules = self.rules(&written.spec);
                self.cover(&mut files, &rules, &written)?;
            }
            let work = rules.work(&changed);
            if !work.is_empty() {
                self.work(work).await;
            }
        }
        Ok(())
    }

    fn rules(&self, spec: &Spec) -> Rules {
        let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        Rules::of(spec, &read).unwrap_or_else(|text| {
            self.tell(Event::Warning { text, hint: None });
            Rules::default()
        })
    }

    fn cover(
        &self,
        files: &mut Files,
        rules: &Rules,
        written: &Written,
    ) -> notify::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for file in self.spec_files(written) {
            files.cover(&file, &|_| true, &mut BTreeSet::new())?;
        }
        for root in rules.roots() {
            files.cover(root, &|folder| rules.skips(folder), &mut found)?;
        }
        Ok(found)
    }

    fn spec_files(&self, written: &Written) -> impl Iterator<Item = PathBuf> {
        let secrets = written.spec.secrets.values().filter_map(|secret| match &secret.source {
            SecretSource::File(file) => Some(file),
            _ => None,
        });
        let configs = written.spec.configs.values().filter_map(|config| match &config.source {
            ConfigSource::File(file) => Some(file),
            _ => None,
        });
        let values = secrets.chain(configs);
        written
            .read
            .iter()
            .chain(&self.watching.beside)
            .chain(values)
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn tell_what_is_watched(&self, rules: &Rules) {
        let folder = &self.raised.order.spec.folder;
        let mut watched: Vec<String> = rules.roots().map(|root| shown(root, folder)).collect();
        watched.dedup();
        let what = if watched.is_empty() { String::new() } else { format!(" and {}", watched.join(", ")) };
        self.tell(Event::Notice { text: format!("watching the spec{what}") });
    }

    /// Reads the spec again and applies the changes.
    async fn reload(&mut self, written: &mut Written) {
        let loaded = match (self.watching.reload)() {
            Ok(loaded) => loaded,
            Err(problems) => {
                written.state = State::Broken;
                self.tell_problems(&problems);
                return;
            }
        };
        let was = std::mem::replace(&mut written.state, State::Whole);
        written.read = loaded.read.clone();
        if loaded.spec == written.spec && !self.has_other_files(&loaded) {
            if was == State::Broken {
                self.tell(Event::Notice { text: "the spec is as it was".to_owned() });
            }
            return;
        }
        let environment = std::env::vars().collect();
        let widened = spec::widened(&written.spec, &loaded.spec, &environment);
        if !widened.is_empty() {
            written.state = State::Broken;
            self.tell_widened(&widened);
            return;
        }
        written.spec = loaded.spec.clone();
        for warning in &loaded.warnings {
            self.tell(Event::Warning { text: warning.to_string(), hint: None });
        }
        match open::again(&self.raised.context, &loaded, &self.watching.opening, &self.raised.order).await {
            Ok(order) => {
                self.change(order, "the spec has changed".to_owned(), Missing::Leave).await;
            }
            Err(error) => self.tell_failure("the changed spec is not applied", &error),
        }
    }

    /// Whether configs or secrets have other content than the sandbox got. One that cannot be read is reported by the
    /// change.
    fn has_other_files(&self, loaded: &Loaded) -> bool {
        let order = &self.raised.order;
        Values::resolve(loaded, &Generated::new())
            .map_or(true, |now| now.digests(&loaded.spec) != order.values.digests(&order.spec))
    }

    /// A service may have written the spec, so privileges beyond those at the session's start need the user's consent.
    fn tell_widened(&self, widened: &[String]) {
        let text =
            "the changed spec is not applied: it asks for more than this session was begun with".to_owned();
        let hint = "if you wrote it, end this session and run `sandbox up` again".to_owned();
        self.tell(Event::Warning { text, hint: Some(hint) });
        for what in widened {
            self.tell(Event::Notice { text: format!("  it asks for {what}") });
        }
    }

    fn tell_problems(&self, problems: &Problems) {
        for problem in problems {
            let place = problem.place.as_ref();
            let place = place.map(|at| format!("{}:{}:{}: ", at.file.display(), at.line, at.column));
            let text = format!("{}{}", place.unwrap_or_default(), problem.message);
            self.tell(Event::Warning { text, hint: problem.hint.clone() });
        }
        let text = "the sandbox stays as it is until the spec can be read".to_owned();
        self.tell(Event::Notice { text });
    }

    fn tell_failure(&self, what: &str, error: &SessionError) {
        if matches!(error, SessionError::Cancelled) {
            return;
        }
        self.tell(Event::Warning { text: format!("{what}: {error}"), hint: error.hint() });
        for line in error.log() {
            self.tell(Event::Notice { text: format!("  {line}") });
        }
    }

    /// Performs the actions for changed files.
    async fn work(&mut self, work: Work) {
        if !work.rebuild.is_empty() {
            let why = format!("rebuilding {}", listed(&work.rebuild));
            let order = BuildRequest { rebuild: work.rebuild.clone(), ..self.raised.order.clone() };
            self.change(order, why, Missing::Leave).await;
        }
        let spec = Arc::clone(&self.raised.order.spec);
        let writable = spec.writable_folders();
        for (name, files) in &work.copy {
            let Some(service) = spec.services.get(name) else { continue };
            for container in self.containers(name).await {
                let copied =
                    sync::copy(&*self.raised.context.engine, service, &container, files, &writable).await;
                if let Err(error) = copied {
                    self.tell_failure(&format!("changed files are not in `{name}`"), &error);
                }
            }
            let folder = &spec.folder;
            let what = match files.keys().collect::<Vec<_>>().as_slice() {
                [one] => shown(one, folder),
                many => format!("{} files", many.len()),
            };
            self.tell(Event::Notice { text: format!("{what} → {name}") });
        }
        if !work.restart.is_empty()
            && let Err(error) = self.restart(&work.restart).await
        {
            self.tell_failure(&format!("cannot restart {}", listed(&work.restart)), &error);
        }
        for (name, command) in &work.run {
            for container in self.containers(name).await {
                let context = &self.raised.context;
                let ran =
                    hooks::run_shown(&*context.engine, &context.events, name.as_str(), &container, command);
                tokio::select! {
                    ran = ran => if let Err(error) = ran {
                        self.tell_failure("after a change", &error);
                    },
                    () = self.raised.token.cancelled() => return,
                }
            }
        }
    }

    async fn containers(&self, service: &ServiceName) -> Vec<String> {
        let seen = inspect::sandbox(
            &*self.raised.context.engine,
            &self.raised.context.scope,
            &self.raised.order.name,
        )
        .await;
        let observed = seen.ok().flatten();
        let all = observed.iter().flat_map(|observed| observed.containers(service.as_str()));
        all.filter(|container| container.state.is_alive()).map(|container| container.name.clone()).collect()
    }

    async fn restart(&mut self, which: &BTreeSet<ServiceName>) -> Result<(), SessionError> {
        let began = self.begin(&format!("restarting {}", listed(which)));
        let outcome = async {
            let BuildRequest { spec, name, id, patience, .. } = &self.raised.order;
            let which = &with_dependents(spec, which);
            let context = &self.raised.context;
            for group in in_stop_order(which.iter().filter_map(|name| spec.services.get(name)).collect()) {
                for service in group {
                    for container in self.containers(&service.name).await {
                        let stop = hooks::stop_container(
                            &*context.engine,
                            &context.events,
                            Some(service),
                            &container,
                            None,
                        );
                        stop.await?;
                    }
                }
            }
            let pre_start = PreStart::Skip;
            let request = StartRequest { spec, name, id, which, pre_start, patience: *patience };
            converge::start(context, &request, &self.raised.token).await
        }
        .await;
        self.end(began);
        outcome
    }

    /// Executes a build request, and reports a failure.
    async fn change(&mut self, order: BuildRequest, why: String, missing: Missing) {
        let spec_changed = order.spec != self.raised.order.spec;
        let began = self.begin_with(&order, &why);
        let made = self.raised.apply(order, missing).await;
        self.end(began);
        match made {
            Ok(order) if spec_changed => {
                let told =
                    up_report::tell_up(&self.raised.context, &order, &self.raised.manner, began.elapsed())
                        .await;
                if let Err(error) = told {
                    self.tell_failure(&why, &error);
                }
            }
            Ok(_) => {}
            Err(error) => self.tell_failure(&format!("{why} failed"), &error),
        }
        if let Some(follower) = &mut self.raised.follower
            && let Err(error) = follower.look(&self.raised.order.spec, None).await
        {
            self.tell_failure("logs of new services are not shown", &error);
        }
    }

    fn begin(&self, why: &str) -> Instant {
        self.begin_with(&self.raised.order, why)
    }

    fn begin_with(&self, order: &BuildRequest, why: &str) -> Instant {
        let services = order.spec.services.keys().map(ToString::to_string).collect();
        let name = order.name.to_string();
        self.tell(Event::Changing { name, why: why.to_owned(), services });
        Instant::now()
    }

    fn end(&self, began: Instant) {
        let (name, deadline) = (self.raised.order.name.to_string(), self.raised.deadline);
        self.tell(Event::Changed { name, deadline, attached: true, elapsed: began.elapsed() });
    }
}

fn listed(services: &BTreeSet<ServiceName>) -> String {
    services.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn shown(path: &Path, folder: &Path) -> String {
    let short = path.strip_prefix(folder).ok().filter(|short| !short.as_os_str().is_empty());
    short.unwrap_or(path).display().to_string()
}
