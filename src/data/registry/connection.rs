//! HTTP/1.1 connections to a registry and to where it redirects.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, HeaderName, USER_AGENT};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::is_public;
use super::{RegistryError, Result};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a registry may send nothing.
const SILENCE: Duration = Duration::from_mins(1);
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 64 << 10;
/// How many unused connections are kept.
const KEPT: usize = 8;

/// A scheme, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub is_tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// The origin of `HOST[:PORT]`.
    pub fn of_host(host: &str, is_tls: bool) -> Option<Self> {
        let scheme = if is_tls { "https" } else { "http" };
        Self::of(&format!("{scheme}://{host}/").parse().ok()?)
    }

    /// The origin of a URL.
    pub fn of(url: &Uri) -> Option<Self> {
        let is_tls = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { is_tls, host, port: url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }) })
    }

    /// Whether it is this machine, which needs no TLS.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Which addresses a host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any: the user named the host.
    Anywhere,
    /// Public ones: the registry named it.
    PublicOnly,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path with the query.
    pub path: String,
    /// More headers.
    pub headers: Vec<(HeaderName, String)>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// Connections, some of which are kept for the next request.
pub struct Connections {
    tls: Arc<rustls::ClientConfig>,
    idle: Mutex<Vec<(Origin, Sender)>>,
}

impl Connections {
    /// Trusts the system's certificates, and those in Docker's directory for this registry.
    pub async fn for_registry(host: &str) -> Result<Self> {
        let folder = Path::new("/etc/docker/certs.d").join(host);
        let roots = tokio::task::spawn_blocking(move || trusted(&folder)).await;
        let roots = roots.unwrap_or_else(|_| rustls::RootCertStore::empty());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(RegistryError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), idle: Mutex::default() })
    }

    /// Sends a request. A kept connection that the other side has closed meanwhile is replaced.
    pub async fn send(&self, origin: &Origin, reach: Reach, call: &Call) -> Result<Answer<'_>> {
        if let Some(sender) = self.kept(origin)
            && let Ok(answer) = self.send_on(sender, origin, call).await
        {
            return Ok(answer);
        }
        let sender = self.connect(origin, reach).await?;
        self.send_on(sender, origin, call).await
    }

    fn kept(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(other, sender)| other == origin && sender.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    fn keep(&self, origin: Origin, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, sender)| !sender.is_closed());
        if idle.len() < KEPT {
            idle.push((origin, sender));
        }
    }

    async fn send_on(&self, mut sender: Sender, origin: &Origin, call: &Call) -> Result<Answer<'_>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(HOST, host_header(origin))
            .header(USER_AGENT, concat!("sandbox/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let refused = |error: hyper::http::Error| RegistryError::Refused {
            host: origin.to_string(),
            reason: format!("it leads to an address that is none: {error}"),
        };
        let request = request.body(Full::new(call.body.clone())).map_err(refused)?;
        let patience = SILENCE + Duration::from_secs(call.body.len() as u64 / SLOWEST);
        let answer = timeout(patience, sender.send_request(request)).await;
        let answer = answer.map_err(|_| RegistryError::Silent { host: origin.to_string() })?;
        let (head, body) = answer.map_err(|source| broken(origin, "was asked", source))?.into_parts();
        let keep = Some((origin.clone(), sender));
        Ok(Answer { status: head.status, headers: head.headers, body, keep, pool: self })
    }

    /// Opens a connection.
    pub async fn connect(&self, origin: &Origin, reach: Reach) -> Result<Sender> {
        let failed = |source| RegistryError::Unreachable { host: origin.to_string(), source };
        let opened = timeout(CONNECT, self.open(origin, reach)).await;
        match opened {
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
            Ok(opened) => opened,
        }
    }

    async fn open(&self, origin: &Origin, reach: Reach) -> Result<Sender> {
        let failed = |source| RegistryError::Unreachable { host: origin.to_string(), source };
        let tcp = dial(origin, reach).await?;
        if !origin.is_tls {
            return handshake(origin, TokioIo::new(tcp)).await;
        }
        let name = ServerName::try_from(origin.host.clone());
        let name = name.map_err(|error| failed(io::Error::other(error)))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, tcp).await.map_err(failed)?;
        handshake(origin, TokioIo::new(stream)).await
    }
}

async fn dial(origin: &Origin, reach: Reach) -> Result<TcpStream> {
    let failed = |source| RegistryError::Unreachable { host: origin.to_string(), source };
    let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await.map_err(failed)?;
    let addresses: Vec<SocketAddr> = found.collect();
    // The check is of the address that is dialled: a name may lead elsewhere at the next look-up.
    if reach == Reach::PublicOnly && !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(RegistryError::Refused {
            host: origin.to_string(),
            reason: "it has an address that is not public".to_owned(),
        });
    }
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(failed)?;
    // Without it small requests wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn handshake(
    origin: &Origin,
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
) -> Result<Sender> {
    let made = hyper::client::conn::http1::handshake(stream).await;
    let (sender, connection) = made.map_err(|source| broken(origin, "was asked", source))?;
    // It ends with the sender; its errors reach the requests.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn host_header(origin: &Origin) -> String {
    let usual = if origin.is_tls { 443 } else { 80 };
    if origin.port == usual { origin.host.clone() } else { origin.to_string() }
}

fn broken(origin: &Origin, doing: &'static str, source: hyper::Error) -> RegistryError {
    RegistryError::Broken { host: origin.to_string(), doing, source }
}

fn trusted(folder: &Path) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "crt")
            && let Ok(certificates) = CertificateDer::pem_file_iter(&path)
        {
            roots.add_parsable_certificates(certificates.flatten());
        }
    }
    roots
}

/// An answer whose body has not been read.
pub struct Answer<'a> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    keep: Option<(Origin, Sender)>,
    pool: &'a Connections,
}

impl Answer<'_> {
    /// A header as text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body. At its end the connection is kept for the next request.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let host = self.keep.as_ref().map(|(origin, _)| origin.to_string()).unwrap_or_default();
            let frame = timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| RegistryError::Silent { host: host.clone() })?;
            match frame {
                None => {
                    if let Some((origin, sender)) = self.keep.take() {
                        self.pool.keep(origin, sender);
                    }
                    return Ok(None);
                }
                Some(Err(source)) => {
                    return Err(RegistryError::Broken { host, doing: "sent", source });
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads the body, which may have at most `most` bytes.
    pub async fn read(mut self, most: usize) -> Result<Vec<u8>> {
        let host = self.keep.as_ref().map(|(origin, _)| origin.to_string()).unwrap_or_default();
        let mut read = Vec::new();
        while let Some(bytes) = self.next().await? {
            if read.len() + bytes.len() > most {
                return Err(RegistryError::Refused {
                    host,
                    reason: format!("it is longer than {most} bytes"),
                });
            }
            read.extend_from_slice(&bytes);
        }
        Ok(read)
    }
}
