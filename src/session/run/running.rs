//! The loop of a session: what happens is handed to [`Control`], and what that answers is done.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Beside, Follow, Outcome, Purpose, Raised, build};
use crate::agent::client::{Keeper, KeeperError, Lease};
use crate::agent::protocol::{Notice, Reason};
use crate::session::bake::Missing;
use crate::session::control::{Control, Happening, Response, StopReason};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::exits::{Exit, Listener};
use crate::session::follow::Follower;
use crate::session::limits;
use crate::session::raise::{Order, Site};
use crate::session::signals;
use crate::session::teardown::Doomed;
use crate::spec::Spec;

/// What the loop is told by its tasks.
pub(super) enum Told {
    Happened(Happening),
    Failed(SessionError),
    NotDestroyed(SessionError),
    Left(Vec<String>),
}

pub(super) struct Running {
    pub(super) site: Site,
    pub(super) order: Order,
    pub(super) lease: Option<Lease>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) existed: bool,
    pub(super) purpose: Option<Purpose>,
    pub(super) control: Control,
    pub(super) keeper: Keeper,
    /// The spec as it is now: `--watch` may change it.
    pub(super) spec: watch::Sender<Arc<Spec>>,
    /// Whether the sandbox is just being changed.
    pub(super) changing: Arc<AtomicBool>,
    /// Cancelled when the building (and the serving) is to stop.
    pub(super) token: CancellationToken,
    /// Cancelled when grace is over.
    pub(super) force: CancellationToken,
    pub(super) building: Option<tokio::task::JoinHandle<()>>,
    /// Which services have ended; kept until somebody hears of it.
    pub(super) exits: (mpsc::UnboundedSender<Exit>, Option<mpsc::UnboundedReceiver<Exit>>),
    pub(super) sender: mpsc::UnboundedSender<Told>,
    pub(super) failure: Option<SessionError>,
    pub(super) began: Timestamp,
}

impl Running {
    pub(super) async fn main_loop(
        mut self,
        mut signals: BoxStream<'static, Happening>,
        mut told: mpsc::UnboundedReceiver<Told>,
    ) -> Result<Outcome, SessionError> {
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        self.build();
        loop {
            let happening = tokio::select! {
                Some(happening) = signals.next() => Some(happening),
                Some(told) = told.recv() => self.hear(told),
                notice = notice(&mut self.lease) => self.noticed(notice),
                _ = clock.tick() => self.time(),
            };
            let Some(happening) = happening else { continue };
            let response = self.control.handle(happening);
            if let Some(outcome) = self.perform(response).await? {
                return Ok(outcome);
            }
        }
    }

    fn hear(&mut self, told: Told) -> Option<Happening> {
        match told {
            Told::Happened(happening) => Some(happening),
            Told::Failed(error) => {
                self.failure = Some(error);
                Some(Happening::BuildFailed)
            }
            Told::NotDestroyed(error) => {
                self.failure.get_or_insert(error);
                Some(Happening::TornDown)
            }
            Told::Left(left) => {
                self.failure.get_or_insert(SessionError::LeftBehind { name: self.order.name.clone(), left });
                Some(Happening::TornDown)
            }
        }
    }

    fn noticed(&mut self, notice: Result<Notice, KeeperError>) -> Option<Happening> {
        match notice {
            Ok(Notice::EndMoved { ends, .. }) if self.deadline == Some(ends) => None,
            Ok(Notice::EndMoved { ends, .. }) => {
                self.deadline = Some(ends);
                self.events().emit(Event::DeadlineMoved { deadline: ends });
                self.time()
            }
            // Only said on: an end by disuse moves with each use, which the keeper alone hears of.
            Ok(Notice::EndsSoon { ends, .. }) => {
                let left = Duration::try_from(ends.duration_since(Timestamp::now())).ok();
                left.filter(|left| !left.is_zero()).map(Happening::DeadlineIn)
            }
            Ok(Notice::OutOfMemory { container, limit, .. }) => {
                limits::tell_of_want(self.events(), &container, limit);
                None
            }
            Ok(Notice::Exited { service, container, code, fate, .. }) => {
                // Who does not stay to hear of it need not.
                let _ = self.exits.0.send(Exit { service, container, code, fate });
                None
            }
            Ok(Notice::Other) => None,
            Ok(Notice::Ending { reason: Reason::Ttl | Reason::Idle, .. }) => {
                Some(Happening::DeadlineIn(Duration::ZERO))
            }
            Ok(Notice::Ending { .. }) => Some(self.vanished()),
            // The keeper destroys it, or has.
            Err(error) => {
                self.lease = None;
                self.events().emit(Event::Warning { text: error.to_string(), hint: error.hint() });
                Some(self.vanished())
            }
        }
    }

