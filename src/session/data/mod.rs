//! Secrets, and data that comes from or goes to snapshots.

pub mod from_snapshot;
pub mod registry;
pub mod secret_files;
pub(crate) mod secret_store;
pub mod snapshot_transfer;
