//! Seeds, baselines, snapshots and archives: what fills volumes and what is kept of them.
//!
//! Says what is to be baked and under which key, what a seed runs or copies, which sets are kept and which go, and how
//! a set becomes a file and a file a set. It starts no container and keeps nothing of its own: the storage does.

pub mod archive;
pub mod baseline;
pub mod budget;
pub mod fsync_profile;
pub mod manifest;
pub mod seed;
pub mod snapshot;
#[cfg(test)]
mod testing;
