//! The part of GitHub's expressions that `action.yml` uses: strings, references, `==`, `!=`, `&&`, `||`, `always()`.

use std::collections::BTreeMap;

/// Values by reference: `inputs.command`.
pub type Values = BTreeMap<String, String>;

/// Replaces every `${{ … }}`.
pub fn expand(text: &str, values: &Values) -> String {
    let mut parts = text.split("${{");
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").unwrap_or_else(|| panic!("no end: {part}"));
        expanded.push_str(&value(expression, values));
        expanded.push_str(rest);
    }
    expanded
}

/// Whether a step with this condition runs. A condition without a status function requires success so far.
pub fn runs(condition: Option<&str>, failed: bool, values: &Values) -> bool {
    match condition {
        Some(condition) if condition.contains("always()") => is_true(&value(condition, values)),
        Some(condition) => !failed && is_true(&value(condition, values)),
        None => !failed,
    }
}

fn is_true(value: &str) -> bool {
    !value.is_empty() && value != "false"
}

fn value(expression: &str, values: &Values) -> String {
    let expression = expression.trim();
    if let Some((left, right)) = expression.rsplit_once(" || ") {
        let left = value(left, values);
        return if is_true(&left) { left } else { value(right, values) };
    }
    if let Some((left, right)) = expression.rsplit_once(" && ") {
        let left = value(left, values);
        return if is_true(&left) { value(right, values) } else { left };
    }
    if let Some((left, right)) = expression.split_once(" == ") {
        return (value(left, values) == value(right, values)).to_string();
    }
    if let Some((left, right)) = expression.split_once(" != ") {
        return (value(left, values) != value(right, values)).to_string();
    }
    if let Some(text) = expression.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return text.to_owned();
    }
    if expression == "always()" {
        return "true".to_owned();
    }
    let known = ["inputs.", "steps.", "runner.", "github."].iter().any(|scope| expression.starts_with(scope));
    assert!(known, "`{expression}` is not a reference");
    values.get(expression).cloned().unwrap_or_default()
}

#[test]
fn expressions_have_their_values() {
    let values: Values =
        [("inputs.a", "x"), ("inputs.b", "")].map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(expand("<${{ inputs.a }}|${{ inputs.b }}>", &values), "<x|>");
    assert_eq!(expand("${{ inputs.b != '' && inputs.a || 'none' }}", &values), "none");
    assert_eq!(expand("${{ inputs.a != '' && inputs.a || 'none' }}", &values), "x");
    assert!(runs(Some("always() && inputs.a == 'x'"), true, &values));
    assert!(!runs(Some("inputs.a == 'x'"), true, &values));
    assert!(!runs(None, true, &values));
}
