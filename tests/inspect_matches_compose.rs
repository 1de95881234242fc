//! What we make is what `docker compose` makes: for fixtures that cover the keys of services, the containers that the
//! engine shows after `docker compose create` and after `sandbox up` are the same, but for the differences listed here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value as Json};
use support::{World, repository};

/// Where we differ on purpose: a service (or `*`), how the difference begins, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("*", "Config.Attach", "what the client that creates it listens to; no property of the container"),
    ("*", "HostConfig.RestartPolicy", "restarts are the session's or the keeper's"),
    ("*", "HostConfig.CapDrop: only we have \"NET_RAW\"", "raw packets would get round the gateway"),
    ("*", "HostConfig.SecurityOpt: only we have \"no-new-privileges", "nobody becomes more than he was"),
    ("*", "HostConfig.SecurityOpt: only we have \"seccomp=", "throwaway data is not synced"),
    ("*", "HostConfig.PidsLimit: Compose has null, we have 8192", "one sandbox must not take all processes"),
    ("*", "HostConfig.Dns: only we have \"10.", "the sandbox's gateway resolves"),
    (
        "networked",
        "HostConfig.Dns: only Compose has \"8.8.8.8\"",
        "the egress policy does not open it; `up` warns",
    ),
    ("*", "HostConfig.DnsSearch: only we have \".\"", "the host's domains mean nothing in a sandbox"),
    ("*", "Networks.default.IPAMConfig: Compose has null", FIXED),
    ("*", "Networks.front.IPAMConfig: Compose has null", FIXED),
    ("*", "Networks.back.IPAMConfig: Compose has null", FIXED),
    ("built", "Config.Image", BUILT),
    ("inline", "Config.Image", BUILT),
    ("staged", "Config.Image", BUILT),
    ("granted", "HostConfig.Mounts./etc/file", "a config is the container's own file, not one of the host's"),
    ("granted", "Mounts./etc/file", "a config is the container's own file, not one of the host's"),
    ("granted", "HostConfig.Mounts./run/secrets", "secrets are in memory, not files of the host's"),
    ("granted", "Mounts./run/secrets", "secrets are in memory, not files of the host's"),
    ("joined", "HostConfig.VolumesFrom", "Compose forgets the mode"),
    ("joined", "Mounts./data.RW", "Compose forgets the mode"),
    (
        "linked",
        "Networks.default.Links: only Compose has \"limited:limited-1\"",
        "names of Compose's containers",
    ),
    ("linked", "Networks.default.Links: only Compose has \"quota:quota", "names of Compose's containers"),
    ("networked", "Config.MacAddress: Compose has null", "Compose does not apply it before API 1.44"),
    ("networked", "HostConfig.PortBindings", "ports are published by the gateway"),
    ("process", "Networks.default.Aliases: only we have \"foo\"", "the engine adds it at the start"),
    ("network", "IPAM", "each sandbox has small subnets of its own"),
    ("network", "Internal", "nothing gets out past the gateway"),
    ("network", "Options", "the host is not reached by the bridge's address"),
    ("volume", "Options", "a volume lies in the storage that clones"),
];
const FIXED: &str = "addresses are fixed, so that the gateway knows them";
const BUILT: &str = "an image that is built is named after the spec and what it is built from";

/// Lists whose order has a meaning: the words of a command.
const ORDERED: [&str; 3] = ["Cmd", "Entrypoint", "Test"];

/// The parts of `docker inspect` that are compared.
const PARTS: [&str; 3] = ["Config", "HostConfig", "Mounts"];

/// Compose's own containers, gone with this value.
struct Composed<'a> {
    world: &'a World,
    project: String,
    files: Vec<&'static str>,
}

impl<'a> Composed<'a> {
    fn create(world: &'a World, files: &[&'static str]) -> Self {
        let composed = Self { world, project: format!("{}c", world.name()), files: files.to_vec() };
        composed.run(&["create"]);
        composed
    }

    fn run(&self, arguments: &[&str]) {
        let files = self.files.iter().flat_map(|file| ["-f", *file]);
        let all: Vec<&str> = ["compose", "-p", &self.project]
            .into_iter()
            .chain(files)
            .chain(arguments.iter().copied())
            .collect();
        self.world.host("docker", &all).run().success();
    }
}

impl Drop for Composed<'_> {
    fn drop(&mut self) {
        let arguments = ["compose", "-p", &self.project, "down", "-v", "--rmi", "local", "-t", "0"];
        let _ = Command::new("docker").args(arguments).current_dir(self.world.project()).output();
    }
}

