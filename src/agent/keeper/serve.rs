//! The keeper's loop: sockets, clocks and the engine become events, [`State::handle`] decides, and what it decides is
//! done here.
//!
//! One thread; nothing is looked at every so often, so that a keeper with nothing to do costs nothing. It ends when
//! the engine's socket is dead: one that was mounted before the engine's restart never lives again, and the engine's
//! restart policy brings a keeper with a fresh one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::bound;
use super::clients::Clients;
use super::clock::{Clock, WallTimer};
use super::destroy::Destroyer;
use super::frozen::{self, Frozen};
use super::halfmade::HalfMade;
use super::observe;
use super::state::{Action, ConnectionId, Event, State};
use super::store::Store;
use super::strain::{Relief, Strain};
use super::watch::Watch;
use crate::agent::client::in_full;
use crate::agent::fault;
use crate::agent::image;
use crate::agent::memory;
use crate::agent::protocol::{
    Ask, Build, Greeting, Line, Outcome, Record, Refusal, RefusalKind, Reply, What,
};
use crate::engine::identity::{self, Scope};
use crate::engine::{Engine, EventStream, Filter};
use crate::pool::{self, SetPath, Storage};

/// How often the disk is looked at while there are sandboxes.
const DISK: Duration = Duration::from_secs(5);
/// How often the log of events and old leavings are tidied.
const TIDY: Duration = Duration::from_hours(1);
/// How often the budget is looked at besides when something is published.
const BOUND: Duration = Duration::from_mins(5);

/// How long after a burst of work its memory is given back.
pub(super) const BURST: Duration = Duration::from_secs(3);

/// Where a keeper runs, which decides what a dead engine means to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// In a container: it ends, and the engine starts it again with a fresh socket.
    Container,
    /// As a process: the socket's path stays good, so it waits.
    Process,
}

/// What a keeper is made of.
pub struct Parts {
    /// Where it runs.
    pub home: Home,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Whose objects are ours.
    pub scope: Scope,
    /// The folder in the volume.
    pub store: Store,
    /// The storage it serves.
    pub storage: Option<Arc<dyn Storage>>,
    /// What it says of itself.
    pub greeting: Greeting,
    /// How long it stays after the last sandbox.
    pub linger: Duration,
    /// Where clients come.
    pub socket: PathBuf,
}

/// Why the keeper ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is left to keep, or a newer one takes over.
    Left,
    /// It was told to.
    Stopped,
    /// The engine is gone.
    EngineGone(String),
}

/// Serves until there is a reason to end.
pub async fn serve(parts: Parts) -> std::io::Result<End> {
    let listener = listen(&parts.socket)?;
    let (sender, mut events) = mpsc::channel(256);
    let clock = Clock::start();
    let mut keeper = Serving::new(parts, clock, sender);
    let mut wall = WallTimer::new()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut disk = interval(DISK);
    disk.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = keeper.watch().await;
    let mut engine_events = match keeper.subscribe().await {
        Ok(stream) => stream,
        Err(cause) => return Ok(End::EngineGone(cause)),
    };
    keeper.begin().await;
    loop {
        let alarms = keeper.state.alarms();
        wall.set(alarms.wall)?;
        let mono = alarms.mono.map_or_else(|| Instant::now() + TIDY, |it| clock.instant(it));
        let burst_over = keeper.burst.map(|it| it + BURST);
        let event = tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(End::Stopped),
            _ = interrupt.recv() => return Ok(End::Stopped),
            event = events.recv() => event,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => Some(Event::Connected(keeper.clients.add(socket))),
                Err(_) => None,
            },
            item = engine_events.next() => if let Some(Ok(event)) = item {
                watch.event(&event)
            } else {
                let again = tokio::select! {
                    again = keeper.subscribe_again() => again,
                    _ = terminate.recv() => return Ok(End::Stopped),
                    _ = interrupt.recv() => return Ok(End::Stopped),
                };
                match again {
                    Ok(stream) => engine_events = stream,
                    Err(cause) => return Ok(End::EngineGone(cause)),
                }
                keeper.look();
                None
            },
            () = sleep_until(mono) => Some(Event::Alarm),
            () = sleep_until(burst_over.unwrap_or(mono)), if burst_over.is_some() => {
                memory::give_back();
                keeper.burst = None;
                None
            }
            fired = wall.fired() => fired.map(|()| Some(Event::Alarm))?,
            _ = disk.tick(), if keeper.watches_disk() => {
                keeper.check_disk();
                None
            }
        };
        if let Some(event) = event {
            keeper.take(event);
        }
        if keeper.leaving && keeper.busy == 0 {
            keeper.leave().await;
            return Ok(End::Left);
        }
    }
}

