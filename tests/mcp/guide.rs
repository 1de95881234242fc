//! The examples of `man/agents.md`.

use serde_json::{Value, json};

use super::agent::Agent;
use super::support::World;

const GUIDE: &str = include_str!("../../man/agents.md");

/// The blocks of the guide whose fence begins with this.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    let found = GUIDE.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    let found: Vec<&str> = found.collect();
    assert!(!found.is_empty(), "no block {kind}");
    found
}

fn world() -> World {
    let world = World::new();
    let [spec] = blocks("yaml")[..] else { panic!("one spec") };
    let spec =
        spec.replace("postgres:17", "sbx-test/postgres").replace("image: busybox", "image: sbx-test/busybox");
    world.file("compose.yaml", spec);
    world
}

#[test]
fn the_calls_of_the_guide_succeed() {
    let world = world();
    let mut agent = Agent::start(&world, &[]);
    let [calls] = blocks("json calls")[..] else { panic!("one list of calls") };
    for line in calls.lines() {
        let mut call: Value = serde_json::from_str(line).unwrap();
        let tool = call.as_object_mut().unwrap().remove("tool").unwrap();
        let result = agent.call(tool.as_str().unwrap(), call);
        assert_ne!(result["isError"], true, "{line}: {result}");
        if line.contains("count(*)") {
            assert!(result["content"][1]["text"].as_str().unwrap().contains("count\n2\n"), "{result}");
        }
    }
}

#[test]
fn the_configuration_of_the_guide_starts_the_server() {
    let world = world();
    let [config] = blocks("json config")[..] else { panic!("one configuration") };
    let config: Value = serde_json::from_str(config).unwrap();
    let server = &config["mcpServers"]["sandbox"];
    assert_eq!(server["command"], "sandbox");
    let arguments = server["args"].as_array().unwrap().iter().skip(1).map(|word| word.as_str().unwrap());
    let mut agent = Agent::start(&world, &arguments.collect::<Vec<_>>());
    assert_eq!(agent.succeeds("list", json!({}))["sandboxes"], json!([]));
}

#[test]
fn the_commands_of_the_guide_run() {
    let world = world();
    for line in blocks("sh").into_iter().flat_map(str::lines) {
        let words = shlex::split(line).unwrap();
        assert_eq!(words[0], "sandbox", "{line}");
        world.command(&words[1..]).run().success();
    }
}

#[test]
fn the_section_for_agents_names_the_services_and_stays_when_it_is_there() {
    let world = world();
    world.file("AGENTS.md", "# Rules\n\nUse tabs.\n");
    world.sandbox(["init", "--agents"]).success();
    let text = std::fs::read_to_string(world.project().join("AGENTS.md")).unwrap();
    assert!(text.starts_with("# Rules\n\nUse tabs.\n\n## Sandbox\n"), "{text}");
    assert!(text.contains("`db`, `web`") && text.contains("compose.yaml"), "{text}");

    world.sandbox(["init", "--agents"]).exits(1).says("--force");
    world.sandbox(["init", "--agents", "--force"]).success();
    assert_eq!(std::fs::read_to_string(world.project().join("AGENTS.md")).unwrap(), text);
}
