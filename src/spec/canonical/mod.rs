//! Converts a document to its canonical form: short forms become long ones, keys under `x-sandbox` move into place,
//! relative paths become absolute. So merging and reading handle only one form. A value of the wrong type is kept for
//! the reader to report.

mod path;

use std::path::Path;

use super::container_settings;
use super::diagnostics::Log;
use super::node::{Entry, Map, Node, Span, Value};
use super::ports;
use super::problem::ProblemKind;
use super::volumes;

pub(super) use path::{Base, absolute, clean, is_file_reference, is_remote, leaves, path, real};

/// Our own keys at the top level.
pub(super) const TOP_WORDS: [&str; 10] =
    ["lifetime", "egress", "durable", "artifacts", "limits", "tasks", "welcome", "open", "requires", "env"];
/// Our own keys in a service.
pub(super) const SERVICE_WORDS: [&str; 3] = ["ready", "seed", "durable"];

/// Converts a document to its canonical form.
pub(super) fn document(log: &Log, root: &mut Node, base: &Base<'_>) {
    let Some(map) = root.as_map_mut() else { return };
    lift(log, map, &TOP_WORDS, "the top level");
    keyed(map, "env");
    listed(map, "open");
    each(map, "services", |service| {
        lift(log, service, &SERVICE_WORDS, "a service");
        self::service(log, service, base);
    });
    each(map, "volumes", |volume| {
        lift(log, volume, &["seed"], "a volume");
        seeds(volume, base);
        if let Some(options) = volume.get_mut("driver_opts").and_then(Node::as_map_mut)
            && options.get("o").and_then(Node::scalar).is_some_and(|o| o.split(',').any(|o| o == "bind"))
        {
            path(options, "device", base);
        }
    });
    each(map, "secrets", |secret| {
        let generated = secret
            .get("x-sandbox")
            .and_then(Node::as_map)
            .is_some_and(|words| words.get("generate").is_some());
        if generated {
            // Compose uses the file or variable; here the value is generated.
            secret.remove("file");
            secret.remove("environment");
        }
        lift(log, secret, &["generate"], "a secret");
        path(secret, "file", base);
    });
    each(map, "configs", |config| path(config, "file", base));
    if let Some(Value::Seq(items)) = map.get_mut("include").map(|node| &mut node.value) {
        for item in items {
            if item.as_str().is_some() {
                let span = item.span;
                wrap(item, "path", span);
            }
            if let Some(item) = item.as_map_mut() {
                listed(item, "path");
                listed(item, "env_file");
            }
        }
    }
}

/// Fills in defaults after the files are merged, because a default must not override what another file says.
pub(super) fn defaults(root: &mut Node, folder: &Path) {
    let Some(map) = root.as_map_mut() else { return };
    each(map, "services", |service| {
        let Some(node) = service.get_mut("build") else { return };
        let span = node.span;
        let Some(build) = node.as_map_mut() else { return };
        if build.get("context").is_none_or(|context| context.is_null() || context.as_str() == Some("")) {
            build.insert("context", span, Node::str(folder.to_string_lossy(), span));
        }
    });
}

/// Moves our keys from `x-sandbox` one level up.
fn lift(log: &Log, map: &mut Map, words: &[&str], place: &str) {
    let Some(entry) = map.remove("x-sandbox") else { return };
    let inner = match entry.value.value {
        Value::Map(inner) => inner,
        Value::Null => return,
        _ => {
            let message = format!("`x-sandbox` must be a mapping, this is {}", entry.value.kind());
            log.problem(ProblemKind::Type, entry.value.span, message);
            return;
        }
    };
    for word in inner.entries {
        if !words.contains(&word.key.as_str()) {
            let message = format!("`{}` is not one of our words in {place}", word.key);
            let hint = super::nearest::hint(&word.key, words.iter().copied());
            log.hinted(ProblemKind::UnknownKey, word.span, message, hint);
        } else if map.get(&word.key).is_some() {
            let message = format!("`{}` stands both in place and under `x-sandbox`", word.key);
            log.hinted(ProblemKind::Conflict, word.span, message, "keep one of the two");
        } else {
            map.entries.push(word);
        }
    }
}

fn each(root: &mut Map, section: &str, mut f: impl FnMut(&mut Map)) {
    let Some(section) = root.get_mut(section).and_then(Node::as_map_mut) else { return };
    for entry in &mut section.entries {
        if let Some(map) = entry.value.as_map_mut() {
            f(map);
        }
    }
}

/// Wraps a text in a mapping, under `key`.
fn wrap(node: &mut Node, key: &str, span: Span) {
    let inner = Node { value: std::mem::replace(&mut node.value, Value::Null), span, tag: None };
    node.value = Value::Map(Map { entries: vec![Entry { key: key.to_owned(), span, value: inner }] });
}

/// Wraps a single text in a list.
fn listed(map: &mut Map, key: &str) {
    let Some(node) = map.get_mut(key) else { return };
    if node.scalar().is_some() {
        let inner =
            Node { value: std::mem::replace(&mut node.value, Value::Null), span: node.span, tag: None };
        node.value = Value::Seq(vec![inner]);
    }
}

