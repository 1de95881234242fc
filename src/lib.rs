//! Creates isolated, seeded, disposable environments from one spec and destroys them after use.
//!
//! The modules below are layers, listed from top to bottom; each may use only those below it (see `ARCHITECTURE.md`).

pub mod cli;
pub mod report;
pub mod session;

pub mod agent;
pub mod data;
pub mod plan;

pub mod bind_check;

pub mod sweep;

pub mod storage;

pub mod engine;

pub mod spec;

pub mod host_files;
