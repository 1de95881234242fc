//! Runs a session: holds the lease, builds, serves and destroys. One loop handles signals, time and state.

mod event_loop;
mod visit;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::control::{Control, LoopEvent, StopReason};
pub use super::exits::EndsWith;
use super::log_follower::Follower;
pub use super::log_follower::LogSelection;
use super::signals::Signals;
use crate::agent::client::{Keeper, Lease};
use crate::agent::protocol::{Lifetime, Reason};
use crate::plan::Age;
use crate::session::build::bake::{self, Missing};
use crate::session::build::converge;
use crate::session::build::up_report::{self, AttachMode};
use crate::session::context::Context;
use crate::session::data::from_snapshot;
use crate::session::data::secret_store;
use crate::session::error::SessionError;
use crate::session::event::{Event, ListedTask};
use crate::session::request::BuildRequest;
use crate::session::request::OnFailure;
use crate::spec::{SandboxName, Spec};
use event_loop::Running;
pub use visit::visit;

/// Bounds of the interval at which the use of a sandbox is reported while it is built.
const OFTENEST: Duration = Duration::from_millis(200);
const SELDOMEST: Duration = Duration::from_secs(10);

/// What a session is for.
pub enum Purpose {
    /// Stay attached to the sandbox, and show its services' logs if wanted.
    Attached {
        /// Which logs to follow.
        logs: Follow,
        /// Which exits of services end the session.
        ends_with: EndsWith,
        /// The stop timeout of each service at the end; overrides the spec.
        stop_timeout: Option<Duration>,
        /// A task that runs during the session, once the sandbox is up.
        beside: Option<SideTask>,
    },
    /// Build the sandbox, then detach from it.
    Detached {
        /// When the sandbox ends.
        lifetime: Lifetime,
    },
    /// Stay attached to the sandbox, whatever its services do, until the session is told to end. The task runs meanwhile.
    Held(SideTask),
    /// Run a command on the host, with the sandbox's addresses in its environment.
    Command(StartCommand),
}

/// Starts a command that is stopped once the token is cancelled.
pub type StartCommand = Box<dyn FnOnce(CancellationToken) -> CommandFuture + Send>;

/// A task that runs during a session until its token is cancelled. The session's end waits for it.
pub type SideTask = Box<dyn FnOnce(RunningSandbox) -> BoxFuture<'static, ()> + Send>;

/// A running sandbox, as the tasks of its session get it.
pub struct RunningSandbox {
    /// The engine, the storage and the settings.
    pub context: Context,
    /// The build request that was executed.
    pub order: BuildRequest,
    /// When it ends at the latest.
    pub deadline: Option<Timestamp>,
    /// How this client relates to it.
    pub(crate) manner: AttachMode,
    /// Cancelled when the session ends.
    pub token: CancellationToken,
    /// Follows logs, if they are shown.
    pub(crate) follower: Option<Follower>,
    /// Publishes the current spec to other tasks.
    pub(crate) spec: watch::Sender<Arc<Spec>>,
    /// Tells other tasks that the sandbox is being changed.
    pub(crate) changing: Arc<AtomicBool>,
}

/// A running command; resolves to its exit code.
pub type CommandFuture = std::pin::Pin<Box<dyn Future<Output = i32> + Send>>;

/// Whether services' logs are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// The logs of the selected services.
    Logs(LogSelection),
    /// None (`--no-logs`).
    Nothing,
}

/// How a session ended.
#[derive(Debug)]
pub enum Outcome {
    /// The sandbox is up and detached.
    LeftUp,
    /// The sandbox was destroyed.
    Ended(StopReason),
}

/// A session that is about to start.
pub struct Session {
    /// The engine, the storage and the settings.
    pub context: Context,
    /// The build request to execute.
    pub order: BuildRequest,
    /// The lease on the sandbox.
    pub lease: Lease,
    /// When it ends at the latest. `None` if the sandbox existed before, since then only its keeper knows.
    pub deadline: Option<Timestamp>,
    /// Whether the sandbox existed before: then this process only visits it, and does not destroy it at the end.
    pub existed: bool,
    /// The end that an existing sandbox has, if this session does not change when it ends.
    pub promised: Option<Timestamp>,
    /// What to do with a sandbox that cannot be built.
    pub on_failure: OnFailure,
    /// Where artifacts and logs are copied to, if not to a folder beside the spec.
    pub artifacts: Option<PathBuf>,
}

