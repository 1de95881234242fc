//! Runs the command of a repro and keeps its result.

use std::ffi::OsString;

use super::command::{Command, CommandTarget, OURS, Streams};
use crate::data::repro::{self, CommandResult, OutputEnd};
use crate::engine::StdStream;
use crate::report::ci::capture::Capture;
use crate::spec::ServiceName;

/// Exit codes of a shell whose command it cannot run.
const NOT_RUN: [i32; 3] = [OURS as i32, 126, 127];

/// A command of a repro, unattended, and what receives its output.
pub fn command(command: &str, service: Option<&ServiceName>) -> (Command, Capture) {
    let place = service.cloned().map_or(CommandTarget::Host, CommandTarget::Service);
    let words = repro::words(command).map(OsString::from).to_vec();
    let capture = Capture::default();
    let streams = Streams::Unattended;
    (Command { streams, capture: Some(capture.clone()), ..Command::new(place, words) }, capture)
}

/// The result of a command that has ended.
pub fn result(exit_code: i32, capture: &Capture) -> CommandResult {
    let end = |stream| OutputEnd::of(&capture.text(stream));
    CommandResult { exit_code, stdout: end(StdStream::Stdout), stderr: end(StdStream::Stderr) }
}

/// Whether an exit code says that the command did not run, so that it shows nothing.
pub fn did_not_run(exit_code: i32) -> bool {
    NOT_RUN.contains(&exit_code)
}
