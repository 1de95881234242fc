//! The operations on one repository of a registry.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode, Uri};

use super::auth::{Challenge, TokenAnswer, basic, query_value};
use super::connection::{Answer, Call, Connections, Origin, Reach};
use super::manifest::{Descriptor, MANIFEST_TYPE, Manifest, sha256};
use super::{Reference, RegistryError, Result};
use crate::engine::RegistryCredentials;

/// The largest manifest, and the largest answer that is no blob, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// The most blobs of a manifest.
const MAX_LAYERS: usize = 50_000;
/// How many redirects of a blob are followed.
const REDIRECTS: usize = 3;
/// How often a transfer is tried.
const TRIES: u32 = 5;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// Types of manifests. Those that are not ours make the error clearer.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// One repository of a registry. Requests may run at the same time.
pub struct Registry {
    origin: Origin,
    reference: Reference,
    access: Access,
    credentials: Option<RegistryCredentials>,
    connections: Connections,
    authorization: Mutex<Option<String>>,
}

/// What a request for a part of a blob returns.
#[derive(Debug, PartialEq, Eq)]
pub enum Ranged {
    /// The part.
    Part(Vec<u8>),
    /// The whole blob: the registry cannot send parts.
    Whole(Vec<u8>),
}

impl Registry {
    /// Opens a repository: over TLS, or on this machine also without.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached.
    pub async fn open(
        reference: &Reference,
        credentials: Option<RegistryCredentials>,
        access: Access,
    ) -> Result<Self> {
        let host = match reference.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        let connections = Connections::for_registry(host).await?;
        let none = || RegistryError::Refused { host: host.to_owned(), reason: "it is no host".to_owned() };
        let mut origin = Origin::of_host(host, true).ok_or_else(none)?;
        match connections.connect(&origin, Reach::Anywhere).await {
            Ok(_) => {}
            // A certificate that is not trusted is no reason to do without one.
            Err(RegistryError::Unreachable { source, .. })
                if origin.is_loopback() && !source.to_string().contains("certificate") =>
            {
                origin = Origin::of_host(host, false).ok_or_else(none)?;
            }
            Err(error) => return Err(error),
        }
        let authorization = Mutex::default();
        let reference = reference.clone();
        Ok(Self { origin, reference, access, credentials, connections, authorization })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.reference.repository)
    }

    fn refused(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Refused { host: self.origin.to_string(), reason: reason.into() }
    }

    /// Sends a request, and once more with what the registry asks for.
    async fn call(&self, call: Call) -> Result<Answer<'_>> {
        let mut is_again = false;
        loop {
            let header = self.authorization.lock().ok().and_then(|header| header.clone());
            let sent = header.into_iter().fold(call.clone(), |call, it| call.header(AUTHORIZATION, it));
            let answer = self.connections.send(&self.origin, Reach::Anywhere, &sent).await?;
            match answer.status {
                StatusCode::UNAUTHORIZED if !is_again => self.authorize(answer).await?,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied(answer).await),
                _ => return Ok(answer),
            }
            is_again = true;
        }
    }

    async fn denied(&self, answer: Answer<'_>) -> RegistryError {
        let status = answer.status.as_u16();
        let reason = match (&self.credentials, status) {
            (None, _) => "there are no credentials for it".to_owned(),
            (Some(_), 401) => "it does not accept the credentials".to_owned(),
            _ => said(answer).await,
        };
        let repository = self.reference.repository.clone();
        RegistryError::Denied { host: self.reference.host.clone(), repository, reason }
    }

    /// Answers a challenge.
    async fn authorize(&self, answer: Answer<'_>) -> Result<()> {
        let offered = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let challenge = offered.filter_map(|it| it.to_str().ok()).find_map(Challenge::parse);
        let token = self.credentials.as_ref().and_then(|it| it.registry_token.as_ref());
        let header = match (challenge, token) {
            (Some(Challenge::Bearer { .. }), Some(token)) => Some(format!("Bearer {token}")),
            (Some(Challenge::Bearer { realm, service }), None) => {
                self.token(&realm, service.as_deref()).await?
            }
            (Some(Challenge::Basic), _) => self.credentials.as_ref().and_then(basic),
            (None, _) => None,
        };
        let Some(header) = header else { return Err(self.denied(answer).await) };
        if let Ok(mut current) = self.authorization.lock() {
            *current = Some(header);
        }
        Ok(())
    }

    /// Gets a token from the service that the registry names.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Option<String>> {
        let url: Uri = realm.parse().map_err(|_| self.refused("its token service has no valid address"))?;
        let origin = Origin::of(&url).filter(|origin| {
            origin.is_tls || (origin.is_loopback() && self.origin.is_loopback() && !self.origin.is_tls)
        });
        let origin = origin.ok_or_else(|| self.refused("its token service is not reached by https"))?;
        let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
        let scope = query_value(&format!("repository:{}:{actions}", self.reference.repository));
        let service = service.map(|it| format!("&service={}", query_value(it))).unwrap_or_default();
        let path = url.path_and_query().map_or("/", |it| it.as_str());
        let call = match self.credentials.as_ref().and_then(|it| it.identity_token.as_ref()) {
            Some(token) => {
                let token = query_value(token);
                let form = format!(
                    "grant_type=refresh_token&client_id=sandbox&scope={scope}{service}&refresh_token={token}"
                );
                Call::new(Method::POST, path)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form)
            }
            None => {
                let mark = if path.contains('?') { '&' } else { '?' };
                let call = Call::new(Method::GET, format!("{path}{mark}scope={scope}{service}"));
                let header = self.credentials.as_ref().and_then(basic);
                header.into_iter().fold(call, |call, it| call.header(AUTHORIZATION, it))
            }
        };
        let answer = self.connections.send(&origin, Reach::Anywhere, &call).await?;
        if answer.status != StatusCode::OK {
            return Err(self.denied(answer).await);
        }
        let text = answer.read(MAX_ANSWER).await?;
        let token: TokenAnswer =
            serde_json::from_slice(&text).map_err(|_| self.refused("its token service sends no token"))?;
        Ok(token.header())
    }

    async fn unexpected(&self, answer: Answer<'_>, asked: String) -> RegistryError {
        if answer.status == StatusCode::NOT_FOUND {
            return RegistryError::NotFound { what: asked };
        }
        let (host, status) = (self.origin.to_string(), answer.status.as_u16());
        RegistryError::Status { host, status, asked, said: said(answer).await }
    }

    /// The manifest and its digest; `None` if there is none.
    ///
    /// # Errors
    /// Fails if it is of something else than a snapshot.
    pub async fn manifest(&self) -> Result<Option<(String, Manifest)>> {
        let target = self.reference.target();
        let call = Call::new(Method::GET, self.path(&format!("manifests/{target}"))).header(ACCEPT, ACCEPTED);
        let answer = self.call(call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.unexpected(answer, self.reference.to_string()).await),
        }
        let bytes = answer.read(MAX_ANSWER).await?;
        let digest = sha256(&bytes);
        if self.reference.digest.as_ref().is_some_and(|wanted| *wanted != digest) {
            return Err(self.refused("the manifest has another digest"));
        }
        let foreign = || RegistryError::Foreign { what: self.reference.to_string() };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| foreign())?;
        if manifest.index().is_none() {
            return Err(foreign());
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(self.refused(format!("the manifest has more than {MAX_LAYERS} blobs")));
        }
        Ok(Some((digest, manifest)))
    }

    /// Stores a manifest under the tag, and returns its digest.
    ///
    /// # Errors
    /// Fails if the registry does not take it.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<String> {
        let bytes = serde_json::to_vec(manifest).map_err(|error| self.refused(error.to_string()))?;
        let digest = sha256(&bytes);
        let call = Call::new(Method::PUT, self.path(&format!("manifests/{}", self.reference.tag)))
            .header(CONTENT_TYPE, MANIFEST_TYPE)
            .body(bytes);
        let answer = self.call(call).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => Ok(digest),
            _ => Err(self.unexpected(answer, self.reference.to_string()).await),
        }
    }

    /// Whether the registry has a blob.
    async fn has_blob(&self, digest: &str) -> Result<bool> {
        let answer = self.call(Call::new(Method::HEAD, self.path(&format!("blobs/{digest}")))).await?;
        match answer.status {
            // The end of the answer frees the connection for the next request.
            StatusCode::OK => answer.read(0).await.map(|_| true),
            StatusCode::NOT_FOUND => answer.read(0).await.map(|_| false),
            _ => Err(self.unexpected(answer, digest.to_owned()).await),
        }
    }

    /// Stores a blob, unless the registry has it. Returns how many bytes were sent.
    ///
    /// # Errors
    /// Fails if the registry does not take it, after some tries.
    pub async fn put_blob(&self, digest: &str, bytes: &Bytes) -> Result<u64> {
        let mut tries = Tries::default();
        loop {
            match self.put_blob_once(digest, bytes).await {
                Err(error) if tries.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn put_blob_once(&self, digest: &str, bytes: &Bytes) -> Result<u64> {
        if self.has_blob(digest).await? {
            return Ok(0);
        }
        self.upload(digest, bytes).await.map(|()| bytes.len() as u64)
    }

    async fn upload(&self, digest: &str, bytes: &Bytes) -> Result<()> {
        let answer = self.call(Call::new(Method::POST, self.path("blobs/uploads/"))).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(self.unexpected(answer, format!("the upload of {digest}")).await);
        }
        let place = answer.header(&LOCATION).unwrap_or_default().to_owned();
        answer.read(MAX_ANSWER).await?;
        let path = self.own_path(&place).ok_or_else(|| self.refused("it wants the upload elsewhere"))?;
        let mark = if path.contains('?') { '&' } else { '?' };
        let call = Call::new(Method::PUT, format!("{path}{mark}digest={}", query_value(digest)))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(bytes.clone());
        let answer = self.call(call).await?;
        match answer.status {
            StatusCode::CREATED => answer.read(MAX_ANSWER).await.map(drop),
            _ => Err(self.unexpected(answer, format!("the upload of {digest}")).await),
        }
    }

    /// The path of a location of this registry.
    fn own_path(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(location.to_owned());
        }
        let url: Uri = location.parse().ok()?;
        let path = url.path_and_query()?.as_str().to_owned();
        (Origin::of(&url)? == self.origin).then_some(path)
    }

    /// Reads a blob and checks it.
    ///
    /// # Errors
    /// Fails if it is longer than `most` bytes, or not what its digest says.
    pub async fn blob(&self, blob: &Descriptor, most: u64) -> Result<Vec<u8>> {
        if blob.size > most {
            return Err(self.refused(format!("a blob has {} bytes, and {most} are the most", blob.size)));
        }
        match self.range(blob, 0, blob.size).await? {
            Ranged::Part(bytes) | Ranged::Whole(bytes) if sha256(&bytes) == blob.digest => Ok(bytes),
            _ => Err(self.refused(format!("{} has another digest", blob.digest))),
        }
    }

    /// Reads a part of a blob. The caller checks it; a whole blob is checked here.
    ///
    /// # Errors
    /// Fails if it cannot be read, after some tries. Each goes on where the last one ended.
    pub async fn range(&self, blob: &Descriptor, from: u64, length: u64) -> Result<Ranged> {
        let (mut tries, mut got) = (Tries::default(), Vec::new());
        loop {
            match self.read_range(blob, (from, length), &mut got).await {
                Err(error) if tries.again(&error).await => {}
                Err(error) => return Err(error),
                Ok(Some(whole)) => return Ok(Ranged::Whole(whole)),
                Ok(None) if got.len() as u64 == length => return Ok(Ranged::Part(got)),
                Ok(None) => return Err(self.refused("a blob is shorter than it should be")),
            }
        }
    }

    /// Reads what is missing of a part; returns the whole blob if the registry sends that.
    async fn read_range(
        &self,
        blob: &Descriptor,
        (from, length): (u64, u64),
        got: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>> {
        let (start, end) = (from + got.len() as u64, from + length);
        let mut answer = self.open_blob(&blob.digest, (start, end)).await?;
        match answer.status {
            StatusCode::OK => {
                let most = usize::try_from(blob.size).unwrap_or(usize::MAX);
                let whole = answer.read(most).await?;
                if sha256(&whole) != blob.digest {
                    return Err(self.refused(format!("{} has another digest", blob.digest)));
                }
                return Ok(Some(whole));
            }
            StatusCode::PARTIAL_CONTENT => {}
            _ => return Err(self.unexpected(answer, blob.digest.clone()).await),
        }
        let begins = format!("bytes {start}-");
        if !answer.header(&CONTENT_RANGE).is_some_and(|range| range.starts_with(&begins)) {
            return Err(self.refused("it sends another part of a blob"));
        }
        while let Some(bytes) = answer.next().await? {
            got.extend_from_slice(&bytes);
            if got.len() as u64 > length {
                return Err(self.refused("it sends more of a blob than was asked for"));
            }
        }
        Ok(None)
    }

    /// Asks for a part of a blob and follows redirects: to this registry, or by https to public addresses, without
    /// credentials.
    async fn open_blob(&self, digest: &str, (start, end): (u64, u64)) -> Result<Answer<'_>> {
        let part = format!("bytes={start}-{}", end.saturating_sub(1));
        let get = |path: String| Call::new(Method::GET, path).header(RANGE, part.clone());
        let mut answer = self.call(get(self.path(&format!("blobs/{digest}")))).await?;
        for _ in 0..REDIRECTS {
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let location = answer.header(&LOCATION).unwrap_or_default().to_owned();
            if let Some(path) = self.own_path(&location) {
                answer = self.call(get(path)).await?;
                continue;
            }
            let elsewhere = || self.refused("it redirects to an address that is not https");
            let url: Uri = location.parse().map_err(|_| elsewhere())?;
            let origin = Origin::of(&url).filter(|origin| origin.is_tls).ok_or_else(elsewhere)?;
            let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            answer = self.connections.send(&origin, Reach::PublicOnly, &get(path)).await?;
        }
        Err(self.refused(format!("it redirects more than {REDIRECTS} times")))
    }
}

