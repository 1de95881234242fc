use jiff::Timestamp;

use super::*;
use crate::report::test_events;
use crate::session::event::{Acknowledgement, StepId};

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn recorder() -> Recorder {
    let began = Timestamp::from_second(1_793_000_000).unwrap();
    Recorder::new(RunRecord::new(Vec::new(), "npm test".to_owned(), began), Capture::default())
}

fn command_started() -> Event {
    Event::CommandStarted { cleared: Acknowledgement::default() }
}

fn torn_down(reason: &str) -> Event {
    let interrupted = reason == "asked to stop";
    Event::TearingDown { name: "shop-main".into(), reason: reason.into(), interrupted }
}

fn outcomes(record: &RunRecord) -> Vec<(CaseKind, &str, Option<&str>)> {
    let of = |case| {
        let case: &Case = case;
        (case.kind, case.name.as_str(), case.problem())
    };
    record.cases.iter().map(of).collect()
}

#[test]
fn a_run_that_succeeds_has_its_seeds_its_services_and_its_command() {
    let mut recorder = recorder();
    for event in test_events::of_an_up().into_iter().take_while(|it| !matches!(it, Event::Log { .. })) {
        recorder.event(&event, at(100));
    }
    recorder.event(&command_started(), at(7_000));
    recorder.command_exited(0, at(9_500));
    recorder.event(&torn_down("the command has ended"), at(9_600));
    recorder.ended(RunEnd::Exited { code: 0 }, at(10_000));

    let record = recorder.record();
    assert!(record.passed());
    assert_eq!(
        outcomes(&record),
        [
            (CaseKind::Seed, "db: fixtures/shop/orders.sql", None),
            (CaseKind::Readiness, "db", None),
            (CaseKind::Readiness, "cache", None),
            (CaseKind::Readiness, "web", None),
            (CaseKind::Command, "npm test", None),
        ]
        .into_iter()
        .fold(vec![(CaseKind::Baseline, "pgdata", None)], |mut all, one| {
            all.push(one);
            all
        })
    );
    assert_eq!(record.cases.last().unwrap().elapsed, at(2_500));
    assert_eq!(record.cases[2].elapsed, at(6_200));
}

#[test]
fn a_command_that_fails_names_the_service_that_failed_too() {
    let mut recorder = recorder();
    recorder.event(&test_events::up(), at(1_000));
    recorder.event(&command_started(), at(1_000));
    recorder.command_exited(3, at(2_000));
    for event in test_events::of_a_failure() {
        recorder.event(&event, at(2_000));
    }
    recorder.ended(RunEnd::Exited { code: 3 }, at(2_500));

    let record = recorder.record();
    let problems: Vec<_> = record.problems().iter().map(|(case, why)| (case.title(), *why)).collect();
    assert_eq!(
        problems,
        [
            ("service db".to_owned(), "exited with 137 (SIGKILL: killed, or out of memory)"),
            ("`npm test`".to_owned(), "exited with 3"),
        ]
    );
}

#[test]
fn a_command_that_a_signal_stopped_is_interrupted_and_not_failed() {
    let mut recorder = recorder();
    recorder.event(&command_started(), at(1_000));
    recorder.event(&torn_down("asked to stop"), at(1_500));
    recorder.command_exited(143, at(1_600));
    recorder.ended(RunEnd::Stopped { code: 143 }, at(2_000));

    let record = recorder.record();
    let command = record.cases.last().unwrap();
    let message = "interrupted: asked to stop".to_owned();
    assert_eq!(command.outcome, CaseOutcome::Interrupted { message });
    assert_eq!(record.code(), 143);
}

/// The signal reaches the command too, whose end may be noticed first.
#[test]
fn a_command_that_ends_just_before_the_teardown_of_a_signal_is_interrupted_as_well() {
    let mut recorder = recorder();
    recorder.event(&command_started(), at(1_000));
    recorder.command_exited(143, at(1_499));
    recorder.event(&torn_down("asked to stop"), at(1_500));

    let record = recorder.record();
    let message = "interrupted: asked to stop".to_owned();
    assert_eq!(record.cases.last().unwrap().outcome, CaseOutcome::Interrupted { message });
}

#[test]
fn a_service_that_does_not_get_ready_fails_with_its_log_and_the_command_is_not_run() {
    let mut recorder = recorder();
    recorder.event(&test_events::waiting("db", "tcp 5432", None, 0), at(100));
    recorder.event(&test_events::waiting("web", "tcp 80", None, 0), at(100));
    let failed = Event::StepFailed {
        id: StepId::new("wait", "db"),
        phase: Phase::Ready,
        what: "wait for `db`".into(),
        service: Some("db".into()),
        elapsed: at(4_000),
        error: "not ready".into(),
    };
    recorder.event(&failed, at(4_100));
    recorder.event(&torn_down("it could not be built"), at(4_200));
    recorder.failed(&["service `db` was not ready after 4.0 s: refused".into()], &["FATAL: no".into()]);
    recorder.ended(RunEnd::Exited { code: 125 }, at(5_000));

    let record = recorder.record();
    assert_eq!(
        outcomes(&record),
        [
            (CaseKind::Readiness, "db", Some("service `db` was not ready after 4.0 s: refused")),
            (CaseKind::Readiness, "web", None),
            (CaseKind::Command, "npm test", None),
        ]
    );
    assert_eq!(record.cases[0].stdout, "FATAL: no");
    assert_eq!(record.cases[1].outcome, CaseOutcome::NotRun);
}

#[test]
fn a_step_that_succeeds_when_it_is_repeated_is_no_failure() {
    let mut recorder = recorder();
    let failed = Event::StepFailed {
        id: StepId::new("wait", "db"),
        phase: Phase::Network,
        what: "create network `default`".into(),
        service: None,
        elapsed: at(10),
        error: "the subnet is taken".into(),
    };
    recorder.event(&failed, at(10));
    assert_eq!(recorder.record().problems().len(), 1);

    recorder.event(&test_events::up(), at(1_000));

    assert_eq!(recorder.record().problems().len(), 0);
}

#[test]
fn a_run_that_ends_before_anything_fails_has_a_cause_all_the_same() {
    let mut recorder = recorder();
    recorder.ended(RunEnd::Stopped { code: 143 }, at(100));
    assert_eq!(recorder.record().problems().len(), 1);
}
