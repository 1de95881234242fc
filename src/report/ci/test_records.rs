//! Records that the tests of the reports share.

use std::time::Duration;

use jiff::Timestamp;

use super::record::{Case, CaseKind, CaseOutcome, RunEnd, RunRecord, Variable};

fn variable(value: &str) -> Variable {
    Variable { name: "PG".to_owned(), value: value.to_owned() }
}

fn case(kind: CaseKind, name: &str, seconds: u64, outcome: CaseOutcome) -> Case {
    Case { elapsed: Duration::from_secs(seconds), ..Case::new(kind, name, outcome) }
}

/// An entry that passed.
pub(crate) fn passed() -> RunRecord {
    RunRecord {
        variables: vec![variable("15")],
        sandbox: Some("shop-main-run-1".to_owned()),
        began: Timestamp::from_second(1_793_000_000).unwrap(),
        elapsed: Duration::from_secs(9),
        cases: vec![
            case(CaseKind::Seed, "db: orders.sql", 2, CaseOutcome::Passed),
            case(CaseKind::Readiness, "db", 3, CaseOutcome::Passed),
            case(CaseKind::Command, "npm test", 4, CaseOutcome::Passed),
        ],
        end: RunEnd::Exited { code: 0 },
    }
}

/// An entry whose command failed, with output that a report has to escape.
pub(crate) fn failed() -> RunRecord {
    let failed = CaseOutcome::Failed { message: "exited with 3".to_owned() };
    let mut command = case(CaseKind::Command, "npm test", 4, failed);
    command.stdout = "1 | ok\n\u{1b}[31mnot ok\u{1b}[0m <b> & ```\n\u{0}".to_owned();
    command.stderr = "3 of 40 failed\n".to_owned();
    RunRecord {
        variables: vec![variable("16|17")],
        sandbox: Some("shop-main-run-2".to_owned()),
        cases: vec![case(CaseKind::Readiness, "db", 3, CaseOutcome::Passed), command],
        end: RunEnd::Exited { code: 3 },
        ..passed()
    }
}

/// An entry whose process was killed while its command ran.
pub(crate) fn killed() -> RunRecord {
    RunRecord {
        variables: vec![variable("18")],
        cases: vec![
            case(CaseKind::Readiness, "db", 3, CaseOutcome::Passed),
            case(CaseKind::Command, "npm test", 0, CaseOutcome::Running),
        ],
        end: RunEnd::Running,
        ..passed()
    }
}
