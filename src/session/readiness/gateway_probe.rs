//! Has the sandbox's gateway probe ports from inside the sandbox, over one `exec` that stays open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::agent::gateway::control::{ControlAction, ControlAnswer, ControlReply, ControlRequest};
use crate::agent::gateway::probe::{HttpProbe, Probe as GatewayProbe};
use crate::agent::gateway::stats::Refusal;
use crate::engine::{Engine, EngineError, Exec, ExecSession};
use crate::session::error::{Refused, SessionError};
use crate::spec::Probe;

/// How long one probe runs on the gateway before it is requested again.
const ROUND: Duration = Duration::from_mins(10);
/// How long to wait before connecting again to a gateway that does not accept the connection yet.
const PAUSE: Duration = Duration::from_millis(30);

/// How long to wait for a gateway that has just started.
const SERVES: Duration = Duration::from_secs(5);
/// How long to wait for the explanation of a failure.
const EXPLAIN: Duration = Duration::from_secs(2);

/// A connection to a sandbox's gateway, opened on first use.
pub struct GatewayProber {
    engine: Arc<dyn Engine>,
    gateway: String,
    line: Mutex<Option<mpsc::UnboundedSender<Question>>>,
}

/// A probe, and where its results are sent.
struct Question {
    probe: GatewayProbe,
    last: watch::Sender<String>,
    outcome: oneshot::Sender<Ended>,
}

/// How a probe ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Ready,
    NotYet,
}

impl GatewayProber {
    /// A prober for the gateway in this container.
    pub fn new(engine: Arc<dyn Engine>, gateway: String) -> Self {
        Self { engine, gateway, line: Mutex::new(None) }
    }

