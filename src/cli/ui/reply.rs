//! Builds HTTP responses.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::cli::Failure;
use crate::report::error;

/// The body of a response.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A response with a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(text) => with(StatusCode::OK, "application/json", text),
        Err(error) => with(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
    }
}

/// A response with an error message and its hint.
pub(super) fn failed(failure: &Failure) -> Response<Body> {
    let status = match failure {
        Failure::Usage { .. } => StatusCode::BAD_REQUEST,
        Failure::NoSandbox(_) | Failure::NoContainer(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_GATEWAY,
    };
    let text = error::json(failure, failure.hint().as_deref()).to_string();
    with(status, "application/json", text)
}

/// A response with a complete body.
pub(super) fn with(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
