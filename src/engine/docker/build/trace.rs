//! Converts BuildKit's status messages to build steps and output lines.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::moby::buildkit::v1::StatusResponse;
use prost::Message;

use crate::engine::BuildProgress;

/// Decodes one status message.
pub(super) fn decode(text: &str) -> Option<StatusResponse> {
    StatusResponse::decode(STANDARD.decode(text).ok()?.as_slice()).ok()
}

/// What has been reported so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Steps that were reported.
    begun: BTreeSet<String>,
    /// The incomplete last line of each step.
    pending: BTreeMap<String, String>,
}

impl Trace {
    /// Reports what is new in a status.
    pub(super) fn tell(&mut self, status: StatusResponse, progress: &mut (dyn FnMut(BuildProgress) + Send)) {
        for step in status.vertexes {
            if (step.started.is_some() || step.cached) && self.begun.insert(step.digest.clone()) {
                let cached = if step.cached { " (cached)" } else { "" };
                progress(BuildProgress::Step(format!("{}{cached}", step.name)));
            }
            if step.completed.is_some()
                && let Some(line) = self.pending.remove(&step.digest).filter(|line| !line.is_empty())
            {
                progress(BuildProgress::Line(line));
            }
            if !step.error.is_empty() && step.completed.is_some() {
                progress(BuildProgress::Line(format!("ERROR: {}", step.error)));
            }
        }
        for log in status.logs {
            let pending = self.pending.entry(log.vertex).or_default();
            pending.push_str(&String::from_utf8_lossy(&log.msg));
            while let Some(end) = pending.find('\n') {
                let line: String = pending.drain(..=end).collect();
                progress(BuildProgress::Line(line.trim_end().to_owned()));
            }
        }
    }
}
