//! Test environment of a session: an in-memory engine, a keeper on it, and a clock that advances only when all tasks
//! are idle.
//!
//! Client and keeper see the same engine, but have separate calls and faults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::client::{ByPipe, Keeper};
use crate::agent::gateway::control::{ControlAction, ControlAnswer, ControlReply, ControlRequest};
use crate::agent::keeper::in_memory::rehearse;
use crate::agent::keeper::serve::{KeeperHome, Parts};
use crate::agent::keeper::store::Store;
use crate::agent::protocol::{Build, Greeting, Lifetime, Reason};
use crate::engine::identity::{SandboxId, Scope};
use crate::engine::recording::{Recording, Script};
use crate::engine::{Engine, ImageConfig};
use crate::plan::SubnetPool;
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::Events;
use crate::session::existing::ExistingSandbox;
use crate::session::inspect;
use crate::session::lifecycle::control::LoopEvent;
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::{Outcome, Purpose};
use crate::session::lifecycle::teardown::{Teardown, TeardownCause};
use crate::session::request::UpOptions;
use crate::spec::{self, LoadRequest, Loaded};
use crate::storage::{self, Namespace, Storage, StorageKind};

/// A shop with everything that a sandbox may have: two networks, a bake, a volume that is kept, an anonymous one, a
/// secret, a healthcheck, a published port, a one-shot service, hooks.
pub const SHOP: &str = r#"
services:
  db:
    image: app:1
    networks: [back]
    volumes: ["data:/data", "/scratch"]
    secrets: [password]
    expose: [5432]
    stop_grace_period: 5s
    seed: [{ exec: [make, tables] }]
  migrate:
    image: once:1
    networks: [back]
    depends_on: { db: { condition: service_healthy } }
  web:
    image: app:1
    networks: [front, back]
    ports: ["8080"]
    volumes: ["uploads:/uploads"]
    healthcheck: { test: [CMD, ready] }
    depends_on: { migrate: { condition: service_completed_successfully } }
    pre_stop: [{ command: [say, goodbye] }]
networks: { front: {}, back: {} }
volumes: { data: {}, uploads: {} }
secrets: { password: { generate: 12 } }
"#;

/// Timeout of any operation, on the test's clock.
const PATIENCE: Duration = Duration::from_hours(1);

/// One test's engine, keeper and client.
pub struct Stage {
    /// The engine as the client sees it.
    pub client: Arc<Recording>,
    /// The engine as the keeper sees it.
    pub keeper: Arc<Recording>,
    loaded: Loaded,
    storage: Arc<dyn Storage>,
    /// The folder of the storage.
    store: PathBuf,
    pipe: ByPipe,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Creates a spec, an engine without objects, and a keeper that waits for clients.
    pub fn set(spec: &str) -> Self {
        let folder = folder();
        std::fs::write(folder.path().join("sandbox.yaml"), spec).unwrap();
        std::fs::write(folder.path().join("key.bin"), [0xff, 0]).unwrap();
        std::fs::write(folder.path().join(".env"), "COLOUR=blue\n").unwrap();
        let request = LoadRequest {
            folder: folder.path().to_owned(),
            name: Some("shop".to_owned()),
            ..LoadRequest::default()
        };
        let loaded = spec::load(&request).unwrap();
        let client = engine();
        let keeper = client.sibling();
        let settings = storage::Settings { kind: Some(StorageKind::Copy), ..storage::Settings::default() };
        let (local, _) = storage::open_local(folder.path(), folder.path(), &settings).unwrap();
        let store = local.store();
        let storage: Arc<dyn Storage> = Arc::new(local);
        let (connections, coming) = mpsc::unbounded_channel();
        let parts = Parts {
            home: KeeperHome::Process,
            engine: Arc::clone(&keeper) as Arc<dyn Engine>,
            scope: Scope::default(),
            store: Store::open(folder.path()).unwrap(),
            storage: Some(Arc::clone(&storage)),
            groups: None,
            host_firewall: None,
            greeting: Greeting {
                build: Build::default(),
                storage: Some(StorageKind::Copy),
                ..Greeting::default()
            },
            linger: PATIENCE,
            socket: folder.path().join("keeper.sock"),
            heard: None,
        };
        tokio::spawn(rehearse(parts, coming));
        let pipe = ByPipe { connections, dead: CancellationToken::new() };
        Self { client, keeper, loaded, storage, store, pipe, _folder: folder }
    }

    /// Opens a session, runs it for this purpose and waits for its end. `signals` are those that the user sends
    /// meanwhile.
    pub async fn session(
        &self,
        purpose: Purpose,
        signals: BoxStream<'static, LoopEvent>,
    ) -> Result<Outcome, SessionError> {
        let context = self.context().await?;
        let observed = inspect::sandbox(&*context.engine, &context.scope, &self.loaded.sandbox).await?;
        let session = open::open_at(context, observed, &self.loaded, &UpOptions::default()).await?;
        session.run_hearing(signals, purpose).await
    }

    /// `up` with a command that exits immediately, and the teardown.
    pub async fn run(&self) -> Result<Outcome, SessionError> {
        self.session(Purpose::Command(Box::new(|_| Box::pin(async { 0 }))), stream::pending().boxed()).await
    }

