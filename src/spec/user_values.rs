//! Finds the values of a spec that hold something of the user's own variables, so that an export does not give them away.
//!
//! `environment` of services is recorded where it is read (`Service::user_environment`), because an export leaves such
//! variables out. All other values are found here, by the marks of the interpolation. Extension keys (`x-…`) have no
//! meaning in a sandbox and are not exported.

use std::collections::BTreeSet;

use super::diagnostics::Log;
use super::model::Spec;
use super::node::{Node, Value};

/// Keys of a service that name images, addresses, paths and settings, which are no secrets. `environment` has a record
/// of its own.
const HARMLESS_OF_SERVICE: [&str; 28] = [
    "attach",
    "cap_add",
    "cap_drop",
    "container_name",
    "depends_on",
    "develop",
    "env_file",
    "environment",
    "expose",
    "extends",
    "hostname",
    "image",
    "links",
    "network_mode",
    "networks",
    "platform",
    "ports",
    "profiles",
    "pull_policy",
    "restart",
    "scale",
    "seed",
    "stop_signal",
    "tmpfs",
    "user",
    "volumes",
    "volumes_from",
    "working_dir",
];
const HARMLESS_OF_BUILD: [&str; 10] = [
    "additional_contexts",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "network",
    "platforms",
    "tags",
    "target",
    "no_cache_filter",
];
/// Top-level keys that are read elsewhere or do not become part of the model.
const HARMLESS_AT_TOP: [&str; 3] = ["name", "version", "include"];
/// Most digits of a number that is taken as a size, a port or a duration.
const DIGITS: usize = 5;

/// The paths (`services.a.command`) of these values, except `environment` of services. Only what is in the spec counts.
pub(super) fn paths(log: &Log, root: &Node, spec: &Spec) -> BTreeSet<String> {
    let mut search = Search { log, spec, found: BTreeSet::new() };
    search.look(root, &mut Vec::new());
    search.found
}

fn is_in(spec: &Spec, service: &str) -> bool {
    spec.services.contains_key(service) || spec.build_only.contains_key(service)
}

struct Search<'a> {
    log: &'a Log,
    spec: &'a Spec,
    found: BTreeSet<String>,
}

impl Search<'_> {
    fn look<'n>(&mut self, node: &'n Node, path: &mut Vec<&'n str>) {
        match &node.value {
            Value::Map(map) => {
                for entry in &map.entries {
                    path.push(&entry.key);
                    if !self.is_passed_over(path) {
                        self.look(&entry.value, path);
                    }
                    path.pop();
                }
            }
            Value::Seq(items) => items.iter().for_each(|item| self.look(item, path)),
            Value::Str(text) if self.log.is_user_value(node.span) && !is_plain(text) => {
                self.found.insert(path.join("."));
            }
            // A key without a value that got it from the user's variables.
            Value::Null if self.log.is_user_value(node.span) => {
                self.found.insert(path.join("."));
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => {}
        }
    }

    /// Whether the value at a path is harmless, not exported, or not part of the spec.
    fn is_passed_over(&self, path: &[&str]) -> bool {
        let Spec { networks, volumes, secrets, configs, .. } = self.spec;
        match path {
            [key] => key.starts_with("x-") || HARMLESS_AT_TOP.contains(key),
            ["services", name] => !is_in(self.spec, name),
            ["networks", name] => !networks.contains_key(*name),
            ["volumes", name] => !volumes.contains_key(*name),
            ["secrets", name] => !secrets.contains_key(*name),
            ["configs", name] => !configs.contains_key(*name),
            ["services", _, key] => key.starts_with("x-") || HARMLESS_OF_SERVICE.contains(key),
            ["services", _, "build", key] => key.starts_with("x-") || HARMLESS_OF_BUILD.contains(key),
            ["networks" | "volumes" | "secrets" | "configs", _, key] => {
                key.starts_with("x-") || matches!(*key, "name" | "file" | "environment" | "external")
            }
            _ => false,
        }
    }
}

