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
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

mod disconnect;
mod disk;
mod engine_events;
mod host_firewall;
mod perform;
mod shutdown;
mod storage;

use super::cgroups;
use super::clients::Clients;
use super::clock::{Clock, WallTimer};
use super::disk_pressure::DiskPressure;
use super::observe;
use super::state::{Discovered, Event, State};
use super::store::Store;
use super::unfinished::Unfinished;
use crate::agent::cgroup::Groups;
use crate::agent::host_firewall::container::HostFirewall;
use crate::agent::protocol::{Build, Greeting, Record, RecordKind, RequestKind};
use crate::engine::Engine;
use crate::engine::identity::Scope;
use crate::spec::Limits;
use crate::storage::Storage;

/// How often the disk is looked at while there are sandboxes.
const DISK: Duration = Duration::from_secs(5);
/// How often the log of events and old leavings are tidied.
const TIDY: Duration = Duration::from_hours(1);
/// Where a keeper runs, which decides what a dead engine means to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperHome {
    /// In a container: it ends, and the engine starts it again with a fresh socket.
    Container,
    /// As a process: the socket's path stays good, so it waits.
    Process,
}

/// What a keeper is made of.
pub struct Parts {
    /// Where it runs.
    pub home: KeeperHome,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Whose objects are ours.
    pub scope: Scope,
    /// The folder in the volume.
    pub store: Store,
    /// The storage it serves.
    pub storage: Option<Arc<dyn Storage>>,
    /// Who makes control groups, if anybody can.
    pub groups: Option<Arc<dyn Groups>>,
    /// Who keeps services' packets off the engine's machine, if anybody does.
    pub host_firewall: Option<Arc<HostFirewall>>,
    /// What it says of itself.
    pub greeting: Greeting,
    /// How long it stays after the last sandbox.
    pub linger: Duration,
    /// Where clients come.
    pub socket: PathBuf,
    /// When an earlier keeper heard of the engine last.
    pub heard: Option<Timestamp>,
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
    // What happened since an earlier keeper heard of anything is told first.
    let mut engine_events = match keeper.subscribe().await {
        Ok(stream) => stream,
        Err(cause) => return Ok(End::EngineGone(cause)),
    };
    keeper.begin().await;
    loop {
        let alarms = keeper.state.alarms();
        wall.set(alarms.wall)?;
        let mono = alarms.mono.map_or_else(|| Instant::now() + TIDY, |it| clock.instant(it));
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
                keeper.heard = Some(event.time);
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
                keeper.anew = true;
                keeper.look();
                None
            },
            () = sleep_until(mono) => Some(Event::Alarm),
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
    home: KeeperHome,
    socket: PathBuf,
    engine: Arc<dyn Engine>,
    scope: Scope,
    store: Store,
    storage: Option<Arc<dyn Storage>>,
    groups: Option<Arc<dyn Groups>>,
    host_firewall: Option<Arc<HostFirewall>>,
    /// Whether the engine's machine may have been started anew, without any of the groups and with other bridges.
    anew: bool,
    pub(super) state: State,
    half_made: Unfinished,
    clock: Clock,
    pub(super) clients: Clients,
    events: mpsc::Sender<Event>,
    /// When the engine's last event was.
    heard: Option<Timestamp>,
    /// Work under way that has to be finished before the keeper leaves.
    busy: usize,
    pub(super) leaving: bool,
    tidied: Timestamp,
    /// When the budget was looked at last.
    bounded: Instant,
    /// What was done about the disk; locked while it is looked at.
    strain: Arc<Mutex<DiskPressure>>,
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
            groups: parts.groups,
            host_firewall: parts.host_firewall,
            anew: true,
            half_made: Unfinished::default(),
            state: State::new(parts.greeting, parts.linger, now),
            clock,
            clients: Clients::new(events.clone()),
            events,
            heard: parts.heard,
            busy: 0,
            leaving: false,
            tidied: Timestamp::MIN,
            bounded: Instant::now(),
            strain,
            build,
        }
    }

    /// Notes the start and finds what is there.
    pub(super) async fn begin(&mut self) {
        self.tidy();
        tokio::spawn(shutdown::remove_older_images(Arc::clone(&self.engine), self.build.clone()));
        observe::recount_mounts(&self.engine, &self.scope).await;
        // Their clients have lost their connections with the keeper before this one.
        self.take(Event::Remembered(self.store.remembered()));
        self.note(&Record {
            at: Timestamp::now(),
            name: None,
            sandbox: None,
            what: RecordKind::KeeperStarted {
                version: self.build.version.map(|it| it.to_string()).join("."),
            },
        });
        if let Ok(found) = observe::look(&self.engine, &self.scope, &self.store).await {
            if let Some(storage) = &self.storage {
                observe::delete_orphans(&**storage, &found).await;
            }
            // Before anybody can ask for a start.
            let unlimited = self.take_up(&found).await;
            if let Some(groups) = &self.groups {
                cgroups::remove_others(&**groups, &found).await;
            }
            self.take(Event::Found(found));
            unlimited.into_iter().for_each(|event| self.take(event));
        } else {
            self.look();
        }
    }

    /// Once after each start of the engine's machine. What a next `up` has to do again.
    fn take_up(&mut self, found: &[Discovered]) -> impl Future<Output = Vec<Event>> + Send + use<> {
        let anew = std::mem::take(&mut self.anew);
        let host_firewall = self.host_firewall.clone().filter(|_| anew);
        let groups = self.groups.clone().filter(|_| anew);
        let found = found.to_vec();
        async move {
            if let Some(host_firewall) = host_firewall {
                if found.is_empty() {
                    host_firewall.tidy().await;
                } else {
                    host_firewall::take_up(host_firewall).await;
                }
            }
            let Some(groups) = groups else { return Vec::new() };
            let failed = cgroups::take_up(&*groups, &found).await;
            failed.into_iter().map(|sandbox| Event::Limited(sandbox, Limits::default())).collect()
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match &event {
            Event::Connected(client) => self.half_made.opened(*client),
            Event::Quiet | Event::WentOn(_) => self.busy -= 1,
            Event::Asked(_, _, RequestKind::Lease(terms)) if !terms.again => self.prepare_host_firewall(),
            _ => {}
        }
        let looked = matches!(event, Event::Found(_));
        if let Event::Found(found) = &event {
            let (work, events) = (self.take_up(found), self.events.clone());
            tokio::spawn(async move {
                for event in work.await {
                    // Nobody receives once the loop has ended.
                    let _ = events.send(event).await;
                }
            });
        }
        for action in self.state.handle(self.clock.now(), event) {
            self.perform(action);
        }
        if looked {
            self.delete_late();
        }
    }
}
