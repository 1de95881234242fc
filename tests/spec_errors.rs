//! A spec with a mistake: every problem with its place, exit code 2, and nothing made.

mod support;

use support::World;

/// Writes a spec with mistakes and expects each of these texts on stderr.
#[track_caller]
fn refused(spec: &str, said: &[&str]) {
    let world = World::with_spec(spec);
    let outcome = world.sandbox(["up", "-d"]).exits(2);
    for text in said {
        assert!(outcome.stderr.contains(text), "{text:?} is not said\n{outcome}");
    }
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    world.engine().is_clean();
}

#[test]
fn an_unknown_key_is_shown_where_it_stands_with_the_nearest_name() {
    refused("services:\n  web:\n    imgae: sbx-test/busybox\n", &["sandbox.yaml:3:5", "imgae", "image"]);
}

#[test]
fn every_problem_is_told_at_once() {
    refused(
        "services:\n  web:\n    image: sbx-test/busybox\n    depends_on: [nobody]\n    volumes: [\"lost:/data\"]\n    secrets: [unknown]\n",
        &["nobody", "lost", "unknown"],
    );
}

#[test]
fn a_cycle_is_named_in_full() {
    refused(
        "services:\n  a: { image: i, depends_on: [b] }\n  b: { image: i, depends_on: [c] }\n  c: { image: i, depends_on: [a] }\n",
        &["a → b → c → a"],
    );
}

#[test]
fn a_wrong_type_is_an_error() {
    refused("services:\n  web:\n    image: [one, two]\n", &["sandbox.yaml:3:"]);
}

#[test]
fn a_duplicate_key_is_an_error() {
    refused("services:\n  web:\n    image: a\n    image: b\n", &["image", "sandbox.yaml:4:5"]);
}

#[test]
fn broken_yaml_is_shown_where_it_breaks() {
    refused("services:\n  web: [unclosed\n", &["sandbox.yaml:"]);
}

#[test]
fn an_empty_spec_is_an_error() {
    refused("", &["sandbox.yaml"]);
}

#[test]
fn a_spec_that_is_not_text_is_an_error() {
    let world = World::new();
    world.file("sandbox.yaml", [0xff, 0xfe, 0x00, 0x80]);

    let outcome = world.sandbox(["up", "-d"]).exits(2);

    assert!(outcome.stderr.contains("UTF-8"), "{outcome}");
}

#[test]
fn a_required_variable_that_is_missing_gives_its_own_message() {
    refused("services:\n  web:\n    image: ${IMAGE:?set it to an image}\n", &["set it to an image", "IMAGE"]);
}

#[test]
fn a_duration_that_does_not_parse_is_an_error() {
    refused("services:\n  web:\n    image: i\n    stop_grace_period: soon\n", &["soon", "sandbox.yaml:4:"]);
}

#[test]
fn a_missing_file_is_an_error() {
    refused("services:\n  web:\n    image: i\n    env_file: nowhere.env\n", &["nowhere.env"]);
}

#[test]
fn an_external_network_is_refused_with_the_reason() {
    refused(
        "services:\n  web: { image: i, networks: [n] }\nnetworks: { n: { external: true } }\n",
        &["external"],
    );
}

#[test]
fn host_access_is_refused_unless_it_is_allowed() {
    for key in [
        "privileged: true",
        "network_mode: host",
        "pid: host",
        "cap_add: [SYS_ADMIN]",
        "devices: [/dev/fuse]",
    ] {
        refused(&format!("services:\n  web:\n    image: i\n    {key}\n"), &["--allow-host-access"]);
    }
    refused(
        "services:\n  web:\n    image: i\n    volumes: ['/var/run/docker.sock:/var/run/docker.sock']\n",
        &["--allow-host-access", "docker.sock"],
    );
    refused(
        "services:\n  web:\n    image: i\n    volumes: ['/etc:/host']\n",
        &["--allow-host-access", "/etc"],
    );
}

#[test]
fn a_missing_spec_says_what_was_looked_for() {
    let world = World::new();

    world.sandbox(["up", "-d"]).exits(2).says("sandbox.yaml");
    world.sandbox(["up", "-d", "-f", "other.yaml"]).exits(2).says("other.yaml");
}

#[test]
fn an_unknown_verb_or_option_is_wrong_usage() {
    let world = World::new();

    world.sandbox(["upp"]).exits(2);
    world.sandbox(["up", "--detached"]).exits(2);
}

#[test]
fn nested_aliases_do_not_eat_the_memory() {
    let levels = (1..12).map(|level| {
        let before = format!("*a{}", level - 1);
        format!("x-{level}: &a{level} [{}]\n", vec![before; 9].join(", "))
    });
    let spec: String =
        std::iter::once("x-0: &a0 [z, z, z, z, z, z, z, z, z]\n".to_owned()).chain(levels).collect();
    refused(&spec, &[]);
}
