//! Copies artifacts and logs out of a sandbox that is about to be destroyed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::teardown::Teardown;
use crate::engine::{ContainerSummary, LogOptions};
use crate::host_files::{self, Folder, Links, Unpack};
use crate::session::event::Event;
use crate::session::inspect::{log_name, service_of};
use crate::spec::{SandboxName, Spec, SpecOrigin};

impl Teardown {
    /// Whether artifacts and logs are copied out.
    pub(super) fn keeps_files(&self, spec: &Spec) -> bool {
        self.artifacts.is_some() || !spec.artifacts.is_empty()
    }

    /// Copies artifacts and logs and reports what could not be copied.
    pub(super) async fn copy_out_and_report(&self, spec: &Spec, containers: &[ContainerSummary]) {
        let warn = |text, hint| self.events.emit(Event::Warning { text, hint });
        // When the services are gone there is no second attempt, so a folder that cannot be used is replaced.
        let folder = self.artifacts_folder(spec).or_else(|cause| {
            let hint = "make it a plain folder that you can write to".to_owned();
            warn(format!("artifacts and logs go to another folder: {cause}"), Some(hint));
            fallback_folder(&self.name)
        });
        match folder {
            Ok(folder) => {
                let (folder, problems) = self.copy_into(folder, spec, containers).await;
                problems.into_iter().for_each(|text| warn(text, None));
                let text = format!("artifacts are in {}", folder.display());
                self.events.emit(Event::Notice { text });
            }
            Err(cause) => warn(format!("artifacts and logs were not brought out: {cause}"), None),
        }
    }

    /// The folder for artifacts: the given one, else one next to the spec; for a spec from a snapshot file, one below the
    /// current folder.
    fn artifacts_folder(&self, spec: &Spec) -> std::io::Result<Folder> {
        match &self.artifacts {
            Some(folder) => Folder::make(folder),
            None => artifacts_folder(spec, &self.name),
        }
    }

    /// Copies artifacts and every service's log into their folder. Returns the folder and what could not be copied.
    pub(super) async fn copy_out(
        &self,
        spec: &Spec,
        containers: &[ContainerSummary],
    ) -> std::io::Result<(PathBuf, Vec<String>)> {
        Ok(self.copy_into(self.artifacts_folder(spec)?, spec, containers).await)
    }

    async fn copy_into(
        &self,
        folder: Folder,
        spec: &Spec,
        containers: &[ContainerSummary],
    ) -> (PathBuf, Vec<String>) {
        let (folder, mut problems) = (Arc::new(folder), Vec::new());
        for container in containers {
            let name = log_name(container);
            for artifact in spec.artifacts.iter().filter(|one| one.service.as_str() == service_of(container))
            {
                if let Err(cause) = self.download(container, &artifact.path, &folder, &name).await {
                    problems
                        .push(format!("artifact `{name}:{}` was not brought out: {cause}", artifact.path));
                }
            }
            if let Err(cause) = self.keep_log(&container.name, &folder, &format!("{name}.log")).await {
                problems.push(format!("the log of `{name}` was not brought out: {cause}"));
            }
        }
        (folder.path().to_owned(), problems)
    }

    async fn download(
        &self,
        container: &ContainerSummary,
        path: &str,
        folder: &Arc<Folder>,
        name: &str,
    ) -> Result<(), String> {
        let stream = self.engine.download(&container.name, path).await.map_err(|error| {
            if error.is_not_found() {
                format!("service `{}` has nothing at `{path}`", service_of(container))
            } else {
                format!("{error}: {}", error.cause)
            }
        })?;
        let reader = SyncIoBridge::new(StreamReader::new(stream));
        let (folder, name) = (Arc::clone(folder), PathBuf::from(name));
        let unpacked = tokio::task::spawn_blocking(move || {
            host_files::unpack(reader, &folder.make_below(&name)?, &Unpack::plain(0, Links::Kept))
        });
        unpacked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn keep_log(&self, container: &str, folder: &Folder, name: &str) -> Result<(), String> {
        let logs = self.engine.logs(container, &LogOptions::default()).await;
        let mut logs = logs.map_err(|error| error.to_string())?;
        let file = folder.write(OsStr::new(name)).map_err(|error| error.to_string())?;
        let mut file = tokio::fs::File::from_std(file);
        while let Some(chunk) = logs.try_next().await.map_err(|error| error.to_string())? {
            file.write_all(&chunk.bytes).await.map_err(|error| error.to_string())?;
        }
        file.flush().await.map_err(|error| error.to_string())
    }
}

/// The folder for artifacts. Its path contains no link that a service may have made.
fn artifacts_folder(spec: &Spec, name: &SandboxName) -> std::io::Result<Folder> {
    let inner = Path::new("sandbox-artifacts").join(name.as_str());
    match spec.origin {
        SpecOrigin::Local => spec.writable_folders().make_folder(&spec.folder.join(inner)),
        SpecOrigin::SnapshotFile | SpecOrigin::Repository => {
            Folder::open(&std::env::current_dir()?)?.make_below(&inner)
        }
    }
}

/// A new folder of the user below the system's folder for temporary files.
fn fallback_folder(name: &SandboxName) -> std::io::Result<Folder> {
    let folder = tempfile::Builder::new().prefix(&format!("sandbox-artifacts-{name}-")).tempdir()?;
    Folder::open(&folder.keep())
}
