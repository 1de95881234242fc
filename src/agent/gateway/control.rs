//! The control protocol between a client and the gateway, over one exec that stays open: JSON lines, requests with an
//! `id`, answers with the same `id`, in any order.
//!
//! `sandbox agent control` connects its standard input and output to the gateway's socket. The socket has an abstract
//! name, which belongs to the network namespace: no other container can reach it, and it works on a read-only file
//! system.

use std::{
    io,
    os::{linux::net::SocketAddrExt, unix::net as unix},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::config::{Forward, ServiceAddress};
use super::context::Serving;
use super::forward;
use super::probe::{self, Probe};
use super::stats::{Connections, Refusal};

/// The socket's abstract name.
const SOCKET_NAME: &str = "sandbox-gateway-control";
/// How long to wait for a gateway that is starting.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// The longest request, in bytes.
const MOST_BYTES: u64 = 1024 * 1024;

/// A request to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// Chosen by the client; each answer carries the same number.
    pub id: u64,
    /// The request itself.
    #[serde(flatten)]
    pub action: ControlAction,
}

/// The requests of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum ControlAction {
    /// Probes a service until it is ready or the timeout has passed. Sends [`ControlAnswer::Waiting`] whenever the last
    /// result changes, then one [`ControlAnswer::Ready`] or [`ControlAnswer::TimedOut`].
    Probe(Probe),
    /// Cancels the probe with this id. Both requests are answered with [`ControlAnswer::Cancelled`].
    Cancel {
        /// The probe's id.
        probe: u64,
    },
    /// Returns the use of the published ports: [`ControlAnswer::Connections`].
    Connections,
    /// Returns what was refused so far: [`ControlAnswer::Refused`].
    Refused,
    /// Starts to serve a published port: [`ControlAnswer::Done`].
    Forward(Forward),
    /// Adds or moves a service's container: [`ControlAnswer::Done`].
    Service(ServiceAddress),
}

/// An answer of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReply {
    /// The id of the request.
    pub id: u64,
    /// The answer itself.
    #[serde(flatten)]
    pub answer: ControlAnswer,
}

/// The answers of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum ControlAnswer {
    /// The service is not ready yet.
    Waiting {
        /// The last result: "connection refused", "503".
        last: String,
    },
    /// The service is ready.
    Ready {
        /// Milliseconds since the request.
        after_ms: u64,
    },
    /// The probe's timeout has passed.
    TimedOut {
        /// The last result.
        last: String,
    },
    /// The probe was cancelled.
    Cancelled,
    /// Use of the published ports.
    Connections(Connections),
    /// What was refused.
    Refused {
        /// Each kind of refusal with its count.
        refusals: Vec<Refusal>,
    },
    /// The request was carried out.
    Done,
    /// The request failed.
    Failed {
        /// The cause.
        message: String,
    },
}

/// Starts to accept clients.
pub fn serve(serving: Arc<Serving>, edge: Option<std::net::Ipv4Addr>) -> io::Result<()> {
    let listener = unix::UnixListener::bind_addr(&unix::SocketAddr::from_abstract_name(SOCKET_NAME)?)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let serving = Arc::clone(&serving);
            tokio::spawn(async move {
                let _client_left = converse(serving, edge, stream).await;
            });
        }
    });
    Ok(())
}

/// Copies standard input to the gateway and its answers to standard output, until either ends.
pub fn carry_stdio() -> io::Result<()> {
    use std::{io::Read, net::Shutdown, thread};
    let stream = connect(&unix::SocketAddr::from_abstract_name(SOCKET_NAME)?)?;
    let mut from_gateway = stream.try_clone()?;
    let answers = thread::spawn(move || -> io::Result<()> {
        let (mut bytes, mut stdout) = ([0; 8192], io::stdout());
        loop {
            match from_gateway.read(&mut bytes)? {
                0 => std::process::exit(0),
                length => {
                    io::Write::write_all(&mut stdout, &bytes[..length])?;
                    io::Write::flush(&mut stdout)?;
                }
            }
        }
    });
    let _end = io::copy(&mut io::stdin().lock(), &mut &stream);
    // When standard input closes, the client has ended, and so do its requests.
    let _ = stream.shutdown(Shutdown::Both);
    drop(answers);
    Ok(())
}

