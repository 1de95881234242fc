//! Blobs of a repository.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use hyper::{Method, StatusCode, Uri};

use super::auth::query_value;
use super::client::{MAX_ANSWER, Registry};
use super::connection::{Answer, Call, Origin, Reach};
use super::manifest::{Descriptor, sha256};
use super::{RegistryError, Result};

/// How many redirects of a blob are followed.
const REDIRECTS: usize = 3;
/// How often a transfer is tried.
const TRIES: u32 = 5;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(250);

/// What a request for a part of a blob returns.
#[derive(Debug, PartialEq, Eq)]
pub enum Ranged {
    /// The part.
    Part(Vec<u8>),
    /// The whole blob: the registry cannot send parts.
    Whole(Vec<u8>),
}

impl Registry {
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
