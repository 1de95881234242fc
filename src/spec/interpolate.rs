//! Interpolates the values of a whole tree; keys are not interpolated.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::diagnostics::Log;
use super::model::HostValue;
use super::model::onboarding::{CLOSE, OPEN};
use super::node::{Node, Span, Value};
use super::problem::ProblemKind;
use super::template::{self, Lookup, TemplateError};

const TOO_LARGE: &str = "keep data in files, and name them in the spec";

struct Vars<'a> {
    log: &'a Log,
    variables: &'a BTreeMap<String, String>,
    node: &'a Node,
    text: &'a str,
    /// Whether the value of any variable was used.
    used: Cell<bool>,
    placeholders: Placeholders,
}

/// Whether placeholders such as `${secret:NAME}` have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholders {
    Kept,
    Unknown,
}

impl Lookup for Vars<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let value = self.variables.get(name).cloned();
        // The project's name comes from the spec, not from the user.
        self.used.set(self.used.get() || (value.is_some() && name != "COMPOSE_PROJECT_NAME"));
        value
    }

    fn unset(&self, name: &str) {
        self.log.unset(name, within(self.log, self.node, self.text, name));
    }

    fn placeholder(&self, inner: &str) -> Option<String> {
        let known = self.placeholders == Placeholders::Kept && HostValue::placeholder(inner).is_some();
        known.then(|| format!("{OPEN}{inner}{CLOSE}"))
    }
}

/// Interpolates a document. In our key `env`, placeholders stay for the time when the sandbox runs.
pub(super) fn interpolate_document(log: &Log, root: &mut Node, variables: &BTreeMap<String, String>) {
    let Some(map) = root.as_map_mut() else { return interpolate(log, root, variables) };
    for entry in &mut map.entries {
        match entry.key.as_str() {
            "env" => walk(log, &mut entry.value, variables, Placeholders::Kept),
            "x-sandbox" => interpolate_document(log, &mut entry.value, variables),
            _ => interpolate(log, &mut entry.value, variables),
        }
    }
}

/// Interpolates every text below `node`; reports syntax errors and missing required variables.
pub(super) fn interpolate(log: &Log, node: &mut Node, variables: &BTreeMap<String, String>) {
    walk(log, node, variables, Placeholders::Unknown);
}

fn walk(log: &Log, node: &mut Node, variables: &BTreeMap<String, String>, placeholders: Placeholders) {
    if let Value::Seq(items) = &mut node.value {
        for item in items {
            walk(log, item, variables, placeholders);
        }
        return;
    }
    if let Value::Map(map) = &mut node.value {
        for entry in &mut map.entries {
            walk(log, &mut entry.value, variables, placeholders);
        }
        return;
    }
    let Value::Str(text) = &node.value else { return };
    if !text.contains('$') {
        return;
    }
    let vars = Vars { log, variables, node, text, used: Cell::new(false), placeholders };
    let result = template::substitute(text, &vars);
    if vars.used.get() {
        log.note_user_value(node.span);
    }
    match result {
        Ok(result) if !log.may_grow(result.len()) => {
            if log.grew_too_large() {
                let message = "with its variables the spec has more than 64 MiB";
                log.hinted(ProblemKind::Variable, node.span, message, TOO_LARGE);
            }
        }
        Ok(result) => node.value = Value::Str(result),
        Err(TemplateError::Invalid { offset }) => {
            let shown: String = text[offset..].chars().take(24).collect();
            let span = within(log, node, text, &shown);
            log.hinted(
                ProblemKind::Variable,
                span,
                format!("`{}` is not a variable", shown.lines().next().unwrap_or_default()),
                "write `$$` for a dollar sign, `${NAME}` for a variable",
            );
        }
        Err(TemplateError::TooDeep { offset }) => {
            let shown: String = text[offset..].chars().take(24).collect();
            let span = within(log, node, text, &shown);
            let message = format!("variables are nested more than {} deep", template::MAX_DEPTH);
            log.hinted(
                ProblemKind::Variable,
                span,
                message,
                "give the inner ones names of their own in `.env`",
            );
        }
        Err(TemplateError::TooLarge) => {
            let message =
                format!("with its variables this text has more than {} MiB", template::MAX_BYTES >> 20);
            log.hinted(ProblemKind::Variable, node.span, message, TOO_LARGE);
        }
        Err(TemplateError::Required { name, message }) => {
            let said = if message.is_empty() { String::new() } else { format!(": {message}") };
            log.hinted(
                ProblemKind::Variable,
                within(log, node, text, &name),
                format!("the variable `{name}` must be set{said}"),
                format!("`export {name}=…`, or write it in `.env`"),
            );
        }
    }
}

/// The location of `part` within a scalar's source, otherwise of the whole scalar.
fn within(log: &Log, node: &Node, text: &str, part: &str) -> Span {
    let span = node.span;
    let Some(source) = log.source(span) else { return span };
    let start = (span.offset as usize).min(source.text.len());
    let Some(found) = source.text[start..].find(part) else { return span };
    // The source of a scalar is at most this long, whatever its style.
    if found > text.len() * 2 + 16 {
        return span;
    }
    let before = &source.text[start..start + found];
    let breaks = before.matches('\n').count();
    let column = match before.rfind('\n') {
        Some(last) => before[last + 1..].chars().count() + 1,
        None => span.column as usize + before.chars().count(),
    };
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        file: span.file,
        offset: narrow(start + found),
        line: span.line + narrow(breaks),
        column: narrow(column),
        length: narrow(part.lines().next().unwrap_or_default().chars().count()).max(1),
    }
}