/// Converts a list of `KEY=VALUE` to a mapping; a key alone has no value.
fn keyed(map: &mut Map, key: &str) {
    pairs(map, key, &['=']);
}

fn pairs(map: &mut Map, key: &str, separators: &[char]) {
    let Some(node) = map.get_mut(key) else { return };
    let Value::Seq(items) = &node.value else { return };
    if items.iter().any(|item| item.scalar().is_none()) {
        return;
    }
    let mut result = Map::default();
    for item in items {
        let text = item.scalar().unwrap_or_default();
        let (name, value) = match text.split_once(separators) {
            Some((name, value)) => (name.to_owned(), Value::Str(value.to_owned())),
            None => (text, Value::Null),
        };
        result.insert(&name, item.span, Node::new(value, item.span));
    }
    node.value = Value::Map(result);
}

/// Converts a list of names to a mapping.
fn named(map: &mut Map, key: &str, value: impl Fn(Span) -> Node) {
    let Some(node) = map.get_mut(key) else { return };
    let Value::Seq(items) = &node.value else { return };
    if items.iter().any(|item| item.scalar().is_none()) {
        return;
    }
    let mut result = Map::default();
    for item in items {
        result.insert(&item.scalar().unwrap_or_default(), item.span, value(item.span));
    }
    node.value = Value::Map(result);
}

/// Wraps each text of a list in a mapping, under `inner`.
fn long(map: &mut Map, key: &str, inner: &str) {
    if let Some(Value::Seq(items)) = map.get_mut(key).map(|node| &mut node.value) {
        for item in items.iter_mut().filter(|item| item.scalar().is_some()) {
            let span = item.span;
            wrap(item, inner, span);
        }
    }
}

/// Splits a command line into words like a shell.
fn words(log: &Log, map: &mut Map, key: &str) {
    let Some(node) = map.get_mut(key) else { return };
    let Some(line) = node.as_str() else { return };
    let span = node.span;
    let parts = split_command(line).unwrap_or_else(|| {
        let message = format!("the quotes in `{key}` are not closed");
        log.hinted(ProblemKind::Value, span, message, "close them, or write the command as a list");
        Vec::new()
    });
    node.value = Value::Seq(parts.into_iter().map(|part| Node::str(part, span)).collect());
}

