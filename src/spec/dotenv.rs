//! Parses files of variables (`.env`, `env_file`) as Compose does
//! (<https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax>).

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::template::{self, Lookup, TemplateError};

/// A syntax error in a file of variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DotenvError {
    /// The line, from 1.
    pub line: u32,
    /// The error message.
    pub message: String,
}

/// Looks up a variable in the outer variables first, then in what the file has set so far.
struct Inside<'a> {
    outer: &'a dyn Fn(&str) -> Option<String>,
    earlier: &'a dyn Fn(&str) -> Option<String>,
    set: &'a BTreeMap<String, String>,
    unset: RefCell<Vec<String>>,
}

impl Lookup for Inside<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.outer)(name).or_else(|| self.set.get(name).cloned()).or_else(|| (self.earlier)(name))
    }

    fn unset(&self, name: &str) {
        self.unset.borrow_mut().push(name.to_owned());
    }
}

/// The variables of a file, and the unset variables that it uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dotenv {
    /// The variables.
    pub variables: BTreeMap<String, String>,
    /// Variables that are used and not set.
    pub unset: Vec<String>,
}

/// Parses a file of variables. `outer` takes precedence over the file in interpolation and provides the values of
/// names without a value. `earlier` has the variables of earlier files; the file takes precedence over them.
pub(super) fn parse(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
    earlier: &dyn Fn(&str) -> Option<String>,
) -> Result<Dotenv, DotenvError> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let mut reader = Reader { text: &text, rest: &text };
    let mut found = Dotenv::default();
    let mut bytes = 0;
    while reader.next_statement() {
        let line = reader.line();
        let (key, assigned) = reader.key()?;
        if !assigned {
            if let Some(value) = outer(&key) {
                found.variables.insert(key, value);
            }
            continue;
        }
        let (raw, expands) = reader.value()?;
        let value = if expands {
            let vars = Inside { outer, earlier, set: &found.variables, unset: RefCell::default() };
            let value = template::substitute(&raw, &vars).map_err(|error| template_error(line, error))?;
            found.unset.extend(vars.unset.into_inner());
            value
        } else {
            raw
        };
        bytes += value.len();
        if bytes > template::MAX_BYTES.max(text.len()) {
            return Err(DotenvError { line, message: too_large() });
        }
        found.variables.insert(key, value);
    }
    Ok(found)
}

fn too_large() -> String {
    format!("with its variables the file has more than {} MiB", template::MAX_BYTES >> 20)
}

