//! Streams a service's log as server-sent events while the page listens.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::UiServer;
use super::reply::Body;
use crate::cli::Failure;
use crate::engine::Tail;
use crate::report::style::{Colour, harmless};
use crate::session::inspect::logs::{self, Line, Part, Source};
use crate::spec::SandboxName;

/// Number of past lines to show.
const PAST: u64 = 300;

/// Responds with a service's log lines.
pub(super) async fn logs(desk: &Arc<UiServer>, query: &str) -> Result<Response<Body>, Failure> {
    let (name, service) = read(query)?;
    let observed = desk.observed(&name).await?;
    observed.container(&service, 1)?;
    let (sender, receiver) = mpsc::channel(64);
    for container in observed.containers(&service) {
        let part = Part { tail: Tail::Lines(PAST), ..Part::default() };
        let source = Source::from(container);
        let (engine, never) = (Arc::clone(&desk.engine), CancellationToken::new());
        tokio::spawn(logs::follow(engine, source, part, never, sender.clone()));
    }
    let events = futures_util::stream::unfold(receiver, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok(Frame::data(event(&line))), lines))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn event(line: &Line) -> Bytes {
    let text = harmless(&line.text.to_text(), Colour::Off);
    let json = serde_json::json!({
        "replica": line.replica, "stream": line.stream, "time": line.time, "line": text,
    });
    Bytes::from(format!("data: {json}\n\n"))
}

/// Parses `name=NAME&service=SERVICE`; the characters of both need no escape.
fn read(query: &str) -> Result<(SandboxName, String), Failure> {
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
    };
    let name = value("name").and_then(|name| name.parse().ok());
    match (name, value("service")) {
        (Some(name), Some(service)) => Ok((name, service)),
        _ => Err(Failure::usage("the request names no sandbox or no service", None)),
    }
}