/// The tries of one operation.
struct Tries {
    left: u32,
    pause: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self { left: TRIES, pause: PAUSE }
    }
}

impl Tries {
    /// Whether to try again after an error. Waits before that.
    async fn again(&mut self, error: &RegistryError) -> bool {
        self.left -= 1;
        if self.left == 0 || !is_temporary(error) {
            return false;
        }
        tracing::debug!(%error, "trying again");
        tokio::time::sleep(self.pause).await;
        self.pause *= 2;
        true
    }
}

fn is_temporary(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { .. } | RegistryError::Broken { .. } | RegistryError::Silent { .. } => {
            true
        }
        RegistryError::Status { status, .. } => *status == 429 || *status >= 500,
        _ => false,
    }
}

/// What an answer says, shortened.
async fn said(answer: Answer<'_>) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Told>,
    }
    #[derive(serde::Deserialize)]
    struct Told {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = answer.read(64 << 10).await.unwrap_or_default();
    let told = serde_json::from_slice::<Errors>(&text).ok().and_then(|told| told.errors.into_iter().next());
    let told = match told {
        Some(told) if told.message.is_empty() => told.code,
        Some(told) => told.message,
        None => String::from_utf8_lossy(&text).into_owned(),
    };
    let shown: String = told.chars().flat_map(char::escape_debug).take(200).collect();
    if shown.is_empty() { "nothing more".to_owned() } else { shown }
}
