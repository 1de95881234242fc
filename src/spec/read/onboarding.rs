//! Reads our own keys for the people who use a sandbox: `welcome`, `open`, `requires`, `env`.

use super::{Fields, Reader};
use crate::spec::model::{EngineVersion, HostVariable, Page, Requirements, Spec};
use crate::spec::node::{Entry, Node};
use crate::spec::problem::ProblemKind;

/// Maximum length of `welcome` in bytes: it is to fit on a screen.
const LONGEST: usize = 16 << 10;

impl Reader<'_> {
    pub(super) fn onboarding(&self, fields: &Fields<'_>, spec: &mut Spec) {
        spec.welcome = self.welcome(fields);
        spec.open = fields.list("open").iter().filter_map(|node| self.page(node)).collect();
        if let Some(inner) = fields.inner("requires") {
            spec.requires = self.requirements(&inner);
            inner.finish();
        }
        if let Some(inner) = fields.inner("env") {
            let variables = inner.map.entries.iter().filter_map(|entry| self.variable(entry));
            spec.env = variables.collect();
        }
    }

    fn welcome(&self, fields: &Fields<'_>) -> Option<String> {
        let text = fields.filled("welcome")?;
        if text.len() > LONGEST {
            let message = format!("`welcome` has more than {} KiB", LONGEST >> 10);
            self.log.hinted(
                ProblemKind::Value,
                fields.value_span("welcome"),
                message,
                "name a document in it",
            );
            return None;
        }
        Some(text.trim_end().to_owned())
    }

    fn page(&self, node: &Node) -> Option<Page> {
        let text = node.scalar().unwrap_or_default();
        match text.parse::<Page>() {
            Ok(page) => Some(Page { at: self.log.at(node.span), ..page }),
            Err(reason) => {
                let message = format!("`{text}` is not a page to open: {reason}");
                let hint = "write `http://SERVICE/path`, or the URL of a page elsewhere";
                self.log.hinted(ProblemKind::Value, node.span, message, hint);
                None
            }
        }
    }

    fn requirements(&self, fields: &Fields<'_>) -> Requirements {
        let engine = fields.filled("engine").and_then(|text| {
            let wrong = |reason: String| {
                let message = format!("`{text}` is not a requirement on a version: {reason}");
                self.log.hinted(
                    ProblemKind::Value,
                    fields.value_span("engine"),
                    message,
                    "write `>=24` or `>=20.10, <29`",
                );
            };
            text.parse::<EngineVersion>().map_err(wrong).ok()
        });
        let commands = fields.list("commands").iter().filter_map(|node| self.program(node)).collect();
        Requirements { memory: fields.size("memory"), disk: fields.size("disk"), engine, commands }
    }

    /// The name of a program: not a path, which means something else on each machine.
    fn program(&self, node: &Node) -> Option<String> {
        let name = node.scalar().unwrap_or_default();
        if !name.is_empty() && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Some(name);
        }
        let message = format!("`{name}` is not the name of a program");
        self.log.hinted(ProblemKind::Value, node.span, message, "write a name such as `node`");
        None
    }

    fn variable(&self, entry: &Entry) -> Option<(String, HostVariable)> {
        let name = entry.key.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{name}` cannot be the name of a variable");
            let hint = "it takes letters, digits and `_`, and begins with no digit";
            self.log.hinted(ProblemKind::Name, entry.span, message, hint);
            return None;
        }
        let Some(text) = entry.value.scalar().filter(|text| !text.contains('\0')) else {
            let message = format!("`{name}` in `env` must be text, this is {}", entry.value.kind());
            self.log.problem(ProblemKind::Type, entry.value.span, message);
            return None;
        };
        Some((name.to_owned(), HostVariable::of_marked(&text, self.log.at(entry.value.span))))
    }
}
