//! Finds the images that a Dockerfile needs, and rewrites it for features that the engine's build call lacks.
//!
//! Additional contexts become stages before the first one, and a stage that must not come from the cache gets an
//! argument with a fresh value. So both work with every builder, BuildKit or not. The parser handles only what this
//! needs: instructions, their continuation lines and here-documents.

use std::collections::{BTreeMap, BTreeSet};

/// An instruction, with its continuation lines joined.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    /// The index of the first line, from 0.
    line: usize,
    /// The index after the last line.
    end: usize,
    /// The keyword in capitals.
    keyword: String,
    arguments: String,
}

/// The images that a Dockerfile starts or copies from, without its own stages. Build arguments override the
/// Dockerfile's defaults.
pub fn base_images(text: &str, arguments: &BTreeMap<String, Option<String>>) -> BTreeSet<String> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let (mut stages, mut images) = (BTreeSet::new(), BTreeSet::new());
    for instruction in instructions(text) {
        match instruction.keyword.as_str() {
            "ARG" if stages.is_empty() && images.is_empty() => {
                for argument in instruction.arguments.split_whitespace() {
                    let (name, default) = argument.split_once('=').unwrap_or((argument, ""));
                    let given = arguments.get(name).cloned().flatten();
                    let value = given.unwrap_or_else(|| default.trim_matches(['"', '\'']).to_owned());
                    variables.insert(name.to_owned(), value);
                }
            }
            "FROM" => {
                let (image, name) = from_parts(&instruction.arguments);
                let image = expanded(image, &variables);
                if !stages.contains(&image.to_lowercase()) {
                    images.insert(image);
                }
                // A stage without a name cannot be referenced, but it also ends the global arguments.
                stages.insert(name.map(str::to_lowercase).unwrap_or_default());
            }
            "COPY" | "ADD" | "RUN" => {
                let options =
                    instruction.arguments.split_whitespace().take_while(|word| word.starts_with("--"));
                let sources = options.filter_map(|option| match option.split_once('=')? {
                    ("--from", image) => Some(image),
                    ("--mount", mount) => mount.split(',').find_map(|part| part.strip_prefix("from=")),
                    _ => None,
                });
                for image in sources {
                    let is_stage = stages.contains(&image.to_lowercase()) || image.parse::<usize>().is_ok();
                    if !is_stage {
                        images.insert(image.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    images.retain(|image| !image.is_empty() && image != "scratch" && !image.contains('$'));
    images
}

/// Adds these images as stages before the Dockerfile's own, keyed by stage name. A stage of the same name is replaced,
/// as with BuildKit's named contexts.
pub fn with_stages(text: &str, added: &BTreeMap<String, String>) -> String {
    if added.is_empty() {
        return text.to_owned();
    }
    let found = instructions(text);
    let Some(first) = found.iter().find(|one| one.keyword == "FROM").map(|one| one.line) else {
        return text.to_owned();
    };
    let stages: Vec<String> = added.iter().map(|(name, image)| format!("FROM {image} AS {name}")).collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for instruction in found.iter().filter(|one| one.keyword == "FROM") {
        if let (_, Some(name)) = from_parts(&instruction.arguments)
            && added.keys().any(|added| added.eq_ignore_ascii_case(name))
        {
            let words: Vec<&str> = instruction.arguments.split_whitespace().collect();
            let kept = words.strip_suffix(&[name]).unwrap_or(&words).join(" ");
            lines[instruction.line] = format!("FROM {kept} replaced-{name}");
            lines[instruction.line + 1..instruction.end].iter_mut().for_each(String::clear);
        }
    }
    lines.insert(first, stages.join("\n"));
    lines.join("\n") + "\n"
}

/// Rewrites a Dockerfile so that these stages are not taken from the cache: each gets an argument with a new value.
pub fn with_fresh_stages(text: &str, stages: &[String], nonce: &str) -> String {
    let found = instructions(text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for instruction in found.iter().rev().filter(|one| one.keyword == "FROM") {
        let (_, name) = from_parts(&instruction.arguments);
        let is_meant = name.is_some_and(|name| stages.iter().any(|stage| stage.eq_ignore_ascii_case(name)));
        if is_meant {
            lines.insert(instruction.end, format!("ARG SANDBOX_FRESH={nonce}"));
        }
    }
    lines.join("\n") + "\n"
}

/// Parses the arguments of a `FROM`: the image and the stage's name.
fn from_parts(arguments: &str) -> (&str, Option<&str>) {
    let mut words = arguments.split_whitespace().filter(|word| !word.starts_with("--"));
    let image = words.next().unwrap_or_default();
    let name = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and_then(|_| words.next());
    (image, name)
}

/// Expands `$NAME`, `${NAME}` and `${NAME:-DEFAULT}` in an image's name.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let Some((before, rest)) = text.split_once('$') else { return text.to_owned() };
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, after) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some(braced) => braced,
        None => rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
    };
    let (name, default) = name.split_once(":-").unwrap_or((name, ""));
    let value = variables.get(name).filter(|value| !value.is_empty()).map_or(default, String::as_str);
    format!("{before}{value}{}", expanded(after, variables))
}

fn instructions(text: &str) -> Vec<Instruction> {
    let escape =
        if text.lines().take_while(|line| line.trim_start().starts_with('#')).any(is_backtick_directive) {
            '`'
        } else {
            '\\'
        };
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let trimmed = lines[at].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at += 1;
            continue;
        }
        let line = at;
        let mut joined = String::new();
        loop {
            let part = lines[at].trim();
            at += 1;
            // Comments and empty lines within an instruction are dropped.
            let is_kept = !part.starts_with('#') && !part.is_empty();
            let continued = !is_kept || part.ends_with(escape);
            if is_kept {
                joined.push_str(part.trim_end_matches(escape));
                joined.push(' ');
            }
            if !continued || at >= lines.len() {
                break;
            }
        }
        let (keyword, arguments) =
            joined.trim().split_once(char::is_whitespace).unwrap_or((joined.trim(), ""));
        let keyword = keyword.to_ascii_uppercase();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            for end in here_documents(arguments) {
                while at < lines.len() && lines[at].trim_start_matches('\t') != end {
                    at += 1;
                }
                at = lines.len().min(at + 1);
            }
        }
        found.push(Instruction { line, end: at, keyword, arguments: arguments.trim().to_owned() });
    }
    found
}

