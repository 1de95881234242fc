//! A sandbox that the server owns: its session runs in a task of this process until the server ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::reply::ErrorReply;
use crate::agent::client::Keeper;
use crate::engine::identity::SandboxId;
use crate::session::build::bake::Missing;
use crate::session::error::SessionError;
use crate::session::lifecycle::control::{LoopEvent, StopReason};
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::{Outcome, Purpose, RunningSandbox, Session, SideTask};
use crate::session::request::{BuildRequest, UpOptions};
use crate::spec::{Loaded, SandboxName};
use crate::storage::SetPath;

/// How a session ended.
type Ended = Result<Outcome, SessionError>;

/// A sandbox that the server owns.
pub(super) struct Held {
    /// Its name.
    pub name: SandboxName,
    /// The instance id: another sandbox may take the name after this one is gone.
    pub id: SandboxId,
    /// The folder of its spec.
    pub folder: PathBuf,
    /// Receives its events.
    pub feed: Arc<Feed>,
    snapshots: Mutex<BTreeMap<String, SetPath>>,
    /// Held by a call that changes the sandbox, so that one waits for another.
    pub changing: tokio::sync::Mutex<()>,
    keeper: Keeper,
    control: mpsc::UnboundedSender<LoopEvent>,
    changes: mpsc::Sender<Change>,
    ended: watch::Receiver<Option<Arc<Ended>>>,
}

/// A change of a running sandbox to another spec.
struct Change {
    loaded: Box<Loaded>,
    opening: UpOptions,
    cancelled: CancellationToken,
    done: oneshot::Sender<Result<(), SessionError>>,
}

/// Returns once the sandbox is up.
pub(super) type Ready = oneshot::Receiver<()>;

impl Held {
    /// Starts the session of a sandbox.
    pub fn start(session: Session, feed: Arc<Feed>) -> (Arc<Self>, Ready) {
        let (control, signals) = mpsc::unbounded_channel();
        let (changes, requests) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        let (finished, ended) = watch::channel(None);
        let held = Self {
            name: session.order.name.clone(),
            id: session.order.id.clone(),
            folder: session.order.spec.folder.clone(),
            feed,
            snapshots: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            keeper: session.context.keeper.clone(),
            control,
            changes,
            ended,
        };
        let signals = stream::unfold(signals, |mut signals| async {
            let next: LoopEvent = signals.recv().await?;
            Some((next, signals))
        });
        let task: SideTask = Box::new(move |running| Box::pin(serve(running, requests, ready)));
        tokio::spawn(async move {
            let outcome = session.run_hearing(signals.boxed(), Purpose::Held(task)).await;
            finished.send_replace(Some(Arc::new(outcome)));
        });
        (Arc::new(held), is_ready)
    }

    /// Waits until the sandbox is up. A cancelled call destroys it.
    ///
    /// # Errors
    /// Fails if it cannot be built, or if the call is cancelled.
    pub async fn built(&self, ready: Ready, cancelled: &CancellationToken) -> Result<(), ErrorReply> {
        let ended = tokio::select! {
            Ok(()) = ready => return Ok(()),
            ended = self.ended() => ended,
            () = cancelled.cancelled() => {
                self.end();
                self.ended().await;
                return Err(SessionError::Cancelled.into());
            }
        };
        Err(why(&self.name, &ended))
    }

    /// Changes the sandbox to another spec, and waits until it is ready. A cancelled change stays as far as it came.
    ///
    /// # Errors
    /// Fails if the change fails, or if the sandbox ends meanwhile.
    pub async fn change(
        &self,
        loaded: Loaded,
        opening: UpOptions,
        cancelled: CancellationToken,
    ) -> Result<(), ErrorReply> {
        let (done, outcome) = oneshot::channel();
        let change = Change { loaded: Box::new(loaded), opening, cancelled, done };
        if self.changes.send(change).await.is_ok()
            && let Ok(changed) = outcome.await
        {
            return Ok(changed?);
        }
        let ended = self.ended().await;
        Err(why(&self.name, &ended))
    }

    /// Tells the session to destroy the sandbox.
    pub fn end(&self) {
        // A session that has ended does not listen.
        let _ = self.control.send(LoopEvent::Terminated);
    }

    /// Cuts graceful stops short.
    pub fn force(&self) {
        let _ = self.control.send(LoopEvent::Interrupted);
    }

    /// Waits until the session has ended.
    pub async fn ended(&self) -> Arc<Ended> {
        let mut ended = self.ended.clone();
        loop {
            if let Some(outcome) = &*ended.borrow_and_update() {
                return Arc::clone(outcome);
            }
            if ended.changed().await.is_err() {
                // The task of the session panicked.
                return Arc::new(Ok(Outcome::Ended(StopReason::Lost)));
            }
        }
    }

    /// The error of a sandbox that has ended; `None` while it lives.
    pub fn end_so_far(&self) -> Option<ErrorReply> {
        self.ended.borrow().as_ref().map(|ended| why(&self.name, ended))
    }

    /// Reports that the sandbox is in use, so that it does not expire as idle.
    pub async fn touch(&self) {
        // The session notices if the keeper does not answer.
        let _ = self.keeper.touch(&self.name).await;
    }

    /// Notes a snapshot that was taken.
    pub fn add_snapshot(&self, name: String, set: SetPath) {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).insert(name, set);
    }

    /// The snapshots that were taken, with the names that the agent gave.
    pub fn snapshots(&self) -> BTreeMap<String, SetPath> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection to the keeper.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}

/// Why a sandbox is gone.
fn why(name: &SandboxName, ended: &Ended) -> ErrorReply {
    let reason = match ended {
        Err(error) => return error.into(),
        Ok(Outcome::Ended(StopReason::DeadlinePassed)) => "its time is over",
        Ok(Outcome::Ended(StopReason::Unused)) => "it was not used for too long",
        Ok(Outcome::Ended(StopReason::EngineRestarted)) => "the engine restarted",
        Ok(Outcome::Ended(StopReason::Terminated)) => "it was destroyed",
        Ok(_) => "the connection to it was lost",
    };
    SessionError::Ended { name: name.clone(), why: reason.to_owned() }.into()
}

/// Carries out changes until the session ends.
async fn serve(
    mut running: RunningSandbox,
    mut requests: mpsc::Receiver<Change>,
    ready: oneshot::Sender<()>,
) {
    // Nobody waits if the call was cancelled just now.
    let _ = ready.send(());
    let token = running.token.clone();
    while let Some(Some(change)) = token.run_until_cancelled(requests.recv()).await {
        let Change { loaded, opening, cancelled, done } = change;
        let changed = apply(&mut running, &loaded, &opening, &cancelled).await;
        let _ = done.send(changed);
    }
}

async fn apply(
    running: &mut RunningSandbox,
    loaded: &Loaded,
    opening: &UpOptions,
    cancelled: &CancellationToken,
) -> Result<(), SessionError> {
    let order = open::again(&running.context, loaded, opening, &running.order).await?;
    let built = order.spec.services.values().filter(|service| opening.rebuild && service.build().is_some());
    let rebuild: BTreeSet<_> = built.map(|service| service.name.clone()).collect();
    let order = BuildRequest { rebuild, ..order };
    let whole = running.token.clone();
    let part = whole.child_token();
    running.token = part.clone();
    let changed = {
        let work = running.apply(order, Missing::Leave);
        tokio::pin!(work);
        tokio::select! {
            changed = &mut work => changed,
            () = cancelled.cancelled() => {
                part.cancel();
                work.await
            }
        }
    };
    running.token = whole;
    changed.map(drop)
}
