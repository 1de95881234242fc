//! HTTP client for the engine over a unix socket, TCP, TLS, or a child process that runs `ssh`.
//!
//! A connection carries one request at a time and is reused when idle (a new `ssh` costs a log-in). Every path gets
//! the negotiated API version, which bollard loses when it joins URLs.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;

use super::dial::Dial;
use crate::engine::{ApiVersion, ByteStream};

/// The body of a request, the same type as bollard's.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>>>;

/// An upgraded connection.
pub(super) type Duplex = TokioIo<hyper::upgrade::Upgraded>;

/// Maximum number of idle connections; more would only hold file descriptors.
const IDLE: usize = 8;

/// Errors of the transport.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The connection could not be opened.
    #[error("{0}")]
    Dial(io::Error),
    /// The connection broke.
    #[error("{}", with_sources(.0))]
    Http(#[from] hyper::Error),
    /// The request is invalid.
    #[error("{0}")]
    Request(String),
    /// The engine returned an error status.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's message.
        message: String,
    },
}

/// Formats an error and all its sources in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

/// A pool of connections to one engine.
pub(super) struct Wire {
    dial: Dial,
    version: OnceLock<ApiVersion>,
    idle: Arc<Mutex<Vec<SendRequest<Body>>>>,
}

impl Wire {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial, version: OnceLock::new(), idle: Arc::default() }
    }

    /// Sets the API version for all further requests.
    pub(super) fn speak(&self, version: ApiVersion) {
        // A second negotiation would return the same version.
        let _ = self.version.set(version);
    }

    /// Sends a request and returns the response, even one with an error status.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, WireError> {
        #[cfg(debug_assertions)]
        let number = super::fault::before(request.method());
        let answer = self.exchange(request).await;
        #[cfg(debug_assertions)]
        super::fault::after(number);
        answer
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Incoming>, WireError> {
        self.address(&mut request)?;
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let io = self.dial.connect().await.map_err(WireError::Dial)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the engine ended");
            }
        });
        let response = sender.send_request(request).await?;
        self.keep(sender);
        Ok(response)
    }

    /// Sends a request; an error status becomes an error.
    pub(super) async fn call(&self, request: Request<Body>) -> Result<Response<Incoming>, WireError> {
        let response = self.send(request).await?;
        let status = response.status();
        if status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(response);
        }
        let body = response.into_body().collect().await?.to_bytes();
        Err(WireError::Refused { status: status.as_u16(), message: refusal(&body, status) })
    }

    /// Sends a GET request; the response body is streamed.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>, WireError> {
        self.call(request(Method::GET, path, Body::Left(Full::default()))?).await
    }

    /// Posts JSON and takes over the connection.
    pub(super) async fn hijack(&self, path: &str, json: String) -> Result<Duplex, WireError> {
        let mut request = request(Method::POST, path, Body::Left(Full::new(json.into())))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        let response = self.call(request).await?;
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// Posts an empty body and upgrades the connection to another protocol.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        protocol: &'static str,
        extra: &[(&'static str, String)],
    ) -> Result<Duplex, WireError> {
        let mut request = request(Method::POST, path, Body::Left(Full::default()))?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        for (name, value) in extra {
            let value =
                HeaderValue::from_str(value).map_err(|error| WireError::Request(error.to_string()))?;
            headers.append(*name, value);
        }
        let response = self.call(request).await?;
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// Sends an archive; the response body is streamed.
    pub(super) async fn send_archive(
        &self,
        method: Method,
        path: &str,
        archive: ByteStream,
    ) -> Result<Response<Incoming>, WireError> {
        let mut request = request(method, path, streamed(archive))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
        self.call(request).await
    }

    /// Converts bollard's absolute URI to the path of the request.
    fn address(&self, request: &mut Request<Body>) -> Result<(), WireError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = match self.version.get() {
            Some(version) if !path.starts_with("/v1.") && !path.contains("/libpod/") => {
                format!("/v{version}{path}")
            }
            _ => path.to_owned(),
        };
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| WireError::Request(error.to_string()))?;
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("docker"));
        Ok(())
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() && !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    /// Returns the connection to the pool once the response has been read to its end.
    fn keep(&self, mut sender: SendRequest<Body>) {
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE {
                    idle.push(sender);
                }
            }
        });
    }
}

/// Converts a byte stream to a request body.
pub(super) fn streamed(bytes: ByteStream) -> Body {
    Body::Right(StreamBody::new(Box::pin(bytes.map_ok(Frame::data))))
}

/// Converts a response body to a byte stream.
pub(super) fn body_bytes(response: Response<Incoming>) -> ByteStream {
    let frames = http_body_util::BodyDataStream::new(response.into_body());
    Box::pin(frames.map(|chunk| chunk.map_err(|error| io::Error::other(with_sources(&error)))))
}

fn request(method: Method, path: &str, body: Body) -> Result<Request<Body>, WireError> {
    let request = Request::builder().method(method).uri(path).body(body);
    request.map_err(|error| WireError::Request(error.to_string()))
}

fn refusal(body: &[u8], status: StatusCode) -> String {
    #[derive(serde::Deserialize)]
    struct Words {
        message: String,
    }
    match serde_json::from_slice::<Words>(body) {
        Ok(words) => words.message,
        Err(_) if body.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// Percent-encodes a query value.
pub(super) fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
