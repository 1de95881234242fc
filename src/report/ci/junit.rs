//! The JUnit report: one suite per run, one test case per part.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite, XmlString};

use super::record::{Case, CaseKind, CaseOutcome, RunEnd, RunRecord, UNFINISHED};

/// The report of these runs.
///
/// # Errors
/// Fails if a value cannot be written as XML.
pub fn junit(records: &[RunRecord]) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("sandbox run");
    report.set_time(records.iter().map(|record| record.elapsed).max().unwrap_or_default());
    report.add_test_suites(records.iter().map(suite));
    report.to_string()
}

fn suite(record: &RunRecord) -> TestSuite {
    let label = record.label();
    let mut suite = TestSuite::new(label.as_str());
    suite.set_time(record.elapsed);
    suite.extra.insert("timestamp".into(), record.began.to_string().into());
    let variables = record.variables.iter().map(|it| Property::new(it.name.as_str(), it.value.as_str()));
    suite.add_properties(variables);
    if let Some(sandbox) = &record.sandbox {
        suite.add_property(Property::new("sandbox", sandbox.as_str()));
    }
    suite.add_test_cases(record.cases.iter().map(|case| test_case(record, &label, case)));
    suite
}

fn test_case(record: &RunRecord, label: &str, case: &Case) -> TestCase {
    let mut test = TestCase::new(case.title(), status(record, case));
    test.set_classname(format!("{label}.{}", case.kind.as_str()));
    if case.elapsed > Duration::ZERO {
        test.set_time(case.elapsed);
    }
    if !case.stdout.is_empty() {
        test.set_system_out(XmlString::new(&case.stdout));
    }
    if !case.stderr.is_empty() {
        test.set_system_err(XmlString::new(&case.stderr));
    }
    test
}

/// A case that failed is a failure; a case that was interrupted is an error.
fn status(record: &RunRecord, case: &Case) -> TestCaseStatus {
    let problem = |kind, message: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(message).set_type(case.kind.as_str());
        status
    };
    match &case.outcome {
        CaseOutcome::Passed => TestCaseStatus::success(),
        CaseOutcome::Failed { message } => problem(NonSuccessKind::Failure, message),
        CaseOutcome::Interrupted { message } => problem(NonSuccessKind::Error, message),
        CaseOutcome::Running => problem(NonSuccessKind::Error, UNFINISHED),
        CaseOutcome::NotRun if is_cut_off(record, case) => problem(NonSuccessKind::Error, UNFINISHED),
        CaseOutcome::NotRun => TestCaseStatus::skipped(),
    }
}

/// Whether a command did not run because its run was killed during the build.
fn is_cut_off(record: &RunRecord, case: &Case) -> bool {
    record.end == RunEnd::Running && case.kind == CaseKind::Command
}

#[cfg(test)]
mod tests {
    use super::super::test_records;
    use super::*;

    #[test]
    fn each_run_is_a_suite_and_each_part_a_case() {
        let records = [test_records::passed(), test_records::failed(), test_records::killed()];
        insta::assert_snapshot!(junit(&records).unwrap());
    }

    #[test]
    fn a_run_that_was_killed_while_it_was_built_is_an_error() {
        let record = RunRecord::new(Vec::new(), "npm test".to_owned(), test_records::passed().began);
        let report = junit(&[record]).unwrap();
        assert!(report.contains(r#"<error message="the run was killed before this ended""#), "{report}");
    }
}
