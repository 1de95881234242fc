//! Parses YAML into trees with source locations; resolves anchors, aliases and `<<`, rejects duplicate keys and alias
//! bombs.

mod file;
mod scalar;

use std::collections::HashMap;

use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, Tag};

use super::diagnostics::Log;
use super::node::{Entry, Map, MergeTag, Node, Span, Value};
use super::problem::ProblemKind;

pub(super) use file::read;
use scalar::resolve;

/// Maximum number of nodes of a file after its aliases are expanded.
const MAX_NODES: usize = 250_000;

/// Maximum nesting of collections: the tree is traversed recursively.
const MAX_DEPTH: usize = 100;
/// Maximum number of entries of one list or mapping.
const MAX_ENTRIES: usize = 10_000;

/// Parses a text, which `log` knows as number `file`, into its documents. If the text is invalid, reports the error
/// and returns no documents.
pub(super) fn parse(log: &Log, file: u32, text: &str) -> Vec<Node> {
    let mut builder = Builder {
        log,
        file,
        text,
        anchors: HashMap::new(),
        open: Vec::new(),
        documents: Vec::new(),
        nodes: 0,
    };
    // A byte order mark is not part of the document; `skipped` corrects the offsets.
    let parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    let skipped = text.len() - text.trim_start_matches('\u{feff}').len();
    for event in parser {
        match event {
            Ok((event, span)) => {
                let span = builder.span(span, skipped);
                if builder.take(event, span).is_err() {
                    return Vec::new();
                }
            }
            Err(error) => {
                builder.syntax(&error, skipped);
                return Vec::new();
            }
        }
    }
    builder.documents
}

/// Parsing cannot continue; the reason was reported.
struct Stop;

/// A collection whose end has not been reached.
struct Open {
    anchor: usize,
    node: Node,
    /// The key that is waiting for its value.
    key: Option<(String, Span, bool)>,
    merges: Vec<Node>,
}

