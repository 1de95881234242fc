//! Creates isolated, seeded, disposable environments from one spec and destroys them after use.
//!
//! The modules below are layers, listed from top to bottom; each may use only those below it (see `ARCHITECTURE.md`).
//! Public is what the program, the tests, the benches and the fuzz targets use.

mod cli;
mod report;
pub mod session;

pub mod agent;
pub mod data;
pub mod plan;

mod bind_check;

pub mod sweep;

pub mod storage;

pub mod engine;

pub mod spec;

pub mod host_files;

pub use cli::main;
