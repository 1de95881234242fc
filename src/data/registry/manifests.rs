//! Manifests of a repository.

use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, StatusCode};

use super::client::{MAX_ANSWER, Registry};
use super::connection::Call;
use super::manifest::{MANIFEST_TYPE, Manifest, sha256};
use super::{RegistryError, Result};

/// The most blobs of a manifest.
const MAX_LAYERS: usize = 50_000;
/// How many other tags are looked at for a snapshot to build on.
const LOOKED_AT: usize = 3;
/// Tags that are looked at first.
const USUAL: [&str; 2] = ["latest", "main"];
/// Types of manifests. Those that are not ours make the error clearer.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

impl Registry {
    /// The manifest and its digest; `None` if there is none.
    ///
    /// # Errors
    /// Fails if it is of something else than a snapshot.
    pub async fn manifest(&self) -> Result<Option<(String, Manifest)>> {
        self.manifest_of(self.reference.target()).await
    }

    async fn manifest_of(&self, target: &str) -> Result<Option<(String, Manifest)>> {
        let call = Call::new(Method::GET, self.path(&format!("manifests/{target}"))).header(ACCEPT, ACCEPTED);
        let answer = self.call(call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.unexpected(answer, self.reference.to_string()).await),
        }
        let bytes = answer.read(MAX_ANSWER).await?;
        let digest = sha256(&bytes);
        if target.contains(':') && target != digest {
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

    /// A snapshot of another tag of the repository, whose chunks need not be sent again. `None` if none is found.
    pub async fn related(&self) -> Option<Manifest> {
        for tag in self.tags().await.ok()? {
            if let Ok(Some((_, manifest))) = self.manifest_of(&tag).await {
                return Some(manifest);
            }
        }
        None
    }

    /// Some tags of the repository, the usual ones first.
    async fn tags(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let answer = self.call(Call::new(Method::GET, self.path("tags/list"))).await?;
        if answer.status != StatusCode::OK {
            return Err(self.unexpected(answer, "tags".to_owned()).await);
        }
        let text = answer.read(MAX_ANSWER).await?;
        let listed: Tags = serde_json::from_slice(&text).map_err(|error| self.refused(error.to_string()))?;
        let is_tag =
            |tag: &String| tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let mut tags: Vec<String> = listed.tags.unwrap_or_default().into_iter().filter(is_tag).collect();
        tags.sort_by_key(|tag| !USUAL.contains(&tag.as_str()));
        tags.truncate(LOOKED_AT);
        Ok(tags)
    }
}
