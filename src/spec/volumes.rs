//! Expands the short forms of mounts: `name:/data`, `./folder:/data:ro,z`, `/data`.

use super::canonical::{Base, absolute};
use super::diagnostics::Log;
use super::node::{Entry, Map, Node, Span, Value};
use super::problem::ProblemKind;

const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// Converts a service's `volumes` to the long form with absolute host paths.
pub(super) fn expand(log: &Log, service: &mut Map, base: &Base<'_>) {
    let Some(Value::Seq(items)) = service.get_mut("volumes").map(|node| &mut node.value) else { return };
    items.retain_mut(|item| {
        if let Some(text) = item.as_str() {
            match short(text, item.span) {
                Ok(map) => item.value = Value::Map(map),
                Err(reason) => {
                    let hint = "a mount is written `VOLUME:/path`, `./folder:/path` or `/path`, with `:ro` if need be";
                    log.hinted(ProblemKind::Value, item.span, format!("`{text}` is not a mount: {reason}"), hint);
                    return false;
                }
            }
        }
        if let Some(map) = item.as_map_mut()
            && map.get("type").and_then(Node::as_str) == Some("bind")
            && let Some(source) = map.get_mut("source")
        {
            absolute(source, base);
        }
        true
    });
}

fn short(text: &str, span: Span) -> Result<Map, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("there is nothing between two colons".to_owned());
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err("there are too many colons".to_owned()),
    };
    let node = |value: Value| Node::new(value, span);
    let text_node = |text: &str| node(Value::Str(text.to_owned()));
    let is_path = source.is_some_and(|source| source.starts_with(['.', '/', '~']));
    let mut details = Map::default();
    let mut map = Map::default();
    map.insert("type", span, text_node(if is_path { "bind" } else { "volume" }));
    if let Some(source) = source {
        map.insert("source", span, text_node(source));
    }
    map.insert("target", span, text_node(target));
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => map.insert("read_only", span, node(Value::Bool(true))),
            "rw" => {}
            "nocopy" if !is_path => details.insert("nocopy", span, node(Value::Bool(true))),
            "z" | "Z" if is_path => details.insert("selinux", span, text_node(option)),
            option if is_path && PROPAGATIONS.contains(&option) => {
                details.insert("propagation", span, text_node(option));
            }
            // Hints for other platforms, without effect here.
            "cached" | "delegated" | "consistent" | "z" | "Z" | "nocopy" => {}
            option => return Err(format!("the option `{option}` is not known")),
        }
    }
    if is_path {
        details.insert("create_host_path", span, node(Value::Bool(true)));
    }
    let key = if is_path { "bind" } else { "volume" };
    map.entries.push(Entry { key: key.to_owned(), span, value: node(Value::Map(details)) });
    Ok(map)
}
