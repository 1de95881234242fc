//! Pulls an image: per-layer progress, credentials, and retries of transient failures.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use super::Docker;
use super::credentials::{credentials, encoded, registry_of};
use super::failure::call;
use super::images::{drain, split_reference};
use super::wire::{body_bytes, escape};
use crate::engine::{EngineError, ErrorKind, ObjectKind, OnPull, PullImage, PullPhase, PullProgress, Result};

/// Maximum number of attempts, including the first.
const ATTEMPTS: u32 = 4;
/// Delay before the second attempt; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);

impl Docker {
    pub(super) async fn pull(&self, pull: &PullImage, progress: OnPull<'_>) -> Result<()> {
        let mut attempt = 1;
        loop {
            let error = match self.pull_once(pull, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if attempt == ATTEMPTS || !is_worth_another_try(&error) {
                return Err(error);
            }
            attempt += 1;
            let cause = error.cause.0;
            progress(PullProgress {
                layer: String::new(),
                phase: PullPhase::Retrying { attempt, cause },
                current: 0,
                total: None,
            });
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 2)).await;
        }
    }

    async fn pull_once(&self, pull: &PullImage, progress: OnPull<'_>) -> Result<()> {
        let call = call("pull", ObjectKind::Image, &pull.reference);
        let credentials = credentials(self.config.as_deref(), registry_of(&pull.reference)).await;
        let (name, tag) = match pull.reference.split_once('@') {
            Some((name, digest)) => (name, digest),
            None => split_reference(&pull.reference),
        };
        let mut path = format!("/images/create?fromImage={}&tag={}", escape(name), escape(tag));
        if let Some(platform) = &pull.platform {
            path = format!("{path}&platform={}", escape(platform));
        }
        let mut request = hyper::Request::builder().method(Method::POST).uri(path);
        if credentials.is_some() {
            request = request.header("X-Registry-Auth", encoded(credentials.as_ref()));
        }
        let request = request.body(bollard::body_full(Bytes::new()));
        let request = request.map_err(|error| call.of(ErrorKind::Invalid, error.to_string()))?;
        let response = self.wire.call(request).await.map_err(|error| call.broke(error))?;
        drain(body_bytes(response), &call, |item| {
            if let Some(step) = step(item) {
                progress(step);
            }
        })
        .await
    }
}

/// Whether to retry. A registry that times out or returns a server error may recover; a host that cannot be resolved
/// or refuses connections will not within seconds.
fn is_worth_another_try(error: &EngineError) -> bool {
    let words = error.cause.0.to_lowercase();
    let hopeless =
        ["no such host", "connection refused", "network is unreachable", "server gave http response"];
    if hopeless.iter().any(|phrase| words.contains(phrase)) {
        return false;
    }
    let faults =
        ["500 internal", "502 bad", "503 service", "504 gateway", "received unexpected http status: 5"];
    error.kind == ErrorKind::NoNetwork
        || words.contains("toomanyrequests")
        || faults.iter().any(|fault| words.contains(fault))
}

fn step(item: &serde_json::Value) -> Option<PullProgress> {
    let status = item["status"].as_str()?;
    let layer = item["id"].as_str().unwrap_or_default().to_owned();
    let phase = match status {
        "Pulling fs layer" | "Waiting" => PullPhase::Waiting,
        "Downloading" => PullPhase::Downloading,
        "Verifying Checksum" | "Download complete" => PullPhase::Downloaded,
        "Extracting" => PullPhase::Extracting,
        "Pull complete" => PullPhase::Done,
        "Already exists" => PullPhase::Present,
        // The message "Pulling from REPOSITORY" has the tag as its id.
        other => {
            return Some(PullProgress {
                layer: String::new(),
                phase: PullPhase::Note(other.to_owned()),
                current: 0,
                total: None,
            });
        }
    };
    let detail = &item["progressDetail"];
    let current = detail["current"].as_u64().unwrap_or_default();
    let total = detail["total"].as_u64().filter(|total| *total > 0);
    Some(PullProgress { layer, phase, current, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(words: &str) -> EngineError {
        EngineError::classified("pull", ObjectKind::Image, "i", Some(500), words)
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(is_worth_another_try(&failed("net/http: TLS handshake timeout")));
        assert!(is_worth_another_try(&failed("received unexpected HTTP status: 503 Service Unavailable")));
        assert!(!is_worth_another_try(&failed("dial tcp: lookup r.example: no such host")));
        assert!(!is_worth_another_try(&failed("manifest unknown")));
        assert!(!is_worth_another_try(&failed("write /x: no space left on device")));
    }
}
