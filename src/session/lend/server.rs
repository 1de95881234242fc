//! Serves clients: one loop receives their requests and the results of the work, and performs what the shelf decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::choose::{SourceChoice, open_source};
use super::protocol::{Reply, Request, SourceKind, Terms};
use super::shelf::{Action, Bounds, ClientId, Shelf};
use super::source::{Lent, Source};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::lifecycle::run::RunningSandbox;
use crate::spec::ServiceName;

/// What clients send, in the order of their connections' lines.
pub enum Inbound {
    /// A client has connected.
    Joined(ClientId, mpsc::Sender<Reply>),
    /// It sent a request, or a line that is none.
    Asked(ClientId, Result<Request, String>),
    /// Its connection is closed.
    Left(ClientId),
}

/// What is lent, and how much of it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The service.
    pub service: ServiceName,
    /// How its databases are made.
    pub choice: SourceChoice,
    /// How many are kept ready.
    pub ready: Option<usize>,
}

/// Serves clients until the session ends, then removes what outlives its sandbox.
///
/// # Errors
/// Fails if not even the first database can be made.
pub async fn serve(
    running: RunningSandbox,
    offer: Offer,
    mut inbox: mpsc::Receiver<Inbound>,
) -> Result<(), SessionError> {
    let token = running.token.clone();
    let opening = open_source(&running, &offer.service, offer.choice);
    let Some(source) = token.run_until_cancelled(opening).await else { return Ok(()) };
    let mut server = Server::new(source?, offer, &running.context.events, &token);
    let mut outcome = Ok(());
    while outcome.is_ok() {
        outcome = tokio::select! {
            () = token.cancelled() => break,
            Some(inbound) = inbox.recv() => {
                server.hear(inbound);
                Ok(())
            }
            Some(done) = server.work.join_next() => done.map_err(SessionError::from).and_then(|it| server.done(it)),
        };
    }
    server.close().await;
    outcome
}

/// The result of work on a database.
enum Done {
    Made(Result<Lent, SessionError>, f64),
    Cleared(Result<(), SessionError>),
}

struct Server {
    shelf: Shelf<Lent>,
    source: Arc<dyn Source>,
    offer: Offer,
    bounds: Bounds,
    clients: BTreeMap<ClientId, mpsc::Sender<Reply>>,
    /// The first line of each connection, once the first database is made.
    ready: Option<Reply>,
    work: JoinSet<Done>,
    events: Events,
    /// Cancelled when the session ends, or when this server does.
    token: CancellationToken,
}

impl Server {
    fn new(source: Arc<dyn Source>, offer: Offer, events: &Events, token: &CancellationToken) -> Self {
        let bounds = source.bounds(offer.ready);
        let (shelf, actions) = Shelf::new(bounds);
        let mut server = Self {
            shelf,
            source,
            offer,
            bounds,
            clients: BTreeMap::new(),
            ready: None,
            work: JoinSet::new(),
            events: events.clone(),
            token: token.child_token(),
        };
        server.perform(actions);
        server
    }

    fn hear(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Joined(client, replies) => {
                self.clients.insert(client, replies);
                if let Some(ready) = self.ready.clone() {
                    self.tell(client, ready);
                }
            }
            Inbound::Asked(client, Ok(Request::Take(take))) => {
                let actions = self.shelf.take(client, take.id);
                self.perform(actions);
            }
            Inbound::Asked(client, Ok(Request::Give(give))) => {
                let actions = self.shelf.give(client, give.id);
                self.perform(actions);
            }
            Inbound::Asked(client, Err(problem)) => {
                let hint = Some(r#"a request is a line such as {"take":{}} or {"give":{"id":1}}"#.to_owned());
                self.tell(client, Reply::Error { id: None, message: problem, hint });
            }
            Inbound::Left(client) => self.leave(client),
        }
    }

    fn done(&mut self, done: Done) -> Result<(), SessionError> {
        let actions = match done {
            Done::Made(Ok(lent), seconds) => {
                if self.ready.is_none() {
                    self.open(seconds);
                }
                self.shelf.made(lent, seconds)
            }
            Done::Made(Err(error), _) if self.ready.is_none() => return Err(error),
            Done::Made(Err(error), _) => self.shelf.not_made(&error.to_string(), error.hint().as_deref()),
            Done::Cleared(cleared) => {
                if let Err(error) = cleared {
                    let text = format!("a database that was given back is not removed: {error}");
                    self.events.emit(Event::Warning { text, hint: error.hint() });
                }
                self.shelf.cleared()
            }
        };
        self.perform(actions);
        Ok(())
    }

    /// Tells everybody that databases can be taken.
    fn open(&mut self, seconds_each: f64) {
        let terms = Terms {
            service: self.offer.service.to_string(),
            kind: self.source.kind(),
            ready: self.bounds.ready,
            most: self.bounds.most,
            seconds_each: (seconds_each * 1000.0).round() / 1000.0,
            notes: self.source.notes(),
        };
        let text = format!(
            "lending databases of `{}`, {} ready, {seconds_each:.2} s for each new one: {}",
            terms.service,
            terms.ready,
            terms.notes.join("; ")
        );
        self.events.emit(Event::Notice { text });
        let reply = Reply::Ready(terms);
        self.ready = Some(reply.clone());
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.tell(client, reply.clone());
        }
    }

    fn perform(&mut self, actions: Vec<Action<Lent>>) {
        for action in actions {
            match action {
                Action::Make => {
                    let (source, token) = (Arc::clone(&self.source), self.token.clone());
                    self.work.spawn(async move {
                        let began = Instant::now();
                        let made = source.make(&token).await;
                        Done::Made(made, began.elapsed().as_secs_f64())
                    });
                }
                Action::Clear(lent) => {
                    let source = Arc::clone(&self.source);
                    self.work.spawn(async move { Done::Cleared(source.clear(lent).await) });
                }
                Action::Deliver(holder, lent) => {
                    let Lent { url, env, .. } = lent;
                    self.tell(holder.client, Reply::Taken { id: holder.id, url, env });
                }
                Action::Tell(client, reply) => self.tell(client, reply),
            }
        }
    }

    /// Sends a reply. A client that reads too slowly is disconnected, so that replies do not fill the memory.
    fn tell(&mut self, client: ClientId, reply: Reply) {
        let told = self.clients.get(&client).map(|replies| replies.try_send(reply));
        if let Some(Err(_)) = told {
            self.leave(client);
        }
    }

    fn leave(&mut self, client: ClientId) {
        // Its connection ends when the sender is dropped.
        self.clients.remove(&client);
        let actions = self.shelf.leave(client);
        self.perform(actions);
    }

    /// Waits for work in progress and removes all databases.
    async fn close(mut self) {
        self.token.cancel();
        if self.source.kind() != SourceKind::Whole {
            // They go with the session's sandbox.
            self.work.abort_all();
        }
        let mut all = self.shelf.into_all();
        while let Some(done) = self.work.join_next().await {
            if let Ok(Done::Made(Ok(lent), _)) = done {
                all.push(lent);
            }
        }
        self.source.close(all).await;
    }
}
