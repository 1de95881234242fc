//! Records a run and writes its reports: at the start, when the command starts, when the teardown begins and at the end,
//! so that a run that is killed leaves a report of what it did.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::report_files::ReportFiles;
use crate::cli::Failure;
use crate::report::Reporter;
use crate::report::ci::capture::Capture;
use crate::report::ci::record::{RunEnd, RunRecord, Variable};
use crate::report::ci::recorder::Recorder;
use crate::report::error::chain;
use crate::session::event::Event;

/// The record of a run that is in progress. Clones share it.
#[derive(Clone)]
pub(in crate::cli) struct Recording {
    recorder: Arc<Mutex<Recorder>>,
    files: Arc<ReportFiles>,
    capture: Capture,
    began: Instant,
}

impl Recording {
    /// Starts a record and writes the first reports, so that a file that cannot be written fails the run at once.
    pub(super) fn start(
        files: ReportFiles,
        variables: &[Variable],
        command: &[OsString],
    ) -> Result<Self, Failure> {
        let record = RunRecord::new(variables.to_vec(), command_line(command), Timestamp::now());
        files.write(std::slice::from_ref(&record))?;
        let capture = Capture::default();
        Ok(Self {
            recorder: Arc::new(Mutex::new(Recorder::new(record, capture.clone()))),
            files: Arc::new(files),
            capture,
            began: Instant::now(),
        })
    }

    /// What gets the command's output; `None` if no report is wanted, so that the command keeps our terminal.
    pub(super) fn capture(&self) -> Option<Capture> {
        self.files.any().then(|| self.capture.clone())
    }

    /// A renderer that records the events.
    pub(super) fn reporter(&self, inner: Box<dyn Reporter>) -> Box<dyn Reporter> {
        Box::new(RecordingReporter { inner, recording: self.clone() })
    }

    /// Records the exit of the command.
    pub(super) fn command_exited(&self, code: i32) {
        self.recorder().command_exited(code, self.elapsed());
    }

    /// Records the end of the run, and writes the last reports. Returns the record, and whether they were written.
    pub(super) fn finish(&self, end: RunEnd, failure: Option<&Failure>) -> (RunRecord, Result<(), Failure>) {
        let mut recorder = self.recorder();
        if let Some(failure) = failure {
            let log = if let Failure::Session(error) = failure { error.log() } else { &[] };
            recorder.failed(&causes(failure), log);
        }
        recorder.ended(end, self.elapsed());
        let record = recorder.record();
        let written = self.files.write(std::slice::from_ref(&record));
        (record, written)
    }

    fn event(&self, event: &Event) {
        self.recorder().event(event, self.elapsed());
        if matches!(event, Event::CommandStarted { .. } | Event::TearingDown { .. }) {
            let record = self.recorder().record();
            // The last write reports a failure.
            if let Err(error) = self.files.write(&[record]) {
                tracing::warn!(%error, "the reports were not updated");
            }
        }
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A command as it would be typed.
pub(super) fn command_line(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    shlex::try_join(words.iter().map(AsRef::as_ref)).unwrap_or_else(|_| words.join(" "))
}

fn causes(failure: &Failure) -> Vec<String> {
    match failure {
        Failure::Spec(problems) => problems.iter().map(|problem| problem.message.clone()).collect(),
        other => chain(other),
    }
}

struct RecordingReporter {
    inner: Box<dyn Reporter>,
    recording: Recording,
}

impl Reporter for RecordingReporter {
    fn event(&mut self, event: &Event) {
        self.inner.event(event);
        self.recording.event(event);
    }

    fn tick(&mut self) {
        self.inner.tick();
    }

    fn finish(&mut self) {
        self.inner.finish();
    }
}
