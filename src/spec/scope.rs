//! Resolves what an included file takes from its own variables (`env_file` of `include`, the `.env` beside it).

use std::collections::BTreeMap;

use super::node::{Map, Node, Value};

/// Values of secrets and configs, by section and name.
pub(super) type ScopedValues = BTreeMap<(String, String), String>;

/// Sets variables without a value (`environment: [NAME]`) to the values that they have for an included file.
pub(super) fn fill_in(model: &mut Node, variables: &BTreeMap<String, String>) {
    let services = model.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut);
    for service in services.into_iter().flat_map(|services| &mut services.entries) {
        let Some(service) = service.value.as_map_mut() else { continue };
        fill(service, "environment", variables);
        if let Some(build) = service.get_mut("build").and_then(Node::as_map_mut) {
            fill(build, "args", variables);
        }
        for hooks in ["pre_start", "post_start", "pre_stop"] {
            each_map(service, hooks, |hook| fill(hook, "environment", variables));
        }
        if let Some(develop) = service.get_mut("develop").and_then(Node::as_map_mut) {
            each_map(develop, "watch", |rule| {
                if let Some(hook) = rule.get_mut("exec").and_then(Node::as_map_mut) {
                    fill(hook, "environment", variables);
                }
            });
        }
    }
}

fn each_map(map: &mut Map, key: &str, f: impl FnMut(&mut Map)) {
    if let Some(Value::Seq(items)) = map.get_mut(key).map(|node| &mut node.value) {
        items.iter_mut().filter_map(Node::as_map_mut).for_each(f);
    }
}

fn fill(map: &mut Map, key: &str, variables: &BTreeMap<String, String>) {
    let Some(pairs) = map.get_mut(key).and_then(Node::as_map_mut) else { return };
    for entry in pairs.entries.iter_mut().filter(|entry| entry.value.is_null()) {
        if let Some(value) = variables.get(&entry.key) {
            entry.value.value = Value::Str(value.clone());
        }
    }
}

/// Collects the values of an included file's secrets and configs that come from variables with a different value
/// outside.
pub(super) fn values(
    model: &Node,
    outer: &BTreeMap<String, String>,
    inner: &BTreeMap<String, String>,
    values: &mut ScopedValues,
) {
    for section in ["secrets", "configs"] {
        let things = model.as_map().and_then(|map| map.get(section)).and_then(Node::as_map);
        for thing in things.into_iter().flat_map(|things| &things.entries) {
            let name = thing.value.as_map().and_then(|map| map.get("environment")).and_then(Node::scalar);
            if let Some(value) = name.as_ref().and_then(|name| inner.get(name))
                && name.and_then(|name| outer.get(&name).cloned()).as_ref() != Some(value)
            {
                values.entry((section.to_owned(), thing.key.clone())).or_insert_with(|| value.clone());
            }
        }
    }
}
