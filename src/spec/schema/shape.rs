//! Building blocks of the JSON Schema: the shapes of values.

use serde_json::{Map, Value as Json, json};

pub(in crate::spec) fn keys(keys: &[(&'static str, Json)]) -> Map<String, Json> {
    keys.iter().map(|(key, schema)| ((*key).to_owned(), schema.clone())).collect()
}

pub(in crate::spec) fn closed(description: &str, properties: impl Into<Json>) -> Json {
    let properties: Json = properties.into();
    json!({
        "type": ["object", "null"],
        "description": description,
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
    })
}

pub(in crate::spec) fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

pub(in crate::spec) fn named(definition: &str, description: &str) -> Json {
    json!({
        "type": ["object", "null"],
        "description": description,
        "patternProperties": { "^[a-zA-Z0-9._-]+$": reference(definition) },
        "additionalProperties": false,
    })
}

pub(in crate::spec) fn any(description: &str) -> Json {
    json!({ "description": description })
}

pub(in crate::spec) fn text(description: &str) -> Json {
    json!({ "type": ["string", "number", "null"], "description": description })
}

pub(in crate::spec) fn words(words: &[&str], description: &str) -> Json {
    json!({ "enum": words, "description": description })
}

pub(in crate::spec) fn flag(description: &str) -> Json {
    json!({ "type": ["boolean", "string", "null"], "description": description })
}

pub(in crate::spec) fn int(description: &str) -> Json {
    json!({ "type": ["integer", "string", "null"], "description": description })
}

pub(in crate::spec) fn number(description: &str) -> Json {
    json!({ "type": ["number", "string", "null"], "description": description })
}

pub(in crate::spec) fn size(description: &str) -> Json {
    json!({ "type": ["integer", "string", "null"], "description": format!("{description} A size: `64m`, `1.5g`.") })
}

pub(in crate::spec) fn duration(description: &str) -> Json {
    json!({ "type": ["string", "null"], "description": format!("{description} A duration: `1m30s`, `500ms`.") })
}

pub(in crate::spec) fn list(items: impl Into<Json>, description: &str) -> Json {
    let items: Json = items.into();
    json!({ "type": ["array", "null"], "items": items, "description": description })
}

pub(in crate::spec) fn scalar() -> Json {
    json!({ "type": ["string", "number", "boolean"] })
}

pub(in crate::spec) fn texts(description: &str) -> Json {
    list(scalar(), description)
}

/// A text or a list of texts.
pub(in crate::spec) fn one_or_more(description: &str) -> Json {
    json!({ "type": ["string", "array", "null"], "items": scalar(), "description": description })
}

/// A mapping or a list of `NAME=value`.
pub(in crate::spec) fn pairs(description: &str) -> Json {
    json!({
        "type": ["object", "array", "null"],
        "items": scalar(),
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        "description": description,
    })
}

/// A mapping of names to lists or single values.
pub(in crate::spec) fn mapping(description: &str) -> Json {
    json!({ "type": ["object", "null"], "description": description })
}

/// A text (short form) or a mapping (long form).
pub(in crate::spec) fn short_or(long: &Json) -> Json {
    json!({ "anyOf": [scalar(), long] })
}
