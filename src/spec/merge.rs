//! Merges canonical trees by Compose's rules (<https://github.com/compose-spec/compose-spec/blob/main/13-merge.md>):
//! mappings by key, lists appended without duplicates (by the identity of their items), commands replaced.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::container_settings;
use super::node::{Map, MergeTag, Node, Value};

/// The sections whose keys are user-defined names.
pub(super) const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "tasks"];

/// Merges `over` into `base`.
pub(super) fn merge(base: &mut Node, over: Node) {
    at(base, over, &mut Vec::new());
}

/// Merges a service's mapping into another's, as `extends` does.
pub(super) fn merge_service(base: &mut Node, over: Node) {
    at(base, over, &mut vec!["services".to_owned(), "*".to_owned()]);
}

/// Removes values tagged `!reset`, and all tags, from a tree that was not merged into another.
pub(super) fn settle(node: &mut Node) {
    node.tag = None;
    match &mut node.value {
        Value::Seq(items) => {
            items.retain(|item| item.tag != Some(MergeTag::Reset));
            items.iter_mut().for_each(settle);
        }
        Value::Map(map) => {
            map.entries.retain(|entry| entry.value.tag != Some(MergeTag::Reset));
            map.entries.iter_mut().for_each(|entry| settle(&mut entry.value));
        }
        _ => {}
    }
}

/// Restores the tags of `over` on the merged result, so that they apply to the next merge as well.
pub(super) fn retag(merged: &mut Node, over: &Node) {
    let (Some(map), Value::Map(other)) = (merged.as_map_mut(), &over.value) else { return };
    for entry in &other.entries {
        match (entry.value.tag, map.get_mut(&entry.key)) {
            (Some(MergeTag::Reset), _) => map.insert(&entry.key, entry.span, entry.value.clone()),
            (Some(MergeTag::Override), Some(value)) => value.tag = Some(MergeTag::Override),
            (None, Some(value)) => retag(value, &entry.value),
            (_, None) => {}
        }
    }
}

/// How a value at a path is merged.
enum Rule {
    /// Mappings by key, lists appended.
    Deep,
    /// The later value replaces the earlier one.
    Replace,
    /// By key; a key without a value counts as a value.
    Keyed,
    /// By key if the drivers are equal, otherwise replaced.
    Logging,
}

fn rule(path: &[String]) -> Rule {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["egress"] | ["tasks", _] => Rule::Replace,
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint" | "ready"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            ["logging"] => Rule::Logging,
            [key] if container_settings::is_map(key) => Rule::Keyed,
            ["environment" | "labels"] | ["build", "args" | "labels"] | ["deploy", "labels"] => Rule::Keyed,
            _ => Rule::Deep,
        },
        _ => Rule::Deep,
    }
}

fn at(base: &mut Node, mut over: Node, path: &mut Vec<String>) {
    if over.tag == Some(MergeTag::Override) {
        settle(&mut over);
        *base = over;
        return;
    }
    let rule = rule(path);
    if over.is_null() {
        return;
    }
    let whole = match rule {
        Rule::Replace => true,
        Rule::Logging => {
            let driver = |node: &Node| node.as_map().and_then(|map| map.get("driver")).and_then(Node::scalar);
            matches!((driver(base), driver(&over)), (Some(a), Some(b)) if a != b)
        }
        Rule::Deep | Rule::Keyed => false,
    };
    let over_span = over.span;
    match (&mut base.value, over.value) {
        (Value::Map(map), Value::Map(other)) if !whole => {
            mappings(map, other, matches!(rule, Rule::Keyed), path);
        }
        (Value::Seq(items), Value::Seq(other)) if !whole => {
            items.extend(other.into_iter().filter(|item| item.tag != Some(MergeTag::Reset)));
            for item in items.iter_mut() {
                item.tag = None;
            }
            unique(items, path);
        }
        (_, value) => {
            *base = Node { value, span: over_span, tag: None };
            settle(base);
        }
    }
}

fn mappings(base: &mut Map, over: Map, keyed: bool, path: &mut Vec<String>) {
    for entry in over.entries {
        if entry.value.tag == Some(MergeTag::Reset) {
            base.remove(&entry.key);
            continue;
        }
        let free = entry.key.starts_with("x-") && !holds_names(path);
        match base.get_mut(&entry.key) {
            Some(value) if !(free || keyed && entry.value.is_null()) => {
                path.push(entry.key);
                at(value, entry.value, path);
                path.pop();
            }
            _ => {
                let mut value = entry.value;
                settle(&mut value);
                base.insert(&entry.key, entry.span, value);
            }
        }
    }
}

/// Whether the keys below a path are user-defined names, so that a name may begin with `x-`.
fn holds_names(path: &[String]) -> bool {
    let [section] = path else { return false };
    SECTIONS.contains(&section.as_str())
}

/// Removes duplicates from every list of a canonical document, as Compose does after each file.
pub(super) fn unique_all(node: &mut Node, path: &mut Vec<String>) {
    match &mut node.value {
        Value::Map(map) => {
            for entry in &mut map.entries {
                if entry.key.starts_with("x-") && !holds_names(path) {
                    continue;
                }
                path.push(entry.key.clone());
                unique_all(&mut entry.value, path);
                path.pop();
            }
        }
        Value::Seq(items) => unique(items, path),
        _ => {}
    }
}

/// Keeps the last of the items with the same identity, at the position of the first.
fn unique(items: &mut Vec<Node>, path: &[String]) {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let ["services", _, rest @ ..] = words.as_slice() else { return };
    let index: fn(&Node) -> Option<String> = match rest {
        ["ports"] => port_index,
        ["volumes" | "devices"] => |node| text(node, "target"),
        ["secrets"] => |node| grant_index(node, "/run/secrets/"),
        ["configs"] => |node| grant_index(node, "/"),
        ["env_file"] => |node| text(node, "path"),
        [key] if container_settings::is_list(key) => Node::scalar,
        [
            "dns" | "dns_opt" | "dns_search" | "expose" | "links" | "tmpfs" | "label_file" | "profiles"
            | "volumes_from",
        ]
        | ["build", "tags" | "platforms"]
        | ["networks", _, "aliases" | "link_local_ips"]
        | ["extra_hosts", _]
        | ["build", "extra_hosts", _] => Node::scalar,
        _ => return,
    };
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Node> = Vec::new();
    for item in items.drain(..) {
        match index(&item).map(|key| places.entry(key)) {
            Some(Entry::Occupied(place)) => kept[*place.get()] = item,
            place => {
                if let Some(Entry::Vacant(place)) = place {
                    place.insert(kept.len());
                }
                kept.push(item);
            }
        }
    }
    *items = kept;
}

fn text(node: &Node, key: &str) -> Option<String> {
    node.as_map()?.get(key)?.scalar()
}

fn port_index(node: &Node) -> Option<String> {
    let target = text(node, "target")?;
    let published = text(node, "published").unwrap_or_default();
    let ip = text(node, "host_ip").unwrap_or_else(|| "0.0.0.0".to_owned());
    let protocol = text(node, "protocol").unwrap_or_else(|| "tcp".to_owned());
    Some(format!("{ip}:{published}:{target}/{protocol}"))
}

fn grant_index(node: &Node, folder: &str) -> Option<String> {
    text(node, "target").or_else(|| Some(format!("{folder}{}", text(node, "source")?)))
}
