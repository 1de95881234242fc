//! Reads a mapping key by key with typed accessors, and reports keys that were not read as unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::super::model::Json;
use super::super::nearest;
use super::super::node::{Map, Node, Span, Value};
use super::super::problem::ProblemKind;
use super::super::units;
use crate::spec::diagnostics::Log;

/// A mapping that is being read.
pub(in crate::spec) struct Fields<'a> {
    pub log: &'a Log,
    pub map: &'a Map,
    pub span: Span,
    /// What it describes, for messages: "service `web`".
    pub what: String,
    seen: RefCell<Vec<&'static str>>,
}

static NOTHING: Map = Map { entries: Vec::new() };

impl<'a> Fields<'a> {
    /// Wraps a node that must be a mapping; null counts as an empty one.
    pub fn of(log: &'a Log, node: &'a Node, what: impl Into<String>) -> Option<Self> {
        let what = what.into();
        let map = match &node.value {
            Value::Map(map) => map,
            Value::Null => &NOTHING,
            _ => {
                let message = format!("{what} must be a mapping, this is {}", node.kind());
                log.problem(ProblemKind::Type, node.span, message);
                return None;
            }
        };
        Some(Self { log, map, span: node.span, what, seen: RefCell::default() })
    }

    /// A key's value, unless it is absent or null.
    pub fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.seen.borrow_mut().push(key);
        self.map.get(key).filter(|node| !node.is_null())
    }

    /// The location of a key, otherwise of the whole mapping.
    pub fn key_span(&self, key: &str) -> Span {
        self.map.entry(key).map_or(self.span, |entry| entry.span)
    }

    /// The location of a key's value, otherwise of the whole mapping.
    pub fn value_span(&self, key: &str) -> Span {
        self.map.get(key).map_or(self.span, |node| node.span)
    }

    fn wrong(&self, key: &str, node: &Node, wanted: &str) {
        let message = format!("`{key}` of {} must be {wanted}, this is {}", self.what, node.kind());
        self.log.problem(ProblemKind::Type, node.span, message);
    }

    fn unread(&self, key: &str, node: &Node, wanted: &str, reason: &str) {
        let text = node.scalar().unwrap_or_default();
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let message = format!("`{text}` is not {wanted}{reason}");
        self.log.hinted(ProblemKind::Value, node.span, message, format!("it is `{key}` of {}", self.what));
    }

    /// A text, or a number converted to text.
    pub fn text(&self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            Value::Str(_) | Value::Int(_) | Value::Float(_) => node.scalar(),
            _ => {
                self.wrong(key, node, "text");
                None
            }
        }
    }

    /// A non-empty text: an empty one, such as `${UNSET:-}`, counts as absent, as in Compose.
    pub fn filled(&self, key: &'static str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// A text that must be one of these keywords.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let hint = nearest::hint(&text, words.iter().map(|(word, _)| *word));
        let message = format!("`{text}` is not a value of `{key}` of {}", self.what);
        self.log.hinted(ProblemKind::Value, self.map.get(key)?.span, message, hint);
        None
    }

    /// A boolean, or a keyword for one.
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Bool(b) => Some(*b),
            Value::Str(text) => {
                let flag = flag(text);
                if flag.is_none() {
                    self.unread(key, node, "`true` or `false`", "");
                }
                flag
            }
            _ => {
                self.wrong(key, node, "`true` or `false`");
                None
            }
        }
    }

    /// A whole number.
    pub fn int(&self, key: &'static str) -> Option<i64> {
        let node = self.node(key)?;
        match &node.value {
            Value::Int(n) => {
                let n = i64::try_from(*n).ok();
                if n.is_none() {
                    self.unread(key, node, "a whole number of 64 bits", "");
                }
                n
            }
            Value::Str(text) => {
                let n = text.trim().parse().ok();
                if n.is_none() {
                    self.unread(key, node, "a whole number", "");
                }
                n
            }
            Value::Float(_) => {
                self.unread(key, node, "a whole number", "");
                None
            }
            _ => {
                self.wrong(key, node, "a whole number");
                None
            }
        }
    }

    /// A whole number within a range.
    pub fn int_in<T: TryFrom<i64>>(&self, key: &'static str, bounds: &str) -> Option<T> {
        let n = self.int(key)?;
        let value = T::try_from(n).ok();
        if value.is_none() {
            self.unread(key, self.map.get(key)?, &format!("a number {bounds}"), "");
        }
        value
    }

    /// A number.
    pub fn number(&self, key: &'static str) -> Option<f64> {
        let node = self.node(key)?;
        #[expect(clippy::cast_precision_loss, reason = "numbers of processors and the like are small")]
        match &node.value {
            Value::Int(n) => Some(*n as f64),
            Value::Float(f) => Some(*f),
            Value::Str(text) => {
                let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
                if number.is_none() {
                    self.unread(key, node, "a number", "");
                }
                number
            }
            _ => {
                self.wrong(key, node, "a number");
                None
            }
        }
    }

    /// A size in bytes.
    pub fn size(&self, key: &'static str) -> Option<u64> {
        let node = self.node(key)?;
        let Some(text) = amount(node) else {
            self.wrong(key, node, "a size such as `64m`");
            return None;
        };
        match units::size(&text) {
            Ok(size) => Some(size),
            Err(reason) => {
                self.unread(key, node, "a size", &reason);
                None
            }
        }
    }

    /// A duration.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        let node = self.node(key)?;
        let Some(text) = amount(node) else {
            self.wrong(key, node, "a duration such as `30s`");
            return None;
        };
        match units::duration(&text) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                self.unread(key, node, "a duration", &reason);
                None
            }
        }
    }

    /// The items of a list.
    pub fn list(&self, key: &'static str) -> &'a [Node] {
        let Some(node) = self.node(key) else { return &[] };
        node.as_seq().unwrap_or_else(|| {
            self.wrong(key, node, "a list");
            &[]
        })
    }

    /// A list of texts; `None` if it is absent.
    pub fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        let Some(items) = node.as_seq() else {
            self.wrong(key, node, "a list");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            if let Some(text) = item.scalar() {
                texts.push(text);
            } else {
                let message = format!("`{key}` of {} lists texts, this is {}", self.what, item.kind());
                self.log.problem(ProblemKind::Type, item.span, message);
            }
        }
        Some(texts)
    }

    /// A mapping of texts; a value may be absent.
    pub fn pairs(&self, key: &'static str) -> BTreeMap<String, Option<String>> {
        let Some(node) = self.node(key) else { return BTreeMap::new() };
        let Some(map) = node.as_map() else {
            self.wrong(key, node, "a mapping or a list of `NAME=value`");
            return BTreeMap::new();
        };
        let mut pairs = BTreeMap::new();
        for entry in &map.entries {
            let value = &entry.value;
            if matches!(value.value, Value::Seq(_) | Value::Map(_)) {
                let message = format!(
                    "`{}` in `{key}` of {} must be text, this is {}",
                    entry.key,
                    self.what,
                    value.kind()
                );
                self.log.problem(ProblemKind::Type, value.span, message);
                continue;
            }
            pairs.insert(entry.key.clone(), value.scalar());
        }
        pairs
    }

    /// A mapping of texts; an absent value becomes empty.
    pub fn texts_by_name(&self, key: &'static str) -> BTreeMap<String, String> {
        self.pairs(key).into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
    }

    /// The mapping at a key.
    pub fn inner(&self, key: &'static str) -> Option<Fields<'a>> {
        let node = self.node(key)?;
        Fields::of(self.log, node, format!("`{key}` of {}", self.what))
    }

    /// Extension keys (`x-…`) except ours.
    pub fn extensions(&self) -> BTreeMap<String, Json> {
        let free = |key: &str| key.starts_with("x-") && key != "x-sandbox";
        let entries = self.map.entries.iter().filter(|entry| free(&entry.key));
        entries.map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
    }

    /// Reports keys that were not read. `elsewhere` says where a known keyword belongs.
    pub fn finish_with(self, elsewhere: &[(&str, &str)]) {
        let seen = self.seen.into_inner();
        for entry in &self.map.entries {
            let key = entry.key.as_str();
            if key.starts_with("x-") || seen.contains(&key) {
                continue;
            }
            let message = format!("`{key}` is not a key of {}", self.what);
            let hint = match elsewhere.iter().find(|(word, _)| *word == key) {
                Some((_, place)) => (*place).to_owned(),
                None => nearest::hint(key, seen.iter().copied()),
            };
            self.log.hinted(ProblemKind::UnknownKey, entry.span, message, hint);
        }
    }

    /// Reports keys that were not read as unknown.
    pub fn finish(self) {
        self.finish_with(&[]);
    }
}

/// The text of a size or a duration: a number without an exponent, or a text.
fn amount(node: &Node) -> Option<String> {
    match &node.value {
        Value::Bool(_) => None,
        Value::Float(number) => Some(number.to_string()),
        _ => node.scalar(),
    }
}

/// Parses a keyword for a boolean.
pub(in crate::spec) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}
