//! A YAML tree whose nodes know their source locations.

use serde_json::Value as Json;

/// The location of a node: the number of its file, the byte offset, line and column (from 1), and its length in
/// characters on that line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub file: u32,
    pub offset: u32,
    pub line: u32,
    pub column: u32,
    pub length: u32,
}

/// A node with its location and its merge tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub span: Span,
    pub tag: Option<MergeTag>,
}

/// Compose's tags for merging files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MergeTag {
    /// `!reset`: discards the value of earlier files.
    Reset,
    /// `!override`: replaces the value of earlier files.
    Override,
}

/// The value of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A whole number between the least `i64` and the largest `u64`, like in Compose's parser.
    Int(i128),
    Float(f64),
    Str(String),
    Seq(Vec<Node>),
    Map(Map),
}

/// A mapping in source order, with unique keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Map {
    pub entries: Vec<Entry>,
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub span: Span,
    pub value: Node,
}

impl Map {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Inserts an entry, replacing one with the same key.
    pub fn insert(&mut self, key: &str, span: Span, value: Node) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => {
                entry.value = value;
                entry.span = span;
            }
            None => self.entries.push(Entry { key: key.to_owned(), span, value }),
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }
}

impl Node {
    pub fn new(value: Value, span: Span) -> Self {
        Self { value, span, tag: None }
    }

    pub fn str(text: impl Into<String>, span: Span) -> Self {
        Self::new(Value::Str(text.into()), span)
    }

    pub fn map(entries: Vec<Entry>, span: Span) -> Self {
        Self::new(Value::Map(Map { entries }), span)
    }

    /// Converts a JSON value; the nodes have no location.
    pub fn of_json(json: Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(flag),
            Json::Number(number) => match number.as_i128() {
                Some(n) => Value::Int(n),
                None => number.as_f64().map_or_else(|| Value::Str(number.to_string()), Value::Float),
            },
            Json::String(text) => Value::Str(text),
            Json::Array(items) => Value::Seq(items.into_iter().map(Self::of_json).collect()),
            Json::Object(map) => {
                let entry = |(key, value)| Entry { key, span: Span::default(), value: Self::of_json(value) };
                Value::Map(Map { entries: map.into_iter().map(entry).collect() })
            }
        };
        Self::new(value, Span::default())
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Whether it is null, an empty text or an empty collection, perhaps one in another.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Str(text) => text.is_empty(),
            Value::Seq(items) => items.iter().all(Self::is_empty),
            Value::Map(map) => map.entries.is_empty(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_seq(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Seq(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar's text in Compose's notation; `None` for null and collections.
    pub fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Bool(b) => Some(b.to_string()),
            Value::Int(n) => Some(n.to_string()),
            Value::Float(f) => Some(float_text(*f)),
            Value::Str(text) => Some(text.clone()),
            Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// The type, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Str(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The location of the key at the end of a path of keys.
    pub fn key_span(&self, path: &[&str]) -> Option<Span> {
        let (last, before) = path.split_last()?;
        let mut node = self;
        for key in before {
            node = node.as_map()?.get(key)?;
        }
        Some(node.as_map()?.entry(last)?.span)
    }

    /// Converts the whole tree to JSON.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => i64::try_from(*n).map_or_else(|_| u64::try_from(*n).ok().into(), Json::from),
            Value::Float(f) => Json::from(*f),
            Value::Str(text) => Json::String(text.clone()),
            Value::Seq(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(map) => {
                Json::Object(map.entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect())
            }
        }
    }
}

/// Formats a number like Compose (Go's `%v`): an exponent below 1e-4 and from 1e6 on.
pub(super) fn float_text(f: f64) -> String {
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = f.abs();
    if size != 0.0 && f.is_finite() && !(1e-4..1e6).contains(&size) {
        let text = format!("{f:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{f}")
}
