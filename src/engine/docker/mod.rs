//! Implements `Engine` for Docker and Podman.
//!
//! bollard provides the API's types and BuildKit's protocol. The connection ([`dial`], [`wire`]) is our own, so that
//! contexts, TLS and `ssh` work alike, streams are read without bollard's line buffering, and a missing object is
//! reported before its stream begins.

mod build;
mod calls;
mod candidates;
mod containers;
mod create;
pub mod credentials;
mod demux;
mod dial;
mod failure;
#[cfg(debug_assertions)]
pub mod fault;
mod images;
mod lenient;
mod locate;
mod networks;
mod pull;
mod push;
mod read;
mod streams;
mod volumes;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bollard::{BollardRequest, ClientVersion};
use http_body_util::BodyExt;

use self::dial::Dial;
pub use self::locate::ConnectRequest;
use self::locate::Selection;
use self::wire::{Wire, WireError};
use super::{ApiVersion, Engine, EngineError, EngineKind, ErrorKind, Location, ObjectKind, Result};

/// Timeout for calls that even a busy engine answers soon.
const SOON: Duration = Duration::from_mins(5);
/// Timeout for calls of unlimited duration: pulls, builds, uploads, stops.
const AT_LENGTH: Duration = Duration::from_hours(24);
/// Timeout for the first response; `ssh` may have to log in.
const FIRST_WORD: Duration = Duration::from_secs(45);

/// A Docker (or Podman) engine.
pub struct Docker {
    wire: Arc<Wire>,
    api: bollard::Docker,
    patient: bollard::Docker,
    location: Location,
    version: ApiVersion,
    kind: EngineKind,
    config: Option<std::path::PathBuf>,
    classic_builder: bool,
}

impl Docker {
    /// Connects to the engine that the request selects and negotiates the API version.
    pub async fn connect(request: &ConnectRequest) -> Result<Arc<dyn Engine>> {
        let Reached { location, wire, version, kind } = Self::find(request).await?;
        let api = client(&wire, version)
            .map_err(failure::call("connect to", ObjectKind::Engine, location.to_string()).on_failed())?;
        Ok(Arc::new(Self {
            patient: api.clone().with_timeout(AT_LENGTH),
            api,
            wire,
            version,
            kind,
            location,
            config: request.config.clone(),
            classic_builder: request.classic_builder,
        }))
    }

    async fn find(request: &ConnectRequest) -> Result<Reached> {
        match request.select()? {
            Selection::Given(location, dial) => {
                Reached::at(location, dial, request.patience.unwrap_or(FIRST_WORD)).await
            }
            Selection::FirstThatAnswers(sockets) => candidates::first_that_answers(&sockets).await,
        }
    }

    /// Connects to the engine that the environment selects.
    pub async fn connect_from_env() -> Result<Arc<dyn Engine>> {
        Self::connect(&ConnectRequest::from_env()).await
    }
}

/// An engine that has answered.
struct Reached {
    location: Location,
    wire: Arc<Wire>,
    version: ApiVersion,
    kind: EngineKind,
}

