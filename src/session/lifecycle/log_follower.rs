//! Follows the logs of a session's services, those that are created later included.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::build::converge::Context;
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::inspect;
use crate::session::inspect::logs::{self, Line, Part, Source};
use crate::spec::{SandboxName, Service, Spec};

/// How often it is looked whether everything is emitted.
const LOOK: Duration = Duration::from_millis(50);

/// How long the last lines of a sandbox are waited for that another process destroys.
const GONE: Duration = Duration::from_secs(2);

/// Which services' logs a session shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSelection {
    /// Only these (default: all but those with `attach: false`).
    pub only: Vec<String>,
    /// Not these.
    pub except: Vec<String>,
}

impl LogSelection {
    fn includes(&self, name: &str, service: &Service) -> bool {
        let selected = if self.only.is_empty() {
            service.attach != Some(false)
        } else {
            self.only.iter().any(|one| one == name)
        };
        selected && !self.except.iter().any(|one| one == name)
    }
}

/// Emits what the services of a sandbox write. Clones share what is followed.
#[derive(Clone)]
pub struct Follower {
    site: Context,
    name: SandboxName,
    selection: LogSelection,
    /// The containers that are followed, by id.
    known: Arc<Mutex<BTreeSet<String>>>,
    tasks: TaskTracker,
    /// Cancelled when stopped containers are not going to be started again.
    ending: CancellationToken,
    /// Cancelled when nothing more is to be shown.
    stopped: CancellationToken,
}

impl Follower {
    /// Follows nothing yet.
    pub(crate) fn new(site: &Context, name: &SandboxName, selection: LogSelection) -> Self {
        Self {
            site: site.clone(),
            name: name.clone(),
            selection,
            known: Arc::default(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Follows the containers that are not followed yet, from `since` on.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) async fn look(&mut self, spec: &Spec, since: Option<Timestamp>) -> Result<(), SessionError> {
        let engine = &self.site.engine;
        let sighting = inspect::sandbox(&**engine, &self.site.scope, &self.name).await?;
        for container in sighting.iter().flat_map(|sighting| &sighting.services) {
            let service = inspect::service_of(container);
            let wanted = spec.services.get(service).is_some_and(|one| self.selection.includes(service, one));
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted && known.insert(container.id.clone()) {
                self.follow(Source::from(container), Part { since, ..Part::default() });
            }
        }
        Ok(())
    }

    fn follow(&self, source: Source, part: Part) {
        let (sender, lines) = mpsc::channel::<Line>(256);
        let (engine, events) = (Arc::clone(&self.site.engine), self.site.events.clone());
        let (ending, stopped) = (self.ending.clone(), self.stopped.clone());
        let ended = ending.clone();
        self.tasks.spawn(async move {
            let service = source.service.clone();
            let copied = async {
                tokio::join!(logs::follow(engine, source, part, ending, sender), emit(lines, &events)).0
            };
            // A container that is being removed has no log any more.
            if let Some(Err(error)) = stopped.run_until_cancelled(copied).await
                && !ended.is_cancelled()
            {
                let text = format!("cannot read the log of `{service}`: {error}");
                events.emit(Event::Warning { text, hint: error.hint() });
            }
        });
    }

    /// Waits until everything is emitted that stopped containers have written. They are not expected to start again.
    pub(crate) async fn catch_up(&self) {
        self.ending.cancel();
        while self.tasks.len() > self.count_alive().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the containers are gone, which another process destroys, or as long as a session may take to end then.
    pub(crate) async fn wait_until_gone(&self) {
        self.ending.cancel();
        self.tasks.close();
        let _ = timeout(GONE, self.tasks.wait()).await;
    }

    /// How many of the containers that are followed run.
    async fn count_alive(&self) -> usize {
        let sighting = inspect::sandbox(&*self.site.engine, &self.site.scope, &self.name).await;
        // An engine that does not answer has no logs either.
        let Ok(Some(sighting)) = sighting else { return 0 };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = sighting.services.iter().filter(|one| known.contains(&one.id));
        followed.filter(|one| one.state.is_alive()).count()
    }

    /// Emits nothing more.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }
}

async fn emit(mut lines: mpsc::Receiver<Line>, events: &Events) {
    while let Some(Line { service, replica, stream, time, text }) = lines.recv().await {
        events.emit(Event::Log { service, replica, stream, time, line: text });
    }
}
