//! Resolves plain scalars.

use crate::spec::node::Value;

/// Resolves a plain scalar by the rules of Compose's parser: YAML 1.2's core schema, with octal numbers that begin
/// with 0 and underscores in numbers.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Str(text.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(n) = integer(&digits) {
        return Value::Int(n);
    }
    if is_float(&digits)
        && let Ok(f) = digits.parse()
    {
        return Value::Float(f);
    }
    Value::Str(text.to_owned())
}

/// A whole number that fits `i64` or `u64`: Go reads others as floating-point numbers, or as text.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let n = i128::from_str_radix(digits, radix).ok()?;
    let n = if negative { -n } else { n };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&n).then_some(n)
}

fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['+', '-']).unwrap_or(e);
            !e.is_empty() && all_digits(e)
        })
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::spec::node::{Node, Span};

    #[test]
    fn numbers_become_text_like_in_compose() {
        // As `docker compose config` of 2.40 prints them in `environment`.
        for (written, text) in [
            ("18446744073709551615", "18446744073709551615"),
            ("9223372036854775808", "9223372036854775808"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("0xFFFFFFFFFFFFFFFF", "18446744073709551615"),
            ("01777777777777777777777", "18446744073709551615"),
            ("-9223372036854775809", "-9.223372036854776e+18"),
            ("99999999999999999999999999", "1e+26"),
            ("100000000.0", "1e+08"),
            ("1000000.0", "1e+06"),
            ("999999.5", "999999.5"),
            ("100000.0", "100000"),
            ("1234567.5", "1.2345675e+06"),
            ("0.0001", "0.0001"),
            ("0.00009", "9e-05"),
            ("-0.0", "-0"),
            (".inf", "+Inf"),
            ("-.inf", "-Inf"),
            (".nan", "NaN"),
        ] {
            let node = Node::new(resolve(written), Span::default());
            assert_eq!(node.scalar().as_deref(), Some(text), "{written}");
        }
    }
}
