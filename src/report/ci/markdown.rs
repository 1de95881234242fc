//! The Markdown summary: a table of the runs, the parts of a single run, and the end of the output of what failed.

use std::fmt::Write as _;

use super::record::{Case, CaseOutcome, RunRecord};
use crate::report::amount;
use crate::report::style::{Colour, harmless};

/// Lines of output that are shown for a part that failed.
const LINES: usize = 40;
/// Bytes after which no more output is shown. GitHub refuses a summary of more than one MiB.
const ENOUGH: usize = 600 << 10;

/// The summary of these runs.
pub fn markdown(records: &[RunRecord]) -> String {
    let passed = records.iter().filter(|record| record.passed()).count();
    let mark = if passed == records.len() { "✅" } else { "❌" };
    let mut text = match records {
        [record] => format!("### {mark} sandbox run: {}\n\n", cell(&record.result())),
        _ => format!("### {mark} sandbox run: {passed} of {} passed\n\n", records.len()),
    };
    match records {
        [record] => parts(&mut text, record),
        _ => runs(&mut text, records),
    }
    for record in records {
        for (case, problem) in record.problems() {
            details(&mut text, record, case, problem);
        }
    }
    text
}

/// Writing to a string does not fail.
macro_rules! put {
    ($text:expr, $($argument:tt)*) => { let _ = writeln!($text, $($argument)*); };
}

fn runs(text: &mut String, records: &[RunRecord]) {
    put!(text, "| | Entry | Result | Time | Failed |");
    put!(text, "| --- | --- | --- | ---: | --- |");
    for record in records {
        let mark = if record.passed() { "✅" } else { "❌" };
        let failed: Vec<String> = record.problems().iter().map(|(case, _)| cell(&case.title())).collect();
        put!(
            text,
            "| {mark} | {} | {} | {} | {} |",
            cell(&record.label()),
            cell(&record.result()),
            amount::duration(record.elapsed),
            failed.join(", "),
        );
    }
    text.push('\n');
}

fn parts(text: &mut String, record: &RunRecord) {
    put!(text, "| | Part | Time |");
    put!(text, "| --- | --- | ---: |");
    for case in &record.cases {
        let failed = record.problems().iter().any(|(other, _)| std::ptr::eq(*other, case));
        let mark = match &case.outcome {
            _ if failed => "❌",
            CaseOutcome::Passed => "✅",
            _ => "➖",
        };
        put!(text, "| {mark} | {} | {} |", cell(&case.title()), amount::duration(case.elapsed));
    }
    text.push('\n');
}

/// What failed, with the end of its output folded away.
fn details(text: &mut String, record: &RunRecord, case: &Case, problem: &str) {
    let title = format!("{}: {}: {problem}", record.label(), case.title());
    let output = [&case.stdout, &case.stderr].map(|part| last_lines(part)).join("");
    if output.is_empty() || text.len() + output.len() > ENOUGH {
        put!(text, "- {}", cell(&title));
        return;
    }
    let fence = fence(&output);
    put!(
        text,
        "<details><summary>{}</summary>\n\n{fence}text\n{output}{fence}\n\n</details>\n",
        html(&title)
    );
}

/// The last lines of an output without control sequences, each with its line ending.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let clean = last.iter().map(|line| harmless(line, Colour::Off) + "\n");
    clean.collect()
}

/// A fence that the output does not contain.
fn fence(output: &str) -> String {
    let longest = output.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(longest.max(2) + 1)
}

/// Text in a cell of a table or in a list.
fn cell(text: &str) -> String {
    html(text).replace('|', "\\|")
}

fn html(text: &str) -> String {
    let line = text.lines().map(|line| harmless(line, Colour::Off)).collect::<Vec<_>>().join(" ");
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::test_records;
    use super::*;

    #[test]
    fn a_matrix_is_a_table_and_what_failed_is_below_it() {
        let records = [test_records::passed(), test_records::failed(), test_records::killed()];
        insta::assert_snapshot!(markdown(&records));
    }

    #[test]
    fn a_single_run_shows_its_parts() {
        insta::assert_snapshot!(markdown(&[test_records::passed()]));
    }

    #[test]
    fn a_summary_stays_below_what_github_takes() {
        let mut record = test_records::failed();
        if let Some(command) = record.cases.last_mut() {
            command.stdout = format!("{}\n", "x".repeat(20_000)).repeat(LINES);
        }
        let records = vec![record; 8];
        assert!(markdown(&records).len() < 1 << 20);
    }
}
