//! Renders the model as the JSON of `docker compose config --format json`, and as YAML that can be loaded again.
//!
//! Our own keys are under `x-sandbox`, so that the result is a valid Compose file.

mod sandbox_keys;
mod service;
mod top;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::model::Spec;
use super::model::onboarding::{CLOSE, OPEN};

/// A JSON object under construction; empty values are omitted.
#[derive(Default)]
pub(super) struct Object(Map<String, Json>);

impl Object {
    /// Inserts a value.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Json>) -> &mut Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Inserts a value unless it is `None`.
    pub(super) fn some<T: Into<Json>>(&mut self, key: &str, value: Option<T>) -> &mut Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Inserts `true` unless the flag is false.
    pub(super) fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        if value { self.set(key, true) } else { self }
    }

    /// Inserts a list unless it is empty.
    fn list(&mut self, key: &str, values: Vec<Json>) -> &mut Self {
        if values.is_empty() { self } else { self.set(key, values) }
    }

    /// Inserts a list of texts unless it is empty.
    pub(super) fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        self.list(key, values.iter().map(|text| json!(text)).collect())
    }

    /// Inserts a mapping of texts unless it is empty.
    pub(super) fn pairs(&mut self, key: &str, values: &BTreeMap<String, String>) -> &mut Self {
        if values.is_empty() { self } else { self.set(key, json!(values)) }
    }

    /// Inserts a mapping of optional texts unless it is empty.
    fn options(&mut self, key: &str, values: &BTreeMap<String, Option<String>>) -> &mut Self {
        if values.is_empty() { self } else { self.set(key, json!(values)) }
    }

    /// Inserts an object unless it is empty.
    fn object(&mut self, key: &str, value: Object) -> &mut Self {
        if value.0.is_empty() { self } else { self.set(key, Json::Object(value.0)) }
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Json::Object(object.0)
    }
}

/// Formats a number, without a fraction if it is whole.
fn number(n: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "only whole numbers of that range are cast")]
    if n.fract() == 0.0 && n.abs() < 1e15 { json!(n as i64) } else { json!(n) }
}

/// The purpose of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For comparison with Compose: derived names included, extension keys only at the top level.
    Compose,
    /// For loading again: everything in the spec, nothing derived.
    Spec,
}

/// Renders the JSON of `docker compose config --format json` (2.26), with dollar signs doubled as there.
pub fn to_compose_json(spec: &Spec) -> Json {
    doubled(top::spec(spec, Form::Compose))
}

/// Renders YAML that loads as the same spec.
pub fn to_yaml(spec: &Spec) -> String {
    json_to_yaml(&doubled(top::spec(spec, Form::Spec)))
}

/// Renders JSON as block YAML.
pub fn json_to_yaml(value: &Json) -> String {
    let mut text = String::new();
    yaml(value, 0, &mut text);
    text
}

/// Renders a tree for reading again, without anything that a reader would look up elsewhere.
pub(super) fn to_tree(spec: &Spec) -> Json {
    top::spec(spec, Form::Spec)
}

/// Doubles all dollar signs, so that another interpolation changes nothing.
fn doubled(value: Json) -> Json {
    match value {
        // Compose refuses the placeholders of `env` with a single dollar sign.
        Json::String(text) => Json::String(text.replace('$', "$$").replace(OPEN, "$${").replace(CLOSE, "}")),
        Json::Array(items) => Json::Array(items.into_iter().map(doubled).collect()),
        Json::Object(map) => {
            Json::Object(map.into_iter().map(|(k, v)| (k.replace('$', "$$"), doubled(v))).collect())
        }
        other => other,
    }
}

/// Writes a value as block YAML; ambiguous text is quoted.
fn yaml(value: &Json, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&indent);
                out.push_str(&yaml_text(key));
                out.push(':');
                yaml_child(value, depth + 1, out);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&indent);
                out.push('-');
                match item {
                    Json::Object(map) if !map.is_empty() => {
                        // The first key is on the line of the dash.
                        let mut inner = String::new();
                        yaml(item, depth + 1, &mut inner);
                        out.push(' ');
                        out.push_str(inner.trim_start_matches(' '));
                    }
                    _ => yaml_child(item, depth + 1, out),
                }
            }
        }
        scalar => {
            out.push_str(&indent);
            out.push_str(&yaml_scalar(scalar));
            out.push('\n');
        }
    }
}

fn yaml_child(value: &Json, depth: usize, out: &mut String) {
    let nested = matches!(value, Json::Object(map) if !map.is_empty())
        || matches!(value, Json::Array(items) if !items.is_empty());
    if nested {
        out.push('\n');
        yaml(value, depth, out);
    } else {
        out.push(' ');
        out.push_str(&yaml_scalar(value));
        out.push('\n');
    }
}

fn yaml_scalar(value: &Json) -> String {
    match value {
        Json::String(text) => yaml_text(text),
        Json::Object(_) => "{}".to_owned(),
        Json::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Formats a text as a plain scalar if it is unambiguous, otherwise in double quotes (JSON strings are valid YAML).
fn yaml_text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./@+".contains(c))
        && !text.ends_with(' ')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain { text.to_owned() } else { json!(text).to_string() }
}

/// Adds extension keys, which Compose's JSON omits below the top level.
fn extended(object: &mut Object, extensions: &BTreeMap<String, Json>, form: Form) {
    if form == Form::Spec {
        free(object, extensions);
    }
}

/// Adds only keys with the prefix `x-`: the extensions of a spec that was not read from files may contain any key.
fn free(object: &mut Object, extensions: &BTreeMap<String, Json>) {
    let is_free = |key: &str| key.starts_with("x-") && key != "x-sandbox";
    for (key, value) in extensions.iter().filter(|(key, _)| is_free(key)) {
        object.set(key, value.clone());
    }
}
