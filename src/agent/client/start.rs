//! Making sure that there is a keeper, and reaching it: in a container, by an exec of `sandbox agent connect`.
//!
//! Any number of clients may do this at once. Nothing here assumes that what was seen a moment ago is still so: a
//! step that fails because another client was faster is simply tried again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::error::{STARTING, in_full};
use super::link::{Dial, answer_to};
use super::wire::Wire;
use super::{KeeperError, Options, Place};
use crate::agent::image::{self, Payload};
use crate::agent::protocol::{self, Ask, Build, Greeting, Outcome, Request};
use crate::engine::identity::{self, Role};
use crate::engine::{
    Container, ContainerState, CreateContainer, CreateVolume, Engine, EngineError, EngineInfo, ErrorKind,
    Exec, Location, LogOptions, Mount, NetworkMode, RestartPolicy, Tail, Volume,
};
use crate::pool::StorageKind;
use crate::sweep::{self, Target};

/// How long a keeper may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an older keeper may take to finish what it is doing.
const RETIREMENT: Duration = Duration::from_mins(1);
/// How much of what a keeper wrote is shown when it does not come up.
pub(super) const LAST_LINES: usize = 3;
/// The engine's socket as the keeper sees it.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";
/// The keeper's volume as the keeper sees it.
pub const VOLUME: &str = "/pool";
/// The keeper's own socket, in its container.
pub const SOCKET: &str = "/run/keeper.sock";

/// Knows how to reach the keeper of an engine.
pub(super) struct Starter {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: Options,
    ready: OnceCell<(EngineInfo, Payload)>,
}

/// What came of one try.
pub(super) enum Step {
    Reached(Box<(Wire, Greeting)>),
    Again(String),
}

/// Whether the keeper gets what a pool needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Powers {
    Pool,
    None,
}

/// What the keeper's container is made of.
struct MadeOf<'a> {
    info: &'a EngineInfo,
    build: &'a Build,
    image: &'a str,
    volume: &'a Volume,
    powers: Powers,
}

