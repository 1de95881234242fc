//! Compares a sandbox's data with what it was cloned from, or with a snapshot.

use futures_util::StreamExt;

use super::ExistingSandbox;
use crate::agent::protocol::{DiffRequest, TransferLine};
use crate::data::diff::VolumeDiff;
use crate::data::snapshot;
use crate::engine::{Exec, ExecSession, StdStream};
use crate::session::error::SessionError;
use crate::storage::{SetPath, VolumeName, VolumePath};

/// The most bytes of a result that are read.
const MOST: usize = 64 << 20;

/// The changes of a sandbox's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDiff {
    /// The changes of each volume that was compared.
    pub volumes: Vec<VolumeDiff>,
    /// The volumes that there is nothing to compare with: they started empty, or with files of their image.
    pub without_origin: Vec<VolumeName>,
}

impl ExistingSandbox {
    /// Compares the current data with a snapshot, or with what each volume was cloned from. The services keep running.
    ///
    /// # Errors
    /// Fails if the data that it is compared with does not exist, or if the storage or the engine fails.
    pub async fn diff(&self, from: Option<&SetPath>) -> Result<DataDiff, SessionError> {
        let live = self.live()?;
        let (mut pairs, mut without_origin) = (Vec::new(), Vec::new());
        let kept = match from {
            Some(set) => Some(snapshot::existing(self.storage(), set).await?),
            None => None,
        };
        for volume in self.volumes() {
            let before = match &kept {
                Some(set) => set.volumes.contains(&volume).then(|| set.path.volume(volume.clone())),
                None => self.origin(&volume),
            };
            match before {
                Some(before) => pairs.push(DiffRequest { before, now: live.volume(volume) }),
                None => without_origin.push(volume),
            }
        }
        self.check_origins(&pairs).await?;
        let volumes = if pairs.is_empty() { Vec::new() } else { self.compare(&pairs).await? };
        Ok(DataDiff { volumes, without_origin })
    }

    async fn check_origins(&self, pairs: &[DiffRequest]) -> Result<(), SessionError> {
        for DiffRequest { before: VolumePath { set, .. }, .. } in pairs {
            snapshot::existing(self.storage(), set).await?;
            self.storage().touch(set).await?;
        }
        Ok(())
    }

    /// Compares volumes beside the storage.
    async fn compare(&self, pairs: &[DiffRequest]) -> Result<Vec<VolumeDiff>, SessionError> {
        let failed = |what: String| SessionError::Transfer { what, hint: None };
        let request = serde_json::to_string(pairs).map_err(|error| failed(error.to_string()))?;
        let exec = Exec::new(["/sandbox", "agent", "diff", &request].map(str::to_owned));
        let container = &self.context.storage_container;
        let ExecSession { mut output, .. } = self.context.engine.exec(container, &exec).await?;
        let (mut result, mut said) = (Vec::new(), Vec::new());
        while let Some(chunk) = output.next().await {
            let chunk = chunk?;
            let to = if chunk.stream == StdStream::Stdout { &mut result } else { &mut said };
            to.extend_from_slice(&chunk.bytes);
            if result.len() + said.len() > MOST {
                return Err(failed("the comparison has too many results".to_owned()));
            }
        }
        if let Ok(TransferLine::Failed { message, hint }) = serde_json::from_slice(&said) {
            return Err(SessionError::Transfer { what: message, hint });
        }
        serde_json::from_slice(&result).map_err(|_| {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            failed(format!("the comparison was cut short: {said}"))
        })
    }
}