fn template_error(line: u32, error: TemplateError) -> DotenvError {
    let message = match error {
        TemplateError::Invalid { .. } => {
            "a `$` that is not followed by a variable; write `$$` for the sign".into()
        }
        TemplateError::TooDeep { .. } => {
            format!("variables are nested more than {} deep", template::MAX_DEPTH)
        }
        TemplateError::TooLarge => too_large(),
        TemplateError::Required { name, message } if message.is_empty() => format!("`{name}` must be set"),
        TemplateError::Required { name, message } => format!("`{name}` must be set: {message}"),
    };
    DotenvError { line, message }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

/// Whether the character is white space within a line.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

impl Reader<'_> {
    fn line(&self) -> u32 {
        let read = &self.text[..self.text.len() - self.rest.len()];
        u32::try_from(read.matches('\n').count() + 1).unwrap_or(u32::MAX)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, DotenvError> {
        Err(DotenvError { line: self.line(), message: message.into() })
    }

    /// Skips white space and comments; returns whether anything follows.
    fn next_statement(&mut self) -> bool {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    /// Parses a variable's name; returns whether a value follows.
    fn key(&mut self) -> Result<(String, bool), DotenvError> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_space)
        {
            self.rest = after.trim_start_matches(is_space);
        }
        let source = self.rest;
        let mut end = source.len();
        let mut assigned = false;
        for (offset, c) in source.char_indices() {
            match c {
                '=' | ':' => {
                    (end, assigned) = (offset, true);
                    break;
                }
                '\n' => {
                    end = offset;
                    break;
                }
                '_' | '.' | '-' | '[' | ']' => {}
                c if is_space(c) || c.is_alphanumeric() => {}
                c => {
                    let name = source.lines().next().unwrap_or_default();
                    return self.error(format!("`{c}` cannot be part of a variable's name, in `{name}`"));
                }
            }
        }
        let key = source[..end].trim_end();
        if key.contains(' ') {
            return self.error(format!("a variable's name has no space, `{key}` has"));
        }
        let after = &source[end..];
        self.rest = after.get(1..).unwrap_or_default();
        if assigned {
            self.rest = self.rest.trim_start_matches(is_space);
        }
        Ok((key.to_owned(), assigned))
    }

    /// Parses a value with its escapes; returns whether to interpolate it.
    fn value(&mut self) -> Result<(String, bool), DotenvError> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            let value = line.split_once(" #").map_or(line, |(value, _)| value);
            return Ok((value.trim_end().to_owned(), true));
        };
        let mut value = String::new();
        let mut escaped = false;
        for (offset, c) in self.rest.char_indices().skip(1) {
            if c == quote {
                if !escaped {
                    self.rest = &self.rest[offset + 1..];
                    let double = quote == '"';
                    return Ok((if double { unescape(&value) } else { value }, double));
                }
                value.push(c);
                escaped = false;
                continue;
            }
            if !escaped && c == '\\' {
                escaped = true;
                continue;
            }
            if escaped {
                value.push('\\');
                escaped = false;
            }
            value.push(c);
        }
        let start = self.rest.lines().next().unwrap_or_default();
        self.error(format!("the quote that opens `{start}` is never closed"))
    }
}

/// Resolves the escapes of a double-quoted value. `\$` becomes `$$`, which interpolation turns into a dollar sign.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(&next) = chars.peek() else {
            out.push('\\');
            break;
        };
        let plain = match next {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' => '\\',
            '"' => '"',
            '$' => {
                chars.next();
                out.push_str("$$");
                continue;
            }
            _ => {
                out.push('\\');
                continue;
            }
        };
        chars.next();
        out.push(plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(text: &str) -> BTreeMap<String, String> {
        let outer = |name: &str| (name == "OUT").then(|| "outer".to_owned());
        let earlier = |name: &str| matches!(name, "A" | "BEFORE").then(|| "earlier".to_owned());
        parse(text, &outer, &earlier).unwrap().variables
    }

    #[test]
    fn plain_quoted_and_exported_values_are_read_as_compose_reads_them() {
        let found = vars(
            "# head\nA=1\nB = two words # note\nC='single $A \\n'\nD=\"double $A\\n\"\nexport E=e#f\nF: yaml\n\nG=\n\
             H=\"a\nb\"\nI=$OUT-$A\nOUT\nJ='it\\'s'\nK=\"\\$A\"\nL=x$$y\nM=$BEFORE\n",
        );
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "single $A \\n"),
            ("D", "double 1\n"),
            ("E", "e#f"),
            ("F", "yaml"),
            ("G", ""),
            ("H", "a\nb"),
            ("I", "outer-1"),
            ("J", "it's"),
            ("K", "$A"),
            ("L", "x$y"),
            ("M", "earlier"),
            ("OUT", "outer"),
        ];
        assert_eq!(found, expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    }

    #[test]
    fn errors_name_their_line() {
        let none = |_: &str| None;
        assert_eq!(parse("A=1\nB C=2\n", &none, &none).unwrap_err().line, 2);
        assert_eq!(parse("A=1\n\nB!=2\n", &none, &none).unwrap_err().line, 3);
        assert_eq!(parse("A=\"open\nB=1\n", &none, &none).unwrap_err().line, 1);
        let doubling = (1..64).map(|n| format!("A{n}=$A{}$A{}\n", n - 1, n - 1)).collect::<Vec<_>>().concat();
        assert!(parse(&format!("A0=x\n{doubling}"), &none, &none).unwrap_err().message.contains("MiB"));
    }
}
