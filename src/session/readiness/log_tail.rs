//! Reads the last log lines of a service that failed.

use futures_util::StreamExt;

use crate::engine::{Engine, LogOptions, Tail};

/// Number of log lines to show with a failure.
const TAIL: u64 = 20;

/// The last log lines of a container; empty if the engine does not answer.
pub async fn tail(engine: &dyn Engine, container: &str) -> Vec<String> {
    let options = LogOptions { tail: Tail::Lines(TAIL), ..LogOptions::default() };
    let Ok(mut stream) = engine.logs(container, &options).await else { return Vec::new() };
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        bytes.extend_from_slice(&chunk.bytes);
    }
    String::from_utf8_lossy(&bytes).lines().map(|line| line.trim_end().to_owned()).collect()
}
