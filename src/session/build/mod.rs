//! Builds a sandbox: observe, plan, execute the plan, and retry after a conflict.

pub mod bake;
pub(crate) mod clean_stop;
pub(crate) mod clone_progress;
pub(crate) mod conflicts;
pub mod converge;
pub(crate) mod dockerfiles;
pub(crate) mod engine_support;
pub mod executor;
pub(crate) mod hooks;
pub(crate) mod host_firewall;
pub(crate) mod host_ports;
pub(crate) mod initdb;
pub mod limits;
pub mod observe;
pub(crate) mod port_check;
mod progress_recorder;
pub mod push;
pub mod scheduler;
pub(crate) mod seccomp_profile;
pub(crate) mod seeding;
pub mod up_report;
