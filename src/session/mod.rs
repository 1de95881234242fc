//! Runs a plan, holds the lease, owns signals and time in one loop; sees what sandboxes there are.

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
