//! A small checker for the schemas in `fixtures/ci`: `type`, `required`, `properties` (no others), `each` (any name),
//! `items`, `enum` and `oneOf`, with their meaning in JSON Schema.

use serde_json::Value;

use crate::support::repository;

/// A schema of `fixtures/ci`.
pub fn schema(file: &str) -> Value {
    let path = repository().join("fixtures/ci").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All places where a value differs from a schema.
pub fn problems(value: &Value, schema: &Value, at: &str) -> Vec<String> {
    if let Some(allowed) = schema["enum"].as_array() {
        let known = allowed.contains(value);
        return if known { Vec::new() } else { vec![format!("{at}: {value} is not one of {allowed:?}")] };
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let all: Vec<Vec<String>> = choices.iter().map(|choice| problems(value, choice, at)).collect();
        let fits = all.iter().filter(|one| one.is_empty()).count() == 1;
        return if fits { Vec::new() } else { all.concat() };
    }
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::Null => "null",
    };
    if schema["type"] != kind {
        return vec![format!("{at}: is {kind}, not {}", schema["type"])];
    }
    let mut found = Vec::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{at}: has no `{name}`"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name).or(schema.get("each")) {
            Some(schema) => found.extend(problems(inner, schema, &format!("{at}.{name}"))),
            None => found.push(format!("{at}: `{name}` is unknown")),
        }
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(problems(inner, &schema["items"], &format!("{at}[{index}]")));
    }
    found
}

#[test]
fn the_checker_finds_what_differs() {
    let schema = schema("github-action.schema.json");
    let action = serde_json::json!({
        "name": "x", "description": 1, "other": true,
        "runs": { "using": "composite", "steps": [{ "run": "true" }] },
    });
    let found = problems(&action, &schema, "action");
    assert!(found.contains(&"action: `other` is unknown".to_owned()), "{found:#?}");
    assert!(found.contains(&"action.description: is number, not \"string\"".to_owned()), "{found:#?}");
    assert!(found.contains(&"action.runs.steps[0]: has no `shell`".to_owned()), "{found:#?}");
}
