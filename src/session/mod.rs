//! Sessions: execute a plan, hold the lease, handle signals and deadlines in one loop, and list existing sandboxes.

pub mod build;
pub mod context;
pub(crate) mod data;
pub(crate) mod error;
pub mod event;
pub(crate) mod exec;
pub(crate) mod existing;
pub mod git;
pub(crate) mod inspect;
pub(crate) mod lend;
pub mod lifecycle;
pub mod readiness;
pub mod request;
pub mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