    /// Returns when `probe` (TCP or HTTP) succeeds on a service's container. Reports each result that differs from the
    /// previous one.
    ///
    /// # Errors
    /// Fails if the gateway no longer exists.
    pub(crate) async fn until_ready(
        &self,
        service: &str,
        container: &str,
        probe: &Probe,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        let Some(probe) = in_gateway_words(service, container, probe) else { return Ok(()) };
        loop {
            let (outcome, ended) = oneshot::channel();
            let question = Question { probe: probe.clone(), last: last.clone(), outcome };
            self.ask(question).await?;
            match ended.await {
                Ok(Ended::Ready) => return Ok(()),
                // The gateway was recreated, or the round timed out.
                Ok(Ended::NotYet) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask(&self, question: Question) -> Result<(), SessionError> {
        let mut line = self.line.lock().await;
        let question = match line.as_ref() {
            Some(line) => match line.send(question) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => question,
        };
        let (sender, questions) = mpsc::unbounded_channel();
        // The receiver is held in this function, so sending cannot fail.
        let _ = sender.send(question);
        tokio::spawn(converse(self.dial().await?, questions));
        *line = Some(sender);
        Ok(())
    }

    /// The blocked outbound connections of a service, each with the rule that would allow it. Empty if the gateway does
    /// not answer, since this only explains a failure.
    pub(crate) async fn refused(&self, service: &str) -> Box<Refused> {
        let asked = tokio::time::timeout(EXPLAIN, self.refusals()).await;
        let refusals = asked.ok().and_then(Result::ok).unwrap_or_default();
        let its = refusals.iter().filter(|refusal| refusal.key.service == service);
        Box::new(Refused { lines: its.map(explained).collect() })
    }

    /// Waits until the gateway serves its ports, unless it has answered before.
    pub(crate) async fn gateway_serves(&self) {
        if self.line.lock().await.is_none() {
            // The gateway answers once its ports are open. If it never does, using the ports fails.
            let _ = tokio::time::timeout(SERVES, self.refusals()).await;
        }
    }

    /// All that was refused so far.
    ///
    /// # Errors
    /// Fails if the engine fails.
    pub(crate) async fn refusals(&self) -> Result<Vec<Refusal>, EngineError> {
        let ExecSession { mut input, mut output, .. } = self.dial().await?;
        let request = ControlRequest { id: 1, action: ControlAction::Refused };
        let mut line = serde_json::to_vec(&request).unwrap_or_default();
        line.push(b'\n');
        // If the gateway no longer exists, the read that follows ends without an answer.
        let _ = input.write_all(&line).await;
        let _ = input.flush().await;
        let mut answer = Vec::new();
        while let Some(chunk) = output.next().await {
            answer.extend_from_slice(&chunk?.bytes);
            if answer.ends_with(b"\n") {
                break;
            }
        }
        Ok(match serde_json::from_slice(&answer) {
            Ok(ControlReply { answer: ControlAnswer::Refused { refusals }, .. }) => refusals,
            _ => Vec::new(),
        })
    }

    async fn dial(&self) -> Result<ExecSession, EngineError> {
        let exec = Exec { stdin: true, ..Exec::new(["/sandbox", "agent", "control"]) };
        self.engine.exec(&self.gateway, &exec).await
    }
}

/// `api.example.com:443 (3 times); to let it out: egress: ["api.example.com"]`.
fn explained(refusal: &Refusal) -> String {
    let key = &refusal.key;
    let port = key.port.map(|port| format!(":{port}")).unwrap_or_default();
    let times = if refusal.count == 1 { "once".to_owned() } else { format!("{} times", refusal.count) };
    if let Some(rule) = key.rule() {
        return format!("`{}{port}` ({times}); `egress: [\"{rule}\"]` lets it out", key.target);
    }
    let reason = key.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
    format!("`{}{port}` ({times}){reason}", key.target)
}

fn in_gateway_words(service: &str, container: &str, probe: &Probe) -> Option<GatewayProbe> {
    let (port, http) = match probe {
        Probe::Tcp { port } => (*port, None),
        Probe::Http { port, path, status, headers } => {
            let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let http = HttpProbe { path: path.clone(), status: status.iter().copied().collect(), headers };
            (port.unwrap_or(80), Some(http))
        }
        Probe::None | Probe::Exec(_) | Probe::Log { .. } => return None,
    };
    let target = if container.is_empty() { service } else { container }.to_owned();
    let timeout_ms = u64::try_from(ROUND.as_millis()).unwrap_or(u64::MAX);
    Some(GatewayProbe { target, network: None, port, http, timeout_ms })
}

/// Sends questions and distributes answers until either side closes.
async fn converse(session: ExecSession, mut questions: mpsc::UnboundedReceiver<Question>) {
    let ExecSession { mut input, mut output, .. } = session;
    let mut asked: BTreeMap<u64, (watch::Sender<String>, oneshot::Sender<Ended>)> = BTreeMap::new();
    let mut next = 0_u64;
    let mut buffer = Vec::new();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(Question { probe, last, outcome }) = question else { return };
                next += 1;
                asked.insert(next, (last, outcome));
                let request = ControlRequest { id: next, action: ControlAction::Probe(probe) };
                let Ok(mut line) = serde_json::to_vec(&request) else { return };
                line.push(b'\n');
                if input.write_all(&line).await.is_err() || input.flush().await.is_err() {
                    return;
                }
            }
            chunk = output.next() => {
                let Some(Ok(chunk)) = chunk else { return };
                buffer.extend_from_slice(&chunk.bytes);
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    if let Ok(reply) = serde_json::from_slice::<ControlReply>(&line) {
                        answer(&mut asked, reply);
                    }
                }
            }
        }
    }
}

fn answer(asked: &mut BTreeMap<u64, (watch::Sender<String>, oneshot::Sender<Ended>)>, reply: ControlReply) {
    let ended = match reply.answer {
        ControlAnswer::Waiting { last: said } => {
            if let Some((last, _)) = asked.get(&reply.id) {
                last.send_replace(said);
            }
            return;
        }
        ControlAnswer::Ready { .. } => Ended::Ready,
        ControlAnswer::TimedOut { last: said } | ControlAnswer::Failed { message: said } => {
            if let Some((last, _)) = asked.get(&reply.id) {
                last.send_replace(said);
            }
            Ended::NotYet
        }
        _ => Ended::NotYet,
    };
    if let Some((_, outcome)) = asked.remove(&reply.id) {
        // Ignored: the caller may have given up.
        let _ = outcome.send(ended);
    }
}
