//! Pages of long output. The rest of an output is kept under a cursor until newer ones displace it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::reply::{ErrorReply, Reply};
use crate::cli::Failure;

/// The size of a page in bytes: about 4,000 tokens.
pub(super) const PAGE: usize = 16 * 1024;
/// How many bytes of output are kept in all.
const MOST_BYTES: usize = 32 << 20;
/// How many cursors are kept.
const MOST_CURSORS: usize = 256;

/// How far logs were read.
#[derive(Debug, Clone, Default)]
pub(super) struct LogCursor {
    pub sandbox: String,
    pub services: Vec<String>,
    /// For each container the time of the last line, and the number of lines with that time.
    pub read: BTreeMap<String, (Timestamp, usize)>,
}

/// What a cursor continues.
#[derive(Debug, Clone)]
pub(super) enum Rest {
    /// The rest of an output, and where it came from.
    Text { source: String, text: String },
    /// Logs after a position.
    Logs(LogCursor),
}

impl Rest {
    fn size(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Logs(_) => 0,
        }
    }
}

/// The cursors of a server.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    rests: VecDeque<(String, Rest)>,
}

impl Pages {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a rest and returns its cursor.
    pub fn keep(&self, rest: Rest) -> String {
        let mut kept = self.kept();
        kept.next += 1;
        let cursor = format!("c{}", kept.next);
        kept.rests.push_back((cursor.clone(), rest));
        while kept.rests.len() > MOST_CURSORS
            || kept.rests.len() > 1
                && kept.rests.iter().map(|(_, rest)| rest.size()).sum::<usize>() > MOST_BYTES
        {
            kept.rests.pop_front();
        }
        cursor
    }

    /// What a cursor continues.
    ///
    /// # Errors
    /// Fails if there is no such cursor, or no longer.
    pub fn find(&self, cursor: &str) -> Result<Rest, ErrorReply> {
        let found = self.kept().rests.iter().find(|(known, _)| known == cursor).map(|(_, rest)| rest.clone());
        found.ok_or_else(|| {
            let hint = "a cursor comes from an earlier reply, and old ones are forgotten: repeat the call";
            Failure::usage(format!("there is no cursor `{cursor}`"), Some(hint.to_owned())).into()
        })
    }

    /// A reply with the first page of a text; a longer text gets a cursor.
    pub fn reply(&self, mut facts: serde_json::Value, source: &str, text: &str) -> Reply {
        let (page, rest) = split(text);
        if !rest.is_empty() {
            let rest = Rest::Text { source: source.to_owned(), text: rest.to_owned() };
            facts["bytes_left"] = rest.size().into();
            facts["cursor"] = self.keep(rest).into();
        }
        Reply::new(facts).with_untrusted(source, page)
    }
}

/// The first page and the rest; a page ends with a line where it can.
fn split(text: &str) -> (&str, &str) {
    if text.len() <= PAGE {
        return (text, "");
    }
    let end = (0..=PAGE).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let end = text[..end].rfind('\n').map_or(end, |line| line + 1);
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_make_up_the_whole_text() {
        let lines: Vec<String> = (0..5000).map(|line| format!("line {line} ü\n")).collect();
        let text = lines.concat();
        let (mut rest, mut read) = (text.as_str(), String::new());
        while !rest.is_empty() {
            let (page, more) = split(rest);
            assert!(!page.is_empty() && page.len() <= PAGE);
            read.push_str(page);
            rest = more;
        }
        assert_eq!(read, text);
        let (page, rest) = split("ü".repeat(PAGE).leak());
        assert_eq!((page.len(), rest.len()), (PAGE, PAGE));
    }

    #[test]
    fn a_cursor_is_found_until_newer_ones_displace_it() {
        let pages = Pages::default();
        let text = |text: &str| Rest::Text { source: "a".to_owned(), text: text.to_owned() };
        let first = pages.keep(text("one"));
        assert!(matches!(pages.find(&first), Ok(Rest::Text { text, .. }) if text == "one"));
        for _ in 0..MOST_CURSORS {
            pages.keep(text("more"));
        }
        assert!(pages.find(&first).is_err());
    }
}