/// Connects, and waits for a gateway that has only just started.
fn connect(address: &unix::SocketAddr) -> io::Result<unix::UnixStream> {
    let begin = Instant::now();
    loop {
        match unix::UnixStream::connect_addr(address) {
            Err(_) if begin.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

type Replies = mpsc::UnboundedSender<ControlReply>;

async fn converse(
    serving: Arc<Serving>,
    edge: Option<std::net::Ipv4Addr>,
    stream: UnixStream,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let (sender, mut replies) = mpsc::unbounded_channel::<ControlReply>();
    let mut client = Client { serving, edge, replies: sender, probes: JoinSet::new(), running: Vec::new() };
    let listening = client.listen(reader);
    let answering = async {
        while let Some(reply) = replies.recv().await {
            let mut line = serde_json::to_vec(&reply)?;
            line.push(b'\n');
            writer.write_all(&line).await?;
        }
        Ok(())
    };
    tokio::select! { ended = listening => ended, ended = answering => ended }
}

/// One client; its requests end when it disconnects.
struct Client {
    serving: Arc<Serving>,
    edge: Option<std::net::Ipv4Addr>,
    replies: Replies,
    probes: JoinSet<()>,
    running: Vec<(u64, AbortHandle)>,
}

impl Client {
    async fn listen(&mut self, reader: OwnedReadHalf) -> io::Result<()> {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length =
                tokio::io::AsyncReadExt::take(&mut reader, MOST_BYTES).read_until(b'\n', &mut line).await?;
            if length == 0 {
                return Ok(());
            }
            match serde_json::from_slice::<ControlRequest>(&line) {
                Ok(request) => self.handle(request).await,
                Err(error) => self.reply(0, ControlAnswer::Failed { message: error.to_string() }),
            }
        }
    }

    fn reply(&self, id: u64, answer: ControlAnswer) {
        let _ = self.replies.send(ControlReply { id, answer });
    }

    async fn handle(&mut self, request: ControlRequest) {
        let id = request.id;
        let answer = match request.action {
            ControlAction::Probe(probe) => return self.start_probe(id, probe),
            ControlAction::Cancel { probe } => self.cancel(probe),
            ControlAction::Connections => {
                ControlAnswer::Connections(self.serving.ledger.lock().connections())
            }
            ControlAction::Refused => {
                ControlAnswer::Refused { refusals: self.serving.ledger.lock().refusals() }
            }
            ControlAction::Forward(forward) => self.add_forward(forward).await,
            ControlAction::Service(service) => {
                self.serving.roster.put(service);
                ControlAnswer::Done
            }
        };
        self.reply(id, answer);
    }

    fn start_probe(&mut self, id: u64, probe: Probe) {
        let (serving, replies) = (Arc::clone(&self.serving), self.replies.clone());
        self.running.retain(|(_, handle)| !handle.is_finished());
        let started = Instant::now();
        let handle = self.probes.spawn(async move {
            let tell = |last: &str| {
                let _ = replies
                    .send(ControlReply { id, answer: ControlAnswer::Waiting { last: last.to_owned() } });
            };
            let answer = match probe::until_ready(&serving, &probe, tell).await {
                Ok(()) => {
                    let after_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    ControlAnswer::Ready { after_ms }
                }
                Err(last) => ControlAnswer::TimedOut { last },
            };
            let _ = replies.send(ControlReply { id, answer });
        });
        self.running.push((id, handle));
    }

    fn cancel(&mut self, probe: u64) -> ControlAnswer {
        for (id, handle) in self.running.extract_if(.., |(id, _)| *id == probe) {
            if !handle.is_finished() {
                handle.abort();
                let _ = self.replies.send(ControlReply { id, answer: ControlAnswer::Cancelled });
            }
        }
        ControlAnswer::Cancelled
    }

    async fn add_forward(&self, forward: Forward) -> ControlAnswer {
        let Some(edge) = self.edge else {
            return ControlAnswer::Failed { message: "the gateway is on no edge network".into() };
        };
        match forward::serve(Arc::clone(&self.serving), edge, forward).await {
            Ok(()) => ControlAnswer::Done,
            Err(error) => ControlAnswer::Failed { message: error.to_string() },
        }
    }
}
