//! `http`: sends a request to a service. The sandbox's gateway connects, so that the port need not be published, and
//! nothing outside of the sandbox can be reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_util::io::StreamReader;

use super::exec::MOST_SECONDS;
use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};
use crate::cli::mcp::server::{Server, Target};
use crate::cli::mcp::untrusted;
use crate::engine::{ContainerSummary, Exec, ExecSession, StdStream};
use crate::session::error::SessionError;
use crate::session::event::Protocol;
use crate::session::inspect::{self, Passwords};

/// How many bytes of a body are read.
const MOST_BYTES: usize = 4 << 20;
/// How long an answer may take, in seconds.
const SECONDS: u64 = 30;
/// The port of a service that publishes none.
const PORT: u16 = 80;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct Http {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    service: String,
    /// Port in the service (default: the published one, else 80)
    #[serde(default)]
    port: Option<u16>,
    /// Default: GET
    #[serde(default)]
    method: Option<String>,
    /// Path with query
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    /// Default: 30
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

/// A response, as far as it was read.
struct Answer {
    head: Response<()>,
    body: Vec<u8>,
    is_whole: bool,
}

/// Sends a request.
pub(in crate::cli::mcp) async fn http(server: Server, args: Http, call: Call) -> ToolResult {
    let target = server.target(args.sandbox.as_deref()).await?;
    let address = address(&target, target.running(&args.service)?, &args.service)?;
    let port = match args.port {
        Some(port) => port,
        None => published(&target, &args.service).await?.unwrap_or(PORT),
    };
    let request = request(&args, port)?;
    let seconds = Duration::from_secs(args.timeout_seconds.unwrap_or(SECONDS).min(MOST_SECONDS));
    let said = Arc::new(Mutex::new(String::new()));
    let answer = tokio::select! {
        answer = send(&target, SocketAddr::new(address, port), request, &said) => answer,
        () = tokio::time::sleep(seconds) => Err(format!("no answer within {} s", seconds.as_secs())),
        () = call.cancelled.cancelled() => return Err(SessionError::Cancelled.into()),
    };
    match answer {
        Ok(answer) => Ok(reply(&server, &args.service, &answer)),
        Err(error) => {
            let said = said.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned();
            let cause = if said.is_empty() { error } else { said };
            let message = format!(
                "service `{}` does not answer on port {port}: {}",
                args.service,
                untrusted::plain(&cause)
            );
            let hint = "`status` shows published ports, `logs` what the service says".to_owned();
            Err(Failure::failed(message, Some(hint)).into())
        }
    }
}

fn request(args: &Http, port: u16) -> Result<Request<Full<Bytes>>, ErrorReply> {
    let wrong = |what: &dyn std::fmt::Display| Failure::usage(format!("no valid request: {what}"), None);
    if !args.path.starts_with('/') {
        return Err(wrong(&format!("the path `{}` does not begin with `/`", args.path)).into());
    }
    let mut request = Request::builder().method(args.method.as_deref().unwrap_or("GET")).uri(&args.path);
    if !args.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", format!("{}:{port}", args.service));
    }
    for (name, value) in &args.headers {
        request = request.header(name, value);
    }
    let body = Bytes::from(args.body.clone().unwrap_or_default());
    Ok(request.body(Full::new(body)).map_err(|error| wrong(&error))?)
}

/// The address of a container on a network that the gateway is on, too.
fn address(target: &Target, container: &ContainerSummary, service: &str) -> Result<IpAddr, ErrorReply> {
    let gateway = target.observed.gateway.as_ref();
    let shared = |name: &String| gateway.is_some_and(|gateway| gateway.networks.contains_key(name));
    let mut addresses = container.networks.iter().filter(|(name, _)| shared(name));
    addresses.find_map(|(_, endpoint)| endpoint.ipv4).ok_or_else(|| {
        let hint = "ask the service whose network it uses".to_owned();
        Failure::failed(format!("service `{service}` has no network of its own"), Some(hint)).into()
    })
}

