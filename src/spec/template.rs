//! Implements Compose's interpolation of a text: `$V`, `${V}`, `${V:-d}`, `${V-d}`, `${V:+x}`, `${V+x}`, `${V:?m}`,
//! `${V?m}`, nested, and `$$` for a dollar sign
//! (<https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md>).

/// Why interpolation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TemplateError {
    /// The text at this byte is not a variable.
    Invalid {
        /// Offset of the `$`.
        offset: usize,
    },
    /// A required variable is not set.
    Required {
        /// The variable's name.
        name: String,
        /// The error message in the spec.
        message: String,
    },
    /// Variables are nested deeper than [`MAX_DEPTH`].
    TooDeep {
        /// Offset of the outermost `$`.
        offset: usize,
    },
    /// The result is longer than [`MAX_BYTES`].
    TooLarge,
}

/// Maximum nesting of variables in default values.
pub(super) const MAX_DEPTH: usize = 32;
/// Maximum bytes of one interpolated text.
pub(super) const MAX_BYTES: usize = 4 << 20;

impl TemplateError {
    /// The same error at the offset of the outermost variable.
    fn at(self, offset: usize) -> Self {
        match self {
            Self::Invalid { .. } => Self::Invalid { offset },
            Self::TooDeep { .. } => Self::TooDeep { offset },
            other => other,
        }
    }
}

/// A source of variables, which is notified of unset ones.
pub(super) trait Lookup {
    /// A variable's value, if it is set.
    fn get(&self, name: &str) -> Option<String>;
    /// Records that a variable without a default is not set.
    fn unset(&self, name: &str);
    /// What stands in the text for a placeholder, given the inner part of `${…}`; `None` if it is a variable.
    fn placeholder(&self, _inner: &str) -> Option<String> {
        None
    }
}

/// Interpolates a text.
pub(super) fn substitute(text: &str, vars: &dyn Lookup) -> Result<String, TemplateError> {
    nested(text, vars, 0)
}

