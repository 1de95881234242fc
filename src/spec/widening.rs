//! Lists what a changed spec requests beyond the previous one: egress, files and folders of the host, host access. A
//! service that mounts the project can change the spec, so a session that follows the spec does not apply such a
//! change; the user has to restart the session.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::guard;
use super::model::{Build, ConfigSource, Dockerfile, EgressPolicy, MountKind, SecretSource, Service, Spec};
use super::seed::Seed;

/// Everything that `after` requests and `before` does not, as text for the user. `environment` is the user's own: if a
/// value of it newly appears in the spec, the result names its variable.
pub fn widened(before: &Spec, after: &Spec, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = egress_beyond(&before.egress, &after.egress);
    let reaches = |spec: &Spec| guard::reaches(spec).into_iter().map(|reach| reach.message).collect();
    let sets: [(BTreeSet<String>, BTreeSet<String>); 2] =
        [(reaches(before), reaches(after)), (files(before), files(after))];
    for (before, after) in sets {
        found.extend(after.difference(&before).cloned());
    }
    found.extend(tasks(before, after));
    found.extend(of_this_machine(before, after));
    found.extend(variables(before, after, environment));
    found
}

/// Tasks that would run another command on this machine.
fn tasks(before: &Spec, after: &Spec) -> impl Iterator<Item = String> {
    let of_host = after.tasks.iter().filter(|(_, task)| task.service.is_none());
    let changed = of_host.filter(|(name, task)| before.tasks.get(*name) != Some(*task));
    changed.map(|(name, _)| format!("task `{name}`, which runs on this machine"))
}

/// Variables for commands on this machine, and pages elsewhere that would be opened on it.
fn of_this_machine(before: &Spec, after: &Spec) -> impl Iterator<Item = String> {
    let changed = after.env.iter().filter(|(name, value)| before.env.get(*name) != Some(*value));
    let variables = changed.map(|(name, _)| format!("the variable `{name}` for commands on this machine"));
    let elsewhere = after.open.iter().filter(|page| !after.services.contains_key(page.host.as_str()));
    let pages = elsewhere.filter(|page| !before.open.contains(page));
    variables.chain(pages.map(|page| format!("the page `{page}`")))
}

/// What an egress policy allows beyond another one, as text for the user.
pub fn egress_beyond(before: &EgressPolicy, after: &EgressPolicy) -> Vec<String> {
    match (before, after) {
        (EgressPolicy::Allow, _) | (_, EgressPolicy::Deny) => Vec::new(),
        (_, EgressPolicy::Allow) => vec!["`egress: allow`".to_owned()],
        (before, EgressPolicy::List(rules)) => {
            let known = match before {
                EgressPolicy::List(known) => known.as_slice(),
                _ => &[],
            };
            rules
                .iter()
                .filter(|rule| !known.contains(rule))
                .map(|rule| format!("`egress` to `{rule}`"))
                .collect()
        }
    }
}

/// Something of the host that a spec names.
#[derive(Debug, Clone, Copy)]
pub(super) enum HostItem<'a> {
    /// A file or folder, and what for.
    Path(&'static str, &'a Path),
    /// A build context: a folder, a URL or another image.
    Context(&'a str),
    /// A Dockerfile outside of its context.
    Dockerfile(&'a Path),
    /// An SSH agent or key that a build uses.
    SshKey(&'a str),
    /// A place for cached layers, in the builder's notation.
    Cache(&'a str),
    /// A stored snapshot.
    Snapshot(&'a str),
    /// A variable of the user's environment.
    Variable(&'a str),
}

impl fmt::Display for HostItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(what, path) => write!(f, "{what} `{}`", path.display()),
            Self::Context(context) => write!(f, "the build context `{context}`"),
            Self::Dockerfile(path) => write!(f, "the file `{}`", path.display()),
            Self::SshKey(key) => write!(f, "the SSH agent or key `{key}`"),
            Self::Cache(cache) => write!(f, "the cache `{cache}`"),
            Self::Snapshot(name) => write!(f, "the snapshot `{name}`"),
            Self::Variable(name) => write!(f, "the variable `{name}`"),
        }
    }
}

fn files(spec: &Spec) -> BTreeSet<String> {
    host_items(spec).iter().map(ToString::to_string).collect()
}

/// All files, folders, snapshots and variables of the host that a spec names.
pub(super) fn host_items(spec: &Spec) -> Vec<HostItem<'_>> {
    let mut found: Vec<HostItem> = spec.services.values().flat_map(of_service).collect();
    for volume in spec.volumes.values() {
        let device = volume.driver_opts.get("device");
        found.extend(device.map(|device| HostItem::Path("the folder or device", Path::new(device))));
        found.extend(volume.seed.iter().flat_map(of_seed));
    }
    found.extend(spec.secrets.values().filter_map(|secret| match &secret.source {
        SecretSource::File(path) => Some(HostItem::Path("the file", path)),
        SecretSource::Environment(name) => Some(HostItem::Variable(name)),
        SecretSource::Generate(_) | SecretSource::External => None,
    }));
    found.extend(spec.configs.values().filter_map(|config| match &config.source {
        ConfigSource::File(path) => Some(HostItem::Path("the file", path)),
        ConfigSource::Environment(name) => Some(HostItem::Variable(name)),
        ConfigSource::Content(_) | ConfigSource::External => None,
    }));
    found
}

fn of_service(service: &Service) -> Vec<HostItem<'_>> {
    let mounts = service.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => {
            Some(HostItem::Path(if mount.read_only { "to read" } else { "to write" }, source))
        }
        _ => None,
    });
    let watched = service.watch.iter().map(|rule| HostItem::Path("to watch", &rule.path));
    let seeds = service.seed.iter().flat_map(of_seed);
    mounts.chain(watched).chain(seeds).chain(service.build().into_iter().flat_map(of_build)).collect()
}

