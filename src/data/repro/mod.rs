//! A command that shows a bug: stored beside the data of a snapshot with its result, and compared with a later run.

mod normalize;

use serde::{Deserialize, Serialize};

use crate::spec::ServiceName;
use normalize::normalized;

/// Bytes of each stream that are kept. A failure is identified by its last lines.
const KEPT_BYTES: usize = 8 << 10;

/// A command and the result that it had when the snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repro {
    /// The command, for `sh -c`.
    pub command: String,
    /// The service that it runs in; the user's machine without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Its result.
    pub result: CommandResult,
}

impl Repro {
    /// The words that run the command.
    pub fn words(&self) -> [String; 3] {
        words(&self.command)
    }

    /// The command and where it runs, for messages.
    pub fn title(&self) -> String {
        let place = self.service.as_ref().map(|service| format!(" in `{service}`")).unwrap_or_default();
        format!("`{}`{place}", self.command)
    }
}

/// The words that run a command line.
pub fn words(command: &str) -> [String; 3] {
    ["sh", "-c", command].map(str::to_owned)
}

/// How a command ended, and what it printed last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// Its exit code.
    pub exit_code: i32,
    /// The end of its standard output.
    #[serde(default)]
    pub stdout: OutputEnd,
    /// The end of its standard error.
    #[serde(default)]
    pub stderr: OutputEnd,
}

/// The end of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEnd {
    /// Its last lines.
    pub text: String,
    /// Whether earlier lines are missing.
    #[serde(default)]
    pub is_cut: bool,
}

impl OutputEnd {
    /// The end of `text`, in whole lines.
    pub fn of(text: &str) -> Self {
        if text.len() <= KEPT_BYTES {
            return Self { text: text.to_owned(), is_cut: false };
        }
        let mut at = text.len() - KEPT_BYTES;
        while !text.is_char_boundary(at) {
            at += 1;
        }
        let end = &text[at..];
        let whole = end.split_once('\n').map_or(end, |(_, rest)| rest);
        Self { text: whole.to_owned(), is_cut: true }
    }

    /// The first line in which a later output differs, as recorded and as it is now.
    fn difference(&self, now: &Self) -> Option<[Option<String>; 2]> {
        let (recorded, current) = (normalized(&self.text), normalized(&now.text));
        let (mut old, mut new) = (recorded.as_slice(), current.as_slice());
        if self.is_cut || now.is_cut {
            // Both end at the same place; how far back they reach depends on the length of their lines.
            let common = old.len().min(new.len());
            (old, new) = (&old[old.len() - common..], &new[new.len() - common..]);
        }
        let at = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let lines = [old.get(at).cloned(), new.get(at).cloned()];
        lines.iter().any(Option::is_some).then_some(lines)
    }
}

/// One difference between two results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs: `exit code`, `standard output` or `standard error`.
    pub what: &'static str,
    /// Its value when the snapshot was taken; `None` if the line did not exist.
    pub recorded: Option<String>,
    /// Its value now.
    pub now: Option<String>,
}

impl CommandResult {
    /// How a later result differs from this one. Times, durations, addresses and generated names do not count.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self.exit_code != now.exit_code {
            let [recorded, now] = [self, now].map(|result| Some(result.exit_code.to_string()));
            differences.push(Difference { what: "exit code", recorded, now });
        }
        let streams =
            [("standard output", &self.stdout, &now.stdout), ("standard error", &self.stderr, &now.stderr)];
        for (what, old, new) in streams {
            if let Some([recorded, now]) = old.difference(new) {
                differences.push(Difference { what, recorded, now });
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32, stdout: &str, stderr: &str) -> CommandResult {
        CommandResult { exit_code, stdout: OutputEnd::of(stdout), stderr: OutputEnd::of(stderr) }
    }

    #[test]
    fn the_same_failure_at_another_time_is_the_same() {
        let recorded = result(1, "2026-11-30T20:31:48Z FAIL after 0.53s\n", "at 10.0.0.2:5432\n");
        let now = result(1, "2027-01-02T01:02:03Z FAIL after 12.1s\n", "at 172.20.1.7:5432\n\n");
        assert_eq!(recorded.differences(&now), []);
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let differences = result(1, "total 3\nFAIL\n", "").differences(&result(0, "total 4\nFAIL\n", "x\n"));
        let text = |difference: &Difference| {
            format!("{}: {:?} {:?}", difference.what, difference.recorded, difference.now)
        };
        let shown: Vec<String> = differences.iter().map(text).collect();
        assert_eq!(
            shown,
            [
                r#"exit code: Some("1") Some("0")"#,
                r#"standard output: Some("total 3") Some("total 4")"#,
                r#"standard error: None Some("x")"#
            ]
        );
    }

    #[test]
    fn of_long_output_the_end_counts() {
        let lines = |word: &str| format!("{word} of a line\n").repeat(2000);
        let (long, longer) = (lines("row"), format!("before\n{}", lines("row")));
        let kept = OutputEnd::of(&long);
        assert!(
            kept.is_cut && kept.text.len() <= KEPT_BYTES && kept.text.starts_with("row "),
            "{}",
            kept.text
        );
        assert_eq!(result(1, &long, "").differences(&result(1, &longer, "")), []);
        assert_eq!(result(1, &long, "").differences(&result(1, &format!("{long}end\n"), "")).len(), 1);
    }

    #[test]
    fn a_stored_repro_reads_back() {
        let service = Some(ServiceName::new("web").unwrap());
        let repro = Repro { command: "make check".to_owned(), service, result: result(2, "no\n", "") };
        let json = serde_json::to_value(&repro).unwrap();
        assert_eq!(serde_json::from_value::<Repro>(json).unwrap(), repro);
        assert_eq!(repro.title(), "`make check` in `web`");
    }
}