/// Every service's first container with the number of its replicas, by the service's name.
fn containers(world: &World, label: &str, filter: &str) -> BTreeMap<String, (usize, Json)> {
    let listed = world.engine().docker(&["ps", "-aq", "--no-trunc", "--filter", filter]).success().stdout;
    let ids: Vec<&str> = listed.lines().collect();
    let mut arguments = vec!["inspect"];
    arguments.extend(&ids);
    let mut found: BTreeMap<String, (usize, Json)> = BTreeMap::new();
    for container in world.engine().docker(&arguments).success().json().as_array().unwrap() {
        let Some(service) = container["Config"]["Labels"][label].as_str() else { continue };
        let (count, first) = found.entry(service.to_owned()).or_insert_with(|| (0, container.clone()));
        *count += 1;
        if container["Name"].as_str() < first["Name"].as_str() {
            *first = container.clone();
        }
    }
    found
}

/// What is compared of a container, names and numbers that are its own taken out.
fn portrait(container: &Json, names: &[(String, String)]) -> Json {
    let mut portrait = Map::new();
    for part in PARTS {
        portrait.insert(part.to_owned(), container[part].clone());
    }
    let own = container["Name"].as_str().unwrap().trim_start_matches('/');
    let networks = container["NetworkSettings"]["Networks"].as_object().unwrap();
    let networks = networks.iter().map(|(name, endpoint)| {
        let kept = ["Aliases", "Links", "DriverOpts", "IPAMConfig"];
        let kept = kept.map(|key| (key.to_owned(), endpoint[key].clone()));
        (name.clone(), Json::Object(kept.into_iter().collect()))
    });
    portrait.insert("Networks".to_owned(), Json::Object(networks.collect()));
    let mut portrait = Json::Object(portrait);
    neutral(&mut portrait, &|text| {
        if text == own || text.len() == 12 && names.iter().any(|(id, _)| id.starts_with(text)) {
            return None;
        }
        let text = names.iter().fold(text.to_owned(), |text, (name, instead)| text.replace(name, instead));
        // A volume without a name, and where the engine keeps one.
        let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let unnamed = digits || text.starts_with(".mounted.") || text.starts_with("/var/lib/docker/volumes/");
        (!unnamed).then_some(text)
    });
    tidy(&mut portrait);
    portrait
}

/// Changes every text, keys too; those that become nothing are taken out of lists and made null elsewhere.
fn neutral(value: &mut Json, change: &impl Fn(&str) -> Option<String>) {
    match value {
        Json::String(text) => *value = change(text).map_or(Json::Null, Json::String),
        Json::Array(items) => {
            items.iter_mut().for_each(|item| neutral(item, change));
            items.retain(|item| !item.is_null());
        }
        Json::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                neutral(&mut item, change);
                map.insert(change(&key).unwrap_or_default(), item);
            }
        }
        _ => {}
    }
}

/// What stands for the same: nothing and an empty list; lists without order; our labels and Compose's.
fn tidy(portrait: &mut Json) {
    strip_labels(&mut portrait["Config"]["Labels"]);
    let by_key = |mounts: &mut Json, key: &str| {
        let list = mounts.as_array_mut().map(std::mem::take).unwrap_or_default();
        let named = list.into_iter().map(|mount| (mount[key].as_str().unwrap_or_default().to_owned(), mount));
        *mounts = Json::Object(named.collect());
    };
    by_key(&mut portrait["Mounts"], "Destination");
    by_key(&mut portrait["HostConfig"]["Mounts"], "Target");
    by_key(&mut portrait["HostConfig"]["Ulimits"], "Name");
    sort(portrait);
    prune(portrait);
}

fn strip_labels(labels: &mut Json) {
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|key, _| !key.starts_with("com.docker.compose.") && !key.starts_with("dev.sandbox."));
    }
}

fn sort(value: &mut Json) {
    match value {
        Json::Array(items) if items.iter().all(Json::is_string) => {
            items.sort_by_key(ToString::to_string);
            items.dedup();
        }
        Json::Array(items) => items.iter_mut().for_each(sort),
        Json::Object(map) => map
            .iter_mut()
            .filter(|(key, _)| !ORDERED.contains(&key.as_str()))
            .for_each(|(_, item)| sort(item)),
        _ => {}
    }
}

fn prune(value: &mut Json) {
    if let Json::Object(map) = value {
        map.values_mut().for_each(prune);
        map.retain(|_, item| match item {
            Json::Null => false,
            Json::Array(items) => !items.is_empty(),
            Json::Object(items) => !items.is_empty(),
            Json::String(text) => !text.is_empty(),
            Json::Bool(flag) => *flag,
            Json::Number(number) => number.as_f64() != Some(0.0),
        });
    }
}

