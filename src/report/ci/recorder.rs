//! Makes the record of a run from the events of its session. Pure: times come with the events.

use std::time::Duration;

use super::capture::Capture;
use super::record::{Case, CaseKind, CaseOutcome, RunEnd, RunRecord};
use crate::engine::StdStream;
use crate::report::messages;
use crate::session::event::{AfterExit, BakeState, Event, Phase};

/// Records one run.
#[derive(Debug)]
pub struct Recorder {
    record: RunRecord,
    /// When each part began that is in progress.
    began: Vec<(CaseKind, String, Duration)>,
    capture: Capture,
}

impl Recorder {
    /// Starts a record. `capture` gets the command's output.
    pub fn new(record: RunRecord, capture: Capture) -> Self {
        Self { record, began: Vec::new(), capture }
    }

    /// The record so far.
    pub fn record(&self) -> RunRecord {
        let mut record = self.record.clone();
        for command in record.cases.iter_mut().filter(|case| case.kind == CaseKind::Command) {
            command.stdout = self.capture.text(StdStream::Stdout);
            command.stderr = self.capture.text(StdStream::Stderr);
        }
        record
    }

    /// Records an event, `at` after the start.
    pub fn event(&mut self, event: &Event, at: Duration) {
        self.record.elapsed = at;
        match event {
            Event::Started { name, .. } => self.record.sandbox = Some(name.clone()),
            Event::Bake { volumes, state, .. } => self.baked(&volumes.join(", "), state, at),
            Event::Seed { target, what, done, .. } => {
                let name = format!("{target}: {what}");
                if *done {
                    self.passed(CaseKind::Seed, &name, None, at);
                } else {
                    self.begins(CaseKind::Seed, &name, at);
                }
            }
            Event::Waiting { service, .. } => self.begins(CaseKind::Readiness, service, at),
            Event::Ready { service, after } => self.passed(CaseKind::Readiness, service, Some(*after), at),
            Event::StepFailed { phase, what, service, elapsed, error, .. } => {
                self.step_failed(*phase, what, service.as_deref(), *elapsed, error);
            }
            Event::Up { services, .. } => {
                // A step that failed was repeated.
                self.record.cases.retain(|case| case.kind != CaseKind::Setup);
                for service in services {
                    self.passed(CaseKind::Readiness, &service.service, Some(Duration::ZERO), at);
                }
            }
            Event::CommandStarted { .. } => {
                let command = self.command().name.clone();
                self.begins(CaseKind::Command, &command, at);
            }
            Event::ServiceExited { service, code, log, then: AfterExit::Ends, .. } => {
                self.service_failed(service, *code, log);
            }
            Event::TearingDown { reason, interrupted, .. } => {
                self.torn_down(reason, at);
                if *interrupted {
                    self.interrupt_command(reason);
                }
            }
            _ => {}
        }
    }

    /// Records the exit of the command.
    pub fn command_exited(&mut self, code: i32, at: Duration) {
        let began = self.take_begin(CaseKind::Command, None);
        let command = self.command();
        if let Some(began) = began {
            command.elapsed = at.saturating_sub(began);
        }
        if matches!(command.outcome, CaseOutcome::Running | CaseOutcome::NotRun) {
            command.outcome = match code {
                0 => CaseOutcome::Passed,
                code => CaseOutcome::Failed {
                    message: format!("exited with {}", messages::exit_code(code.into())),
                },
            };
        }
    }

    /// Records why there is no sandbox: the error with its causes, and the log that belongs to it.
    pub fn failed(&mut self, causes: &[String], log: &[String]) {
        let message = causes.join(": ");
        let log = log.join("\n");
        let outcome = CaseOutcome::Failed { message };
        if let Some(case) = self.record.cases.iter_mut().rfind(|case| case.problem().is_some()) {
            case.outcome = outcome;
            case.stdout = log;
        } else {
            let mut case = Case::new(CaseKind::Setup, "the sandbox is built", outcome);
            case.stdout = log;
            self.insert(case);
        }
    }

    /// Records the end of the run.
    pub fn ended(&mut self, end: RunEnd, at: Duration) {
        self.record.elapsed = at;
        if matches!(end, RunEnd::Stopped { .. }) {
            self.interrupt_command("the run was stopped");
        }
        let fine = end == (RunEnd::Exited { code: 0 });
        if !fine && self.record.problems().is_empty() {
            let message = match end {
                RunEnd::Exited { code } => format!("the run ended with {}", messages::exit_code(code.into())),
                RunEnd::Running | RunEnd::NotRun | RunEnd::Stopped { .. } => "the run was stopped".to_owned(),
            };
            self.command().outcome = CaseOutcome::Interrupted { message };
        }
        self.record.end = end;
    }

