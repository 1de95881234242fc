//! The examples of `man/ci.md`: the workflow for GitHub and the pipeline for GitLab are run as they stand there.

use serde_json::Value;

use super::action::{Job, done};
use super::gitlab;
use super::{file, world};
use crate::junit;
use crate::support::{World, repository};

/// The block of the guide that begins with the path of this file.
fn example(path: &str) -> Value {
    let guide = std::fs::read_to_string(repository().join("man/ci.md")).unwrap();
    let block = guide.split(&format!("```yaml\n# {path}\n")).nth(1).and_then(|rest| rest.split("```").next());
    serde_yaml::from_str(block.unwrap_or_else(|| panic!("the guide has no `{path}`"))).unwrap()
}

/// The names and values of an object.
fn pairs(object: &Value) -> Vec<(&str, &str)> {
    let pairs = object.as_object().unwrap().iter();
    pairs
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_else(|| panic!("{name}: {value}"))))
        .collect()
}

/// A project with the script that the examples run.
fn project() -> World {
    let world = world();
    world.file("run-tests.sh", "#!/bin/sh\necho \"tested with $PG\"\ntest -n \"$PG\"\n");
    world.host("chmod", &["+x", "run-tests.sh"]).run().success();
    world
}

#[test]
fn the_workflow_of_the_guide_runs() {
    let workflow = example(".github/workflows/test.yml");
    let step = workflow["jobs"]["test"]["steps"].as_array().unwrap().last().unwrap();
    assert!(step["uses"].as_str().unwrap().contains("/sandbox@"), "{step}");
    let world = project();

    let steps = Job::new(&world, &pairs(&step["with"])).run();

    assert_eq!(done(&steps, "sandbox run").code, Some(0), "{steps:#?}");
    assert_eq!(junit::read(&file(&world, "sandbox-reports/junit.xml")).len(), 2);
}

#[test]
fn the_pipeline_of_the_guide_has_the_inputs_of_the_component() {
    let pipeline = example(".gitlab-ci.yml");
    let include = &pipeline["include"][0];
    assert!(include["component"].as_str().unwrap().contains("/sandbox@"), "{include}");

    let jobs = gitlab::jobs(&pairs(&include["inputs"]));

    let variables = gitlab::variables(&jobs["sandbox"]);
    assert_eq!(variables["SANDBOX_CI_MATRIX"], "PG=15,16");
}