impl RunningSandbox {
    /// Executes another build request on the sandbox. Even if that fails, it is the desired state from then on.
    ///
    /// # Errors
    /// Fails with the errors of the build.
    pub(crate) async fn apply(
        &mut self,
        order: BuildRequest,
        missing: Missing,
    ) -> Result<BuildRequest, SessionError> {
        self.order = BuildRequest { rebuild: BTreeSet::new(), ..order.clone() };
        self.spec.send_replace(Arc::clone(&order.spec));
        self.changing.store(true, Ordering::Relaxed);
        let made = make(&self.context, order, missing, &self.token).await;
        self.changing.store(false, Ordering::Relaxed);
        made
    }
}

impl Session {
    /// Runs the session until its end.
    ///
    /// # Errors
    /// Fails if the sandbox could not be built, or could not be destroyed.
    pub async fn run(self, purpose: Purpose) -> Result<Outcome, SessionError> {
        let signals = Signals::listen()
            .map_err(|cause| SessionError::Io { what: "cannot listen to signals".to_owned(), cause })?;
        self.run_hearing(signals.told(), purpose).await
    }

    /// Runs the session with signals from another source.
    pub(crate) async fn run_hearing(
        self,
        signals: BoxStream<'static, LoopEvent>,
        purpose: Purpose,
    ) -> Result<Outcome, SessionError> {
        let purpose = match (purpose, self.promised) {
            (Purpose::Detached { lifetime }, Some(promised)) => {
                Purpose::Detached { lifetime: lifetime.no_earlier_than(promised) }
            }
            (purpose, _) => purpose,
        };
        let (sender, happenings) = mpsc::unbounded_channel();
        let (exits, hears) = mpsc::unbounded_channel();
        let running = Running {
            spec: watch::channel(Arc::clone(&self.order.spec)).0,
            changing: Arc::default(),
            context: self.context,
            order: self.order,
            lease: Some(self.lease),
            deadline: self.deadline,
            existed: self.existed,
            on_failure: self.on_failure,
            artifacts: self.artifacts,
            command: None,
            purpose: Some(purpose),
            control: Control::default(),
            token: CancellationToken::new(),
            force: CancellationToken::new(),
            building: None,
            exits: (exits, Some(hears)),
            sender,
            failure: None,
            began: Timestamp::now(),
            follower: None,
            stop_timeout: None,
        };
        running.main_loop(signals, happenings).await
    }
}

async fn build(
    context: &Context,
    order: BuildRequest,
    missing: Missing,
    manner: &AttachMode,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let began = Instant::now();
    let order = make(context, order, missing, token).await?;
    up_report::tell_up(context, &order, manner, began.elapsed()).await?;
    if let Some(text) = order.spec.welcome.clone() {
        context.events.emit(Event::Welcome { text, tasks: ListedTask::all(&order.spec) });
    }
    Ok(())
}

/// Executes the build request: images, data, then the sandbox. Returns the request with its data sources. Reports use
/// all the while, so that the sandbox does not expire as idle.
pub(crate) async fn make(
    context: &Context,
    order: BuildRequest,
    missing: Missing,
    token: &CancellationToken,
) -> Result<BuildRequest, SessionError> {
    let (name, idle) = (order.name.clone(), order.spec.lifetime.idle);
    tokio::select! {
        made = make_all(context, order, missing, token) => {
            if idle.is_some() {
                context.keeper.touch(&name).await?;
            }
            made
        }
        never = use_on(&context.keeper, &name, idle) => match never {},
    }
}

/// Reports use at intervals, if the sandbox has an idle deadline.
async fn use_on(keeper: &Keeper, name: &SandboxName, idle: Option<Duration>) -> Infallible {
    let Some(idle) = idle else { return std::future::pending().await };
    let mut again = tokio::time::interval((idle / 4).clamp(OFTENEST, SELDOMEST));
    loop {
        again.tick().await;
        // The lease notices if the keeper does not answer.
        let _ = keeper.touch(name).await;
    }
}

async fn make_all(
    context: &Context,
    mut order: BuildRequest,
    missing: Missing,
    token: &CancellationToken,
) -> Result<BuildRequest, SessionError> {
    from_snapshot::tell_missing(context, &order).await?;
    let images = converge::images(context, &order.spec, &order.rebuild, token).await?;
    from_snapshot::check_images(context, &order).await?;
    bake::provide(context, &mut order, &images, missing, token).await?;
    if order.age == Age::Standing {
        // The data exists, and so do the secrets that it was made with.
        order.values =
            Arc::new(order.values.keeping(&secret_store::kept(&*context.storage, &order.id).await?));
    }
    converge::raise(context, &order, token).await?;
    Ok(order)
}

/// Describes why a sandbox ended.
fn ended_by(reason: Reason) -> String {
    match reason {
        Reason::Down => "`sandbox down` destroyed it".to_owned(),
        other => other.to_string(),
    }
}

/// The exit code of a process; 128 plus the signal's number if a signal killed it, as in shells.
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