fn is_backtick_directive(line: &str) -> bool {
    let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    line.eq_ignore_ascii_case("#escape=`")
}

/// The terminators of an instruction's here-documents.
fn here_documents(arguments: &str) -> Vec<String> {
    let words = arguments.split("<<").skip(1).filter(|after| !after.starts_with('<'));
    let ends = words.map(|after| {
        let after = after.trim_start_matches('-');
        let end = after.trim_start_matches(['"', '\'']);
        end.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    });
    ends.filter(|end| end.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(text: &str) -> Vec<String> {
        base_images(text, &BTreeMap::from([("TAG".to_owned(), Some("2".to_owned()))])).into_iter().collect()
    }

    #[test]
    fn the_images_that_are_needed_are_those_that_are_no_stages() {
        let text = "# syntax=docker/dockerfile:1\nARG TAG=1\nARG BASE=app-base\nFROM ${BASE} AS build\n\
                    RUN --mount=type=cache,target=/c --mount=type=bind,from=tools,target=/t true\n\
                    FROM --platform=linux/amd64 nginx:$TAG\nCOPY --from=build /a /a\nCOPY --from=0 /b /b\n\
                    COPY --from=assets:3 /c /c\nFROM scratch\nFROM Build\n";
        assert_eq!(images(text), ["app-base", "assets:3", "nginx:2", "tools"]);
        assert_eq!(images("FROM ${BASE:-fallback}\n"), ["fallback"]);
        assert!(images("FROM $UNKNOWN-x$\n").len() <= 1);
    }

    #[test]
    fn lines_that_go_on_and_documents_within_are_no_instructions() {
        let text = "RUN true \\\n  # a comment\n  && echo \\\nFROM not-this\nRUN <<EOF\nFROM nor-this\nEOF\n\
                    COPY <<-'END' /f\nFROM nor-that\n\tEND\nFROM base\n";
        assert_eq!(images(text), ["base"]);
        assert_eq!(images("# escape=`\nRUN a `\nFROM not\nFROM base\n"), ["base"]);
    }

    #[test]
    fn an_additional_context_is_a_stage_before_the_first() {
        let added = BTreeMap::from([("base".to_owned(), "shop-base:1".to_owned())]);
        assert_eq!(
            with_stages("ARG A=1\nFROM x:${A}\nCOPY --from=base / /\n", &added),
            "ARG A=1\nFROM shop-base:1 AS base\nFROM x:${A}\nCOPY --from=base / /\n"
        );
        let replaced = with_stages("FROM alpine \\\n  AS base\nFROM base\n", &added);
        assert_eq!(replaced, "FROM shop-base:1 AS base\nFROM alpine AS replaced-base\n\nFROM base\n");
    }

    #[test]
    fn only_the_named_stages_run_again() {
        let text = "FROM a AS one\nRUN x\nFROM b AS two\nRUN y\n";
        assert_eq!(
            with_fresh_stages(text, &["two".to_owned()], "7"),
            "FROM a AS one\nRUN x\nFROM b AS two\nARG SANDBOX_FRESH=7\nRUN y\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(FROM|RUN|COPY|ARG|<<EOF|EOF|\\\\|\n| |\\$\\{|\\}|#|`|a|é|--from=|,|:-){0,40}") {
            let _ = base_images(&text, &BTreeMap::new());
            let added = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
            let _ = with_fresh_stages(&with_stages(&text, &added), &["a".to_owned()], "1");
        }
    }
}
