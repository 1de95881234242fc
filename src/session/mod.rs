//! Sessions: execute a plan, hold the lease, handle signals and deadlines in one loop, and list existing sandboxes.

pub mod build;
pub mod data;
pub mod error;
pub mod event;
pub mod exec;
pub mod existing;
pub mod inspect;
pub mod lifecycle;
pub mod readiness;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod watch;
