//! A `devcontainer.json`: <https://containers.dev/implementors/json_reference/>. It is JSON with comments and trailing
//! commas; these are removed here, since a parser for them would be a crate for twenty lines.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Detected, read};
use crate::spec::{MountedSources, Origin};

/// Where it can be, and the folder that its paths start from.
const FILES: [(&str, &str); 2] =
    [(".devcontainer/devcontainer.json", ".devcontainer"), (".devcontainer.json", ".")];

/// Where the project's folder is mounted.
const FOLDER: &str = "/workspace";

/// The dev container of a folder, if its image or its Compose file is named.
pub(super) fn detect(folder: &Path) -> Option<Detected> {
    let (file, base, text) =
        FILES.iter().find_map(|(file, base)| Some((*file, *base, read(&folder.join(file))?)))?;
    let json: Value = serde_json::from_str(&plain(&text)).ok()?;
    let compose = compose(&json, base);
    let image = if compose.is_some() { None } else { Some(image(&json, base)?) };
    let sources = MountedSources {
        folder: FOLDER.to_owned(),
        environment: environment(&json),
        tasks: command(&json).map(|line| ("post-create".to_owned(), line)).into_iter().collect(),
        ..MountedSources::default()
    };
    let sources = image.is_some().then_some(sources);
    Some(Detected { by: file.to_owned(), compose, image, ports: ports(&json), sources })
}

fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key)?.as_str()
}

fn compose(json: &Value, base: &str) -> Option<String> {
    let files = json.get("dockerComposeFile")?;
    // Further files are laid on the first one; one that includes it may name them.
    let first = files.as_str().or_else(|| files.as_array()?.first()?.as_str())?;
    joined(base, first)
}

fn image(json: &Value, base: &str) -> Option<Origin> {
    let build = json.get("build");
    let file = build.and_then(|build| text(build, "dockerfile")).or_else(|| text(json, "dockerFile"));
    let Some(file) = file else { return Some(Origin::Image(text(json, "image")?.to_owned())) };
    let context = build.and_then(|build| text(build, "context")).or_else(|| text(json, "context"));
    let context = joined(base, context.unwrap_or("."))?;
    let file = joined(base, file)?;
    let dockerfile = match context.as_str() {
        "." => file,
        context => file.strip_prefix(&format!("{context}/"))?.to_owned(),
    };
    Some(Origin::BuildBy { context, dockerfile })
}

/// A path relative to the project; `None` if it leaves the project.
fn joined(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// The ports of the container itself; `db:5432` is another's.
fn ports(json: &Value) -> Vec<u16> {
    let ports = json.get("forwardPorts").and_then(Value::as_array).into_iter().flatten();
    let number = |port: &Value| match port {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    ports.filter_map(number).collect()
}

fn environment(json: &Value) -> BTreeMap<String, String> {
    let variables = json.get("containerEnv").and_then(Value::as_object).into_iter().flatten();
    let known = variables.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    // What the editor would put in is not known here.
    known.filter(|(_, value)| !value.contains("${")).collect()
}

/// The command that prepares the container, as a line for a shell.
fn command(json: &Value) -> Option<String> {
    let line = |value: &Value| match value {
        Value::String(line) => Some(line.clone()),
        Value::Array(words) => shlex::try_join(words.iter().filter_map(Value::as_str)).ok(),
        _ => None,
    };
    let command = json.get("postCreateCommand")?;
    match command {
        Value::Object(named) => {
            let lines: Vec<String> = named.values().filter_map(line).collect();
            Some(lines.join(" && "))
        }
        other => line(other),
    }
    .filter(|line| !line.is_empty())
}

/// JSON without comments and trailing commas.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(_)) if quoted => {
                out.push(c);
                out.extend(chars.next());
            }
            ('"', _) => {
                quoted = !quoted;
                out.push(c);
            }
            ('/', Some('/')) if !quoted => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            ('/', Some('*')) if !quoted => {
                let mut last = ' ';
                chars.next();
                for c in chars.by_ref() {
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            ('}' | ']', _) if !quoted => {
                if out.trim_end().ends_with(',') {
                    out.truncate(out.trim_end().len() - 1);
                }
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}