#[async_trait]
impl Dial for Starter {
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError> {
        let begin = Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            let step = match self.options.place {
                Place::Container => self.by_container().await?,
                Place::Process => self.by_process().await?,
            };
            match step {
                Step::Reached(reached) => return Ok(*reached),
                Step::Again(cause) if begin.elapsed() > PATIENCE => {
                    let cause = self.last_words().await.unwrap_or(cause);
                    self.remove_broken().await?;
                    return Err(KeeperError::Silent { cause });
                }
                Step::Again(cause) => tracing::debug!(cause, "the keeper is not there yet"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

impl Starter {
    pub(super) fn new(engine: Arc<dyn Engine>, options: Options) -> Self {
        Self { engine, options, ready: OnceCell::new() }
    }

    /// The keeper's container, if there is one.
    pub(super) async fn container(&self) -> Result<Option<Container>, KeeperError> {
        let name = self.options.scope.keeper();
        self.engine.container(&name).await.map_err(KeeperError::engine("look for the keeper"))
    }

    pub(super) async fn ready(&self) -> Result<&(EngineInfo, Payload), KeeperError> {
        self.ready
            .get_or_try_init(|| async {
                let info =
                    self.engine.info().await.map_err(KeeperError::engine("ask the engine what it is"))?;
                let payload = Payload::find(&info.arch, self.options.binary.as_deref())?;
                Ok((info, payload))
            })
            .await
    }

    /// Removes a keeper that cannot begin, so that the engine does not start it for ever.
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
            return self.create(powers).await;
        };
        match container.state {
            ContainerState::Running => {}
            ContainerState::Created | ContainerState::Exited => {
                let started = self.engine.start_container(&container.id).await;
                if let Some(cause) = unless_raced(started, STARTING)? {
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
                Ok(Step::Again("an older keeper was replaced".to_owned()))
            }
            Greeted::Not(cause) => Ok(Step::Again(cause)),
        }
    }

    /// Exchanges hellos and judges whether this is a keeper for us.
    pub(super) async fn greet(&self, mut wire: Wire) -> Result<Greeted, KeeperError> {
        let (_, payload) = self.ready().await?;
        let own = payload.build();
        let hello = Request { id: 0, ask: Ask::Hello(own.clone()) };
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
        let wished = self.options.storage.is_none() || self.options.storage == greeting.storage;
        if greeting.build < *own || (!wished && greeting.sandboxes == 0) {
            return Ok(Greeted::Replace(Box::new(wire)));
        }
        Ok(Greeted::Well(Box::new((wire, greeting))))
    }

    /// Makes the keeper's container and starts it.
    async fn create(&self, powers: Powers) -> Result<Step, KeeperError> {
        let (info, payload) = self.ready().await?;
        let image = image::ensure(&self.engine, payload).await?;
        let volume = self.volume().await?;
        let made_of = MadeOf { info, build: payload.build(), image: &image, volume: &volume, powers };
        let mut refused = None;
        for socket in self.engine_sockets(info) {
            let container = self.description(&made_of, socket);
            match self.create_and_start(&container).await {
                Ok(()) => {
                    let _ = image::remove_older(&self.engine, payload.build()).await;
                    return Ok(Step::Again("it was just started".to_owned()));
                }
                Err(error) if is_a_race(&error) => return Ok(Step::Again(in_full(&error))),
                Err(error) => {
                    self.remove(&container.name).await?;
                    refused = refused.or(Some(error));
                }
            }
        }
        if powers == Powers::Pool && self.options.storage.is_none() {
            tracing::debug!(?refused, "the engine refuses what a pool needs");
            return Box::pin(self.create(Powers::None)).await;
        }
        match refused {
            Some(source) => Err(KeeperError::Engine { doing: STARTING, source }),
            None => Ok(Step::Again("no socket of the engine is known".to_owned())),
        }
    }

    async fn create_and_start(&self, container: &CreateContainer) -> Result<(), EngineError> {
        let id = self.engine.create_container(container).await?;
        self.engine.start_container(&id).await
    }

    /// The keeper's volume, made if it is not there.
    pub(super) async fn volume(&self) -> Result<Volume, KeeperError> {
        let volume = CreateVolume {
            name: self.options.scope.pool(),
            labels: self.labels(Role::Pool),
            ..CreateVolume::default()
        };
        self.engine.create_volume(&volume).await.map_err(KeeperError::engine("make the keeper's volume"))
    }

    fn labels(&self, role: Role) -> std::collections::BTreeMap<String, String> {
        let mut labels = [(identity::ROLE.to_owned(), role.as_str().to_owned())].into();
        self.options.scope.mark(&mut labels);
        labels
    }

    fn description(&self, made_of: &MadeOf<'_>, socket: String) -> CreateContainer {
        let MadeOf { info, build, image, volume, powers } = *made_of;
        let mut container = CreateContainer::new(self.options.scope.keeper(), image);
        let mut cmd = vec!["agent".to_owned(), "keeper".to_owned()];
        cmd.extend(self.arguments(build, SOCKET, VOLUME, Some(&volume.mountpoint)));
        container.cmd = Some(cmd);
        container.labels = self.labels(Role::Keeper);
        container.env = [(identity::Scope::VARIABLE.to_owned(), Some(self.options.scope.to_string()))].into();
        container.network_mode = NetworkMode::None;
        container.restart = RestartPolicy::Always;
        container.stop_timeout = Some(Duration::from_secs(5));
        container.mounts = vec![Mount::bind(socket, ENGINE_SOCKET), Mount::volume(&volume.name, VOLUME)];
        container.tmpfs = [("/run".to_owned(), "size=64k,mode=700".to_owned())].into();
        container.read_only = true;
        container.security_opt = vec!["no-new-privileges:true".to_owned()];
        if info.security.selinux {
            // The engine's socket is closed to confined containers.
            container.security_opt.push("label=disable".to_owned());
        }
        if powers == Powers::Pool {
            container.cap_add = vec!["SYS_ADMIN".to_owned(), "MKNOD".to_owned()];
            container.device_cgroup_rules = vec!["b 7:* rwm".to_owned(), "c 10:237 rwm".to_owned()];
            if info.security.apparmor {
                // The default profile forbids every mount, whatever the capabilities.
                container.security_opt.push("apparmor=unconfined".to_owned());
            }
        }
        container
    }

    /// What a keeper is told on its command line.
    pub(super) fn arguments(
        &self,
        build: &Build,
        socket: &str,
        volume: &str,
        host_root: Option<&str>,
    ) -> Vec<String> {
        let mut arguments = vec![
            format!("--build={}", serde_json::to_string(build).unwrap_or_default()),
            format!("--socket={socket}"),
            format!("--volume={volume}"),
            format!("--linger={}", self.options.linger.as_millis()),
        ];
        arguments.extend(host_root.map(|it| format!("--host-root={it}")));
        arguments.extend(self.options.storage.map(|it| format!("--storage={it}")));
        arguments.extend(self.options.budget.map(|it| format!("--budget={it}")));
        arguments
    }

    /// Where the engine's socket may be on the engine's own machine, the likeliest first. The keeper makes sure that it
    /// is the right one.
    fn engine_sockets(&self, info: &EngineInfo) -> Vec<String> {
        if let Some(told) = &self.options.socket {
            return vec![told.clone()];
        }
        match &info.location {
            // Its engine runs in a machine of its own, where the socket has its usual place.
            Location::Unix(path) if !info.distribution.contains("Docker Desktop") => {
                let mut paths = vec![path.display().to_string()];
                paths.extend((paths[0] != ENGINE_SOCKET).then(|| ENGINE_SOCKET.to_owned()));
                paths
            }
            _ => vec![ENGINE_SOCKET.to_owned()],
        }
    }

    /// Removes this very container and waits until it is gone; that it is gone already is fine.
    pub(super) async fn remove(&self, id: &str) -> Result<(), KeeperError> {
        let begin = Instant::now();
        loop {
            match self.engine.remove_container(id, true, false).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Ok(()) => return Ok(()),
                // Somebody else, perhaps the keeper itself, is removing it.
                Err(error) if is_a_race(&error) && begin.elapsed() < PATIENCE => {}
                Err(source) => return Err(KeeperError::Engine { doing: "remove the old keeper", source }),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the keeper, if there is one.
    pub(super) async fn dismiss(&self) -> Result<(), KeeperError> {
        if self.options.place == Place::Process {
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

    /// The last lines that the keeper wrote.
    async fn last_words(&self) -> Option<String> {
        let text = match self.options.place {
            Place::Container => self.logged().await,
            Place::Process => self.last_lines().await,
        };
        text.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty())
    }

    async fn logged(&self) -> Option<String> {
        let options = LogOptions { tail: Tail::Lines(LAST_LINES as u64), ..LogOptions::default() };
        let mut stream = self.engine.logs(&self.options.scope.keeper(), &options).await.ok()?;
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = stream.next().await {
            text.extend_from_slice(&chunk.bytes);
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Whether the engine has anything of a sandbox of this scope.
    pub(super) async fn any_sandbox(&self) -> Result<bool, KeeperError> {
        let target = Target::sandboxes(&self.options.scope);
        let found = sweep::find(&*self.engine, &target).await;
        Ok(!found.map_err(KeeperError::engine("look for sandboxes"))?.is_empty())
    }
}

/// What came of the hellos.
pub(super) enum Greeted {
    /// A keeper for us.
    Well(Box<(Wire, Greeting)>),
    /// One that has to make room.
    Replace(Box<Wire>),
    /// None, for now.
    Not(String),
}

/// Asks a keeper to leave and waits until it has.
pub(super) async fn retire(mut wire: Wire) {
    let leaving = async {
        wire.send(&Request { id: 1, ask: Ask::Retire }).await?;
        while wire.receive().await?.is_some() {}
        std::io::Result::Ok(())
    };
    // One that does not leave in time is removed: its records are in the volume.
    let _ = timeout(RETIREMENT, leaving).await;
}

/// Whether an error only says that another client was faster.
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