fn of_build(build: &Build) -> Vec<HostItem<'_>> {
    let contexts = std::iter::once(&build.context).chain(build.additional_contexts.values());
    let mut found: Vec<HostItem> = contexts.map(|context| HostItem::Context(context)).collect();
    if let Dockerfile::File(path) = &build.dockerfile
        && Path::new(path).is_absolute()
    {
        found.push(HostItem::Dockerfile(Path::new(path)));
    }
    found.extend(build.ssh.iter().map(|(id, path)| HostItem::SshKey(path.as_ref().unwrap_or(id))));
    found.extend(build.cache_to.iter().chain(&build.cache_from).map(|cache| HostItem::Cache(cache)));
    found
}

fn of_seed(seed: &Seed) -> Vec<HostItem<'_>> {
    let files = seed.kind().files().into_iter().map(|file| HostItem::Path("the file or folder", file));
    files.chain(seed.kind().stored_snapshot().map(HostItem::Snapshot)).collect()
}

/// Minimum length of a value to search for: shorter ones occur by chance.
const SHORTEST: usize = 6;

fn variables(before: &Spec, after: &Spec, environment: &BTreeMap<String, String>) -> Vec<String> {
    let text = |spec: &Spec| serde_json::to_string(spec).unwrap_or_default();
    let (before, after) = (text(before), text(after));
    let asked = environment.iter().filter(|(_, value)| value.len() >= SHORTEST).filter(|(_, value)| {
        let written = serde_json::Value::from(value.as_str()).to_string();
        let written = written.trim_matches('"');
        after.contains(written) && !before.contains(written)
    });
    asked.map(|(name, _)| format!("the variable `{name}` of your environment")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LoadRequest, load};

    fn spec(yaml: &str) -> Spec {
        let env = BTreeMap::from([("TOKEN".to_owned(), "hunter2-hunter2".to_owned())]);
        let request = LoadRequest {
            files: vec!["-".into()],
            input: Some(yaml.as_bytes().to_vec()),
            folder: "/nowhere/project".into(),
            env,
            refusals: crate::spec::Refusals::Warn,
            ..LoadRequest::default()
        };
        load(&request).unwrap_or_else(|problems| panic!("{yaml}: {problems}")).spec
    }

    fn asked(before: &str, after: &str) -> Vec<String> {
        let env = BTreeMap::from([("TOKEN".to_owned(), "hunter2-hunter2".to_owned())]);
        let service = |more: &str| format!("{{ services: {{ a: {{ image: x, {more}");
        widened(&spec(&service(before)), &spec(&service(after)), &env)
    }

    #[test]
    fn what_a_service_could_write_into_the_spec_is_asked_for() {
        for (after, says) in [
            ("} }, egress: allow }", "`egress: allow`"),
            ("} }, egress: [example.com] }", "`egress` to"),
            ("volumes: ['./x:/x'] } } }", "to write `/nowhere/project/x`"),
            ("volumes: ['./x:/x:ro'] } } }", "to read `/nowhere/project/x`"),
            ("configs: [c] } }, configs: { c: { file: /etc/shadow } } }", "the file `/etc/shadow`"),
            ("secrets: [c] } }, secrets: { c: { file: ./key } } }", "the file `/nowhere/project/key`"),
            ("secrets: [c] } }, secrets: { c: { environment: TOKEN } } }", "the variable `TOKEN`"),
            ("environment: [TOKEN] } } }", "the variable `TOKEN` of your environment"),
            ("command: 'echo $TOKEN' } } }", "the variable `TOKEN` of your environment"),
            ("privileged: true } } }", "`privileged`"),
            ("} }, tasks: { t: 'curl x | sh' } }", "task `t`, which runs on this machine"),
            ("} }, env: { PATH: /x } }", "the variable `PATH` for commands"),
            ("} }, open: ['https://example.com/x'] }", "the page `https://example.com/x`"),
            (
                "develop: { watch: [{ path: ./y, action: sync, target: /y }] } } } }",
                "to watch `/nowhere/project/y`",
            ),
        ] {
            let found = asked("} } }", after);
            assert!(found.iter().any(|it| it.contains(says)), "{after}: {found:?}");
        }
    }

    #[test]
    fn what_was_there_or_goes_is_not_asked_for() {
        let had = "volumes: ['./x:/x'], environment: [TOKEN] } }, egress: [a.example, b.example] }";
        assert_eq!(asked(had, had), Vec::<String>::new());
        assert_eq!(
            asked(had, "command: sleep, environment: { A: '1' } } }, egress: [b.example] }"),
            Vec::<String>::new()
        );
        assert_eq!(asked("} }, egress: allow }", "} }, egress: [a.example] }"), Vec::<String>::new());
    }
}