/// Every path at which two portraits differ.
fn differences(theirs: &Json, ours: &Json, path: &str, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Json::Object(a), Json::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let (a, b) = (a.get(key).unwrap_or(&Json::Null), b.get(key).unwrap_or(&Json::Null));
                differences(a, b, &below, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) if is_set(path, a) && is_set(path, b) => {
            let empty = Vec::new();
            let (a, b) = (a.as_array().unwrap_or(&empty), b.as_array().unwrap_or(&empty));
            let only = |one: &[Json], other: &[Json], who: &str| -> Vec<String> {
                let alone = one.iter().filter(|item| !other.contains(item));
                alone.map(|item| format!("{path}: only {who} {item}")).collect()
            };
            found.extend(only(a, b, "Compose has"));
            found.extend(only(b, a, "we have"));
        }
        (a, b) => found.push(format!("{path}: Compose has {a}, we have {b}")),
    }
}

/// Whether it is a list whose order means nothing, or one that is not there.
fn is_set(path: &str, value: &Json) -> bool {
    let ordered = ORDERED.iter().any(|key| path.ends_with(key));
    !ordered && (value.is_null() || value.as_array().is_some_and(|items| items.iter().all(Json::is_string)))
}

/// Some fields of an object, without the tools' own labels.
fn part(object: &Json, fields: &[&str]) -> Json {
    let mut part: Map<String, Json> =
        fields.iter().map(|field| ((*field).to_owned(), object[*field].clone())).collect();
    strip_labels(&mut part["Labels"]);
    let mut part = Json::Object(part);
    prune(&mut part);
    part
}

/// What differs between Compose's and ours without being listed.
fn undesired(kind: &str, name: &str, [theirs, ours]: &[Json; 2]) -> Vec<String> {
    let mut found = Vec::new();
    differences(theirs, ours, "", &mut found);
    let meant = |line: &String| {
        let whose = |listed: &str| listed == "*" || listed == kind;
        DIFFERENCES.iter().any(|(listed, begins, _)| whose(listed) && line.starts_with(begins))
    };
    found.into_iter().filter(|line| !meant(line)).map(|line| format!("{name}: {line}")).collect()
}

/// Creates the same services with both and compares each.
fn compare(fixture: &str, override_file: Option<&str>) {
    let installed = Command::new("docker").args(["compose", "version"]).output();
    assert!(
        installed.is_ok_and(|out| out.status.success()),
        "`docker compose` is not installed: `fixtures/setup --tests` installs it"
    );
    let world = World::new();
    copy(&repository().join("fixtures/compose").join(fixture), &world.project());
    let mut files = vec!["compose.yaml"];
    if let Some(text) = override_file {
        world.file("override.yaml", text);
        files.push("override.yaml");
    }
    let composed = Composed::create(&world, &files);
    let mut up = vec!["up", "-d"];
    up.extend(files.iter().flat_map(|file| ["-f", *file]));
    world.sandbox(up).success();

    let project = format!("label=com.docker.compose.project={}", composed.project);
    let theirs = containers(&world, "com.docker.compose.service", &project);
    let scope = format!("label=dev.sandbox.scope={}", world.name());
    let ours = containers(&world, "dev.sandbox.service", &scope);
    let counts = |of: &BTreeMap<String, (usize, Json)>| -> Vec<String> {
        of.iter().map(|(service, (count, _))| format!("{service} {count}")).collect()
    };
    assert_eq!(counts(&theirs), counts(&ours));
    let mut names: Vec<(String, String)> = theirs
        .iter()
        .chain(&ours)
        .map(|(service, (_, container))| (container["Id"].as_str().unwrap().to_owned(), service.clone()))
        .collect();
    names.extend(
        theirs.keys().map(|service| (format!("{}-{service}-1", composed.project), service.to_owned())),
    );
    names.push((format!("{}_", composed.project), String::new()));
    names.push((format!("sbx-{}.", world.name()), String::new()));
    let mut wrong = Vec::new();
    for (service, (_, theirs)) in &theirs {
        let both = [theirs, &ours[service].1].map(|container| portrait(container, &names));
        wrong.extend(undesired(service, service, &both));
    }
    for network in world.engine().networks() {
        let Some(key) = network.strip_prefix(&format!("sbx-{}.", world.name())) else { continue };
        let both = [format!("{}_{key}", composed.project), network.clone()]
            .map(|name| world.engine().inspect(&name));
        let kept = ["Driver", "Internal", "Attachable", "EnableIPv6", "Options", "Labels", "IPAM"];
        wrong.extend(undesired("network", key, &both.map(|network| part(&network, &kept))));
    }
    let both = [format!("{}_data", composed.project), format!("sbx-{}.data", world.name())]
        .map(|name| world.engine().inspect(&name));
    let both = both.map(|volume| part(&volume, &["Driver", "Labels", "Options"]));
    wrong.extend(undesired("volume", "data", &both));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_service_of_every_kind_is_the_container_that_compose_makes_of_it() {
    compare("inspect", None);
}
