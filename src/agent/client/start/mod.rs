//! Finds or starts the keeper and connects to it: in a container, by an exec of `sandbox agent connect`.
//!
//! Any number of clients may do this at the same time, so nothing here relies on an earlier observation: a step that
//! fails because another client was faster is retried.

mod container;
mod process;
mod socket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Dial, answer_to};
use super::error::{STARTING, STOCKING, in_full};
use super::wire::Wire;
use super::{KeeperError, KeeperPlacement, Options};
use crate::agent::cgroup;
use crate::agent::image::{self, Payload};
use crate::agent::protocol::{self, Greeting, Outcome, Request, RequestKind};
use crate::engine::{
    Container, ContainerState, CreateContainer, Engine, EngineError, EngineInfo, ErrorKind, Exec, LogOptions,
    Tail,
};
use crate::storage::StorageKind;
use crate::sweep::{self, Target};
use container::{ContainerRole, ContainerSpec, Powers};
use socket::SocketTrials;

pub use container::ENGINE_SOCKET;
pub use process::lock_beside;

/// How long a keeper may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest pause between two attempts.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);
/// How long an older keeper may take to finish its work.
const RETIREMENT: Duration = Duration::from_mins(1);
/// How many lines of a keeper's log are shown if it does not start.
pub(super) const LAST_LINES: usize = 3;
/// The path of the keeper's volume in its container.
pub const VOLUME: &str = "/pool";
/// The keeper's own socket, in its container.
pub const SOCKET: &str = "/run/keeper.sock";

/// Connects to the keeper of an engine, or to the storage server of a keeper that is a process.
pub(super) struct Starter {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: Options,
    pub(super) post: ContainerRole,
    ready: OnceCell<(EngineInfo, Payload)>,
    /// Whether this client has started a keeper, so that the keeper's storage is what the options ask for, if possible.
    pub(super) started: AtomicBool,
    sockets: SocketTrials,
}

/// The result of one attempt.
pub(super) enum Step {
    Reached(Box<(Wire, Greeting)>),
    /// An older keeper has exited.
    Replaced,
    Again(String),
}

#[async_trait]
impl Dial for Starter {
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError> {
        let begin = Instant::now();
        let mut pause = SHORTEST;
        loop {
            let step = match self.options.place {
                KeeperPlacement::Container => self.by_container().await?,
                KeeperPlacement::Process => self.by_process().await?,
            };
            let cause = match step {
                Step::Reached(reached) => return Ok(*reached),
                Step::Replaced => {
                    // No pause: the older keeper's other clients would start one of their own build again.
                    pause = Duration::ZERO;
                    "an older keeper was replaced".to_owned()
                }
                Step::Again(cause) => cause,
            };
            if begin.elapsed() > PATIENCE {
                let cause = self.last_words().await.unwrap_or(cause);
                self.remove_broken().await?;
                return Err(KeeperError::Silent { cause });
            }
            tracing::debug!(cause, "the keeper is not there yet");
            sleep(pause).await;
            pause = (pause * 2).clamp(SHORTEST, LONGEST);
        }
    }
}

impl Starter {
    pub(super) fn new(engine: Arc<dyn Engine>, options: Options) -> Self {
        Self::of_role(engine, options, ContainerRole::Keeper)
    }

    pub(super) fn of_storage_server(engine: Arc<dyn Engine>, options: Options) -> Self {
        let options = Options { place: KeeperPlacement::Container, ..options };
        Self::of_role(engine, options, ContainerRole::StorageServer)
    }

    fn of_role(engine: Arc<dyn Engine>, options: Options, post: ContainerRole) -> Self {
        let sockets = SocketTrials::default();
        Self { engine, options, post, ready: OnceCell::new(), started: AtomicBool::new(false), sockets }
    }

    /// Returns the container, if there is one.
    pub(super) async fn container(&self) -> Result<Option<Container>, KeeperError> {
        self.engine.container(&self.name()).await.map_err(KeeperError::engine("look for the keeper"))
    }

