//! The event loop of a session: passes events to [`Control`] and performs its responses.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::visit::LAST_WORDS;
use super::{Follow, Outcome, Purpose, RunningSandbox, SideTask, build, ended_by};
use crate::agent::client::{KeeperError, Lease};
use crate::agent::protocol::{ExitAction, Lifetime, Notice, Reason};
use crate::engine::identity;
use crate::session::build::bake::Missing;
use crate::session::build::limits;
use crate::session::build::up_report::AttachMode;
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::inspect;
use crate::session::lifecycle::control::{Control, LoopEvent, Response, StopReason};
use crate::session::lifecycle::exits::{AllEnded, EndsWith, Exit, Listener};
use crate::session::lifecycle::log_follower::Follower;
use crate::session::lifecycle::refusals;
use crate::session::lifecycle::signals;
use crate::session::lifecycle::teardown::{Teardown, TeardownCause};
use crate::session::request::{BuildRequest, OnFailure};
use crate::spec::{SandboxName, Spec};

/// How often to report the use of a visited sandbox.
const VISITED: Duration = Duration::from_mins(1);

/// A message from a task to the loop.
pub(crate) enum TaskEvent {
    Happened(LoopEvent),
    Failed(SessionError),
    NotDestroyed(SessionError),
    Left(Vec<String>),
    /// Nothing of the sandbox exists on the engine.
    Removed,
}

pub(crate) struct Running {
    pub(crate) context: Context,
    pub(crate) order: BuildRequest,
    pub(crate) lease: Option<Lease>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) existed: bool,
    pub(crate) on_failure: OnFailure,
    /// Where artifacts and logs are copied to, if not to a folder beside the spec.
    pub(crate) artifacts: Option<PathBuf>,
    /// The session's command, once it runs.
    pub(crate) command: Option<(CancellationToken, JoinHandle<()>)>,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) control: Control,
    /// The current spec: `--watch` may change it.
    pub(crate) spec: watch::Sender<Arc<Spec>>,
    /// Whether the sandbox is being changed.
    pub(crate) changing: Arc<AtomicBool>,
    /// Cancelled when building and serving must stop.
    pub(crate) token: CancellationToken,
    /// Cancelled when the graceful stop must be cut short.
    pub(crate) force: CancellationToken,
    pub(crate) building: Option<JoinHandle<()>>,
    /// Exits of services, queued until the listener takes the receiver.
    pub(crate) exits: (mpsc::UnboundedSender<Exit>, Option<mpsc::UnboundedReceiver<Exit>>),
    pub(crate) sender: mpsc::UnboundedSender<TaskEvent>,
    pub(crate) failure: Option<SessionError>,
    pub(crate) began: Timestamp,
    /// Follows logs, if they are shown.
    pub(crate) follower: Option<Follower>,
    /// The stop timeout of each service at the end; overrides the spec.
    pub(crate) stop_timeout: Option<Duration>,
}

