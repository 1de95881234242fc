//! Any other service, and all of them with `--whole`: a copy of the sandbox for each database, on a clone of its data.
//!
//! The original is stopped cleanly once it is up, so that its data does not change and no copy has to recover.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::address::ServerAddress;
use super::protocol::SourceKind;
use super::shelf::Bounds;
use super::source::{Lent, Source};
use crate::agent::protocol::Reason;
use crate::engine::identity::SandboxId;
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::Events;
use crate::session::existing::ExistingSandbox;
use crate::session::inspect;
use crate::session::lifecycle::control::LoopEvent;
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::{Outcome, Purpose, RunningSandbox, Session, SideTask};
use crate::spec::{SandboxName, ServiceName};

/// Sandboxes that are copies of one.
pub(super) struct WholeServers {
    original: ExistingSandbox,
    service: ServiceName,
    patience: Duration,
    /// Held while the data is cloned: the keeper lets one operation at a time work on it.
    cloning: Mutex<()>,
    number: AtomicU64,
    forks: Mutex<BTreeMap<u64, Fork>>,
}

/// A copy with its session, which runs in a task.
struct Fork {
    control: mpsc::UnboundedSender<LoopEvent>,
    session: JoinHandle<Result<Outcome, SessionError>>,
}

impl WholeServers {
    /// Stops the services of the sandbox.
    ///
    /// # Errors
    /// Fails if the engine or the keeper fails.
    pub async fn prepare(running: &RunningSandbox, service: &ServiceName) -> Result<Self, SessionError> {
        let (context, name) = (&running.context, &running.order.name);
        let observed = inspect::sandbox(&*context.engine, &context.scope, name).await?;
        let observed = observed.ok_or_else(|| SessionError::NoSuchSandbox { name: name.clone() })?;
        // The progress of each copy is not shown.
        let context = Context { events: Events::nowhere(), ..context.clone() };
        let original = ExistingSandbox::at(context, observed).await?;
        original.stop(&original.services(&[])?, None).await?;
        let (service, patience) = (service.clone(), running.order.patience);
        let (cloning, number, forks) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Ok(Self { original, service, patience, cloning, number, forks })
    }

    /// Takes the lease on a copy and clones the data to it.
    async fn begin(&self, name: SandboxName) -> Result<Session, SessionError> {
        let id = SandboxId::random();
        let order = self.original.fork(name, id.clone(), self.patience).await?;
        let session = open::begin(self.original.context.clone(), order, false).await?;
        let cloned = {
            let _one = self.cloning.lock().await;
            self.original.lend(&id).await
        };
        if let Err(error) = cloned {
            session.lease.release(Reason::Failed).await?;
            return Err(error);
        }
        Ok(session)
    }
}

#[async_trait]
impl Source for WholeServers {
    fn kind(&self) -> SourceKind {
        SourceKind::Whole
    }

    fn notes(&self) -> Vec<String> {
        vec!["each database is a server of its own on a clone of the data".to_owned()]
    }

    fn bounds(&self, ready: Option<usize>) -> Bounds {
        Bounds { ready: ready.unwrap_or(2), at_once: 2, most: None }
    }

    async fn make(&self, token: &CancellationToken) -> Result<Lent, SessionError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let name = SandboxName::derive(self.original.name.as_str(), Some(&number.to_string()));
        let fork = Fork::start(self.begin(name.clone()).await?, token).await?;
        let context = &self.original.context;
        let address = ServerAddress::find(&*context.engine, &context.scope, &name, &self.service).await;
        match address {
            Ok(address) => {
                self.forks.lock().await.insert(number, fork);
                Ok(Lent { url: address.url().map(String::from), env: address.environment(), number })
            }
            Err(error) => {
                fork.end().await?;
                Err(error)
            }
        }
    }

    async fn clear(&self, lent: Lent) -> Result<(), SessionError> {
        let fork = self.forks.lock().await.remove(&lent.number);
        match fork {
            Some(fork) => fork.end().await,
            None => Ok(()),
        }
    }

    async fn close(&self, all: Vec<Lent>) {
        let ended = join_all(all.into_iter().map(|lent| self.clear(lent))).await;
        for error in ended.into_iter().filter_map(Result::err) {
            // The keeper destroys it when this process ends.
            tracing::warn!(%error, "a lent sandbox was not destroyed");
        }
    }
}

impl Fork {
    /// Runs the session of a copy and waits until the copy is up; destroys it if the token is cancelled before.
    async fn start(session: Session, token: &CancellationToken) -> Result<Self, SessionError> {
        let (control, signals) = mpsc::unbounded_channel();
        let signals = stream::unfold(signals, |mut signals| async {
            let next: LoopEvent = signals.recv().await?;
            Some((next, signals))
        });
        let (ready, is_ready) = oneshot::channel();
        let task: SideTask = Box::new(move |running| {
            Box::pin(async move {
                // Nobody waits if the start was cancelled just now.
                let _ = ready.send(());
                running.token.cancelled().await;
            })
        });
        let name = session.order.name.clone();
        let session = tokio::spawn(session.run_hearing(signals.boxed(), Purpose::Held(task)));
        let fork = Self { control, session };
        match token.run_until_cancelled(is_ready).await {
            Some(Ok(())) => Ok(fork),
            // The session has ended.
            Some(Err(_)) => {
                fork.end().await?;
                Err(SessionError::Ended { name, why: "it ended while it was built".to_owned() })
            }
            None => {
                fork.end().await?;
                Err(SessionError::Cancelled)
            }
        }
    }

    /// Destroys the copy. Nobody needs its data, so nothing is stopped gracefully.
    async fn end(self) -> Result<(), SessionError> {
        // A session that has ended does not listen.
        let _ = self.control.send(LoopEvent::CommandEnded(0));
        let _ = self.control.send(LoopEvent::Interrupted);
        self.session.await?.map(drop)
    }
}
