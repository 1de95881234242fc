//! Parses `.dockerignore` and decides which files of a context are excluded.
//!
//! The rules are those of the Docker CLI (docs.docker.com, "`.dockerignore` files"): one pattern per line, relative to
//! the context's root; `*` and `?` match within a path component, `**` across components, `!` re-includes, the last
//! match decides, and a pattern that matches a folder matches everything below it.

use regex::Regex;

/// The patterns of a `.dockerignore`.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    takes_back: bool,
    pattern: Regex,
}

impl Ignore {
    /// Parses the patterns; the error names an invalid one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.trim_start_matches('\u{feff}').lines();
        let lines =
            lines.filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        let rules = lines.map(rule).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { rules: rules.into_iter().flatten().collect() })
    }

    /// Whether a path (relative, with `/` separators) is excluded.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            if rule.takes_back == excluded && matches_or_parent(&rule.pattern, path) {
                excluded = !rule.takes_back;
            }
        }
        excluded
    }

    /// Whether a pattern may re-include files below an excluded folder.
    pub fn takes_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_back)
    }
}

fn matches_or_parent(pattern: &Regex, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    ends.into_iter().any(|end| pattern.is_match(&path[..end]))
}

fn rule(line: &str) -> Result<Option<Rule>, String> {
    let (takes_back, pattern) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    let cleaned = clean(pattern);
    if cleaned.is_empty() {
        return Ok(None);
    }
    let pattern =
        Regex::new(&translate(&cleaned)).map_err(|_| format!("`{line}` in .dockerignore is no pattern"))?;
    Ok(Some(Rule { takes_back, pattern }))
}

/// Removes leading and trailing slashes, `.` and `..`.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn translate(pattern: &str) -> String {
    let mut regex = String::from("(?s)^");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                if rest.peek() == Some(&'/') {
                    rest.next();
                    // Any number of whole components, including none.
                    regex.push_str("(?:.*/)?");
                } else {
                    regex.push_str(".*");
                }
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '\\' => regex.push_str(&regex::escape(&rest.next().unwrap_or('\\').to_string())),
            '[' | ']' | '-' => regex.push(c),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(patterns: &str, paths: &[&str]) -> Vec<String> {
        let ignore = Ignore::parse(patterns).unwrap();
        paths.iter().filter(|path| !ignore.excludes(path)).map(ToString::to_string).collect()
    }

    #[test]
    fn a_folder_takes_all_below_it_along() {
        assert_eq!(
            left("node_modules\n", &["node_modules", "node_modules/a/b", "src/node_modules"]),
            ["src/node_modules"]
        );
        assert_eq!(left("/build/\n", &["build/x", "a/build"]), ["a/build"]);
    }

    #[test]
    fn stars_stay_within_a_part_and_two_do_not() {
        assert_eq!(left("*.md", &["a.md", "docs/a.md"]), ["docs/a.md"]);
        assert_eq!(left("**/*.md", &["a.md", "docs/a.md", "docs/x/b.md", "a.txt"]), ["a.txt"]);
        assert_eq!(left("*/temp*", &["a/temporary", "temp", "a/b/temp"]), ["temp", "a/b/temp"]);
        assert_eq!(left("temp?", &["tempa", "temp", "tempab"]), ["temp", "tempab"]);
        assert_eq!(left("docs/**", &["docs/a", "docs"]), ["docs"]);
    }

    #[test]
    fn the_last_match_decides() {
        assert_eq!(
            left("*.md\n!README*.md\nREADME-secret.md", &["a.md", "README.md", "README-secret.md"]),
            ["README.md"]
        );
        assert_eq!(left("*\n!src", &["a", "src", "src/b"]), ["src", "src/b"]);
    }

    #[test]
    fn comments_blank_lines_and_dots_mean_nothing() {
        assert_eq!(left("# *\n\n.\n./a/../b\n", &["a", "b"]), ["a"]);
        assert_eq!(left("a+b.(c)", &["a+b.(c)", "aab.c"]), ["aab.c"]);
    }
}
