//! Follows the logs of a session's services, including services created later.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::inspect;
use crate::session::inspect::logs::{self, Line, Part, Source};
use crate::spec::{SandboxName, Service, Spec};

/// How often to check whether all lines have been emitted.
const LOOK: Duration = Duration::from_millis(50);

/// How long to wait for the last lines of a sandbox that another process destroys.
const GONE: Duration = Duration::from_secs(2);

/// Which services' logs a session shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSelection {
    /// Only these services (default: all but those with `attach: false`).
    pub only: Vec<String>,
    /// Exclude these services.
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

/// Emits the log lines of a sandbox's services. Clones share the set of followed containers.
#[derive(Clone)]
pub struct Follower {
    context: Context,
    name: SandboxName,
    selection: LogSelection,
    /// Ids of the followed containers.
    known: Arc<Mutex<BTreeSet<String>>>,
    tasks: TaskTracker,
    /// Cancelled when stopped containers will not start again.
    ending: CancellationToken,
    /// Cancelled when no more lines are to be shown.
    stopped: CancellationToken,
}

impl Follower {
    /// Creates a follower without any container.
    pub(crate) fn new(context: &Context, name: &SandboxName, selection: LogSelection) -> Self {
        Self {
            context: context.clone(),
            name: name.clone(),
            selection,
            known: Arc::default(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Starts following new containers, from `since` on.
    ///
    /// # Errors
    /// Fails if the engine does not answer.
    pub(crate) async fn look(&mut self, spec: &Spec, since: Option<Timestamp>) -> Result<(), SessionError> {
        let engine = &self.context.engine;
        let observed = inspect::sandbox(&**engine, &self.context.scope, &self.name).await?;
        for container in observed.iter().flat_map(|observed| &observed.services) {
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
        let (engine, events) = (Arc::clone(&self.context.engine), self.context.events.clone());
        let (ending, stopped) = (self.ending.clone(), self.stopped.clone());
        let ended = ending.clone();
        self.tasks.spawn(async move {
            let (service, container) = (source.service.clone(), source.container.clone());
            let looked_at = Arc::clone(&engine);
            let copied = async {
                tokio::join!(logs::follow(engine, source, part, ending, sender), emit(lines, &events)).0
            };
            // The log of a container that is being removed cannot be read.
            if let Some(Err(error)) = stopped.run_until_cancelled(copied).await
                && !ended.is_cancelled()
                && !matches!(looked_at.container(&container).await, Ok(None))
            {
                let text = format!("cannot read the log of `{service}`: {error}");
                events.emit(Event::Warning { text, hint: error.hint() });
            }
        });
    }

    /// Waits until all lines of stopped containers are emitted. Stopped containers are not expected to start again.
    pub(crate) async fn catch_up(&self) {
        self.ending.cancel();
        while self.tasks.len() > self.count_alive().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until another process has removed the containers, or until a timeout.
    pub(crate) async fn wait_until_gone(&self) {
        self.ending.cancel();
        self.tasks.close();
        let _ = timeout(GONE, self.tasks.wait()).await;
    }

    /// Number of followed containers that run.
    async fn count_alive(&self) -> usize {
        let observed = inspect::sandbox(&*self.context.engine, &self.context.scope, &self.name).await;
        // If the engine does not answer, there are no logs to wait for.
        let Ok(Some(observed)) = observed else { return 0 };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = observed.services.iter().filter(|one| known.contains(&one.id));
        followed.filter(|one| one.state.is_alive()).count()
    }

    /// Stops emitting lines.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }
}

async fn emit(mut lines: mpsc::Receiver<Line>, events: &Events) {
    while let Some(Line { service, replica, stream, time, text }) = lines.recv().await {
        let length = text.as_bytes().len();
        events.emit_log(Event::Log { service, replica, stream, time, line: text }, length).await;
    }
}
