//! Stands in for variables that are not resolved, while the files around them are merged.
//!
//! An expression such as `${DATA:-./data}` has characters that short forms are split at. A placeholder has none; it is
//! replaced by its expression at the end.

use std::cell::RefCell;
use std::fmt::Write as _;

use serde_json::Value as Json;

use super::node::{Node, Value};

/// Around the number of an expression; characters for private use, which no spec has a use for.
const OPEN: char = '\u{e0f0}';
const CLOSE: char = '\u{e0f1}';

/// Whether a text has a placeholder.
pub(super) fn is_in(text: &str) -> bool {
    text.contains(OPEN)
}

/// The expressions that placeholders stand for, by their number.
#[derive(Debug, Default)]
pub(super) struct Placeholders(RefCell<Vec<String>>);

impl Placeholders {
    /// Replaces each expression below a node by a placeholder; keys are not interpolated and stay.
    pub fn hide(&self, node: &mut Node) {
        match &mut node.value {
            Value::Seq(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Map(map) => map.entries.iter_mut().for_each(|entry| self.hide(&mut entry.value)),
            Value::Str(text) if text.contains('$') => *text = self.hidden(text),
            _ => {}
        }
    }

    fn hidden(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('$') {
            let length = expression(&rest[at..]);
            let mut all = self.0.borrow_mut();
            out.push_str(&rest[..at]);
            // Writing to a string does not fail.
            let _ = write!(out, "{OPEN}{}{CLOSE}", all.len());
            all.push(rest[at..at + length].to_owned());
            rest = &rest[at + length..];
        }
        out + rest
    }

    /// Puts the expressions back.
    pub fn restore(&self, value: Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.restored(&text)),
            Json::Array(items) => Json::Array(items.into_iter().map(|item| self.restore(item)).collect()),
            Json::Object(map) => {
                let entries = map.into_iter().map(|(key, value)| (self.restored(&key), self.restore(value)));
                Json::Object(entries.collect())
            }
            other => other,
        }
    }

    fn restored(&self, text: &str) -> String {
        let all = self.0.borrow();
        let mut parts = text.split(OPEN);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, rest) = part.split_once(CLOSE).unwrap_or(("", part));
            let expression = number.parse::<usize>().ok().and_then(|number| all.get(number));
            out.push_str(expression.map_or("", String::as_str));
            out.push_str(rest);
        }
        out
    }
}

/// The length of the expression at the start of a text, which begins with `$`.
fn expression(text: &str) -> usize {
    if text.starts_with("$$") {
        return 2;
    }
    if !text.starts_with("${") {
        let name = text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        return name.map_or(text.len(), |end| end + 1);
    }
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::node::Span;

    #[test]
    fn an_expression_has_nothing_to_split_at_and_comes_back_as_it_was() {
        let texts = ["${DATA:-./a}:/b", "$A:$B", "a$$b:${C:-${D:-x}}", "${E", "no:variable", "$"];
        for text in texts {
            let placeholders = Placeholders::default();
            let mut node = Node::str(text, Span::default());

            placeholders.hide(&mut node);

            let hidden = node.scalar().unwrap();
            assert!(!hidden.contains('$'), "{hidden}");
            assert_eq!(placeholders.restore(node.to_json()), text);
        }
        let hidden = Placeholders::default().hidden("${DATA:-./a}:/b");
        assert_eq!(hidden.split(':').count(), 2);
    }
}
