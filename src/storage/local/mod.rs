//! Storage on this machine: the layout and its atomic steps are the same for every kind; a [`Backend`] supplies what
//! differs.
//!
//! Data is created under `making/`, moved to its place by one rename, and moved back there before it is deleted. So
//! everything outside `making/` is complete, and leftovers under `making/` can be removed at the next start.

mod backend;
mod layout;
mod listing;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{
    Detail, Namespace, Pressure, Progress, Published, Result, SetInfo, SetPath, Storage, StorageError,
    StorageKind, Usage, VolumeOptions, VolumePath,
};

pub use backend::{Backend, prepare_shelves};

use layout::Layout;

/// The storage layout on one [`Backend`].
#[derive(Clone)]
pub struct Local {
    shelves: Arc<Layout>,
}

impl Local {
    /// Creates the storage on a backend.
    pub fn new(medium: impl Backend) -> Self {
        Self { shelves: Arc::new(Layout { medium: Box::new(medium), clones: Mutex::default() }) }
    }

    /// The folder that contains the namespaces, for code in the keeper that reads and writes volumes directly.
    pub fn store(&self) -> PathBuf {
        self.shelves.medium.store()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shelves = Arc::clone(&self.shelves);
        match tokio::task::spawn_blocking(move || work(&shelves)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                Err(StorageError::Refused { reason: format!("the operation was cut short: {error}") })
            }
        }
    }
}

#[async_trait]
impl Storage for Local {
    fn kind(&self) -> StorageKind {
        self.shelves.medium.kind()
    }

    async fn create(&self, volume: &VolumePath) -> Result<()> {
        let volume = volume.clone();
        self.run(move |shelves| shelves.create(&volume)).await
    }

    async fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |shelves| shelves.clone_volume(&from, &to)).await
    }

    async fn replace(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |shelves| shelves.replace(Some(&from), &to)).await
    }

    async fn empty(&self, volume: &VolumePath) -> Result<()> {
        let volume = volume.clone();
        self.run(move |shelves| shelves.replace(None, &volume)).await
    }

    async fn begin(&self) -> Result<SetPath> {
        self.run(Layout::begin).await
    }

    async fn publish(
        &self,
        making: &SetPath,
        to: &SetPath,
        manifest: &serde_json::Value,
    ) -> Result<Published> {
        let (making, to, manifest) = (making.clone(), to.clone(), manifest.clone());
        self.run(move |shelves| shelves.publish(&making, &to, &manifest)).await
    }

    async fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()> {
        let (live, manifest) = (live.clone(), manifest.clone());
        self.run(move |shelves| shelves.note(&live, &manifest)).await
    }

    async fn delete_set(&self, set: &SetPath) -> Result<()> {
        let set = set.clone();
        self.run(move |shelves| shelves.delete_set(&set)).await
    }

    async fn delete_volume(&self, volume: &VolumePath) -> Result<()> {
        let volume = volume.clone();
        self.run(move |shelves| shelves.delete_volume(&volume)).await
    }

    async fn inspect(&self, set: &SetPath) -> Result<Option<SetInfo>> {
        let set = set.clone();
        self.run(move |shelves| shelves.read(&set)).await
    }

    async fn list(&self, shelf: Namespace) -> Result<Vec<SetInfo>> {
        self.run(move |shelves| shelves.list(shelf)).await
    }

    async fn touch(&self, set: &SetPath) -> Result<()> {
        let set = set.clone();
        self.run(move |shelves| shelves.touch(&set)).await
    }

    async fn usage(&self, detail: Detail) -> Result<Usage> {
        self.run(move |shelves| shelves.usage(detail)).await
    }

    async fn sync(&self) -> Result<()> {
        self.run(|shelves| shelves.medium.sync()).await
    }

    async fn check(&self) -> Result<Pressure> {
        self.run(Layout::check).await
    }

    async fn recover(&self) -> Result<()> {
        self.run(Layout::recover).await
    }

    async fn mount(&self, volume: &VolumePath) -> Result<VolumeOptions> {
        Ok(self.shelves.medium.mount_options(&volume.relative()))
    }

    async fn progress(&self, to: &VolumePath) -> Result<Option<Progress>> {
        let table = self.shelves.clones.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(table.get(to).map(|counter| Progress {
            done: counter.done.load(Ordering::Relaxed),
            total: counter.total.load(Ordering::Relaxed),
        }))
    }
}
