//! Access to one repository of a registry: the address, the credentials, and requests.

use std::sync::Mutex;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode, Uri};

use super::auth::{Challenge, TokenAnswer, basic, query_value};
use super::connection::{Answer, Call, Connections, Origin, Reach};
use super::{Reference, RegistryError, Result};
use crate::engine::RegistryCredentials;

/// The largest answer that is no blob, in bytes.
pub(super) const MAX_ANSWER: usize = 4 << 20;

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
    pub(super) origin: Origin,
    pub(super) reference: Reference,
    access: Access,
    credentials: Option<RegistryCredentials>,
    pub(super) connections: Connections,
    authorization: Mutex<Option<String>>,
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

    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.reference.repository)
    }

    pub(super) fn refused(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Refused { host: self.origin.to_string(), reason: reason.into() }
    }

    /// Sends a request, and once more with what the registry asks for.
    pub(super) async fn call(&self, call: Call) -> Result<Answer<'_>> {
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
        let identity = self.credentials.as_ref().and_then(|it| it.identity_token.as_ref());
        let call = if let Some(token) = identity {
            let token = query_value(token);
            let form = format!(
                "grant_type=refresh_token&client_id=sandbox&scope={scope}{service}&refresh_token={token}"
            );
            Call::new(Method::POST, path).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
        } else {
            let mark = if path.contains('?') { '&' } else { '?' };
            let call = Call::new(Method::GET, format!("{path}{mark}scope={scope}{service}"));
            let header = self.credentials.as_ref().and_then(basic);
            header.into_iter().fold(call, |call, it| call.header(AUTHORIZATION, it))
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

    pub(super) async fn unexpected(&self, answer: Answer<'_>, asked: String) -> RegistryError {
        if answer.status == StatusCode::NOT_FOUND {
            return RegistryError::NotFound { what: asked };
        }
        let (host, status) = (self.origin.to_string(), answer.status.as_u16());
        RegistryError::Status { host, status, asked, said: said(answer).await }
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
