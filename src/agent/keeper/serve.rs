//! The keeper's loop: turns sockets, clocks and the engine into events, passes them to [`State::handle`] and performs
//! the actions that it returns.
//!
//! It has one thread. A keeper without sandboxes polls nothing and uses no CPU. It exits when the engine's socket is
//! dead: a socket that was mounted before the engine restarted never works again, and the engine's restart policy
//! starts a keeper with a new one.

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

/// How often the disk is checked while there are sandboxes.
const DISK: Duration = Duration::from_secs(5);
/// How often the event log and old records are tidied.
const TIDY: Duration = Duration::from_hours(1);
/// Where a keeper runs, which decides what it does when the engine is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperHome {
    /// In a container: it exits, and the engine restarts it with a new socket.
    Container,
    /// As a process: the socket's path stays valid, so it waits.
    Process,
}

/// The dependencies of a keeper.
pub struct Parts {
    /// Where it runs.
    pub home: KeeperHome,
    pub engine: Arc<dyn Engine>,
    /// The scope of its objects.
    pub scope: Scope,
    /// The keeper's folder in its volume.
    pub store: Store,
    /// The storage that it serves.
    pub storage: Option<Arc<dyn Storage>>,
    /// The control group operations, if it can make control groups.
    pub groups: Option<Arc<dyn Groups>>,
    /// The host firewall, if the engine allows one.
    pub host_firewall: Option<Arc<HostFirewall>>,
    /// What it reports about itself to clients.
    pub greeting: Greeting,
    /// How long it stays after the last sandbox.
    pub linger: Duration,
    /// The socket on which it listens.
    pub socket: PathBuf,
    /// The time of the last engine event that the previous keeper handled.
    pub heard: Option<Timestamp>,
}

/// Why the keeper exited.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It is no longer needed, or a newer keeper takes over.
    Left,
    /// It received a signal to stop.
    Stopped,
    /// The engine is unreachable.
    EngineGone(String),
}

/// Serves until there is a reason to exit.
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
    // The engine replays the events since the previous keeper's last one.
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

/// Binds the socket; replaces one that a previous keeper left behind.
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
    /// Whether the engine's machine may have rebooted, which removes the control groups and replaces the bridges.
    anew: bool,
    pub(super) state: State,
    half_made: Unfinished,
    clock: Clock,
    pub(super) clients: Clients,
    events: mpsc::Sender<Event>,
    /// The time of the last engine event.
    heard: Option<Timestamp>,
    /// Number of tasks that have to finish before the keeper exits.
    busy: usize,
    pub(super) leaving: bool,
    tidied: Timestamp,
    /// When the budget was last checked.
    bounded: Instant,
    /// What was done about disk pressure; locked during a check.
    strain: Arc<Mutex<DiskPressure>>,
    build: Build,
}

impl Serving {
    pub(super) fn new(parts: Parts, clock: Clock, events: mpsc::Sender<Event>) -> Self {
        let now = clock.now();
        let strain = Arc::new(Mutex::new(parts.store.disk_pressure()));
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

    /// Logs the start and finds the existing sandboxes.
    pub(super) async fn begin(&mut self) {
        self.tidy();
        tokio::spawn(shutdown::remove_older_images(Arc::clone(&self.engine), self.build.clone()));
        observe::recount_mounts(&self.engine, &self.scope).await;
        // When the previous keeper ended, its clients lost their connections.
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
            // Before any client can request a start.
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

    /// Restores host firewall and control groups once after each boot of the engine's machine. Returns the sandboxes
    /// whose limits the next `up` has to set again.
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
                    // There is no receiver once the loop has ended.
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
