//! `action.yml`: its form, and its steps run in order as GitHub's runner does it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::expressions::{Values, expand, runs};
use super::schema::{problems, schema};
use super::{file, text, world};
use crate::junit;
use crate::support::{World, repository};

fn action() -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(repository().join("action.yml")).unwrap()).unwrap()
}

/// A step that was run, or an action that was used.
#[derive(Debug)]
pub struct Done {
    name: String,
    /// The exit code; `None` of an action.
    pub code: Option<i32>,
    output: String,
    with: BTreeMap<String, String>,
}

/// Runs the steps of the action in a job.
pub struct Job<'a> {
    world: &'a World,
    values: Values,
    failed: bool,
}

impl<'a> Job<'a> {
    pub fn new(world: &'a World, inputs: &[(&str, &str)]) -> Self {
        let action = action();
        let mut values = Values::new();
        for (name, input) in action["inputs"].as_object().unwrap() {
            let default = input["default"].as_str().unwrap_or_default();
            values.insert(format!("inputs.{name}"), expand(default, &Values::new()));
        }
        for (name, value) in inputs {
            assert!(action["inputs"].get(name).is_some(), "the action has no input `{name}`");
            values.insert(format!("inputs.{name}"), (*value).to_owned());
        }
        if !inputs.iter().any(|(name, _)| *name == "releases") {
            values.insert("inputs.binary".to_owned(), env!("CARGO_BIN_EXE_sandbox").to_owned());
        }
        values.insert("runner.temp".to_owned(), file(world, ".runner").display().to_string());
        world.file(".runner/path", "").file(".runner/summary", "").file(".runner/output", "");
        Self { world, values, failed: false }
    }

    fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn run(&mut self) -> Vec<Done> {
        let steps = action()["runs"]["steps"].as_array().unwrap().clone();
        steps.iter().filter_map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: &Value) -> Option<Done> {
        if !runs(step["if"].as_str(), self.failed, &self.values) {
            return None;
        }
        let name = step["name"].as_str().unwrap_or_default().to_owned();
        let expanded = |key: &str| -> BTreeMap<String, String> {
            let pairs = step[key].as_object().into_iter().flatten();
            pairs.map(|(name, value)| (name.clone(), expand(value.as_str().unwrap(), &self.values))).collect()
        };
        let (with, environment) = (expanded("with"), expanded("env"));
        let Some(script) = step["run"].as_str() else {
            return Some(Done { name, code: None, output: String::new(), with });
        };
        assert!(!script.contains("${{"), "`{name}`: an input in a script would be run as a part of it");
        let script_file = file(self.world, ".runner/step.sh");
        std::fs::write(&script_file, script).unwrap();
        let shell = ["--noprofile", "--norc", "-eo", "pipefail", script_file.to_str().unwrap()];
        let folder = expand(step["working-directory"].as_str().unwrap_or("."), &self.values);
        let mut run = self.world.host("bash", &shell).current_dir(self.world.project().join(folder));
        for (name, value) in self.environment().iter().chain(&environment) {
            run = run.env(name, value);
        }
        let outcome = run.run();
        self.failed |= outcome.code != Some(0);
        self.take_outputs(step["id"].as_str());
        Some(Done { name, code: outcome.code, output: outcome.stdout + &outcome.stderr, with })
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let runner = |name: &str| file(self.world, ".runner").join(name).display().to_string();
        let added = text(self.world, ".runner/path").lines().collect::<Vec<_>>().join(":");
        let tools = file(self.world, "tools").display().to_string();
        let path = format!("{added}:{tools}:{}", std::env::var("PATH").unwrap());
        [
            ("PATH", path),
            ("HOME", self.world.home().display().to_string()),
            ("SANDBOX_SCOPE", self.world.name().to_owned()),
            ("SANDBOX_NAME", self.world.name().to_owned()),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_PATH", runner("path")),
            ("GITHUB_OUTPUT", runner("output")),
            ("GITHUB_STEP_SUMMARY", runner("summary")),
            ("GITHUB_RUN_ID", "7".to_owned()),
            ("GITHUB_REPOSITORY", "acme/shop".to_owned()),
            ("GITHUB_SERVER_URL", "https://github.invalid".to_owned()),
            ("RUNNER_TEMP", file(self.world, ".runner").display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn take_outputs(&mut self, id: Option<&str>) {
        let outputs = text(self.world, ".runner/output");
        self.world.file(".runner/output", "");
        for (name, value) in outputs.lines().filter_map(|line| line.split_once('=')) {
            self.values.insert(format!("steps.{}.outputs.{name}", id.unwrap_or_default()), value.to_owned());
        }
    }
}

pub fn done<'a>(steps: &'a [Done], name: &str) -> &'a Done {
    steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("`{name}` was not run: {steps:#?}"))
}

