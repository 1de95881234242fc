//! How the keeper exits when it is no longer needed: it removes images of older builds and its own container.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{KeeperHome, Serving};
use crate::agent::client::in_full;
use crate::agent::image;
use crate::agent::protocol::Build;
use crate::engine::Engine;

impl Serving {
    /// Removes the keeper's own container, which ends this process too.
    pub(super) async fn leave(&mut self) {
        remove_older_images(Arc::clone(&self.engine), self.build.clone()).await;
        if let Some(storage) = &self.storage {
            let _ = storage.sync().await;
        }
        if let Some(host_firewall) = &self.host_firewall {
            host_firewall.dismiss().await;
        }
        // Gives the last replies time to be sent.
        sleep(Duration::from_millis(50)).await;
        if self.home == KeeperHome::Container {
            let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let _ = self.engine.remove_container(&own, true, false).await;
        }
    }
}

/// Removes our images of older builds that no container uses.
pub(super) async fn remove_older_images(engine: Arc<dyn Engine>, build: Build) {
    if let Err(error) = image::remove_older(&engine, &build).await {
        tracing::warn!(error = in_full(&error), "cannot look for images of older builds");
    }
}