/// Splits like a shell, but without comments: Compose has none in a command, while `shlex` treats a word that begins
/// with `#` as one.
fn split_command(line: &str) -> Option<Vec<String>> {
    let bytes = line.as_bytes();
    let mut escaped = String::with_capacity(line.len());
    let (mut quote, mut after_backslash, mut at_start) = (None, false, true);
    for (offset, c) in line.char_indices() {
        if c == '#' && at_start && quote.is_none() && !after_backslash {
            escaped.push('\\');
        }
        escaped.push(c);
        at_start = quote.is_none() && !after_backslash && bytes[offset].is_ascii_whitespace();
        match (quote, c) {
            _ if after_backslash => after_backslash = false,
            (None | Some('"'), '\\') => after_backslash = true,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    shlex::split(&escaped)
}

fn service(log: &Log, map: &mut Map, base: &Base<'_>) {
    build(map, base);
    for key in ["environment", "labels"].into_iter().chain(container_settings::maps()) {
        keyed(map, key);
    }
    for key in ["command", "entrypoint"] {
        words(log, map, key);
    }
    for key in ["dns", "dns_search", "dns_opt", "tmpfs", "env_file", "label_file"] {
        listed(map, key);
    }
    for key in ["dns", "dns_search"] {
        if let Some(Value::Seq(items)) = map.get_mut(key).map(|node| &mut node.value) {
            items.retain(|item| item.as_str() != Some(""));
        }
    }
    long(map, "env_file", "path");
    items(map, "env_file", |file| path(file, "path", base));
    if let Some(Value::Seq(files)) = map.get_mut("label_file").map(|node| &mut node.value) {
        for file in files {
            absolute(file, base);
        }
    }
    named(map, "depends_on", |span| {
        let entry = |key: &str, value| Entry { key: key.to_owned(), span, value: Node::new(value, span) };
        let condition = Value::Str("service_started".to_owned());
        Node::map(vec![entry("condition", condition), entry("required", Value::Bool(true))], span)
    });
    named(map, "networks", |span| Node::new(Value::Null, span));
    hosts(map, "extra_hosts");
    for key in ["secrets", "configs"] {
        long(map, key, "source");
    }
    if let Some(test) = map.get_mut("healthcheck").and_then(Node::as_map_mut).and_then(|h| h.get_mut("test"))
        && let Some(line) = test.as_str()
    {
        let parts = vec![Node::str("CMD-SHELL", test.span), Node::str(line, test.span)];
        test.value = Value::Seq(parts);
    }
    if let Some(deploy) = map.get_mut("deploy").and_then(Node::as_map_mut) {
        keyed(deploy, "labels");
    }
    if let Some(extends) = map.get_mut("extends")
        && extends.as_str().is_some()
    {
        let span = extends.span;
        wrap(extends, "service", span);
    }
    if let Some(gpus) = map.get_mut("gpus")
        && gpus.as_str() == Some("all")
    {
        let span = gpus.span;
        wrap(gpus, "count", span);
        let inner = Node { value: std::mem::replace(&mut gpus.value, Value::Null), span, tag: None };
        gpus.value = Value::Seq(vec![inner]);
    }
    for key in ["pre_start", "post_start", "pre_stop"] {
        items(map, key, |hook| {
            words(log, hook, "command");
            keyed(hook, "environment");
        });
    }
    devices(map);
    ports::expand(log, map);
    volumes::expand(log, map, base);
    watch(log, map, base);
    seeds(map, base);
}

fn items(map: &mut Map, key: &str, mut f: impl FnMut(&mut Map)) {
    if let Some(Value::Seq(items)) = map.get_mut(key).map(|node| &mut node.value) {
        items.iter_mut().filter_map(Node::as_map_mut).for_each(&mut f);
    }
}

fn build(map: &mut Map, base: &Base<'_>) {
    let Some(node) = map.get_mut("build") else { return };
    if node.as_str().is_some() {
        let span = node.span;
        wrap(node, "context", span);
    }
    let Some(build) = node.as_map_mut() else { return };
    for key in ["args", "labels", "additional_contexts", "ssh"] {
        keyed(build, key);
    }
    for key in ["cache_from", "cache_to", "no_cache_filter", "tags", "platforms"] {
        listed(build, key);
    }
    hosts(build, "extra_hosts");
    long(build, "secrets", "source");
    if let Some(context) = build.get_mut("context")
        && !is_remote(context.as_str().unwrap_or_default())
    {
        absolute(context, base);
    }
    if let Some(contexts) = build.get_mut("additional_contexts").and_then(Node::as_map_mut) {
        for entry in &mut contexts.entries {
            let text = entry.value.as_str().unwrap_or_default();
            if !is_remote(text) && !text.contains("://") && !text.starts_with("service:") {
                absolute(&mut entry.value, base);
            }
        }
    }
    if let Some(keys) = build.get_mut("ssh").and_then(Node::as_map_mut) {
        keys.entries.iter_mut().for_each(|entry| absolute(&mut entry.value, base));
    }
}

/// Converts `extra_hosts` to a mapping of names to lists of addresses.
fn hosts(map: &mut Map, key: &str) {
    let Some(node) = map.get_mut(key) else { return };
    let mut result = Map::default();
    let mut add = |name: &str, span: Span, address: Node| match result.get_mut(name).map(|n| &mut n.value) {
        Some(Value::Seq(list)) => list.push(address),
        _ => result.insert(name, span, Node::new(Value::Seq(vec![address]), span)),
    };
    match &node.value {
        Value::Seq(items) => {
            for item in items {
                let Some(text) = item.scalar() else { return };
                let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
                    return;
                };
                for address in address.split(',') {
                    let address = address.trim_start_matches('[').trim_end_matches(']');
                    add(name, item.span, Node::str(address, item.span));
                }
            }
        }
        Value::Map(written) => {
            for entry in &written.entries {
                match &entry.value.value {
                    Value::Seq(list) => list.iter().for_each(|a| add(&entry.key, entry.span, a.clone())),
                    _ => add(&entry.key, entry.span, entry.value.clone()),
                }
            }
        }
        _ => return,
    }
    node.value = Value::Map(result);
}

fn devices(map: &mut Map) {
    let Some(Value::Seq(items)) = map.get_mut("devices").map(|node| &mut node.value) else { return };
    for item in items {
        let Some(text) = item.as_str() else { continue };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, permissions) = match parts.as_slice() {
            [source] => (*source, *source, "rwm"),
            [source, target] => (*source, *target, "rwm"),
            [source, target, permissions] => (*source, *target, *permissions),
            _ => continue,
        };
        let span = item.span;
        let entry =
            |key: &str, value: &str| Entry { key: key.to_owned(), span, value: Node::str(value, span) };
        let entries =
            vec![entry("source", source), entry("target", target), entry("permissions", permissions)];
        item.value = Value::Map(Map { entries });
    }
}

fn watch(log: &Log, map: &mut Map, base: &Base<'_>) {
    let Some(develop) = map.get_mut("develop").and_then(Node::as_map_mut) else { return };
    items(develop, "watch", |rule| {
        path(rule, "path", base);
        listed(rule, "ignore");
        listed(rule, "include");
        if let Some(hook) = rule.get_mut("exec").and_then(Node::as_map_mut) {
            words(log, hook, "command");
            keyed(hook, "environment");
        }
    });
}

/// Makes the paths of seeds absolute.
fn seeds(map: &mut Map, base: &Base<'_>) {
    if let Some(node) = map.get_mut("seed")
        && node.as_map().is_some()
    {
        // A single step may be written without a list.
        let inner =
            Node { value: std::mem::replace(&mut node.value, Value::Null), span: node.span, tag: None };
        node.value = Value::Seq(vec![inner]);
    }
    items(map, "seed", |seed| super::seed::SYNTAX.iter().for_each(|kind| (kind.resolve)(seed, base)));
}
