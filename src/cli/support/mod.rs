//! Code that the verbs share: options, the context, failures and exit codes. No file here is a verb.

pub(in crate::cli) mod branches;
pub(in crate::cli) mod build_options;
pub(in crate::cli) mod change;
pub(in crate::cli) mod command;
pub(in crate::cli) mod complete;
pub(in crate::cli) mod compose;
pub(in crate::cli) mod consent;
pub(in crate::cli) mod containers;
pub(in crate::cli) mod context;
pub(in crate::cli) mod examples;
pub(in crate::cli) mod exit;
pub(in crate::cli) mod failure;
pub(in crate::cli) mod fetch;
pub(in crate::cli) mod format;
pub(in crate::cli) mod help;
pub(in crate::cli) mod host_environment;
pub(in crate::cli) mod moment;
pub(in crate::cli) mod options;
pub(in crate::cli) mod repro;

use super::Cli;
use context::Context;
use exit::Exit;
use failure::Failure;
use options::{Globals, SpecOptions};