impl Running {
    pub(crate) async fn main_loop(
        mut self,
        mut signals: BoxStream<'static, LoopEvent>,
        mut told: mpsc::UnboundedReceiver<TaskEvent>,
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

    fn hear(&mut self, told: TaskEvent) -> Option<LoopEvent> {
        match told {
            TaskEvent::Happened(happening) => Some(happening),
            TaskEvent::Failed(error) => {
                self.failure = Some(error);
                Some(LoopEvent::BuildFailed)
            }
            TaskEvent::NotDestroyed(error) => {
                self.failure.get_or_insert(error);
                Some(LoopEvent::TornDown)
            }
            TaskEvent::Removed => {
                let why = "all its containers were removed from the engine".to_owned();
                Some(self.ended(why, LoopEvent::Lost))
            }
            TaskEvent::Left(left) => {
                self.failure.get_or_insert(SessionError::LeftBehind { name: self.order.name.clone(), left });
                Some(LoopEvent::TornDown)
            }
        }
    }

    fn noticed(&mut self, notice: Result<Notice, KeeperError>) -> Option<LoopEvent> {
        match notice {
            Ok(Notice::EndMoved { end, by_use, .. }) => {
                if !end.unless_used && !self.existed {
                    self.deadline = Some(end.at);
                }
                self.events().emit(Event::DeadlineMoved {
                    deadline: end.at,
                    if_unused: end.unless_used,
                    by_use,
                });
                self.time()
            }
            // Only forwarded: an idle deadline moves with each use, and only the keeper knows the uses.
            Ok(Notice::EndsSoon { ends, .. }) => {
                let left = Duration::try_from(ends.duration_since(Timestamp::now())).ok();
                left.filter(|left| !left.is_zero()).map(LoopEvent::DeadlineIn)
            }
            Ok(Notice::OutOfMemory { container, limit, .. }) => {
                limits::tell_of_want(self.events(), &container, limit);
                None
            }
            Ok(Notice::Exited { service, container, code, fate, .. }) => {
                // Ignored: the receiver may have been dropped.
                let _ = self.exits.0.send(Exit { service, container, code, fate });
                None
            }
            Ok(Notice::Other) => None,
            Ok(Notice::Ending { reason: Reason::Ttl, .. }) if !self.existed => {
                Some(LoopEvent::DeadlineIn(Duration::ZERO))
            }
            Ok(Notice::Ending { reason: Reason::Idle, .. }) if !self.existed => Some(LoopEvent::Unused),
            Ok(Notice::Ending { reason, .. }) => Some(self.ended(ended_by(reason), LoopEvent::Vanished)),
            // The keeper destroys the sandbox, or has destroyed it.
            Err(error) => {
                self.lease = None;
                self.events().emit(Event::Warning { text: error.to_string(), hint: error.hint() });
                Some(self.ended(error.to_string(), LoopEvent::Lost))
            }
        }
    }

    /// Records that the sandbox ended without this session. Work in progress on it is still undone.
    fn ended(&mut self, why: String, happening: LoopEvent) -> LoopEvent {
        let building = self.control.is_building();
        let why = if building { format!("{why} while it was being built") } else { why };
        self.failure.get_or_insert(SessionError::Ended { name: self.order.name.clone(), why });
        if building { LoopEvent::BuildFailed } else { happening }
    }

    /// The time that is left, if there is a deadline.
    fn time(&self) -> Option<LoopEvent> {
        let left = self.deadline?.duration_since(Timestamp::now());
        Some(LoopEvent::DeadlineIn(Duration::try_from(left).unwrap_or(Duration::ZERO)))
    }

    async fn perform(&mut self, response: Response) -> Result<Option<Outcome>, SessionError> {
        match response {
            Response::Continue => Ok(None),
            Response::Serve => self.serve().await,
            Response::TearDown(StopReason::BuildFailed) if self.keeps_failure() => {
                self.keep();
                Ok(None)
            }
            Response::TearDown(reason) if self.existed => {
                self.leave(reason);
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
            Response::Leave => {
                self.token.cancel();
                if let Some(follower) = &self.follower {
                    if self.control.reason() == Some(StopReason::Vanished) {
                        follower.wait_until_gone().await;
                    }
                    follower.stop();
                }
                self.stop_command().await;
                match self.failure.take() {
                    Some(error) => Err(error),
                    None => Ok(Some(Outcome::Ended(self.control.reason().unwrap_or(StopReason::Vanished)))),
                }
            }
        }
    }

    /// Stops the session's command, if it still runs.
    async fn stop_command(&mut self) {
        let Some((stop, command)) = self.command.take() else { return };
        stop.cancel();
        // A command that does not exit in time is not awaited.
        let _ = tokio::time::timeout(LAST_WORDS, command).await;
    }

    fn keeps_failure(&self) -> bool {
        // A sandbox that another process destroys cannot be kept.
        let failed = !matches!(self.failure, Some(SessionError::Ended { .. }));
        self.on_failure == OnFailure::Keep && !self.existed && failed
    }

    fn manner(&self) -> AttachMode {
        match &self.purpose {
            Some(Purpose::Detached { lifetime }) => AttachMode::Detached(lifetime.clone()),
            _ if self.existed => AttachMode::Visit,
            _ => AttachMode::Session,
        }
    }

    fn events(&self) -> &Events {
        &self.context.events
    }

    fn build(&mut self) {
        let (context, order) = (self.context.clone(), self.order.clone());
        let missing = if self.existed { Missing::Leave } else { Missing::Bake };
        let (token, sender, manner) = (self.token.clone(), self.sender.clone(), self.manner());
        let (early, name) = (self.early_end(), self.order.name.to_string());
        self.building = Some(tokio::spawn(async move {
            let told = match build(&context, order, missing, &manner, &token).await {
                Ok(()) => TaskEvent::Happened(LoopEvent::Built),
                Err(SessionError::Cancelled) => return,
                Err(SessionError::Exited { service, code, .. }) if early.is_some() => {
                    let container = identity::service(&name, &service, 1);
                    let exit = Exit { service, container, code, fate: ExitAction::Stays };
                    TaskEvent::Happened(LoopEvent::CommandEnded(early_code(early, &exit).await))
                }
                Err(error) => TaskEvent::Failed(error),
            };
            let _ = sender.send(told);
        }));
    }

    /// Handles a service that exits during the build, if that exit ends the session and is not a failure: the listener,
    /// the policy and the log follower.
    fn early_end(&self) -> Option<EarlyEnd> {
        let Some(Purpose::Attached { logs, ends_with, .. }) = &self.purpose else { return None };
        if *ends_with == EndsWith::AllServices {
            return None;
        }
        let follower = match logs {
            Follow::Logs(selection) => {
                let follower = Follower::new(&self.context, &self.order.name, selection.clone());
                Some((follower, Arc::clone(&self.order.spec), self.began))
            }
            Follow::Nothing => None,
        };
        Some((self.listener(), ends_with.clone(), follower))
    }

    fn listener(&self) -> Listener {
        Listener {
            context: self.context.clone(),
            id: self.order.id.clone(),
            changing: Arc::clone(&self.changing),
            spec: self.spec.subscribe(),
        }
    }

    async fn serve(&mut self) -> Result<Option<Outcome>, SessionError> {
        let manner = self.manner();
        // A client that continues to change the sandbox keeps the lease for it.
        let changes = matches!(self.purpose, Some(Purpose::Attached { beside: Some(_), .. }));
        if let (AttachMode::Visit, false, Some(lease)) = (&manner, changes, &mut self.lease) {
            lease.watch().await?;
            self.use_on();
        }
        if !matches!(manner, AttachMode::Detached(_)) {
            let (context, name) = (&self.context, &self.order.name);
            refusals::follow(&context.engine, &context.events, name, self.began, &self.token);
        }
        match self.purpose.take() {
            Some(Purpose::Detached { lifetime }) => {
                if let Some(lease) = self.lease.take() {
                    lease.detach(lifetime).await?;
                }
                return Ok(Some(Outcome::LeftUp));
            }
            Some(Purpose::Attached { logs, ends_with, stop_timeout, beside }) => {
                self.stop_timeout = stop_timeout;
                if let Follow::Logs(selection) = logs {
                    let mut new = Follower::new(&self.context, &self.order.name, selection);
                    new.look(&self.order.spec, Some(self.began)).await?;
                    self.follower = Some(new);
                }
                self.listen(Some(ends_with));
                if let Some(beside) = beside {
                    self.run_beside(beside, manner);
                }
            }
            Some(Purpose::Held(beside)) => {
                self.listen(None);
                self.run_beside(beside, manner);
            }
            Some(Purpose::Command(start)) => {
                self.listen(None);
                let (sender, events, stop) =
                    (self.sender.clone(), self.events().clone(), CancellationToken::new());
                let stopped = stop.clone();
                let command = tokio::spawn(async move {
                    events.hand_over().await;
                    let code = start(stopped).await;
                    let _ = sender.send(TaskEvent::Happened(LoopEvent::CommandEnded(code)));
                });
                self.command = Some((stop, command));
            }
            None => {}
        }
        Ok(None)
    }

    /// Reports exits of services, and ends the session when `ends_with` says so, once their logs are shown.
    fn listen(&mut self, ends_with: Option<EndsWith>) {
        let Some(exits) = self.exits.1.take() else { return };
        let (listener, follower) = (self.listener(), self.follower.clone());
        let (token, sender) = (self.token.clone(), self.sender.clone());
        let ends_session = ends_with.is_some();
        let end = async move {
            let end = listener.until_ended(exits, &ends_with.unwrap_or_default()).await;
            if let (AllEnded::ByThemselves | AllEnded::One(_), Some(follower)) = (end, follower) {
                follower.catch_up().await;
            }
            end
        };
        tokio::spawn(async move {
            let Some(end) = token.run_until_cancelled(end).await else { return };
            let told = match end {
                AllEnded::Removed => TaskEvent::Removed,
                _ if !ends_session => return,
                AllEnded::ByThemselves => TaskEvent::Happened(LoopEvent::ServicesEnded),
                AllEnded::WithEngine => TaskEvent::Happened(LoopEvent::EngineRestarted),
                AllEnded::One(code) => TaskEvent::Happened(LoopEvent::CommandEnded(code)),
            };
            let _ = sender.send(told);
        });
    }

    fn run_beside(&mut self, beside: SideTask, manner: AttachMode) {
        let raised = RunningSandbox {
            context: self.context.clone(),
            order: self.order.clone(),
            deadline: self.deadline,
            manner,
            token: self.token.clone(),
            follower: self.follower.clone(),
            spec: self.spec.clone(),
            changing: Arc::clone(&self.changing),
        };
        self.building = Some(tokio::spawn(beside(raised)));
    }

    /// Reports the use of a visited sandbox until the visit ends, if the sandbox has an idle deadline.
    fn use_on(&self) {
        let lifetime = &self.order.spec.lifetime;
        if lifetime.idle.is_some() || lifetime.ttl.is_some() {
            return;
        }
        let (keeper, name, token) =
            (self.context.keeper.clone(), self.order.name.clone(), self.token.clone());
        tokio::spawn(async move {
            let mut again = tokio::time::interval(VISITED);
            while token.run_until_cancelled(again.tick()).await.is_some() {
                // The watch notices if the keeper does not answer.
                let _ = keeper.touch(&name).await;
            }
        });
    }

    /// Leaves a sandbox that existed before with its previous lifetime, once work in progress has stopped.
    fn leave(&mut self, reason: StopReason) {
        self.token.cancel();
        let (building, lease) = (self.building.take(), self.lease.take());
        let changing = self.purpose.is_some();
        let (events, name) = (self.context.events.clone(), self.order.name.clone());
        let sender = self.sender.clone();
        tokio::spawn(async move {
            if let Some(building) = building {
                let _ = building.await;
            }
            // Without a lease another process destroys the sandbox, and also if the lease cannot be given back.
            if let Some(Ok(standing)) = OptionFuture::from(lease.map(Lease::relinquish)).await {
                let how = if changing { " with the changes made so far" } else { "" };
                let why = if reason == StopReason::EngineRestarted { in_words(reason) } else { "" };
                let text = format!(
                    "sandbox `{name}` keeps running{how}{}{why}",
                    if why.is_empty() { "" } else { ": " }
                );
                events.emit(Event::Notice { text });
                if let Some(deadline) = standing.ends {
                    let if_unused = standing.unless_used;
                    events.emit(Event::DeadlineMoved { deadline, if_unused, by_use: false });
                }
            }
            let _ = sender.send(TaskEvent::Happened(LoopEvent::TornDown));
        });
    }

    /// Keeps a sandbox that could not be built, detached, if anything of it exists.
    fn keep(&mut self) {
        self.token.cancel();
        let (building, lease) = (self.building.take(), self.lease.take());
        let lifetime =
            Lifetime { until: self.deadline, idle: self.order.spec.lifetime.idle, ..Lifetime::default() };
        let (doomed, force, sender) = (self.doomed(), self.force.clone(), self.sender.clone());
        tokio::spawn(async move {
            if let Some(building) = building {
                let _ = building.await;
            }
            let exists = inspect::sandbox(&*doomed.engine, &doomed.scope, &doomed.name).await;
            let kept = match lease {
                Some(lease) if exists.is_ok_and(|it| it.is_some_and(|it| it.gateway.is_some())) => {
                    lease.detach(lifetime).await.ok()
                }
                _ => None,
            };
            let told = match kept {
                Some(standing) => {
                    doomed.events.emit(kept_for_a_look(&doomed.name));
                    if let Some(deadline) = standing.ends {
                        let if_unused = standing.unless_used;
                        doomed.events.emit(Event::DeadlineMoved { deadline, if_unused, by_use: false });
                    }
                    TaskEvent::Happened(LoopEvent::TornDown)
                }
                None => destroyed(&doomed, StopReason::BuildFailed, &force).await,
            };
            let _ = sender.send(told);
        });
    }

    fn doomed(&self) -> Teardown {
        Teardown {
            engine: Arc::clone(&self.context.engine),
            keeper: self.context.keeper.clone(),
            events: self.context.events.clone(),
            scope: self.context.scope.clone(),
            name: self.order.name.clone(),
            id: self.order.id.clone(),
            spec: Some(Arc::clone(&self.spec.borrow())),
            stop_timeout: self.stop_timeout,
            follower: self.follower.clone(),
            artifacts: self.artifacts.clone(),
            cause: TeardownCause::Other,
        }
    }

    /// Destroys what exists so far, once work in progress has stopped. Never runs under the cancelled token.
    fn tear_down(&mut self, reason: StopReason) {
        self.token.cancel();
        let (force, sender) = (self.force.clone(), self.sender.clone());
        let doomed = Teardown { cause: TeardownCause::of(reason), ..self.doomed() };
        let building = self.building.take();
        let command = self.command.as_ref().map(|(stop, _)| stop.clone());
        tokio::spawn(async move {
            match (reason, command) {
                (StopReason::CommandEnded(code), Some(_)) if code != 0 => doomed.tell_failing(code).await,
                // The terminal sends Ctrl-C to the command directly.
                (StopReason::Interrupted | StopReason::Forced, _) | (_, None) => {}
                (_, Some(stop)) => stop.cancel(),
            }
            if let Some(building) = building {
                let _ = building.await;
            }
            let _ = sender.send(destroyed(&doomed, reason, &force).await);
        });
    }

    /// Notifies the keeper, stops this process, and notifies the keeper again when it is continued.
    async fn suspend(&mut self) {
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

type EarlyEnd = (Listener, EndsWith, Option<(Follower, Arc<Spec>, Timestamp)>);

/// The session's exit code if a service exits before all were ready; shows the logs so far.
async fn early_code(early: Option<EarlyEnd>, exit: &Exit) -> i32 {
    let Some((listener, ends_with, follower)) = early else { return 1 };
    listener.tell(exit).await;
    let code = listener.exit_code(exit, &ends_with).await;
    if let Some((mut follower, spec, began)) = follower {
        // The follower reports a log that cannot be read.
        if follower.look(&spec, Some(began)).await.is_ok() {
            follower.catch_up().await;
        }
        follower.stop();
    }
    code
}

async fn notice(lease: &mut Option<Lease>) -> Result<Notice, KeeperError> {
    match lease {
        Some(lease) => lease.notice().await,
        None => std::future::pending().await,
    }
}

async fn destroyed(doomed: &Teardown, reason: StopReason, force: &CancellationToken) -> TaskEvent {
    match doomed.destroy(in_words(reason), on_record(reason), force).await {
        Ok(destroyed) if destroyed.left.is_empty() => TaskEvent::Happened(LoopEvent::TornDown),
        Ok(destroyed) => TaskEvent::Left(destroyed.left.iter().map(ToString::to_string).collect()),
        Err(error) => TaskEvent::NotDestroyed(error),
    }
}

fn kept_for_a_look(name: &SandboxName) -> Event {
    Event::Warning {
        text: format!("sandbox `{name}` could not be built and is kept"),
        hint: Some(format!(
            "`sandbox logs` and `sandbox exec` look into it, `sandbox up` tries again, `sandbox down {name}` destroys it"
        )),
    }
}

fn in_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::CommandEnded(_) => "the command or service has ended",
        StopReason::ServicesEnded => "all its services have ended",
        StopReason::Vanished => "another client destroys it",
        StopReason::Unused => "it was not used",
        StopReason::Lost => "its lease is lost",
        StopReason::EngineRestarted => "the engine restarted, which ended its services",
        StopReason::DeadlinePassed => "its lifetime is over",
        StopReason::BuildFailed => "it could not be built",
        StopReason::HungUp => "the terminal was closed",
        StopReason::Terminated => "terminated by a signal",
        StopReason::Interrupted | StopReason::Forced => "interrupted; Ctrl-C again forces",
    }
}

fn on_record(reason: StopReason) -> Reason {
    match reason {
        StopReason::CommandEnded(_)
        | StopReason::ServicesEnded
        | StopReason::EngineRestarted
        | StopReason::HungUp
        | StopReason::Terminated
        | StopReason::Interrupted
        | StopReason::Forced => Reason::SessionEnded,
        StopReason::Vanished => Reason::Vanished,
        StopReason::Lost => Reason::LeaseLost,
        StopReason::Unused => Reason::Idle,
        StopReason::DeadlinePassed => Reason::Ttl,
        StopReason::BuildFailed => Reason::Failed,
    }
}
