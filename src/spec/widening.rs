//! Lists what a changed spec requests beyond the previous one: egress, files and folders of the host, host access. A
//! service that mounts the project can change the spec, so a session that follows the spec does not apply such a
//! change; the user has to restart the session.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::guard;
use super::model::{Build, ConfigSource, Dockerfile, EgressPolicy, MountKind, SecretSource, Service, Spec};
use super::seed::Seed;

/// Everything that `after` requests and `before` does not, as text for the user. `environment` is the user's own: if a
/// value of it newly appears in the spec, the result names its variable.
pub fn widened(before: &Spec, after: &Spec, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = egress(&before.egress, &after.egress);
    let reaches = |spec: &Spec| guard::reaches(spec).into_iter().map(|reach| reach.message).collect();
    let sets: [(BTreeSet<String>, BTreeSet<String>); 2] =
        [(reaches(before), reaches(after)), (files(before), files(after))];
    for (before, after) in sets {
        found.extend(after.difference(&before).cloned());
    }
    found.extend(tasks(before, after));
    found.extend(variables(before, after, environment));
    found
}

/// Tasks that would run another command on this machine.
fn tasks(before: &Spec, after: &Spec) -> impl Iterator<Item = String> {
    let of_host = after.tasks.iter().filter(|(_, task)| task.service.is_none());
    let changed = of_host.filter(|(name, task)| before.tasks.get(*name) != Some(*task));
    changed.map(|(name, _)| format!("task `{name}`, which runs on this machine"))
}

fn egress(before: &EgressPolicy, after: &EgressPolicy) -> Vec<String> {
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

/// All files, folders and variables of the host that a spec names.
fn files(spec: &Spec) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |what: &str, path: &Path| {
        found.insert(format!("{what} `{}`", path.display()));
    };
    for service in spec.services.values() {
        of_service(service, &mut add);
    }
    for volume in spec.volumes.values() {
        if let Some(device) = volume.driver_opts.get("device") {
            add("the folder or device", Path::new(device));
        }
        volume.seed.iter().for_each(|seed| of_seed(seed, &mut add));
    }
    for secret in spec.secrets.values() {
        match &secret.source {
            SecretSource::File(path) => add("the file", path),
            SecretSource::Environment(name) => add("the variable", Path::new(name)),
            SecretSource::Generate(_) | SecretSource::External => {}
        }
    }
    for config in spec.configs.values() {
        match &config.source {
            ConfigSource::File(path) => add("the file", path),
            ConfigSource::Environment(name) => add("the variable", Path::new(name)),
            ConfigSource::Content(_) | ConfigSource::External => {}
        }
    }
    found
}

fn of_service(service: &Service, add: &mut impl FnMut(&str, &Path)) {
    for mount in &service.mounts {
        if let MountKind::Bind { source, .. } = &mount.kind {
            add(if mount.read_only { "to read" } else { "to write" }, source);
        }
    }
    service.watch.iter().for_each(|rule| add("to watch", &rule.path));
    service.seed.iter().for_each(|seed| of_seed(seed, add));
    if let Some(build) = service.build() {
        of_build(build, add);
    }
}

fn of_build(build: &Build, add: &mut impl FnMut(&str, &Path)) {
    add("the build context", Path::new(&build.context));
    build.additional_contexts.values().for_each(|context| add("the build context", Path::new(context)));
    if let Dockerfile::File(path) = &build.dockerfile
        && Path::new(path).is_absolute()
    {
        add("the file", Path::new(path));
    }
    for (id, path) in &build.ssh {
        add("the SSH agent or key", Path::new(path.as_ref().unwrap_or(id)));
    }
    build.cache_to.iter().chain(&build.cache_from).for_each(|cache| add("the cache", Path::new(cache)));
}

fn of_seed(seed: &Seed, add: &mut impl FnMut(&str, &Path)) {
    seed.kind().files().into_iter().for_each(|file| add("the file or folder", file));
    seed.kind().stored_snapshot().into_iter().for_each(|name| add("the snapshot", Path::new(name)));
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