    /// Somebody else destroys it. What was asked for is not done if it is not even built.
    fn vanished(&mut self) -> Happening {
        if !self.control.is_building() {
            return Happening::Vanished;
        }
        let what = format!("sandbox `{}` was destroyed while it was being built", self.order.name);
        let hint = Some("`sandbox events --past` tells by whom and why".to_owned());
        self.failure.get_or_insert(SessionError::Data { what, hint });
        Happening::BuildFailed
    }

    /// How much time is left, once there is a deadline.
    fn time(&self) -> Option<Happening> {
        let left = self.deadline?.duration_since(Timestamp::now());
        Some(Happening::DeadlineIn(Duration::try_from(left).unwrap_or(Duration::ZERO)))
    }

    async fn perform(&mut self, response: Response) -> Result<Option<Outcome>, SessionError> {
        match response {
            Response::Continue => Ok(None),
            Response::Serve => self.serve().await,
            Response::TearDown(reason) if self.is_changing() && reason != StopReason::DeadlinePassed => {
                self.give_back();
                Ok(None)
            }
            Response::TearDown(reason) => {
                self.tear_down(reason);
                Ok(None)
            }
            Response::Force => {
                self.force.cancel();
                Ok(None)
            }
            Response::Warn(left) => {
                self.events().emit(Event::DeadlineNear { left });
                Ok(None)
            }
            Response::Suspend => {
                self.suspend().await;
                Ok(None)
            }
            Response::Leave => match self.failure.take() {
                Some(error) => Err(error),
                None => Ok(Some(Outcome::Ended(self.control.reason().unwrap_or(StopReason::Vanished)))),
            },
        }
    }

    /// Whether a sandbox that was there before is being changed.
    fn is_changing(&self) -> bool {
        self.existed && self.purpose.is_some()
    }

    fn events(&self) -> &Events {
        &self.site.events
    }

    fn build(&mut self) {
        let (site, order, keeper) = (self.site.clone(), self.order.clone(), self.keeper.clone());
        let missing = if self.existed { Missing::Leave } else { Missing::Bake };
        let (token, sender, deadline) = (self.token.clone(), self.sender.clone(), self.deadline);
        let attached = !self.is_detaching();
        self.building = Some(tokio::spawn(async move {
            let told = match build(&site, &keeper, order, missing, deadline, attached, &token).await {
                Ok(()) => Told::Happened(Happening::Built),
                Err(SessionError::Cancelled) => return,
                Err(error) => Told::Failed(error),
            };
            let _ = sender.send(told);
        }));
    }

    async fn serve(&mut self) -> Result<Option<Outcome>, SessionError> {
        if let (true, Some(lease)) = (self.is_changing() && !self.is_detaching(), &self.lease) {
            lease.settle().await?;
        }
        match self.purpose.take() {
            Some(Purpose::Detached { lifetime }) => {
                if let Some(lease) = self.lease.take() {
                    lease.detach(lifetime).await?;
                }
                return Ok(Some(Outcome::LeftUp));
            }
            Some(Purpose::Attached { logs, beside }) => {
                let mut follower = None;
                if logs == Follow::Logs {
                    let mut new = Follower::new(&self.site, &self.order.name, &self.token);
                    new.look(&self.order.spec, Some(self.began)).await?;
                    follower = Some(new);
                }
                self.listen(Some(Happening::CommandEnded(0)));
                if let Some(beside) = beside {
                    self.run_beside(beside, follower);
                }
            }
            Some(Purpose::Command(start)) => {
                self.listen(None);
                let (sender, command) = (self.sender.clone(), start());
                tokio::spawn(async move {
                    let code = command.await;
                    let _ = sender.send(Told::Happened(Happening::CommandEnded(code)));
                });
            }
            None => {}
        }
        Ok(None)
    }