/// The port of a service that is published and speaks HTTP, or else the first published one.
async fn published(target: &Target, service: &str) -> Result<Option<u16>, ErrorReply> {
    let mut observed = target.observed.clone();
    observed.services.retain(|container| inspect::service_of(container) == service);
    let statuses = inspect::statuses(&*target.engine, &observed, Passwords::LeftOut).await?;
    let endpoints = statuses.iter().flat_map(|status| &status.endpoints);
    let tcp: Vec<_> = endpoints.filter(|endpoint| endpoint.protocol == Protocol::Tcp).collect();
    let is_http = |url: &Option<String>| url.as_deref().is_some_and(|url| url.starts_with("http:"));
    let found = tcp.iter().find(|endpoint| is_http(&endpoint.url)).or_else(|| tcp.first());
    Ok(found.map(|endpoint| endpoint.target))
}

async fn send(
    target: &Target,
    to: SocketAddr,
    request: Request<Full<Bytes>>,
    said: &Arc<Mutex<String>>,
) -> Result<Answer, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let gateway = target.observed.gateway.as_ref().ok_or("the sandbox has no gateway")?;
    let dial = Exec { stdin: true, ..Exec::new(["/sandbox", "agent", "dial", &to.to_string()]) };
    let session = target.engine.exec(&gateway.name, &dial).await.map_err(|error| text(&error))?;
    let ExecSession { input, output, .. } = session;
    let said = Arc::clone(said);
    let answer = output.filter_map(move |piece| {
        let piece = match piece {
            Ok(chunk) if chunk.stream == StdStream::Stdout => Some(Ok(chunk.bytes)),
            Ok(chunk) => {
                let words = String::from_utf8_lossy(&chunk.bytes);
                said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&words);
                None
            }
            Err(error) => Some(Err(std::io::Error::other(error))),
        };
        std::future::ready(piece)
    });
    let stream = tokio::io::join(StreamReader::new(answer), input);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let connection = tokio::spawn(connection);
    let read = async {
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let (head, mut body) = response.into_parts();
        let mut answer = Answer { head: Response::from_parts(head, ()), body: Vec::new(), is_whole: true };
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| text(&error))?.into_data() else { continue };
            let room = MOST_BYTES - answer.body.len();
            answer.body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                answer.is_whole = false;
                break;
            }
        }
        Ok(answer)
    };
    let answer = read.await;
    // Closes the gateway's end, also of an answer that never ends.
    connection.abort();
    answer
}

fn reply(server: &Server, service: &str, answer: &Answer) -> Reply {
    let mut facts = json!({ "status": answer.head.status().as_u16(), "body_bytes": answer.body.len() });
    if !answer.is_whole {
        facts["body_cut"] = true.into();
    }
    let mut text = String::new();
    for (name, value) in answer.head.headers() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push('\n');
    match std::str::from_utf8(&answer.body) {
        Ok(body) if !body.contains('\0') => text.push_str(body),
        _ => text.push_str("(the body is binary)"),
    }
    server.pages.reply(facts, service, &untrusted::exact(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(path: &str, headers: &[(&str, &str)]) -> Http {
        let headers: BTreeMap<&str, &str> = headers.iter().copied().collect();
        serde_json::from_value(json!({ "service": "web", "path": path, "headers": headers })).unwrap()
    }

    #[test]
    fn a_request_goes_to_a_path_of_the_service_and_nowhere_else() {
        let sent = request(&args("/a?b=c", &[]), 8080).unwrap();
        assert_eq!(sent.headers()["host"], "web:8080");
        assert_eq!(sent.uri().authority(), None);
        for wrong in ["http://169.254.169.254/", "a", "/a b"] {
            assert!(request(&args(wrong, &[]), 80).is_err(), "{wrong}");
        }
        assert!(request(&args("/", &[("x\r\ny", "z")]), 80).is_err());
        assert!(request(&args("/", &[("x", "z\r\nHost: y")]), 80).is_err());
    }
}
