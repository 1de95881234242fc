//! Checks that every key of the Compose Specification's schema (`fixtures/compose/keys.txt`) is applied, rejected by
//! the spec reader, or warned about. `fixtures/compose/key-samples.txt` has a minimal spec and the expected outcome
//! for each:
//!
//! - `plan`: the key changes the plan;
//! - `spec`: the plan does not change, and another component applies the key (named in the last column);
//! - `refused`, `warned`: the message names the key.
//!
//! If a newer schema has keys without a sample, the test fails.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::*;
use crate::spec::{HostAccess, Loaded, ProblemKind, Problems, WarningKind};

struct Sample {
    outcome: String,
    spec: Json,
    /// The component that applies a key that no plan shows.
    by: String,
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/compose")
}

fn samples() -> BTreeMap<String, Sample> {
    let text = std::fs::read_to_string(fixtures().join("key-samples.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let spec = serde_json::from_str(columns[2]).unwrap_or_else(|error| panic!("{line}: {error}"));
        let by = columns.get(3).copied().unwrap_or_default().to_owned();
        (columns[0].to_owned(), Sample { outcome: columns[1].to_owned(), spec, by })
    };
    lines.map(sample).collect()
}

/// A folder with the files that the samples reference.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    for (name, text) in [
        ("app/Dockerfile", "FROM x"),
        ("app/other", "FROM x"),
        ("raw.env", "RAW='quoted'\n"),
        ("v.env", "V=included\n"),
        (
            "base.yaml",
            "services: { base: { image: \"i:${V:-none}\", command: [base], volumes: [\"./data:/data\"] } }",
        ),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(spec: &Json, folder: &Path) -> Result<Loaded, Problems> {
    let request = LoadRequest {
        folder: folder.to_owned(),
        files: vec!["-".into()],
        input: Some(spec.to_string().into_bytes()),
        env: BTreeMap::from([("HOME".to_owned(), "/home/user".to_owned())]),
        name: None,
        allow_host_access: HostAccess::Allowed,
        ..LoadRequest::default()
    };
    spec::load(&request)
}

/// Removes a key. `<name>` matches every name, `[]` every item.
fn without(spec: &mut Json, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    let (key, is_list) = first.strip_suffix("[]").map_or((*first, false), |key| (key, true));
    let Some(map) = spec.as_object_mut() else { return };
    if rest.is_empty() {
        map.remove(key);
        return;
    }
    let inner = map.iter_mut().filter(|(name, _)| key == "<name>" || *name == key).map(|(_, value)| value);
    for value in inner {
        match value {
            Json::Array(items) if is_list => items.iter_mut().for_each(|item| without(item, rest)),
            value => without(value, rest),
        }
    }
}

/// The complete plan of a spec: images and the sandbox.
fn planned(spec: &Spec) -> String {
    let mut observed = with_images(&["i", "j", "i:none", "i:included"]);
    let built = spec.services.values().filter(|service| service.build().is_some());
    let rebuild = built.map(|service| service.name.clone()).collect();
    let images = plan_images(spec, &Scope::default(), &observed, &rebuild);
    for service in spec.services.values() {
        let reference = image_reference(spec, service);
        observed.images.extend(with_images(&[&reference]).images);
    }
    format!("{images:?} {:?}", plan(&wish(spec), &observed).map_err(|error| error.to_string()))
}

/// Whether a message names a key: the key itself anywhere, or its parent at the beginning.
fn names(message: &str, key: &str) -> bool {
    let parts: Vec<&str> = key.split('.').map(|part| part.trim_end_matches("[]")).collect();
    let leaf = parts.iter().rev().find(|part| **part != "<name>").copied().unwrap_or_default();
    let mut words = message.split(|c: char| !c.is_alphanumeric() && c != '_');
    let whole = ["models", "external"];
    words.any(|word| word == leaf || parts.contains(&word) && whole.contains(&word))
        || parts.iter().skip(2).any(|part| message.starts_with(&format!("`{part}`")))
}

/// The outcome of a key.
fn outcome(key: &str, sample: &Json, folder: &Path) -> String {
    let with = match read(sample, folder) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let refused = problems
                .iter()
                .any(|problem| problem.kind == ProblemKind::Unsupported && names(&problem.message, key));
            return if refused { "refused".to_owned() } else { format!("an error: {problems}") };
        }
    };
    let told = |kind| matches!(kind, WarningKind::NotApplied | WarningKind::Obsolete | WarningKind::Refused);
    if with.warnings.iter().any(|warning| told(warning.kind) && names(&warning.message, key)) {
        return "warned".to_owned();
    }
    let mut sample = sample.clone();
    without(&mut sample, &key.split('.').collect::<Vec<_>>());
    // If the spec is invalid without the key, the key has an effect.
    let Ok(without) = read(&sample, folder) else { return "plan".to_owned() };
    if planned(&with.spec) != planned(&without.spec) {
        return "plan".to_owned();
    }
    if spec::to_compose_json(&with.spec) != spec::to_compose_json(&without.spec) {
        return "spec".to_owned();
    }
    "dropped without a word".to_owned()
}

#[test]
fn every_key_of_compose_is_applied_refused_or_warned_about() {
    let keys = std::fs::read_to_string(fixtures().join("keys.txt")).unwrap();
    let keys: Vec<&str> = keys
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| line.split('\t').next())
        .collect();
    let samples = samples();
    let folder = folder();
    let mut wrong = Vec::new();
    for key in &keys {
        let Some(sample) = samples.get(*key) else {
            wrong.push(format!("{key}\thas no sample"));
            continue;
        };
        let outcome = outcome(key, &sample.spec, folder.path());
        if outcome != sample.outcome {
            wrong.push(format!("{key}\tis {outcome}\tand must be {}", sample.outcome));
        } else if outcome == "spec" && sample.by.is_empty() {
            wrong.push(format!("{key}\tis in no plan, and nothing says who applies it"));
        }
    }
    for key in samples.keys().filter(|key| !keys.contains(&key.as_str())) {
        wrong.push(format!("{key}\tis no key of the schema"));
    }
    assert!(wrong.is_empty(), "{} of {} keys:\n{}", wrong.len(), keys.len(), wrong.join("\n"));
}
