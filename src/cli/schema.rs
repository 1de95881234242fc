//! `schema`: prints the JSON Schema of specs.

use super::Exit;
use crate::report::Output;
use crate::spec;

/// Runs `schema`.
pub fn run() -> Exit {
    Output::stdout().json(&spec::schema());
    Exit::Done
}