    /// Tells which services end, and says `then` once all have.
    fn listen(&mut self, then: Option<Happening>) {
        let Some(exits) = self.exits.1.take() else { return };
        let listener = Listener {
            engine: Arc::clone(&self.site.engine),
            keeper: self.keeper.clone(),
            events: self.site.events.clone(),
            id: self.order.id.clone(),
            changing: Arc::clone(&self.changing),
        };
        let (token, sender) = (self.token.clone(), self.sender.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = listener.until_all_have_ended(exits) => {
                    if let Some(then) = then {
                        let _ = sender.send(Told::Happened(then));
                    }
                }
            }
        });
    }

    fn run_beside(&mut self, beside: Beside, follower: Option<Follower>) {
        let raised = Raised {
            site: self.site.clone(),
            keeper: self.keeper.clone(),
            order: self.order.clone(),
            deadline: self.deadline,
            token: self.token.clone(),
            follower,
            spec: self.spec.clone(),
            changing: Arc::clone(&self.changing),
        };
        self.building = Some(tokio::spawn(beside(raised)));
    }

    fn is_detaching(&self) -> bool {
        matches!(self.purpose, Some(Purpose::Detached { .. }))
    }

    /// Leaves a sandbox that was there before to the lifetime that it had, once what was under way has come to rest.
    fn give_back(&mut self) {
        self.token.cancel();
        let (building, lease) = (self.building.take(), self.lease.take());
        let (events, name, sender) =
            (self.site.events.clone(), self.order.name.to_string(), self.sender.clone());
        tokio::spawn(async move {
            if let Some(building) = building {
                let _ = building.await;
            }
            // Without a lease it is destroyed by somebody else, and so it is if it cannot be given back.
            if let Some(Ok(standing)) = OptionFuture::from(lease.map(Lease::give_back)).await {
                let text = format!("sandbox `{name}` stays, as far as it was changed");
                events.emit(Event::Notice { text });
                if let Some(deadline) = standing.ends {
                    events.emit(Event::DeadlineMoved { deadline });
                }
            }
            let _ = sender.send(Told::Happened(Happening::TornDown));
        });
    }

    fn doomed(&self) -> Doomed {
        Doomed {
            engine: Arc::clone(&self.site.engine),
            keeper: self.keeper.clone(),
            events: self.site.events.clone(),
            scope: self.site.scope.clone(),
            name: self.order.name.clone(),
            id: self.order.id.clone(),
            spec: Some(Arc::clone(&self.spec.borrow())),
        }
    }

    /// Destroys what exists so far, once what was under way has come to rest. Never under the cancelled token.
    fn tear_down(&mut self, reason: StopReason) {
        self.token.cancel();
        let (doomed, force, sender) = (self.doomed(), self.force.clone(), self.sender.clone());
        let building = self.building.take();
        let (why, reason) = (in_words(reason), on_record(reason));
        tokio::spawn(async move {
            if let Some(building) = building {
                let _ = building.await;
            }
            let told = match doomed.destroy(why, reason, &force).await {
                Ok(destroyed) if destroyed.left.is_empty() => Told::Happened(Happening::TornDown),
                Ok(destroyed) => Told::Left(destroyed.left),
                Err(error) => Told::NotDestroyed(error),
            };
            let _ = sender.send(told);
        });
    }

    /// Says so to the keeper, stops this process, and says so again when it is continued.
    async fn suspend(&self) {
        let Some(lease) = &self.lease else { return };
        if let Err(error) = lease.suspend().await {
            self.events().emit(Event::Warning { text: error.to_string(), hint: error.hint() });
            return;
        }
        signals::stop_here();
        if let Err(error) = lease.resume().await {
            self.events().emit(Event::Warning { text: error.to_string(), hint: error.hint() });
        }
    }
}

async fn notice(lease: &mut Option<Lease>) -> Result<Notice, KeeperError> {
    match lease {
        Some(lease) => lease.notice().await,
        None => std::future::pending().await,
    }
}

fn in_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::CommandEnded(_) => "the command has ended",
        StopReason::Vanished => "it is being destroyed by somebody else",
        StopReason::DeadlinePassed => "its time is over",
        StopReason::BuildFailed => "it could not be built",
        StopReason::HungUp => "the terminal went away",
        StopReason::Terminated => "asked to stop",
        StopReason::Interrupted | StopReason::Forced => "interrupted; Ctrl-C again forces",
    }
}

fn on_record(reason: StopReason) -> Reason {
    match reason {
        StopReason::CommandEnded(_)
        | StopReason::HungUp
        | StopReason::Terminated
        | StopReason::Interrupted
        | StopReason::Forced => Reason::SessionEnded,
        StopReason::Vanished => Reason::Vanished,
        StopReason::DeadlinePassed => Reason::Ttl,
        StopReason::BuildFailed => Reason::Failed,
    }
}
