//! The rules of `develop.watch`: what a change of a file triggers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Hook;

/// One rule of `develop.watch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRule {
    /// The absolute path to watch.
    pub path: PathBuf,
    /// The action on a change.
    pub action: WatchAction,
    /// The target path in the container.
    #[serde(default)]
    pub target: Option<String>,
    /// Patterns of files to exclude.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// If set, only files that match these patterns are watched.
    #[serde(default)]
    pub include: Vec<String>,
    /// Whether to copy everything once before watching begins.
    #[serde(default)]
    pub initial_sync: bool,
    /// The command for `sync+exec`.
    #[serde(default)]
    pub exec: Option<Hook>,
}

/// The action on a change of a watched file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchAction {
    /// Rebuild the image and replace the service.
    #[serde(rename = "rebuild")]
    Rebuild,
    /// Copy the file into the container.
    #[serde(rename = "sync")]
    Sync,
    /// Copy the file, then restart the service.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// Copy the file, then run a command.
    #[serde(rename = "sync+exec")]
    SyncExec,
    /// Restart the service.
    #[serde(rename = "restart")]
    Restart,
}
