//! `--format`: a table, a JSON object per line, or a template with field names, as in Docker's tools.

use std::convert::Infallible;
use std::str::FromStr;

use serde_json::Value;

use crate::report::Output;

/// The requested output format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// The verb's own table.
    Table,
    /// One JSON object per line.
    Json,
    /// A line per object: text with `{{.Field}}` and `{{json .Field}}`.
    Template(String),
}

impl FromStr for Form {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "table" | "pretty" => Self::Table,
            "json" => Self::Json,
            template => {
                let template = template.strip_prefix("table ").unwrap_or(template);
                Self::Template(template.replace("\\t", "\t").replace("\\n", "\n"))
            }
        })
    }
}

/// Prints rows as JSON or by a template; returns false if the verb should print its own table.
pub fn print(output: &mut Output, form: &Form, rows: &[Value]) -> bool {
    match form {
        Form::Table => return false,
        Form::Json => rows.iter().for_each(|row| output.json_line(row)),
        Form::Template(template) => output.lines(rows.iter().map(|row| filled(template, row))),
    }
    true
}

/// Fills a template with an object's fields. Unknown fields are empty.
fn filled(template: &str, row: &Value) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, inside, after)) = action(rest) {
        text.push_str(before);
        text.push_str(&value(inside.trim(), row));
        rest = after;
    }
    text.push_str(rest);
    text
}

fn action(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (inside, after) = rest.split_once("}}")?;
    Some((before, inside, after))
}

fn value(expression: &str, row: &Value) -> String {
    let (expression, is_json) = match expression.strip_prefix("json ") {
        Some(rest) => (rest.trim(), true),
        None => (expression, false),
    };
    let path = expression.trim_start_matches('.');
    let found = path.split('.').filter(|name| !name.is_empty()).try_fold(row, |value, name| value.get(name));
    match found {
        Some(value) if is_json => value.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_filled_with_the_fields_of_an_object() {
        let row = json!({ "Name": "sbx-shop.db", "Ports": [1], "Labels": { "a": "b" } });
        assert_eq!(filled("{{.Name}} is {{ .Labels.a }}{{.Nothing}}", &row), "sbx-shop.db is b");
        assert_eq!(filled("{{json .Name}} {{.Ports}}", &row), "\"sbx-shop.db\" [1]");
        assert_eq!(filled("{{json .}}", &json!({ "a": 1 })), "{\"a\":1}");
        assert_eq!("table {{.Name}}\\t{{.ID}}".parse(), Ok(Form::Template("{{.Name}}\t{{.ID}}".into())));
    }
}