/// Binds the socket; one that a keeper before left behind is replaced.
pub(super) fn listen(socket: &std::path::Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

pub(super) struct Serving {
    home: Home,
    socket: PathBuf,
    engine: Arc<dyn Engine>,
    scope: Scope,
    store: Store,
    storage: Option<Arc<dyn Storage>>,
    pub(super) state: State,
    half_made: HalfMade,
    frozen: Frozen,
    clock: Clock,
    pub(super) clients: Clients,
    events: mpsc::Sender<Event>,
    /// Storage operations under way.
    busy: usize,
    pub(super) leaving: bool,
    /// When work that touches much of the program began.
    burst: Option<Instant>,
    tidied: Timestamp,
    /// When the budget was looked at last.
    bounded: Instant,
    /// What was done about the disk; locked while it is looked at.
    strain: Arc<Mutex<Strain>>,
    build: Build,
}

impl Serving {
    pub(super) fn new(parts: Parts, clock: Clock, events: mpsc::Sender<Event>) -> Self {
        let now = clock.now();
        let strain = Arc::new(Mutex::new(parts.store.strain()));
        let build = parts.greeting.build.clone();
        Self {
            home: parts.home,
            socket: parts.socket,
            engine: parts.engine,
            scope: parts.scope,
            store: parts.store,
            storage: parts.storage,
            half_made: HalfMade::default(),
            frozen: Frozen::default(),
            state: State::new(parts.greeting, parts.linger, now),
            clock,
            clients: Clients::new(events.clone()),
            events,
            busy: 0,
            leaving: false,
            burst: Some(Instant::now()),
            tidied: Timestamp::MIN,
            bounded: Instant::now(),
            strain,
            build,
        }
    }

    /// Notes the start and finds what is there.
    pub(super) async fn begin(&mut self) {
        self.tidy();
        tokio::spawn(remove_older_images(Arc::clone(&self.engine), self.build.clone()));
        // Their clients have lost their connections with the keeper before this one.
        self.thaw(self.store.frozen());
        observe::recount_mounts(&self.engine, &self.scope).await;
        self.note(&Record {
            at: Timestamp::now(),
            name: None,
            sandbox: None,
            what: What::KeeperStarted { version: self.build.version.map(|it| it.to_string()).join(".") },
        });
        if let Ok(found) = observe::look(&self.engine, &self.scope, &self.store).await {
            if let Some(storage) = &self.storage {
                observe::delete_orphans(&**storage, &found).await;
            }
            self.take(Event::Found(found));
        } else {
            self.look();
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match &event {
            Event::Connected(client) => self.half_made.opened(*client),
            Event::Disconnected(client) => self.part(*client),
            Event::Quiet => self.busy -= 1,
            _ => {}
        }
        if !matches!(event, Event::Alarm | Event::Asked(_, _, Ask::Heartbeat)) {
            self.burst.get_or_insert_with(Instant::now);
        }
        let looked = matches!(event, Event::Found(_));
        for action in self.state.handle(self.clock.now(), event) {
            self.perform(action);
        }
        if looked {
            self.delete_late();
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Reply(client, id, outcome) => {
                self.clients.send(client, Line::Reply(Reply { id, outcome }));
            }
            Action::Notify(client, notice) => self.clients.send(client, Line::Notice(notice)),
            Action::Hangup(client) => self.part(client),
            Action::Save(kept) => self.warn("save a record", self.store.save(&kept)),
            Action::Forget(sandbox) => self.warn("remove a record", self.store.forget(&sandbox)),
            Action::Log(record) => self.note(&record),
            Action::Destroy { name, sandbox, gather } => {
                let destroyer = self.destroyer();
                self.spawn(async move {
                    let destroyed = destroyer.destroy(&name, &sandbox, gather).await;
                    Event::Destroyed(sandbox, destroyed)
                });
            }
            Action::AskUse { name, sandbox } => {
                let engine = Arc::clone(&self.engine);
                self.spawn(async move {
                    let used = observe::last_use(&engine, &name).await;
                    Event::Use(sandbox, used)
                });
            }
            Action::Look => self.look(),
            Action::ReviveFault { container } => {
                let engine = Arc::clone(&self.engine);
                tokio::spawn(async move {
                    if let Err(error) = fault::container::revive(&*engine, &container).await {
                        tracing::warn!(container, error = in_full(&error), "its fault is not in force again");
                    }
                });
            }
            Action::Restart { container, after } => {
                let engine = Arc::clone(&self.engine);
                tokio::spawn(async move {
                    sleep(after).await;
                    // One that is gone, or that runs again, needs nothing.
                    let _ = engine.start_container(&container).await;
                });
            }
            Action::ReadEvents(client, id, since) => {
                let events = self.store.events(Timestamp::now(), since);
                self.answer(client, id, &events);
            }
            Action::ReadLeft(client, id, name) => {
                let left = self.store.left(name.as_ref());
                self.answer(client, id, &left);
            }
            Action::Freeze(client, containers) => {
                self.frozen.note(client, containers);
                self.warn("keep what is frozen", self.store.save_frozen(&self.frozen.all()));
            }
            Action::Storage(client, id, request) => self.store_for(client, id, request),
            Action::Leave => self.leaving = true,
        }
    }

    fn spawn(&self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            // Nobody receives once the loop has ended.
            let _ = events.send(work.await).await;
        });
    }

    fn answer<T: serde::Serialize>(&self, client: ConnectionId, id: u64, value: &T) {
        let outcome = match serde_json::to_value(value) {
            Ok(value) => Outcome::Ok(value),
            Err(error) => Outcome::Error(Refusal {
                kind: RefusalKind::Internal,
                message: error.to_string(),
                hint: None,
            }),
        };
        self.clients.send(client, Line::Reply(Reply { id, outcome }));
    }

    fn store_for(&mut self, client: ConnectionId, id: u64, request: pool::Request) {
        let Some(storage) = self.storage.clone() else {
            let message = "this keeper serves no storage".to_owned();
            let refusal = Refusal { kind: RefusalKind::Storage, message, hint: None };
            return self.clients.send(client, Line::Reply(Reply { id, outcome: Outcome::Error(refusal) }));
        };
        self.busy += 1;
        let Some(lines) = self.clients.sender(client) else { return self.busy -= 1 };
        let half_made = self.half_made.clone();
        let bound = matches!(request, pool::Request::Publish { .. }).then(|| self.bound());
        self.spawn(async move {
            let answer = half_made.perform(&*storage, client, request).await;
            let value = serde_json::to_value(answer).unwrap_or_default();
            // The client may have gone; what it asked for is done all the same.
            let _ = lines.send(Line::Reply(Reply { id, outcome: Outcome::Ok(value) }));
            if let Some(bound) = bound {
                bound.await;
            }
            Event::Quiet
        });
    }

    /// Brings what is stored back into its budget.
    fn bound(&self) -> impl Future<Output = ()> + Send + use<> {
        let (engine, scope, storage) = (Arc::clone(&self.engine), self.scope.clone(), self.storage.clone());
        async move {
            let Some(storage) = storage else { return };
            match bound::keep_within(&engine, &scope, &*storage, Timestamp::now().as_second()).await {
                Ok(went) if went.is_empty() => {}
                Ok(went) => tracing::info!(?went, "removed what was least recently used"),
                Err(error) => tracing::warn!(%error, "cannot keep within the budget"),
            }
        }
    }

    /// Thaws what a client has left frozen.
    fn thaw(&self, containers: Vec<String>) {
        if !containers.is_empty() {
            self.warn("keep what is frozen", self.store.save_frozen(&self.frozen.all()));
            tokio::spawn(frozen::thaw(Arc::clone(&self.engine), containers));
        }
    }

    /// A connection is over; what it has half-made goes with it, and what it has frozen is thawed.
    fn part(&mut self, client: ConnectionId) {
        self.clients.remove(client);
        let frozen = self.frozen.closed(client);
        self.thaw(frozen);
        let left = self.half_made.closed(client);
        let Some(storage) = self.storage.clone().filter(|_| !left.is_empty()) else { return };
        self.busy += 1;
        self.spawn(async move {
            for set in left {
                if let Err(error) = storage.delete_set(&set).await {
                    tracing::warn!(%error, "cannot delete what a client has left half-made");
                }
            }
            Event::Quiet
        });
    }

    /// Work for a sandbox that was under way when it was destroyed may have ended after that.
    fn delete_late(&mut self) {
        let Some(storage) = self.storage.clone() else { return };
        let gone: Vec<SetPath> = self.state.gone().filter_map(|id| SetPath::live(id.as_str()).ok()).collect();
        self.busy += 1;
        self.spawn(async move {
            for set in gone {
                if let Err(error) = storage.delete_set(&set).await {
                    tracing::warn!(%error, "cannot delete the data of a sandbox that is gone");
                }
            }
            Event::Quiet
        });
    }

    fn look(&self) {
        let (engine, scope, store) = (Arc::clone(&self.engine), self.scope.clone(), self.store.clone());
        self.spawn(async move {
            let mut pause = Duration::from_millis(100);
            loop {
                match observe::look(&engine, &scope, &store).await {
                    Ok(found) => return Event::Found(found),
                    Err(error) => tracing::warn!(error = in_full(&error), "cannot look at the engine"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
        });
    }

    /// What is remembered of the engine's events, with the faults that are there already.
    async fn watch(&self) -> Watch {
        let faults = fault::container::find(&*self.engine, self.scope.narrow(Filter::all())).await;
        let faults = faults.unwrap_or_default();
        Watch::with_faults_of(faults.iter().map(|imposed| imposed.target().to_owned()))
    }

    pub(super) async fn subscribe(&self) -> Result<EventStream, String> {
        let filter = self.scope.narrow(Filter::all().has_label(identity::ID));
        self.engine.events(&filter, None).await.map_err(|error| in_full(&error))
    }

    /// After the stream of events has ended: in a container only what can be had again at once.
    async fn subscribe_again(&self) -> Result<EventStream, String> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.subscribe().await {
                Ok(stream) => {
                    observe::recount_mounts(&self.engine, &self.scope).await;
                    return Ok(stream);
                }
                Err(cause) if self.home == Home::Container && pause > Duration::from_secs(1) => {
                    return Err(cause);
                }
                // Nobody can reach it any more, and it has nothing to keep.
                Err(cause) if !self.state.has_sandboxes() && !self.socket.exists() => return Err(cause),
                Err(cause) => tracing::warn!(cause, "the engine does not answer"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    fn watches_disk(&self) -> bool {
        self.storage.is_some() && self.state.has_sandboxes()
    }

    fn check_disk(&mut self) {
        self.tidy();
        if self.bounded.elapsed() > BOUND {
            self.bounded = Instant::now();
            tokio::spawn(self.bound());
        }
        let Some(storage) = self.storage.clone() else { return };
        let (engine, scope, store) = (Arc::clone(&self.engine), self.scope.clone(), self.store.clone());
        let strain = Arc::clone(&self.strain);
        tokio::spawn(async move {
            // One look after the other: what it does about the disk may take its time.
            if let Ok(mut strain) = strain.try_lock() {
                Relief { engine, scope, store, storage }.relieve(&mut strain).await;
            }
        });
    }

    fn tidy(&mut self) {
        let now = Timestamp::now();
        if now.duration_since(self.tidied).unsigned_abs() > TIDY {
            self.tidied = now;
            self.warn("drop old events", self.store.tidy(now));
        }
    }

    fn note(&self, record: &Record) {
        if let Some(name) = &record.name {
            tracing::info!(%name, "{}", record.what);
        } else {
            tracing::info!("{}", record.what);
        }
        self.warn("note an event", self.store.note(record));
    }

    /// The volume is a convenience: without it deadlines fall back to the labels.
    #[expect(clippy::unused_self, reason = "reads as a step of the keeper")]
    fn warn(&self, doing: &str, result: std::io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot {doing}");
        }
    }

    fn destroyer(&self) -> Destroyer {
        Destroyer {
            engine: Arc::clone(&self.engine),
            scope: self.scope.clone(),
            store: self.store.clone(),
            storage: self.storage.clone(),
        }
    }

    /// Removes the keeper's own container, which ends this process too.
    async fn leave(&mut self) {
        remove_older_images(Arc::clone(&self.engine), self.build.clone()).await;
        if let Some(storage) = &self.storage {
            let _ = storage.sync().await;
        }
        // The last replies are on their way.
        sleep(Duration::from_millis(50)).await;
        if self.home == Home::Container {
            let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let _ = self.engine.remove_container(&own, true, false).await;
        }
    }
}

/// Removes those of our images that an older build made and that nothing uses any more.
async fn remove_older_images(engine: Arc<dyn Engine>, build: Build) {
    if let Err(error) = image::remove_older(&engine, &build).await {
        tracing::warn!(error = in_full(&error), "cannot look for images of older builds");
    }
}
