//! Replaces what differs between two runs of the same command: times, durations, addresses, generated names.

use std::sync::LazyLock;

use regex::Regex;

/// What is replaced, in this order. A rule must not match a plain number, which may be the failure itself.
const RULES: &[(&str, &str)] = &[
    // Colours and other control sequences.
    (r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", ""),
    (r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b", "<uuid>"),
    // 2026-11-30T20:31:48.123+01:00, 2026/11/30 20:31:48, 2026-11-30
    (
        r"\b\d{4}[-/]\d{2}[-/]\d{2}(?:[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?: ?(?:Z\b|UTC\b|[+-]\d{2}:?\d{2}\b))?)?",
        "<time>",
    ),
    // 30/Nov/2026:20:31:48 +0000
    (r"\b\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2}(?: [+-]\d{4})?", "<time>"),
    // Mon Nov 30 20:31:48 UTC 2026, Nov 30 20:31:48
    (
        r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} \d{2}:\d{2}:\d{2}(?: [A-Z]{2,5})?(?: \d{4})?",
        "<time>",
    ),
    (r"\b\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?\b", "<time>"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b", "<address>"),
    (r"\[[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*\](?::\d{1,5})?", "<address>"),
    (r"\blocalhost:\d{1,5}\b", "localhost:<port>"),
    (r"\b(?:\d+h ?)?(?:\d+m ?)?\d+(?:[.,]\d+)? ?(?:ns|µs|us|ms|s|secs?|seconds?|minutes?)\b", "<duration>"),
    (r"\b0x[0-9a-fA-F]{6,16}\b", "<pointer>"),
    // The host name of a container.
    (r"\b[0-9a-f]{12}\b", "<id>"),
    (r"\bsbx-[A-Za-z0-9_-]+", "<sandbox>"),
    (r"(?i)\bpid[ =:]*\d+", "pid <number>"),
    (r"([A-Za-z])\[\d+\]:", "$1[<pid>]:"),
    (r"/tmp/[A-Za-z0-9._-]+", "/tmp/<name>"),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    RULES.iter().filter_map(|(pattern, to)| Some((Regex::new(pattern).ok()?, *to))).collect()
});

/// The lines of a text without what differs between runs, and without empty lines at the end.
pub(super) fn normalized(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(line).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn line(text: &str) -> String {
    // A line that was redrawn, as progress bars are: its last state.
    let shown = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let replaced = COMPILED.iter().fold(shown.to_owned(), |text, (pattern, to)| {
        // Most lines match no rule, and are not copied.
        match pattern.replace_all(&text, *to) {
            std::borrow::Cow::Borrowed(_) => text,
            std::borrow::Cow::Owned(replaced) => replaced,
        }
    });
    replaced.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_a_valid_pattern() {
        assert_eq!(COMPILED.len(), RULES.len());
    }

    #[test]
    fn what_differs_between_runs_is_replaced() {
        for (before, after) in [
            ("2026-11-30 20:31:48.123 UTC [42] LOG", "<time> [42] LOG"),
            ("2026/11/30 20:31:48 listening", "<time> listening"),
            ("Mon Nov 30 20:31:48 UTC 2026", "<time>"),
            ("30/Nov/2026:20:31:48 +0000", "<time>"),
            ("20:31:48,5 start", "<time> start"),
            ("took 1m 3.5s", "took <duration>"),
            ("in 12 ms", "in <duration>"),
            ("dial tcp 10.1.2.3:5432: refused", "dial tcp <address>: refused"),
            ("http://[::1]:8080/", "http://<address>/"),
            ("http://localhost:32768/x", "http://localhost:<port>/x"),
            ("at 0x7ffd5e8a", "at <pointer>"),
            ("\x1b[31mFAIL\x1b[0m", "FAIL"),
            ("sbx-shop-run-1.web", "<sandbox>.web"),
            ("postgres[123]: bad", "postgres[<pid>]: bad"),
            ("/tmp/tmp.Xa81 is gone", "/tmp/<name> is gone"),
            ("50 %\r100 %\r", "100 %"),
        ] {
            assert_eq!(line(before), after, "{before}");
        }
    }

    #[test]
    fn what_may_be_the_failure_stays() {
        for text in [
            "expected 3, got 4",
            "rows[12] is null",
            "version 1.2.3",
            "error 12345",
            "HTTP 500",
            "total: 17.50",
        ] {
            assert_eq!(line(text), text);
        }
    }
}
