//! The keeper's client connections: one task per connection, which reads requests and writes lines.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::state::{ConnectionId, Event};
use crate::agent::protocol::{LONGEST_LINE, Line, Outcome, Refusal, RefusalKind, Reply, Request};

/// All connections, by number.
pub struct Clients {
    last: u64,
    lines: BTreeMap<ConnectionId, mpsc::UnboundedSender<Line>>,
    events: mpsc::Sender<Event>,
}

impl Clients {
    /// Starts without connections. Requests go to `events`.
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        Self { last: 0, lines: BTreeMap::new(), events }
    }

    /// Serves a new connection.
    pub fn add(&mut self, socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> ConnectionId {
        self.last += 1;
        let client = ConnectionId(self.last);
        let (sender, lines) = mpsc::unbounded_channel();
        self.lines.insert(client, sender);
        tokio::spawn(serve(socket, client, lines, self.events.clone()));
        client
    }

    /// Sends a line, if the client is still connected.
    pub fn send(&self, client: ConnectionId, line: Line) {
        if let Some(lines) = self.lines.get(&client) {
            let _ = lines.send(line);
        }
    }

    /// Returns the channel for lines to a client, if it is still connected.
    pub fn sender(&self, client: ConnectionId) -> Option<mpsc::UnboundedSender<Line>> {
        self.lines.get(&client).cloned()
    }

    /// Closes a connection after everything has been sent.
    pub fn remove(&mut self, client: ConnectionId) {
        self.lines.remove(&client);
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite,
    client: ConnectionId,
    mut lines: mpsc::UnboundedReceiver<Line>,
    events: mpsc::Sender<Event>,
) {
    let (input, mut output) = tokio::io::split(socket);
    let mut input = FramedRead::new(input, LinesCodec::new_with_max_length(LONGEST_LINE));
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { break };
                let Ok(mut text) = serde_json::to_vec(&line) else { continue };
                text.push(b'\n');
                if output.write_all(&text).await.is_err() {
                    break;
                }
            }
            line = input.next() => {
                let Some(Ok(line)) = line else { break };
                match serde_json::from_str::<Request>(&line) {
                    Ok(request) => {
                        if events.send(Event::Asked(client, request.id, request.ask)).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        let reply = malformed(&line, &error);
                        let Ok(mut text) = serde_json::to_vec(&reply) else { continue };
                        text.push(b'\n');
                        if output.write_all(&text).await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
    }
    let _ = events.send(Event::Disconnected(client)).await;
}

/// Returns the reply to a line that is no valid request, with its number if it has one.
fn malformed(line: &str, error: &serde_json::Error) -> Line {
    let id =
        serde_json::from_str::<serde_json::Value>(line).ok().and_then(|it| it["id"].as_u64()).unwrap_or(0);
    let refusal =
        Refusal { kind: RefusalKind::Malformed, message: format!("not a request: {error}"), hint: None };
    Line::Reply(Reply { id, outcome: Outcome::Error(refusal) })
}
