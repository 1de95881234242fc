//! Where lent databases come from.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::protocol::SourceKind;
use super::shelf::Bounds;
use crate::session::error::SessionError;

/// A database that was made to be lent.
#[derive(Clone)]
pub(super) struct Lent {
    /// Its connection string, if the protocol is known.
    pub url: Option<String>,
    /// Environment variables for programs that use it.
    pub env: BTreeMap<String, String>,
    /// What its source knows it by.
    pub number: u64,
}

/// Makes and removes databases.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// What its databases are.
    fn kind(&self) -> SourceKind;

    /// What its databases share.
    fn notes(&self) -> Vec<String>;

    /// How many there may be, if `ready` are to be kept ready.
    fn bounds(&self, ready: Option<usize>) -> Bounds;

    /// Makes a database. When the token is cancelled it stops, and what it has made by then is removed.
    async fn make(&self, token: &CancellationToken) -> Result<Lent, SessionError>;

    /// Removes a database.
    async fn clear(&self, lent: Lent) -> Result<(), SessionError>;

    /// Removes all databases at the end. A server that goes with the session's sandbox takes them along.
    async fn close(&self, all: Vec<Lent>) {
        drop(all);
    }
}
