//! A session: holds the lease, builds, serves, destroys. One loop owns signals, time and state.

mod event_loop;
mod visit;

use std::convert::Infallible;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
use crate::session::build::converge::{self, BuildRequest, Context, SnapshotMode};
use crate::session::data::from_snapshot;
use crate::session::data::secret_store;
use crate::session::error::SessionError;
use crate::spec::{SandboxName, Spec};
use event_loop::Running;
pub use visit::visit;

/// How often it is said at most, and at least, that a sandbox that is being built is in use.
const OFTENEST: Duration = Duration::from_millis(200);
const SELDOMEST: Duration = Duration::from_secs(10);

/// What a session is for.
pub enum Purpose {
    /// To be there: services' logs are shown unless they are not wanted.
    Attached {
        /// Whether logs are followed.
        logs: Follow,
        /// Which end of services ends the session.
        ends_with: EndsWith,
        /// How long each service may take to stop at the end, if not as long as the spec says.
        stop_timeout: Option<Duration>,
        /// What goes on beside the session, once the sandbox is up.
        beside: Option<SideTask>,
    },
    /// To build, and to leave the sandbox to its deadline.
    Detached {
        /// What ends it.
        lifetime: Lifetime,
    },
    /// To run a command on the host, with the sandbox's addresses in its environment.
    Command(StartCommand),
}

/// Starts a command that ends early once the token is cancelled.
pub type StartCommand = Box<dyn FnOnce(CancellationToken) -> CommandFuture + Send>;

/// What goes on beside a session until its token is cancelled. The session's end waits until it has come to rest.
pub type SideTask = Box<dyn FnOnce(RunningSandbox) -> BoxFuture<'static, ()> + Send>;

/// A sandbox that is up, for what goes on beside its session.
pub struct RunningSandbox {
    /// What it was built with.
    pub site: Context,
    /// The keeper.
    pub keeper: Keeper,
    /// What was built.
    pub order: BuildRequest,
    /// When it ends, whatever happens.
    pub deadline: Option<Timestamp>,
    /// How this client stays with it.
    pub(crate) manner: SnapshotMode,
    /// Cancelled when the session ends.
    pub token: CancellationToken,
    /// Follows logs, if they are shown.
    pub(crate) follower: Option<Follower>,
    /// Where others learn what the spec is now.
    pub(crate) spec: watch::Sender<Arc<Spec>>,
    /// Where others see that the sandbox is just being changed.
    pub(crate) changing: Arc<AtomicBool>,
}

/// A command under way: its exit code.
pub type CommandFuture = std::pin::Pin<Box<dyn Future<Output = i32> + Send>>;

/// Whether services' logs are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// Those of these services are.
    Logs(LogSelection),
    /// They are not (`--no-logs`).
    Nothing,
}

/// How a session ended.
#[derive(Debug)]
pub enum Outcome {
    /// The sandbox is up and left to its deadline.
    LeftUp,
    /// The sandbox is gone.
    Ended(StopReason),
}

/// A session that is about to begin.
pub struct Session {
    /// What is built with.
    pub site: Context,
    /// What is built.
    pub order: BuildRequest,
    /// The keeper.
    pub keeper: Keeper,
    /// The lease on the sandbox.
    pub lease: Lease,
    /// When it ends, whatever happens; none where the sandbox was there before, for then its keeper alone knows.
    pub deadline: Option<Timestamp>,
    /// Whether the sandbox was there before: then this process only visits it, and its end is not the sandbox's.
    pub existed: bool,
    /// What becomes of a sandbox that cannot be built.
    pub on_failure: OnFailure,
}

/// What becomes of a sandbox that cannot be built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// What exists so far is destroyed.
    #[default]
    Destroy,
    /// What exists so far is left detached, to be looked at.
    Keep,
}

impl Session {
    /// Runs it to its end.
    ///
    /// # Errors
    /// What kept the sandbox from being built, or from being destroyed.
    pub async fn run(self, purpose: Purpose) -> Result<Outcome, SessionError> {
        let signals = Signals::listen().map_err(|error| SessionError::Data {
            what: format!("cannot listen to signals: {error}"),
            hint: None,
        })?;
        self.run_hearing(signals.told(), purpose).await
    }

    /// The same with signals from elsewhere.
    pub(crate) async fn run_hearing(
        self,
        signals: BoxStream<'static, LoopEvent>,
        purpose: Purpose,
    ) -> Result<Outcome, SessionError> {
        let (sender, happenings) = mpsc::unbounded_channel();
        let (exits, hears) = mpsc::unbounded_channel();
        let running = Running {
            keeper: self.keeper,
            spec: watch::channel(Arc::clone(&self.order.spec)).0,
            changing: Arc::default(),
            site: self.site,
            order: self.order,
            lease: Some(self.lease),
            deadline: self.deadline,
            existed: self.existed,
            on_failure: self.on_failure,
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
    site: &Context,
    keeper: &Keeper,
    order: BuildRequest,
    missing: Missing,
    manner: &SnapshotMode,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let began = Instant::now();
    let order = make(site, keeper, order, missing, token).await?;
    converge::tell_up(site, &order, manner, began.elapsed()).await
}

/// Makes what is ordered: images, data, then the sandbox. The order with its data. However long it takes, the sandbox
/// is in use meanwhile.
pub(crate) async fn make(
    site: &Context,
    keeper: &Keeper,
    order: BuildRequest,
    missing: Missing,
    token: &CancellationToken,
) -> Result<BuildRequest, SessionError> {
    let (name, idle) = (order.name.clone(), order.spec.lifetime.idle);
    tokio::select! {
        made = make_all(site, keeper, order, missing, token) => {
            if idle.is_some() {
                keeper.touch(&name).await?;
            }
            made
        }
        never = use_on(keeper, &name, idle) => match never {},
    }
}

/// Says again and again that a sandbox is used, if it is one that ends by disuse.
async fn use_on(keeper: &Keeper, name: &SandboxName, idle: Option<Duration>) -> Infallible {
    let Some(idle) = idle else { return std::future::pending().await };
    let mut again = tokio::time::interval((idle / 4).clamp(OFTENEST, SELDOMEST));
    loop {
        again.tick().await;
        // A keeper that does not hear is found out by the lease.
        let _ = keeper.touch(name).await;
    }
}

async fn make_all(
    site: &Context,
    keeper: &Keeper,
    mut order: BuildRequest,
    missing: Missing,
    token: &CancellationToken,
) -> Result<BuildRequest, SessionError> {
    from_snapshot::tell_missing(site, &order).await?;
    let images = converge::images(site, &order.spec, &order.rebuild, token).await?;
    from_snapshot::check_images(site, &order).await?;
    bake::provide(site, keeper, &mut order, &images, missing, token).await?;
    if order.age == Age::Standing {
        // Its data is there, and so are the secrets that it was made with.
        order.values = Arc::new(order.values.keeping(&secret_store::kept(&*site.storage, &order.id).await?));
    }
    converge::raise(site, &order, token).await?;
    Ok(order)
}

/// What ended a sandbox, in words.
fn ended_by(reason: Reason) -> String {
    match reason {
        Reason::Down => "`sandbox down` destroyed it".to_owned(),
        other => other.to_string(),
    }
}

/// The exit code of a process, 128 and the signal's number if a signal ended it, as shells count.
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
