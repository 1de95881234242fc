//! `templates/sandbox.yml`, the GitLab component: its form, and its script run as GitLab's runner does it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema::{problems, schema};
use super::{file, text, world};
use crate::junit;
use crate::support::repository;

/// The header with the inputs, and the jobs.
fn component() -> (Value, Value) {
    let text = std::fs::read_to_string(repository().join("templates/sandbox.yml")).unwrap();
    let (header, jobs) = text.split_once("\n---\n").expect("a component has a header");
    (serde_yaml::from_str(header).unwrap(), serde_yaml::from_str(jobs).unwrap())
}

/// The jobs, with the inputs in place.
pub fn jobs(given: &[(&str, &str)]) -> Value {
    let (header, jobs) = component();
    let inputs = header["spec"]["inputs"].as_object().unwrap();
    for (name, _) in given {
        assert!(inputs.contains_key(*name), "the component has no input `{name}`");
    }
    let value = |name: &str| {
        let value = given.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        value.or(inputs[name]["default"].as_str()).unwrap_or_else(|| panic!("`{name}` is required"))
    };
    let values: Vec<(String, &str)> =
        inputs.keys().map(|name| (format!("$[[ inputs.{name} ]]"), value(name))).collect();
    interpolated(&jobs, &values)
}

/// A value with the inputs in its keys and strings, as GitLab does it: after the YAML is read.
fn interpolated(value: &Value, inputs: &[(String, &str)]) -> Value {
    let text = |text: &str| {
        let done = inputs.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        assert!(!done.contains("$[["), "an input that does not exist: {done}");
        done
    };
    match value {
        Value::String(string) => text(string).into(),
        Value::Array(items) => items.iter().map(|item| interpolated(item, inputs)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (text(name), interpolated(value, inputs))).collect()
        }
        other => other.clone(),
    }
}

/// The variables of a job, as its script gets them.
pub fn variables(job: &Value) -> BTreeMap<String, String> {
    let value = |value: &Value| value.as_str().or(value["value"].as_str()).unwrap_or_default().to_owned();
    job["variables"].as_object().unwrap().iter().map(|(name, it)| (name.clone(), value(it))).collect()
}

#[test]
fn the_component_has_the_form_that_gitlab_asks_for() {
    let schema = schema("gitlab-component.schema.json");
    assert_eq!(problems(&component().0, &schema["header"], "component"), Vec::<String>::new());
    assert_eq!(problems(&jobs(&[("command", "true")]), &schema["jobs"], "jobs"), Vec::<String>::new());
}

#[test]
fn the_script_runs_and_leaves_its_reports_where_the_job_looks_for_them() {
    let world = world();
    let jobs = jobs(&[("command", "exit $A"), ("matrix", "A=0,4"), ("parallel", "2")]);
    let job = &jobs["sandbox"];
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_sandbox")).parent().unwrap().display();
    let mut run = world.host("sh", &["-c", job["script"][0].as_str().unwrap()]);
    for (name, value) in variables(job) {
        run = run.env(&name, &value);
    }
    let outcome = run
        .env("PATH", &format!("{binary}:{}", std::env::var("PATH").unwrap()))
        .env("HOME", &world.home().to_string_lossy())
        .env("SANDBOX_SCOPE", world.name())
        .env("SANDBOX_NAME", world.name())
        .env("GITLAB_CI", "true")
        .run();

    let outcome = outcome.exits(4).prints("section_start:");
    let reports = job["artifacts"]["reports"]["junit"].as_str().unwrap();
    assert_eq!(junit::read(&file(&world, reports)).len(), 2, "{outcome}");
    assert_eq!(job["artifacts"]["paths"][0], "sandbox-reports/");
    assert!(text(&world, "sandbox-reports/summary.md").contains("1 of 2 passed"));
    world.engine().is_clean();
}