fn nested(text: &str, vars: &dyn Lookup, depth: usize) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let offset = text.len() - rest.len() + at;
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
        } else if let Some(inner) = after.strip_prefix('{') {
            if depth >= MAX_DEPTH {
                return Err(TemplateError::TooDeep { offset });
            }
            let end = closing(inner).ok_or(TemplateError::Invalid { offset })?;
            let value = braced(&inner[..end], offset, vars, depth + 1);
            // The offset must refer to the whole text, not to the default value.
            out.push_str(&value.map_err(|error| error.at(offset))?);
            rest = &inner[end + 1..];
        } else {
            // A dollar sign without a name is literal.
            let length = name_length(after);
            if length == 0 {
                out.push('$');
            } else {
                out.push_str(&plain(&after[..length], vars));
            }
            rest = &after[length..];
        }
        if out.len() > MAX_BYTES {
            return Err(TemplateError::TooLarge);
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn plain(name: &str, vars: &dyn Lookup) -> String {
    vars.get(name).unwrap_or_else(|| {
        vars.unset(name);
        String::new()
    })
}

/// The position of the closing brace. Braces in a default such as `{"a": 1}` belong to it, as in Compose; if they are
/// not balanced, only the braces of variables count.
fn closing(text: &str) -> Option<usize> {
    balanced(text, |_, _| true).or_else(|| balanced(text, |bytes, at| at > 0 && bytes[at - 1] == b'$'))
}

/// The position of the closing brace, considering nested opening braces for which `counts` is true.
fn balanced(text: &str, counts: impl Fn(&[u8], usize) -> bool) -> Option<usize> {
    let mut depth = 1_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            b'{' if counts(bytes, at) => depth += 1,
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first {
        return 0;
    }
    text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

fn braced(inner: &str, offset: usize, vars: &dyn Lookup, depth: usize) -> Result<String, TemplateError> {
    if let Some(text) = vars.placeholder(inner) {
        return Ok(text);
    }
    let length = name_length(inner);
    if length == 0 {
        return Err(TemplateError::Invalid { offset });
    }
    let (name, rest) = inner.split_at(length);
    if rest.is_empty() {
        return Ok(plain(name, vars));
    }
    let (empty_counts, rest) = match rest.strip_prefix(':') {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let mut chars = rest.chars();
    let operator = chars.next();
    let word = chars.as_str();
    let value = vars.get(name).filter(|value| empty_counts || !value.is_empty());
    match operator {
        Some('-') => value.map_or_else(|| nested(word, vars, depth), Ok),
        Some('+') => value.map_or_else(|| Ok(String::new()), |_| nested(word, vars, depth)),
        Some('?') => match value {
            Some(value) => Ok(value),
            None => {
                Err(TemplateError::Required { name: name.to_owned(), message: nested(word, vars, depth)? })
            }
        },
        _ => Err(TemplateError::Invalid { offset }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Vars(RefCell<Vec<String>>);

    impl Lookup for Vars {
        fn get(&self, name: &str) -> Option<String> {
            match name {
                "SET" => Some("value".to_owned()),
                "EMPTY" => Some(String::new()),
                "JSON" => Some(r#"{"x":1}"#.to_owned()),
                "LONG" => Some("x".repeat(100_000)),
                _ => None,
            }
        }

        fn unset(&self, name: &str) {
            self.0.borrow_mut().push(name.to_owned());
        }
    }

    fn sub(text: &str) -> Result<String, TemplateError> {
        substitute(text, &Vars(RefCell::default()))
    }

    #[test]
    fn every_form_means_what_it_means_to_compose() {
        for (text, result) in [
            ("a $SET b", "a value b"),
            ("${SET}", "value"),
            ("$SET-x", "value-x"),
            ("${NO:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO-d}", "d"),
            ("${SET:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NO+x}", ""),
            ("${SET:?no}", "value"),
            ("${EMPTY?no}", ""),
            ("$$SET", "$SET"),
            ("$${SET}", "${SET}"),
            ("${NO:-${SET}}", "value"),
            ("${NO:-a${NO:-b}c}d", "abcd"),
            ("${NO:-http://x:80/?a=b}", "http://x:80/?a=b"),
            ("${NO}", ""),
            ("ä$SET€", "ävalue€"),
            ("a $", "a $"),
            ("$1 $.", "$1 $."),
            (r#"${JSON:-{"a":1}}"#, r#"{"x":1}"#),
            (r#"${NO:-{"a":{"b":1}}}"#, r#"{"a":{"b":1}}"#),
            ("${NO:-${JSON:-{}}}", r#"{"x":1}"#),
            ("${NO:-{{.Name}}}", "{{.Name}}"),
            ("${NO:-{}", "{"),
            ("${SET:-{}", "value"),
            ("${SET:-}}", "value}"),
            ("${NO:-a}b}", "ab}"),
            ("{${SET}}", "{value}"),
        ] {
            assert_eq!(sub(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_variable_is_pointed_at() {
        for (text, offset) in [("${", 0), ("${}", 0), ("${a b}", 0), ("x${A!}", 1)] {
            assert_eq!(sub(text), Err(TemplateError::Invalid { offset }), "{text}");
        }
    }

    #[test]
    fn nesting_and_growth_have_bounds() {
        let deep = format!("x{}{}", "${A:-".repeat(20_000), "}".repeat(20_000));
        assert_eq!(sub(&deep), Err(TemplateError::TooDeep { offset: 1 }));
        assert_eq!(sub(&"${A:-".repeat(20_000)), Err(TemplateError::Invalid { offset: 0 }));
        assert_eq!(sub(&"$LONG".repeat(100)), Err(TemplateError::TooLarge));
    }

    #[test]
    fn a_required_variable_says_its_message() {
        assert_eq!(
            sub("${NO:?set it to $SET}"),
            Err(TemplateError::Required { name: "NO".into(), message: "set it to value".into() })
        );
    }

    #[test]
    fn unset_variables_are_told_of_unless_they_have_a_default() {
        let vars = Vars(RefCell::default());
        substitute("$NO ${NEVER} ${WITH:-d} ${ALT:+x} ${SET:-$UNUSED}", &vars).unwrap();
        assert_eq!(*vars.0.borrow(), ["NO", "NEVER"]);
    }
}
