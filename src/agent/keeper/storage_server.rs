//! `sandbox agent storage-server`: serves the storage from a container, for a keeper that runs as a process elsewhere.
//! It speaks the keeper's protocol, but has no sandboxes and no engine.
//!
//! It exits after a while without connections, and the engine then removes its container. The next client that needs
//! the storage creates it again.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::clients::Clients;
use super::serve::listen;
use super::state::{ConnectionId, Event};
use super::unfinished::Unfinished;
use super::{Arguments, cgroups, open_local};
use crate::agent::cgroup::{self, Groups};
use crate::agent::client::in_full;
use crate::agent::protocol::{DiskSpace, Greeting, Line, Outcome, Refusal, RefusalKind, Reply, RequestKind};
use crate::engine::identity::Scope;
use crate::storage::{self, Namespace, Storage};

/// How long it stays after its keeper has disconnected.
const DESERTED: Duration = Duration::from_mins(1);

/// `sandbox agent storage-server …`
pub fn run(args: &[String]) -> ExitCode {
    let served = Arguments::parse(args).map_err(io::Error::other).and_then(|arguments| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().max_blocking_threads(4).build()?.block_on(serve(arguments))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> io::Result<()> {
    let (storage, storage_refused) = open_local(&arguments).await;
    let volume = arguments.volume.clone();
    let scope = Scope::from_env().map_err(io::Error::other)?;
    let groups = cgroups::open_local(&arguments, &scope).await;
    let listener = listen(&arguments.socket)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, mut events) = mpsc::channel(256);
    let greeting = Greeting {
        build: arguments.build,
        storage: storage.as_ref().map(|it| it.kind()),
        storage_refused,
        groups: groups.as_ref().ok().map(|it| it.grouping().clone()),
        groups_refused: groups.as_ref().err().cloned(),
        sandboxes: 0,
        disk: DiskSpace::of(&volume),
    };
    let mut house = StorageServer::new(storage, greeting, sender);
    house.groups = groups.ok();
    loop {
        let end = house.deserted.map(|since| since + DESERTED);
        let never = Instant::now() + DESERTED;
        let event = tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(()),
            event = events.recv() => event,
            Ok((socket, _)) = listener.accept() => Some(Event::Connected(house.clients.add(socket))),
            () = sleep_until(end.unwrap_or(never)), if end.is_some() => return Ok(()),
        };
        if event.is_some_and(|event| house.take(event) == Next::End) {
            return Ok(());
        }
    }
}

/// Whether the loop continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Serve,
    End,
}

struct StorageServer {
    storage: Option<Arc<dyn Storage>>,
    groups: Option<Arc<dyn Groups>>,
    greeting: Greeting,
    clients: Clients,
    half_made: Unfinished,
    events: mpsc::Sender<Event>,
    connections: usize,
    /// Number of storage operations in progress.
    busy: usize,
    /// Since when there are neither connections nor operations.
    deserted: Option<Instant>,
}

impl StorageServer {
    fn new(storage: Option<Arc<dyn Storage>>, greeting: Greeting, events: mpsc::Sender<Event>) -> Self {
        Self {
            storage,
            groups: None,
            greeting,
            clients: Clients::new(events.clone()),
            half_made: Unfinished::default(),
            events,
            connections: 0,
            busy: 0,
            deserted: Some(Instant::now()),
        }
    }

    fn take(&mut self, event: Event) -> Next {
        match event {
            Event::Connected(client) => {
                self.half_made.opened(client);
                self.connections += 1;
            }
            Event::Disconnected(client) => self.part(client),
            Event::Asked(_, _, RequestKind::Retire) => return Next::End,
            Event::Asked(client, id, ask) => self.asked(client, id, ask),
            Event::Quiet => self.busy -= 1,
            _ => {}
        }
        let deserted = self.connections == 0 && self.busy == 0;
        self.deserted = if deserted { self.deserted.or_else(|| Some(Instant::now())) } else { None };
        Next::Serve
    }

    fn asked(&mut self, client: ConnectionId, id: u64, ask: RequestKind) {
        match (ask, self.storage.clone()) {
            (RequestKind::Hello(_), storage) => self.greet(client, id, storage),
            (RequestKind::Heartbeat, _) => self.reply(client, id, Outcome::Ok(serde_json::Value::Null)),
            (RequestKind::Group { request }, _) => self.group(client, id, request),
            (RequestKind::Storage { request }, Some(storage)) => self.perform(client, id, storage, request),
            _ => {
                let message = "this is the storage server of a keeper, not a keeper".to_owned();
                let refusal = Refusal { kind: RefusalKind::Storage, message, hint: None };
                self.reply(client, id, Outcome::Error(refusal));
            }
        }
    }