    /// `up -d`
    pub async fn up(&self) -> Result<Outcome, SessionError> {
        let purpose = Purpose::Detached { lifetime: Lifetime::default() };
        self.session(purpose, stream::pending().boxed()).await
    }

    /// `down`: returns what it reports as remaining.
    pub async fn down(&self) -> Result<Vec<String>, SessionError> {
        let context = self.context().await?;
        let scope = Scope::default();
        let Some(there) = inspect::sandbox(&*context.engine, &scope, &self.loaded.sandbox).await? else {
            return Ok(Vec::new());
        };
        let spec = inspect::declared(&context.keeper, &there).await?.map(Arc::new);
        let doomed = Teardown {
            engine: context.engine,
            keeper: context.keeper,
            events: Events::nowhere(),
            scope,
            name: there.name.parse().unwrap(),
            id: there.id.parse().unwrap(),
            spec,
            stop_timeout: None,
            follower: None,
            artifacts: None,
            cause: TeardownCause::Other,
        };
        Ok(doomed
            .destroy("asked to", Reason::Down, &CancellationToken::new())
            .await?
            .left
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    /// The sandbox that is up, or another one of that name.
    pub async fn existing(&self, name: Option<&str>) -> ExistingSandbox {
        let context = self.context().await.unwrap();
        let name = name.map_or_else(|| self.loaded.sandbox.clone(), |name| name.parse().unwrap());
        let observed = inspect::sandbox(&*context.engine, &context.scope, &name).await.unwrap();
        ExistingSandbox::at(context, observed.unwrap()).await.unwrap()
    }

    /// `fork`
    pub async fn fork(&self, from: &ExistingSandbox, name: &str) -> Result<Outcome, SessionError> {
        let id = SandboxId::random();
        let order = from.fork(name.parse().unwrap(), id.clone(), PATIENCE).await?;
        let session = open::begin(from.context.clone(), order, false).await?;
        from.lend(&id).await?;
        let purpose = Purpose::Detached { lifetime: Lifetime::default() };
        session.run_hearing(stream::pending().boxed(), purpose).await
    }

    /// A file of a sandbox's volume.
    pub fn file(&self, existing: &ExistingSandbox, volume: &str, file: &str) -> PathBuf {
        self.store.join("live").join(existing.id.as_str()).join(volume).join(file)
    }

    /// A file next to the spec.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.loaded.spec.folder.join(name)
    }

    /// The folder of a snapshot.
    pub fn snapshot_folder(&self, name: &str) -> PathBuf {
        self.store.join("snapshot").join(name)
    }

    async fn context(&self) -> Result<Context, SessionError> {
        let engine = Arc::clone(&self.client) as Arc<dyn Engine>;
        let keeper = Keeper::by_pipe(&engine, self.pipe.clone()).await?;
        Ok(Context {
            info: engine.info().await?,
            engine,
            storage: keeper.storage()?,
            storage_container: keeper.storage_container(),
            limiter: Err("no engine, no groups".to_owned()),
            keeper,
            agent_image: "agent:1".to_owned(),
            scope: Scope::default(),
            subnets: SubnetPool::default(),
            throwaway_seccomp: None,
            events: Events::nowhere(),
        })
    }

    /// Simulates that the client's process is killed.
    pub fn kill_client(&self) {
        self.pipe.dead.cancel();
    }

    /// Waits for a future that must complete in time.
    pub async fn in_time<T>(&self, what: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, what).await.expect("it does not end")
    }

    /// What remains of sandboxes: objects of the engine, and stored data.
    pub async fn remains(&self) -> Vec<String> {
        let mut remains = self.client.objects();
        remains.retain(|object| object != "network sandbox-edge");
        let live = self.storage.list(Namespace::Live).await.unwrap();
        remains.extend(live.iter().map(|set| format!("data {}", set.path)));
        remains
    }

    /// Waits until nothing remains, for as long as a keeper searches for late objects. Returns what remains.
    pub async fn finally_remains(&self) -> Vec<String> {
        for _ in 0..3600 {
            if self.remains().await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.remains().await
    }
}

/// In memory if possible, since publishing syncs to the disk in every test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn engine() -> Arc<Recording> {
    let engine = Recording::with_images(&["agent:1", "once:1", "db:1"]);
    engine.add_image("app:1", ImageConfig { volumes: vec!["/cache".into()], ..ImageConfig::default() });
    engine.behave("once:1", crate::engine::recording::Behaviour::Exits(0));
    engine.on_exec(|_, exec| {
        if exec.cmd.iter().any(|word| word == "control") {
            Script::Serve(Box::new(|requests, answers| drop(tokio::spawn(gateway(requests, answers)))))
        } else {
            Script::answer("", 0)
        }
    });
    engine
}

/// A gateway that reports every port as open.
async fn gateway(requests: tokio::io::DuplexStream, mut answers: tokio::io::DuplexStream) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut lines = BufReader::new(requests).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let ControlRequest { id, action } = serde_json::from_str(&line).unwrap();
        let answer = match action {
            ControlAction::Probe(_) => ControlAnswer::Ready { after_ms: 1 },
            _ => ControlAnswer::Done,
        };
        let mut reply = serde_json::to_vec(&ControlReply { id, answer }).unwrap();
        reply.push(b'\n');
        if answers.write_all(&reply).await.is_err() {
            return;
        }
    }
}
