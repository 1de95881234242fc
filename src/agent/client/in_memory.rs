//! A client for tests, whose keeper runs in the same process. The connection is a pipe in memory, which a test can cut
//! as the death of the client's process would.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{DuplexStream, copy_bidirectional};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::{Dial, answer_to};
use super::start::Starter;
use super::wire::Wire;
use super::{Keeper, KeeperError, Options};
use crate::agent::protocol::{Build, Outcome, Request, RequestKind};
use crate::engine::Engine;

/// The capacity of a pipe, in bytes.
const PIPE: usize = 64 * 1024;

/// Connects to a keeper by pipes.
#[derive(Clone)]
pub struct ByPipe {
    /// Receives the keeper's ends of the pipes.
    pub connections: mpsc::UnboundedSender<DuplexStream>,
    /// Cancelled when the client is dead.
    pub dead: CancellationToken,
}

impl Keeper {
    /// Connects to the keeper at the other end of the pipes.
    pub async fn by_pipe(engine: &Arc<dyn Engine>, pipe: ByPipe) -> Result<Self, KeeperError> {
        let starter = Arc::new(Starter::new(Arc::clone(engine), Options::default()));
        Self::reach(starter, Arc::new(pipe)).await
    }
}

#[async_trait]
impl Dial for ByPipe {
    async fn dial(&self) -> Result<(Wire, crate::agent::protocol::Greeting), KeeperError> {
        if self.dead.is_cancelled() {
            // A dead client does not retry.
            return std::future::pending().await;
        }
        let lost = |error: std::io::Error| KeeperError::Lost { cause: error.to_string() };
        let (ours, mut left) = tokio::io::duplex(PIPE);
        let (mut right, theirs) = tokio::io::duplex(PIPE);
        let dead = self.dead.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = dead.cancelled() => {}
                _ = copy_bidirectional(&mut left, &mut right) => {}
            }
        });
        let _ = self.connections.send(theirs);
        let mut wire = Wire::of_pipe(ours);
        wire.send(&Request { id: 0, ask: RequestKind::Hello(Build::default()) }).await.map_err(lost)?;
        match answer_to(&mut wire, 0).await.map_err(lost)? {
            Outcome::Ok(greeting) => Ok((wire, serde_json::from_value(greeting)?)),
            Outcome::Error(refusal) => Err(refusal.into()),
        }
    }
}