/// Whether a text is a keyword for a boolean, or a short number, perhaps with a unit (`8080`, `512m`, `1.5s`).
fn is_plain(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_number = digits.len() <= DIGITS
        && text.len() - digits.len() <= 2
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.is_empty() || is_number || matches!(text, "true" | "false" | "yes" | "no" | "on" | "off")
}

#[cfg(test)]
mod tests {
    use super::super::{HostAccess, LoadRequest, load, readmitted};
    use super::*;

    fn spec(yaml: &str) -> Spec {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sandbox.yaml"), yaml).unwrap();
        std::fs::write(dir.path().join("labels"), "plain=1\nof_user=${MYPW}\n").unwrap();
        std::fs::write(dir.path().join("Dockerfile"), "FROM x\n").unwrap();
        let env = [("MYPW", "hunter2"), ("PORT", "8080"), ("TAG", "v1")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let folder = dir.path().to_owned();
        load(&LoadRequest { folder, env, ..LoadRequest::default() }).unwrap_or_else(|it| panic!("{it}")).spec
    }

    fn found(yaml: &str) -> Vec<String> {
        spec(yaml).user_values.into_iter().collect()
    }

    #[test]
    fn every_place_that_holds_a_value_of_the_user_is_named() {
        let of_service = |key: &str| found(&format!("services: {{ a: {{ image: x, {key} }} }}"));
        for (written, path) in [
            ("command: 'serve --password ${MYPW}'", "services.a.command"),
            ("command: [serve, '${MYPW}']", "services.a.command"),
            ("entrypoint: [sh, -c, '${MYPW}']", "services.a.entrypoint"),
            ("healthcheck: { test: 'curl ${MYPW}' }", "services.a.healthcheck.test"),
            ("labels: { key: '${MYPW}' }", "services.a.labels.key"),
            ("labels: ['key=${MYPW}']", "services.a.labels.key"),
            ("label_file: labels", "services.a.label_file"),
            ("logging: { driver: json-file, options: { tag: '${MYPW}' } }", "services.a.logging.options.tag"),
            ("build: { context: ., args: { MYPW: } }", "services.a.build.args.MYPW"),
            ("build: { context: ., args: [MYPW] }", "services.a.build.args.MYPW"),
            ("build: { context: ., args: { KEY: '${MYPW}' } }", "services.a.build.args.KEY"),
            (
                "build: { context: ., dockerfile_inline: 'FROM ${MYPW}' }",
                "services.a.build.dockerfile_inline",
            ),
            ("post_start: [{ command: x, environment: [MYPW] }]", "services.a.post_start.environment.MYPW"),
            ("post_start: [{ command: 'x ${MYPW}' }]", "services.a.post_start.command"),
        ] {
            assert_eq!(of_service(written), [path], "{written}");
        }
        let config = "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { content: 'p=${MYPW}' } }";
        assert_eq!(found(config), ["configs.c.content"]);
    }

    #[test]
    fn values_of_the_spec_and_settings_are_not_named() {
        let yaml = "
x-common: &common { key: '${MYPW}' }
services:
  a:
    image: 'x:${TAG}'
    ports: ['${PORT}']
    environment: { MYPW: , KEY: '${MYPW}' }
    command: 'serve --mode ${MODE:-dev}'
    working_dir: '/${TAG}'
    mem_limit: '${PORT}k'
    labels: { port: '${PORT}' }
    x-note: '${MYPW}'
  b:
    image: x
    profiles: [never]
    command: 'serve ${MYPW}'
configs: { unused: { content: '${MYPW}' } }
";
        assert_eq!(found(yaml), [""; 0]);
    }

    #[test]
    fn a_spec_that_is_taken_from_a_snapshot_keeps_the_record() {
        let kept = spec("services: { a: { image: x, command: 'x ${MYPW}', environment: [MYPW] } }");
        let again = readmitted(&kept, HostAccess::Refused).unwrap();
        assert_eq!(again.user_values, kept.user_values);
        assert_eq!(again.services["a"].user_environment, kept.services["a"].user_environment);
        assert!(!kept.user_values.is_empty());
    }
}