#[test]
fn the_action_has_the_form_that_github_asks_for() {
    let found = problems(&action(), &schema("github-action.schema.json"), "action");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_steps_run_report_and_offer_the_reports_for_upload() {
    let world = world();
    world.file("tools/gh", "#!/bin/sh\necho \"$@\" > comment; cat \"$7\" >> comment\n");
    world.host("chmod", &["+x", "tools/gh"]).run().success();
    let matrix = "PG=15,16\n\n";
    let command = "echo \"version '$PG'\"; test $PG = 15 || exit 3";
    let mut job = Job::new(&world, &[("command", command), ("matrix", matrix), ("comment", "true")]);
    job.set("github.event_name", "pull_request").set("github.event.pull_request.number", "12");

    let steps = job.run();

    let run = done(&steps, "sandbox run");
    assert_eq!(run.code, Some(3), "{steps:#?}");
    assert!(run.output.contains("::group::PG=16: failed (3) after ") && run.output.contains("version '16'"));
    assert_eq!(
        done(&steps, "upload reports").with["path"],
        file(&world, "sandbox-reports").display().to_string()
    );
    assert_eq!(junit::read(&file(&world, "sandbox-reports/junit.xml")).len(), 2);
    assert_eq!(text(&world, "sandbox-reports/artifacts/PG-16/web/report.txt"), "report of 16\n");
    assert!(text(&world, ".runner/summary").starts_with("### ❌ sandbox run: 1 of 2 passed"));
    let comment = text(&world, "comment");
    assert!(comment.starts_with("pr comment 12 --repo acme/shop --body-file "), "{comment}");
    assert!(comment.contains("1 of 2 passed"), "{comment}");
    world.engine().is_clean();
}

#[test]
fn data_is_made_once_and_then_comes_from_the_cache() {
    let world = world();
    let inputs = [("command", "cat /data/word"), ("service", "web"), ("cache-key", "abc")];

    let steps = Job::new(&world, &inputs).run();
    assert_eq!(done(&steps, "sandbox run").code, Some(0), "{steps:#?}");
    assert!(done(&steps, "sandbox run").output.contains("seeded"), "{steps:#?}");
    let cache = &done(&steps, "restore data").with;
    assert!(file(&world, ".runner/sandbox-data/data.sandbox.tar.zst").exists());
    assert_eq!(cache["path"], file(&world, ".runner/sandbox-data").display().to_string());
    world.engine().is_clean();

    let mut again = Job::new(&world, &inputs);
    again.set("steps.cache.outputs.cache-hit", "true");
    let steps = again.run();

    assert!(!steps.iter().any(|step| step.name == "make data"), "{steps:#?}");
    assert!(done(&steps, "sandbox run").output.contains("seeded"), "{steps:#?}");
    world.engine().is_clean();
}

#[test]
fn cached_data_with_a_matrix_is_refused() {
    let world = world();
    let mut job = Job::new(&world, &[("command", "true"), ("cache-key", "abc"), ("matrix", "A=1")]);
    job.set("steps.cache.outputs.cache-hit", "true");

    let steps = job.run();

    let run = done(&steps, "sandbox run");
    assert!(run.code == Some(2) && run.output.contains("cannot be used with a matrix"), "{steps:#?}");
}

#[test]
fn a_release_is_installed_by_its_own_installer() {
    let world = world();
    let binary = env!("CARGO_BIN_EXE_sandbox");
    let installer = format!(
        "mkdir -p \"$2/bin\"; cp '{binary}' \"$2/bin/sandbox\"; echo \"$SANDBOX_RELEASES $*\" > installed\n"
    );
    world.file("releases/download/v1.2.3/install.sh", installer);
    let releases = format!("file://{}", file(&world, "releases").display());

    let steps = Job::new(&world, &[("command", "true"), ("releases", &releases), ("version", "1.2.3")]).run();

    assert_eq!(done(&steps, "sandbox run").code, Some(0), "{steps:#?}");
    let prefix = file(&world, ".runner/sandbox");
    let expected = format!("{releases} --prefix {} --version 1.2.3\n", prefix.display());
    assert_eq!(text(&world, "installed"), expected);
}