    fn baked(&mut self, volumes: &str, state: &BakeState, at: Duration) {
        match state {
            BakeState::Found => self.passed(CaseKind::Baseline, volumes, Some(Duration::ZERO), at),
            BakeState::Awaited | BakeState::Started => self.begins(CaseKind::Baseline, volumes, at),
            BakeState::Done { elapsed } => self.passed(CaseKind::Baseline, volumes, Some(*elapsed), at),
        }
    }

    fn step_failed(
        &mut self,
        phase: Phase,
        what: &str,
        service: Option<&str>,
        elapsed: Duration,
        error: &str,
    ) {
        let outcome = CaseOutcome::Failed { message: error.to_owned() };
        let (kind, name) = match (phase, service) {
            (Phase::Ready, Some(service)) => (CaseKind::Readiness, service.to_owned()),
            (Phase::Seed, Some(service)) => (CaseKind::Seed, self.seed_in_progress(service, what)),
            _ => (CaseKind::Setup, what.to_owned()),
        };
        self.take_begin(kind, Some(&name));
        let case = self.case(kind, &name);
        case.outcome = outcome;
        case.elapsed = elapsed;
    }

    /// The seed of a service that is being applied, else the step's own name.
    fn seed_in_progress(&self, service: &str, what: &str) -> String {
        let of_service = |case: &&Case| {
            case.kind == CaseKind::Seed
                && case.outcome == CaseOutcome::Running
                && case.name.split(": ").next() == Some(service)
        };
        self.record.cases.iter().rfind(of_service).map_or_else(|| what.to_owned(), |case| case.name.clone())
    }

    fn service_failed(&mut self, service: &str, code: i64, log: &[String]) {
        let message = format!("exited with {}", messages::exit_code(code));
        let case = self.case(CaseKind::Service, service);
        case.outcome = CaseOutcome::Failed { message };
        case.stdout = log.join("\n");
    }

    /// What is in progress when the teardown begins does not end any more.
    fn torn_down(&mut self, reason: &str, at: Duration) {
        let began = std::mem::take(&mut self.began);
        for case in self.record.cases.iter_mut().filter(|case| case.outcome == CaseOutcome::Running) {
            let since = began.iter().find(|(kind, name, _)| *kind == case.kind && *name == case.name);
            case.elapsed = since.map_or(case.elapsed, |(_, _, since)| at.saturating_sub(*since));
            case.outcome = match case.kind {
                CaseKind::Command => CaseOutcome::Interrupted { message: format!("interrupted: {reason}") },
                _ => CaseOutcome::NotRun,
            };
        }
    }

    /// A command that has failed at the time of a signal got that signal as well.
    fn interrupt_command(&mut self, reason: &str) {
        let command = self.command();
        if matches!(command.outcome, CaseOutcome::Failed { .. }) {
            command.outcome = CaseOutcome::Interrupted { message: format!("interrupted: {reason}") };
        }
    }

    fn begins(&mut self, kind: CaseKind, name: &str, at: Duration) {
        let case = self.case(kind, name);
        if case.outcome != CaseOutcome::Running {
            case.outcome = CaseOutcome::Running;
            self.began.push((kind, name.to_owned(), at));
        }
    }

    fn passed(&mut self, kind: CaseKind, name: &str, elapsed: Option<Duration>, at: Duration) {
        let began = self.take_begin(kind, Some(name));
        let case = self.case(kind, name);
        if case.outcome != CaseOutcome::Passed {
            case.elapsed = elapsed.or(began.map(|began| at.saturating_sub(began))).unwrap_or(case.elapsed);
        }
        case.outcome = CaseOutcome::Passed;
    }

    fn take_begin(&mut self, kind: CaseKind, name: Option<&str>) -> Option<Duration> {
        let of_case =
            |one: &(CaseKind, String, Duration)| one.0 == kind && name.is_none_or(|name| one.1 == name);
        let index = self.began.iter().position(of_case)?;
        Some(self.began.swap_remove(index).2)
    }

    fn command(&mut self) -> &mut Case {
        let name = self.record.cases.last().map(|case| case.name.clone()).unwrap_or_default();
        self.case(CaseKind::Command, &name)
    }

    /// The part of this kind and name; it is added if it is new.
    fn case(&mut self, kind: CaseKind, name: &str) -> &mut Case {
        let index = self.record.cases.iter().position(|case| case.kind == kind && case.name == name);
        let index = index.unwrap_or_else(|| self.insert(Case::new(kind, name, CaseOutcome::NotRun)));
        &mut self.record.cases[index]
    }

    /// Adds a part before the command, which stays last, and returns its index.
    fn insert(&mut self, case: Case) -> usize {
        let last = self.record.cases.len().saturating_sub(1);
        self.record.cases.insert(last, case);
        last
    }
}

#[cfg(test)]
mod tests;
