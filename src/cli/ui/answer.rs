//! Routes HTTP requests to responses.

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;

use super::reply::{Body, failed, json, with};
use super::{UiServer, acts, stream, view};
use crate::cli::Failure;

/// The page, with a placeholder for the nonce of its script and style.
const PAGE: &str = include_str!("page.html");
/// Maximum size of a request, bytes.
const LARGEST: usize = 16 * 1024;

/// Responds to a request.
pub(super) async fn answer(desk: Arc<UiServer>, request: Request<Incoming>) -> Response<Body> {
    let path = desk.guard.admit(&request).map(str::to_owned);
    let mut response = match path {
        Ok(path) => route(&desk, &path, request).await.unwrap_or_else(|failure| failed(&failure)),
        Err(status) => with(status, "text/plain", status.canonical_reason().unwrap_or_default()),
    };
    desk.guard.seal(response.headers_mut());
    response
}

async fn route(
    desk: &Arc<UiServer>,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    match (request.method(), path) {
        (&Method::GET, "") => Ok(with(
            StatusCode::OK,
            "text/html; charset=utf-8",
            PAGE.replace("{{NONCE}}", desk.guard.nonce()),
        )),
        (&Method::GET, "api/sandboxes") => Ok(json(&view::sandboxes(desk).await?)),
        (&Method::GET, "api/logs") => stream::logs(desk, request.uri().query().unwrap_or_default()).await,
        (&Method::POST, "api/down") => Ok(json(&acts::down(desk, read(request).await?).await?)),
        (&Method::POST, "api/extend") => Ok(json(&acts::extend(desk, read(request).await?).await?)),
        (&Method::POST, "api/reset") => Ok(json(&acts::reset(desk, read(request).await?).await?)),
        _ => Ok(with(StatusCode::NOT_FOUND, "text/plain", "there is nothing here")),
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let odd = |cause: String| Failure::usage(format!("the request cannot be read: {cause}"), None);
    let body = Limited::new(request.into_body(), LARGEST).collect().await.map_err(|e| odd(e.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| odd(error.to_string()))
}