struct Builder<'a> {
    log: &'a Log,
    file: u32,
    text: &'a str,
    anchors: HashMap<usize, (Node, usize)>,
    open: Vec<Open>,
    documents: Vec<Node>,
    nodes: usize,
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Builder<'_> {
    fn span(&self, span: granit_parser::Span, skipped: usize) -> Span {
        let offset = span.byte_range().map_or(0, |range| range.start) + skipped;
        let end = span.byte_range().map_or(offset, |range| range.end + skipped);
        let shown = self.text.get(offset..end.max(offset)).unwrap_or_default();
        let line = shown.lines().next().unwrap_or_default().trim_end();
        Span {
            file: self.file,
            offset: narrow(offset),
            line: narrow(span.start.line()),
            column: narrow(span.start.col() + 1),
            length: narrow(line.chars().count()).max(1),
        }
    }

    fn syntax(&self, error: &granit_parser::ScanError, skipped: usize) {
        let mark = error.marker();
        let offset = mark.byte_offset().unwrap_or(0) + skipped;
        let span = Span {
            file: self.file,
            offset: narrow(offset.min(self.text.len())),
            line: narrow(mark.line()),
            column: narrow(mark.col() + 1),
            length: 1,
        };
        let info = error.info();
        let info = info.split(" at byte").next().unwrap_or(&info).trim_end_matches('.');
        let hint = if self.text.lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
            "YAML is indented with spaces; this file has tabs"
        } else {
            "check the indentation and quotes on this line and the one above"
        };
        self.log.hinted(ProblemKind::Syntax, span, format!("not valid YAML: {info}"), hint);
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = self.tag(tag.as_deref(), span);
                let forced = matches!(tag, Tagged::Text);
                let value = if plain && !forced { resolve(&text) } else { Value::Str(text.into_owned()) };
                let node = Node { value, span, tag: tag.merge() };
                self.complete(node, anchor, plain)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let tag = self.tag(tag.as_deref(), span).merge();
                self.start(Node { value: Value::Seq(Vec::new()), span, tag }, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = self.tag(tag.as_deref(), span).merge();
                self.start(Node { value: Value::Map(Map::default()), span, tag }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let anchor = open.anchor;
                let node = self.merged(open);
                self.complete(node, anchor, false)
            }
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    self.log.problem(
                        ProblemKind::Syntax,
                        span,
                        "this alias stands inside of what it stands for",
                    );
                    return Err(Stop);
                };
                self.count(size, span)?;
                if self.open.len() + depth(&node) > MAX_DEPTH {
                    let message =
                        format!("with its aliases followed, this is nested more than {MAX_DEPTH} deep");
                    self.log.problem(ProblemKind::Syntax, span, message);
                    return Err(Stop);
                }
                self.complete(node, 0, false)
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            let message = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
            self.log.hinted(
                ProblemKind::Syntax,
                node.span,
                message,
                "no spec needs more than a dozen levels",
            );
            return Err(Stop);
        }
        self.open.push(Open { anchor, node, key: None, merges: Vec::new() });
        Ok(())
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            self.log.hinted(
                ProblemKind::Syntax,
                span,
                format!("with its aliases followed, this file stands for more than {MAX_NODES} values"),
                "aliases of aliases multiply; write the values out",
            );
            return Err(Stop);
        }
        Ok(())
    }

    /// Adds a complete node to its parent.
    fn complete(&mut self, node: Node, anchor: usize, plain: bool) -> Result<(), Stop> {
        self.count(1, node.span)?;
        if anchor > 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        let entries = match &open.node.value {
            Value::Seq(items) => items.len(),
            Value::Map(map) => map.entries.len() + open.merges.len(),
            _ => 0,
        };
        if entries >= MAX_ENTRIES {
            let message = format!("a list or mapping has more than {MAX_ENTRIES} entries");
            self.log.hinted(
                ProblemKind::Syntax,
                node.span,
                message,
                "keep data in files, and name them in the spec",
            );
            return Err(Stop);
        }
        match &mut open.node.value {
            Value::Seq(items) => items.push(node),
            Value::Map(map) => match open.key.take() {
                None => {
                    let Some(text) = key_text(&node) else {
                        let message = format!("a key must be a scalar, this is {}", node.kind());
                        self.log.problem(ProblemKind::Syntax, node.span, message);
                        return Err(Stop);
                    };
                    open.key = Some((text, node.span, plain));
                }
                Some((key, span, plain_key)) => {
                    if plain_key && key == "<<" {
                        open.merges.push(node);
                    } else if let Some(first) = map.entry(&key) {
                        let line = first.span.line;
                        self.log.hinted(
                            ProblemKind::DuplicateKey,
                            span,
                            format!("the key `{key}` is here twice"),
                            format!("it was first written on line {line}; keep one of the two"),
                        );
                    } else {
                        map.entries.push(Entry { key, span, value: node });
                    }
                }
            },
            _ => {}
        }
        Ok(())
    }

    /// Applies a mapping's `<<` entries: explicit keys take precedence, then the first merged mapping.
    fn merged(&self, open: Open) -> Node {
        let mut node = open.node;
        let Value::Map(map) = &mut node.value else { return node };
        for merge in open.merges {
            let span = merge.span;
            let items = match merge.value {
                Value::Seq(items) => items,
                value => vec![Node { value, span, tag: None }],
            };
            for item in items {
                let Value::Map(other) = item.value else {
                    self.log.problem(
                        ProblemKind::Type,
                        item.span,
                        format!("`<<` takes a mapping or a list of mappings, this is {}", item.kind()),
                    );
                    continue;
                };
                for entry in other.entries {
                    if map.get(&entry.key).is_none() {
                        map.entries.push(entry);
                    }
                }
            }
        }
        node
    }

    fn tag(&self, tag: Option<&Tag>, span: Span) -> Tagged {
        let Some(tag) = tag else { return Tagged::None };
        if let Some(core) = tag.core_suffix() {
            return if core == "str" { Tagged::Text } else { Tagged::None };
        }
        match tag.original().as_str() {
            "!reset" => Tagged::Reset,
            "!override" => Tagged::Override,
            "!" => Tagged::Text,
            other => {
                self.log.hinted(
                    ProblemKind::Syntax,
                    span,
                    format!("the tag `{other}` is not known"),
                    "`!reset` and `!override` are",
                );
                Tagged::None
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Tagged {
    None,
    Text,
    Reset,
    Override,
}

impl Tagged {
    fn merge(self) -> Option<MergeTag> {
        match self {
            Self::Reset => Some(MergeTag::Reset),
            Self::Override => Some(MergeTag::Override),
            Self::None | Self::Text => None,
        }
    }
}

fn key_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Null => Some("null".to_owned()),
        _ => node.scalar(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Seq(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Seq(items) => items.iter().map(size).sum(),
        Value::Map(map) => map.entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
        _ => 0,
    }
}
