//! Seeds, baselines, snapshots and archives: what fills volumes and what is stored of them.
//!
//! This module selects what to bake and computes its key, prepares the commands and files of seeds, selects which sets
//! to remove, and converts between sets and files. It starts no container and has no state; the storage has.

pub mod archive;
pub(crate) mod baseline;
pub(crate) mod budget;
pub(crate) mod chunk;
pub(crate) mod diff;
pub(crate) mod fsync_profile;
pub mod manifest;
pub(crate) mod registry;
pub mod repro;
pub(crate) mod seed;
pub(crate) mod snapshot;
#[cfg(test)]
mod testing;