    fn starting(&self) -> &'static str {
        match self.post {
            ContainerRole::Keeper => STARTING,
            ContainerRole::StorageServer => STOCKING,
        }
    }

    pub(super) async fn ready(&self) -> Result<&(EngineInfo, Payload), KeeperError> {
        self.ready
            .get_or_try_init(|| async {
                let info =
                    self.engine.info().await.map_err(KeeperError::engine("ask the engine what it is"))?;
                let payload =
                    image::payload(&*self.engine, &info.arch, self.options.binary.as_deref()).await?;
                Ok((info, payload))
            })
            .await
    }

    /// Removes a keeper that cannot start, so that the engine does not restart it forever.
    async fn remove_broken(&self) -> Result<(), KeeperError> {
        match self.container().await? {
            Some(container) if container.state != ContainerState::Running => self.remove(&container.id).await,
            _ => Ok(()),
        }
    }

    async fn by_container(&self) -> Result<Step, KeeperError> {
        let Some(container) = self.container().await? else {
            let powers = if matches!(self.options.storage, None | Some(StorageKind::Pool)) {
                Powers::Pool
            } else {
                Powers::None
            };
            let groups = self.groups(&self.ready().await?.0);
            return self.create(powers, &groups).await;
        };
        if self.has_wrong_socket(&container).await? {
            return Ok(Step::Replaced);
        }
        match container.state {
            ContainerState::Running => {}
            ContainerState::Created | ContainerState::Exited => {
                let started = self.engine.start_container(&container.id).await;
                if let Some(cause) = unless_raced(started, self.starting())? {
                    return Ok(Step::Again(cause));
                }
            }
            state => return Ok(Step::Again(format!("its container is {state}"))),
        }
        let exec = Exec { stdin: true, ..Exec::new([image::PATH, "agent", "connect"]) };
        let session = match self.engine.exec(&container.id, &exec).await {
            Ok(session) => session,
            Err(error) => return Ok(Step::Again(in_full(&error))),
        };
        match self.greet(Wire::of_exec(session)).await? {
            Greeted::Well(reached) => Ok(Step::Reached(reached)),
            Greeted::Replace(wire) => {
                retire(*wire).await;
                self.remove(&container.id).await?;
                Ok(Step::Replaced)
            }
            Greeted::Not(cause) => Ok(Step::Again(cause)),
        }
    }

    /// Exchanges greetings and decides whether this keeper is compatible.
    pub(super) async fn greet(&self, mut wire: Wire) -> Result<Greeted, KeeperError> {
        let (_, payload) = self.ready().await?;
        let own = payload.build();
        let hello = Request { id: 0, ask: RequestKind::Hello(own.clone()) };
        let answer = async {
            wire.send(&hello).await?;
            answer_to(&mut wire, 0).await
        };
        let greeting: Greeting = match timeout(PATIENCE, answer).await {
            Ok(Ok(Outcome::Ok(value))) => serde_json::from_value(value)?,
            Ok(Ok(Outcome::Error(refusal))) => return Ok(Greeted::Not(refusal.message)),
            Ok(Err(error)) => return Ok(Greeted::Not(in_full(&error))),
            Err(_) => return Ok(Greeted::Not("it did not say hello".to_owned())),
        };
        if greeting.build.protocol > protocol::VERSION {
            let version = greeting.build.version.map(|it| it.to_string()).join(".");
            return Err(KeeperError::TooNew { version });
        }
        let restart =
            restarts_for_storage(self.options.storage, &greeting, self.started.load(Ordering::Relaxed));
        if greeting.build < *own || restart {
            return Ok(Greeted::Replace(Box::new(wire)));
        }
        Ok(Greeted::Well(Box::new((wire, greeting))))
    }

    /// Creates and starts the container.
    async fn create(
        &self,
        powers: Powers,
        groups: &Result<cgroup::Driver, String>,
    ) -> Result<Step, KeeperError> {
        if self.post == ContainerRole::Keeper {
            let storage_server = self.options.scope.storage_server();
            self.alone(
                &storage_server,
                "a keeper that is a process serves this engine: set SANDBOX_KEEPER=process",
            )
            .await?;
        }
        let (info, payload) = self.ready().await?;
        let image = image::ensure(&*self.engine, payload).await?;
        let volume = self.volume().await?;
        let made_of =
            ContainerSpec { info, build: payload.build(), image: &image, volume: &volume, powers, groups };
        let mut refused = None;
        let sockets = self.engine_sockets(info);
        if sockets.is_empty() {
            return Err(self.sockets.error());
        }
        for socket in sockets {
            let container = self.description(&made_of, socket.clone());
            match self.create_and_start(&container).await {
                Ok(()) => {
                    self.started.store(true, Ordering::Relaxed);
                    let _ = image::remove_older(&self.engine, payload.build()).await;
                    return Ok(Step::Again("it was just started".to_owned()));
                }
                Err(error) if is_a_race(&error) => return Ok(Step::Again(in_full(&error))),
                Err(error) => {
                    self.remove(&container.name).await?;
                    if let Some(socket) = socket.filter(|socket| is_missing(&error, socket)) {
                        self.sockets.record(socket, error.cause.0);
                    } else {
                        refused = refused.or(Some(error));
                    }
                }
            }
        }
        if refused.is_none() && self.sockets.any() {
            return Err(self.sockets.error());
        }
        if let (Ok(_), Some(error)) = (groups, &refused) {
            let why = Err(format!("the engine does not let the keeper have them: {}", in_full(error)));
            return Box::pin(self.create(powers, &why)).await;
        }
        // A keeper that must have a pool reports to its clients that it has none.
        if powers == Powers::Pool {
            tracing::debug!(?refused, "the engine refuses what a pool needs");
            let groups = self.groups(info);
            return Box::pin(self.create(Powers::None, &groups)).await;
        }
        match refused {
            Some(source) => Err(KeeperError::Engine { doing: self.starting(), source }),
            None => Ok(Step::Again("no socket of the engine is known".to_owned())),
        }
    }

    /// Fails if this container, which belongs to a keeper of the other kind, is running: two keepers would each attach
    /// the pool, and neither knows the other's leases.
    pub(super) async fn alone(&self, container: &str, otherwise: &str) -> Result<(), KeeperError> {
        let other = self.engine.container(container).await;
        match other.map_err(KeeperError::engine("look for another keeper"))? {
            Some(container) if container.state.is_alive() => {
                let cause =
                    format!("{otherwise}, or wait until it has left, ten minutes after its last sandbox");
                Err(KeeperError::Setting { variable: "SANDBOX_KEEPER", cause })
            }
            _ => Ok(()),
        }
    }

    async fn create_and_start(&self, container: &CreateContainer) -> Result<(), EngineError> {
        let id = image::create_container(&*self.engine, container).await?;
        self.engine.start_container(&id).await
    }

    /// Removes this container and waits until it is gone. It is no error if it is gone already.
    pub(super) async fn remove(&self, id: &str) -> Result<(), KeeperError> {
        let begin = Instant::now();
        loop {
            match self.engine.remove_container(id, true, false).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Ok(()) => return Ok(()),
                // Another client, or the keeper itself, is removing it.
                Err(error) if is_a_race(&error) && begin.elapsed() < PATIENCE => {}
                Err(source) => return Err(KeeperError::Engine { doing: "remove the old keeper", source }),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the keeper, if there is one.
    pub(super) async fn dismiss(&self) -> Result<(), KeeperError> {
        if self.options.place == KeeperPlacement::Process {
            return self.dismiss_process().await;
        }
        let Some(container) = self.container().await? else { return Ok(()) };
        if container.state == ContainerState::Running {
            let exec = Exec { stdin: true, ..Exec::new([image::PATH, "agent", "connect"]) };
            if let Ok(session) = self.engine.exec(&container.id, &exec).await {
                retire(Wire::of_exec(session)).await;
            }
        }
        self.remove(&container.id).await
    }

    /// Returns the last lines that the keeper logged.
    async fn last_words(&self) -> Option<String> {
        let text = match self.options.place {
            KeeperPlacement::Container => self.logged().await,
            KeeperPlacement::Process => self.last_lines().await,
        };
        text.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty())
    }

    async fn logged(&self) -> Option<String> {
        let options = LogOptions { tail: Tail::Lines(LAST_LINES as u64), ..LogOptions::default() };
        let mut stream = self.engine.logs(&self.name(), &options).await.ok()?;
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = stream.next().await {
            text.extend_from_slice(&chunk.bytes);
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Whether the engine has any object of a sandbox of this scope.
    pub(super) async fn any_sandbox(&self) -> Result<bool, KeeperError> {
        let target = Target::sandboxes(&self.options.scope);
        let found = sweep::find(&*self.engine, &target).await;
        Ok(!found.map_err(KeeperError::engine("look for sandboxes"))?.is_empty())
    }
}

/// Whether a restarted keeper may serve the requested kind of storage where this one does not. A keeper that this client
/// started has tried already.
fn restarts_for_storage(requested: Option<StorageKind>, greeting: &Greeting, started: bool) -> bool {
    let served = requested.is_none() || requested == greeting.storage;
    let tried = started && greeting.storage.is_none();
    !served && !tried && greeting.sandboxes == 0
}

/// The result of the greeting.
pub(super) enum Greeted {
    /// A compatible keeper.
    Well(Box<(Wire, Greeting)>),
    /// A keeper that has to be replaced.
    Replace(Box<Wire>),
    /// No keeper yet, and why.
    Not(String),
}

/// Asks a keeper to exit and waits until it has.
pub(super) async fn retire(mut wire: Wire) {
    let leaving = async {
        wire.send(&Request { id: 1, ask: RequestKind::Retire }).await?;
        while wire.receive().await?.is_some() {}
        std::io::Result::Ok(())
    };
    // A keeper that does not exit in time is removed: its records are in the volume.
    let _ = timeout(RETIREMENT, leaving).await;
}

/// Whether the engine cannot mount a socket because there is no such path on its machine.
fn is_missing(error: &EngineError, socket: &str) -> bool {
    let words = &error.cause.0;
    words.contains(socket) && (words.contains("does not exist") || words.contains("no such file"))
}

/// Whether an error only means that another client was faster.
fn is_a_race(error: &EngineError) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::InUse)
}

fn unless_raced(result: Result<(), EngineError>, doing: &'static str) -> Result<Option<String>, KeeperError> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if is_a_race(&error) => Ok(Some(in_full(&error))),
        Err(source) => Err(KeeperError::Engine { doing, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::Build;

    fn greeting(storage: Option<StorageKind>, sandboxes: usize) -> Greeting {
        Greeting {
            build: Build::default(),
            storage,
            storage_refused: Vec::new(),
            sandboxes,
            groups: None,
            groups_refused: None,
            disk: None,
        }
    }

    #[test]
    fn a_keeper_restarts_for_a_storage_that_it_does_not_serve_unless_it_has_tried() {
        let reflink = Some(StorageKind::Reflink);
        let copy = Some(StorageKind::Copy);
        assert!(!restarts_for_storage(None, &greeting(copy, 0), false));
        assert!(!restarts_for_storage(reflink, &greeting(reflink, 0), false));
        assert!(restarts_for_storage(reflink, &greeting(copy, 0), true));
        assert!(restarts_for_storage(reflink, &greeting(None, 0), false));
        assert!(!restarts_for_storage(reflink, &greeting(None, 0), true));
        assert!(!restarts_for_storage(reflink, &greeting(copy, 1), false));
    }
}
