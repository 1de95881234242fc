//! Access to the keeper's storage for a process in the keeper's own container. It uses the same messages as any client,
//! so that the keeper deletes what such a process leaves half-made when it dies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::connection::answer_to;
use super::wire::Wire;
use super::{KeeperError, SOCKET, VOLUME, in_full};
use crate::agent::protocol::{Build, Greeting, Outcome, Request, RequestKind};
use crate::storage::{self, RemoteStorage, Storage, StorageError, Transport, store_folder};

/// Connects to the keeper's storage; also returns the folder of its files.
pub async fn storage_inside() -> Result<(Arc<dyn Storage>, PathBuf), KeeperError> {
    let lost = |error: std::io::Error| KeeperError::Lost { cause: error.to_string() };
    let mut wire = Wire::of_socket(UnixStream::connect(SOCKET).await.map_err(lost)?);
    let hello = Request { id: 0, ask: RequestKind::Hello(Build::default()) };
    wire.send(&hello).await.map_err(lost)?;
    let greeting: Greeting = match answer_to(&mut wire, 0).await.map_err(lost)? {
        Outcome::Ok(value) => serde_json::from_value(value)?,
        Outcome::Error(refusal) => return Err(refusal.into()),
    };
    let kind = greeting.storage.ok_or_else(|| KeeperError::Lost {
        cause: "the keeper of this engine serves no storage".to_owned(),
    })?;
    let carried = RemoteStorage::new(kind, Inside { wire: Mutex::new((wire, 0)) });
    Ok((Arc::new(carried), store_folder(Path::new(VOLUME), kind)))
}

/// A connection that sends one request at a time.
struct Inside {
    wire: Mutex<(Wire, u64)>,
}

#[async_trait]
impl Transport for Inside {
    async fn carry(&self, request: storage::Request) -> storage::Result<storage::Reply> {
        let mut wire = self.wire.lock().await;
        let (wire, last) = &mut *wire;
        *last += 1;
        let link = |cause: String| StorageError::Link { cause };
        let asked = Request { id: *last, ask: RequestKind::Storage { request } };
        wire.send(&asked).await.map_err(|error| link(in_full(&error)))?;
        match answer_to(wire, *last).await.map_err(|error| link(in_full(&error)))? {
            Outcome::Ok(value) => {
                let answer: storage::Result<storage::Reply> =
                    serde_json::from_value(value).map_err(|error| link(error.to_string()))?;
                answer
            }
            Outcome::Error(refusal) => Err(link(refusal.message)),
        }
    }
}
