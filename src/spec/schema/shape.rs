//! Building blocks of the JSON Schema: the shapes of values.

use serde_json::{Map, Value as Json, json};

pub(super) fn keys(keys: &[(&'static str, Json)]) -> Map<String, Json> {
    keys.iter().map(|(key, schema)| ((*key).to_owned(), schema.clone())).collect()
}

pub(super) fn closed(description: &str, properties: impl Into<Json>) -> Json {
    let properties: Json = properties.into();
    json!({
        "type": ["object", "null"],
        "description": description,
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
    })
}

pub(super) fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

pub(super) fn named(definition: &str, description: &str) -> Json {
    json!({
        "type": ["object", "null"],
        "description": description,
        "patternProperties": { "^[a-zA-Z0-9._-]+$": reference(definition) },
        "additionalProperties": false,
    })
}

pub(super) fn any(description: &str) -> Json {
    json!({ "description": description })
}

pub(in crate::spec) fn text(description: &str) -> Json {
    json!({ "type": ["string", "number", "null"], "description": description })
}

pub(super) fn words(words: &[&str], description: &str) -> Json {
    json!({ "enum": words, "description": description })
}

pub(super) fn flag(description: &str) -> Json {
    json!({ "type": ["boolean", "string", "null"], "description": description })
}

pub(super) fn int(description: &str) -> Json {
    json!({ "type": ["integer", "string", "null"], "description": description })
}

pub(super) fn number(description: &str) -> Json {
    json!({ "type": ["number", "string", "null"], "description": description })
}

pub(super) fn size(description: &str) -> Json {
    json!({ "type": ["integer", "string", "null"], "description": format!("{description} A size: `64m`, `1.5g`.") })
}

pub(super) fn duration(description: &str) -> Json {
    json!({ "type": ["string", "null"], "description": format!("{description} A duration: `1m30s`, `500ms`.") })
}

pub(super) fn list(items: impl Into<Json>, description: &str) -> Json {
    let items: Json = items.into();
    json!({ "type": ["array", "null"], "items": items, "description": description })
}

pub(super) fn scalar() -> Json {
    json!({ "type": ["string", "number", "boolean"] })
}

pub(super) fn texts(description: &str) -> Json {
    list(scalar(), description)
}

/// A text or a list of texts.
pub(in crate::spec) fn one_or_more(description: &str) -> Json {
    json!({ "type": ["string", "array", "null"], "items": scalar(), "description": description })
}

/// A mapping or a list of `NAME=value`.
pub(super) fn pairs(description: &str) -> Json {
    json!({
        "type": ["object", "array", "null"],
        "items": scalar(),
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        "description": description,
    })
}

/// A mapping of names to lists or single values.
pub(super) fn mapping(description: &str) -> Json {
    json!({ "type": ["object", "null"], "description": description })
}

/// A text (short form) or a mapping (long form).
pub(super) fn short_or(long: &Json) -> Json {
    json!({ "anyOf": [scalar(), long] })
}