    /// Sends the greeting, with the number of sandboxes that have data here: if there are none, a server of another
    /// kind may replace this one.
    fn greet(&mut self, client: ConnectionId, id: u64, storage: Option<Arc<dyn Storage>>) {
        let Some(lines) = self.clients.sender(client) else { return };
        let mut greeting = self.greeting.clone();
        self.work(async move {
            if let Some(storage) = storage {
                greeting.sandboxes = storage.list(Namespace::Live).await.map_or(0, |live| live.len());
            }
            let outcome = Outcome::Ok(serde_json::to_value(greeting).unwrap_or_default());
            let _ = lines.send(Line::Reply(Reply { id, outcome }));
        });
    }

    fn perform(
        &mut self,
        client: ConnectionId,
        id: u64,
        storage: Arc<dyn Storage>,
        request: storage::Request,
    ) {
        let Some(lines) = self.clients.sender(client) else { return };
        let answer = self.half_made.perform(storage, client, request);
        self.work(async move {
            let outcome = Outcome::Ok(serde_json::to_value(answer.await).unwrap_or_default());
            // The keeper may have disconnected; its request has been performed all the same.
            let _ = lines.send(Line::Reply(Reply { id, outcome }));
        });
    }

    fn group(&mut self, client: ConnectionId, id: u64, request: cgroup::Request) {
        let Some(lines) = self.clients.sender(client) else { return };
        let groups = self.groups.clone();
        self.work(async move {
            let answer = match groups {
                Some(groups) => groups.perform(request).await.map_err(|error| error.to_string()),
                None => Err("this storage server makes no control groups".to_owned()),
            };
            let outcome = Outcome::Ok(serde_json::to_value(answer).unwrap_or_default());
            let _ = lines.send(Line::Reply(Reply { id, outcome }));
        });
    }

    /// Handles the end of a connection and deletes what it left half-made.
    fn part(&mut self, client: ConnectionId) {
        self.connections -= 1;
        self.clients.remove(client);
        let left = self.half_made.closed(client);
        if let Some(storage) = self.storage.clone() {
            self.work(async move { left.delete(&*storage).await });
        }
    }

    fn reply(&self, client: ConnectionId, id: u64, outcome: Outcome) {
        self.clients.send(client, Line::Reply(Reply { id, outcome }));
    }

    fn work(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.busy += 1;
        let events = self.events.clone();
        tokio::spawn(async move {
            work.await;
            let _ = events.send(Event::Quiet).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::client::Wire;
    use crate::agent::protocol::Request;
    use crate::storage::{Settings, StorageKind, open_local};

    /// A storage server with the copy backend and one connection.
    fn house() -> (tempfile::TempDir, StorageServer, mpsc::Receiver<Event>) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { kind: Some(StorageKind::Copy), budget: None };
        let (storage, _) = open_local(folder.path(), folder.path(), &settings).unwrap();
        let (sender, events) = mpsc::channel(16);
        let greeting = Greeting {
            build: crate::agent::protocol::Build::default(),
            storage: Some(StorageKind::Copy),
            ..Greeting::default()
        };
        (folder, StorageServer::new(Some(Arc::new(storage)), greeting, sender), events)
    }

    #[tokio::test]
    async fn it_serves_the_storage_and_ends_after_the_last_connection() {
        let (_folder, mut house, mut events) = house();
        let (ours, theirs) = tokio::io::duplex(4096);
        let client = house.clients.add(theirs);
        assert_eq!(house.take(Event::Connected(client)), Next::Serve);
        let mut wire = Wire::of_pipe(ours);
        wire.send(&Request { id: 1, ask: RequestKind::Storage { request: storage::Request::Begin {} } })
            .await
            .unwrap();
        let asked = events.recv().await.unwrap();
        house.take(asked);
        let quiet = events.recv().await.unwrap();
        assert!(house.deserted.is_none());
        house.take(quiet);
        assert!(matches!(wire.receive().await.unwrap(), Some(Line::Reply(Reply { id: 1, .. }))));
        assert_eq!(house.storage.as_ref().unwrap().list(Namespace::Making).await.unwrap().len(), 1);

        // What was begun is deleted when the connection closes.
        drop(wire);
        while house.deserted.is_none() {
            let event = events.recv().await.unwrap();
            house.take(event);
        }
        assert!(house.storage.as_ref().unwrap().list(Namespace::Making).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn it_is_no_keeper() {
        let (_folder, mut house, mut events) = house();
        let (ours, theirs) = tokio::io::duplex(4096);
        let client = house.clients.add(theirs);
        house.take(Event::Connected(client));
        let mut wire = Wire::of_pipe(ours);
        wire.send(&Request { id: 1, ask: RequestKind::Sandboxes }).await.unwrap();
        let asked = events.recv().await.unwrap();
        assert_eq!(house.take(asked), Next::Serve);
        let Some(Line::Reply(Reply { outcome: Outcome::Error(refusal), .. })) = wire.receive().await.unwrap()
        else {
            panic!("it answered as a keeper would")
        };
        assert!(refusal.message.contains("not a keeper"), "{refusal}");
    }
}
