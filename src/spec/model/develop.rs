//! What a changed file does (`develop`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Hook;

/// One rule of `develop.watch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRule {
    /// The absolute path that is watched.
    pub path: PathBuf,
    /// What a change does.
    pub action: WatchAction,
    /// Where in the container it is copied to.
    #[serde(default)]
    pub target: Option<String>,
    /// Patterns that are left out.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Patterns that alone are looked at.
    #[serde(default)]
    pub include: Vec<String>,
    /// Whether everything is copied once before watching begins.
    #[serde(default)]
    pub initial_sync: bool,
    /// The command of `sync+exec`.
    #[serde(default)]
    pub exec: Option<Hook>,
}

/// What a change of a watched file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchAction {
    /// The image is built anew and the service replaced.
    #[serde(rename = "rebuild")]
    Rebuild,
    /// It is copied into the container.
    #[serde(rename = "sync")]
    Sync,
    /// It is copied, then the service restarts.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// It is copied, then a command runs.
    #[serde(rename = "sync+exec")]
    SyncExec,
    /// The service restarts.
    #[serde(rename = "restart")]
    Restart,
}