impl Reached {
    /// Connects to an address and negotiates the API version.
    async fn at(location: Location, dial: Dial, patience: Duration) -> Result<Self> {
        let wire = Arc::new(Wire::new(dial));
        let greeting = greet(&wire, &location, patience).await?;
        let version = agree(&greeting, &location)?;
        wire.speak(version);
        Ok(Self { location, wire, version, kind: greeting.kind() })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Greeting {
    api_version: Option<String>,
    #[serde(default, rename = "MinAPIVersion")]
    min_api_version: Option<String>,
    version: Option<String>,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

impl Greeting {
    fn kind(&self) -> EngineKind {
        let components = self.components.as_deref().unwrap_or_default();
        if components.iter().any(|component| component.name.contains("Podman")) {
            EngineKind::Podman
        } else {
            EngineKind::Docker
        }
    }
}

async fn greet(wire: &Wire, location: &Location, patience: Duration) -> Result<Greeting> {
    let call = failure::call("connect to", ObjectKind::Engine, location.to_string());
    let answer = async {
        let response = wire.get("/version").await?;
        Ok::<_, WireError>(response.into_body().collect().await?.to_bytes())
    };
    let body = tokio::time::timeout(patience, answer)
        .await
        .map_err(|_| call.of(ErrorKind::Timeout, "no answer to the first question"))?
        .map_err(|error| call.broke(error))?;
    serde_json::from_slice(&body)
        .map_err(|error| call.of(ErrorKind::Unsupported, format!("not an engine's answer: {error}")))
}

fn agree(greeting: &Greeting, location: &Location) -> Result<ApiVersion> {
    let newest = ApiVersion {
        major: u32::try_from(bollard::API_DEFAULT_VERSION.major_version).unwrap_or(1),
        minor: u32::try_from(bollard::API_DEFAULT_VERSION.minor_version).unwrap_or(u32::MAX),
    };
    agree_with(greeting, newest).map_err(|cause| {
        failure::call("use", ObjectKind::Engine, location.to_string()).of(ErrorKind::Unsupported, cause)
    })
}

/// Selects the newest version that both sides speak.
fn agree_with(greeting: &Greeting, newest: ApiVersion) -> std::result::Result<ApiVersion, String> {
    let oldest = ApiVersion::OLDEST;
    let engine = greeting.version.as_deref().unwrap_or("unknown");
    let Some(theirs) = greeting.api_version.as_deref().and_then(ApiVersion::parse) else {
        return Err("what answers there is no engine: it names no version of the API".to_owned());
    };
    let least = greeting.min_api_version.as_deref().and_then(ApiVersion::parse);
    if let Some(least) = least.filter(|least| *least > newest) {
        return Err(format!(
            "engine {engine} accepts API {least} or later, this sandbox speaks API {oldest} to {newest}: update \
             sandbox, or lower the engine's `min-api-version`"
        ));
    }
    if theirs < oldest {
        return Err(format!(
            "engine {engine} speaks API {theirs} at most, this sandbox needs API {oldest} or later: update the engine \
             (Docker Engine 20.10 or later)"
        ));
    }
    Ok(theirs.min(newest))
}

fn client(
    wire: &Arc<Wire>,
    version: ApiVersion,
) -> std::result::Result<bollard::Docker, bollard::errors::Error> {
    let wire = Arc::clone(wire);
    let transport = move |request: BollardRequest| {
        let wire = Arc::clone(&wire);
        async move { wire.send(request).await.map_err(for_bollard) }
    };
    let version =
        ClientVersion { major_version: version.major as usize, minor_version: version.minor as usize };
    bollard::Docker::connect_with_custom_transport(transport, Some("http://docker"), SOON.as_secs(), &version)
}

fn for_bollard(error: WireError) -> bollard::errors::Error {
    match error {
        WireError::Dial(err) => err.into(),
        WireError::Http(err) => err.into(),
        other => std::io::Error::other(other.to_string()).into(),
    }
}

/// The error for a response that violates the API.
fn nonsense(call: &failure::Call, what: &str) -> EngineError {
    call.of(ErrorKind::Other, format!("the engine's answer lacks {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(api: &str, least: &str) -> std::result::Result<String, String> {
        let greeting = serde_json::json!({ "ApiVersion": api, "MinAPIVersion": least, "Version": "28.5" });
        let greeting = serde_json::from_value(greeting).unwrap();
        agree_with(&greeting, ApiVersion { major: 1, minor: 53 }).map(|version| version.to_string())
    }

    #[test]
    fn the_newest_version_that_both_speak_is_used() {
        assert_eq!(agreed("1.41", "1.12").unwrap(), "1.41");
        assert_eq!(agreed("1.55", "1.44").unwrap(), "1.53");
        assert_eq!(agreed("1.51", "").unwrap(), "1.51");
    }

    #[test]
    fn a_gap_between_the_versions_is_an_error_with_both_versions_and_the_way_out() {
        let newer = agreed("1.70", "1.60").unwrap_err();
        assert!(newer.contains("1.60") && newer.contains("1.41 to 1.53"), "{newer}");
        assert!(newer.contains("update sandbox"), "{newer}");
        let older = agreed("1.40", "1.12").unwrap_err();
        assert!(older.contains("1.40") && older.contains("update the engine"), "{older}");
        assert!(agreed("", "").unwrap_err().contains("no engine"));
    }
}
