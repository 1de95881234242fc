//! The faults that a test can inject into calls.

use crate::engine::ErrorKind;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not executed and returns an error.
    Refuse(ErrorKind),
    /// It is executed, but the caller gets an error.
    LoseAnswer,
    /// The caller gets an error immediately, and the call is executed some calls later.
    Late {
        /// The number of calls until it is executed.
        calls: usize,
    },
    /// It is not executed and never returns.
    Stall,
    /// It is executed and never returns.
    StallDone,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    rules: Vec<(When, Fault)>,
}

#[derive(Debug)]
enum When {
    At(usize),
    From(usize),
    Matching { words: String, times: usize },
}

impl Plan {
    pub(super) fn at(&mut self, n: usize, fault: Fault) {
        self.rules.push((When::At(n), fault));
    }

    pub(super) fn from(&mut self, n: usize, fault: Fault) {
        self.rules.push((When::From(n), fault));
    }

    pub(super) fn when(&mut self, words: &str, times: usize, fault: Fault) {
        self.rules.push((When::Matching { words: words.to_owned(), times }, fault));
    }

    pub(super) fn fault(&mut self, number: usize, line: &str) -> Option<Fault> {
        let (when, fault) = self.rules.iter_mut().find(|(when, _)| match when {
            When::At(n) => *n == number,
            When::From(n) => *n <= number,
            When::Matching { words, times } => *times > 0 && line.contains(words.as_str()),
        })?;
        if let When::Matching { times, .. } = when {
            *times -= 1;
        }
        Some(*fault)
    }
}
