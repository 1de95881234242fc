//! `limits`, and the user's own settings: what a sandbox may use of the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::World;

const TWO: &str = r"
limits: { memory: 256m, cpus: 1, pids: 200 }
services:
  big: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, mem_limit: 160m }
  small: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
";

/// One service that says nothing of what it uses.
const ONE: &str = "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
";

fn set(world: &World, settings: &str) -> std::path::PathBuf {
    let path = world.home().join(".config/sandbox/config.yaml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, settings).unwrap();
    path
}

#[test]
fn limits_hold_for_all_services_together_and_up_says_how_they_are_divided() {
    let world = World::with_spec(TWO);

    let up = world.up();

    let limit = |service: &str, key: &str| {
        world.engine().inspect(&world.container(service))["HostConfig"][key].as_i64().unwrap()
    };
    assert_eq!([limit("big", "Memory"), limit("small", "Memory")], [160 << 20, 96 << 20]);
    assert_eq!([limit("big", "NanoCpus"), limit("small", "NanoCpus")], [500_000_000; 2]);
    assert_eq!([limit("big", "PidsLimit"), limit("small", "PidsLimit")], [100; 2]);
    assert!(up.stderr.contains("big 160 MiB 0.5 cpus 100 pids, small 96 MiB"), "{up}");
}

#[test]
fn a_service_may_not_have_processes_without_end() {
    let world = World::with_spec(ONE);

    world.up();

    let pids = world.engine().inspect(&world.container("app"))["HostConfig"]["PidsLimit"].as_i64();
    assert!(pids.is_some_and(|pids| pids > 0), "{pids:?}");
}

#[test]
fn one_sandbox_more_than_the_user_lets_there_be_is_refused_naming_the_file() {
    let world = World::with_spec(ONE);
    let settings = set(&world, "max_sandboxes: 1\n");
    world.up();
    let second = format!("{}-two", world.name());

    let refused = world.sandbox(["up", "-d", "--name", &second]).exits(1);

    assert!(refused.stderr.contains("max_sandboxes is 1"), "{refused}");
    assert!(refused.stderr.contains(world.name()), "{refused}");
    assert!(refused.stderr.contains(&settings.display().to_string()), "{refused}");
    assert_eq!(world.engine().running_services(), [world.container("app")]);
    // A change of the one that is there is no second one.
    world.up();
}

#[test]
fn memory_beyond_what_the_user_sets_is_refused_before_anything_is_made() {
    let world = World::with_spec(TWO);
    set(&world, "max_memory: 200m\n");

    let refused = world.sandbox(["up", "-d"]).exits(1);

    assert!(refused.stderr.contains("max_memory is 200 MiB"), "{refused}");
    world.engine().is_clean();
}

#[test]
fn subnets_come_from_the_ranges_that_the_user_sets() {
    let world = World::with_spec(ONE);
    set(&world, "subnets: [10.197.64.0/18]\n");

    world.up();

    let network = world.engine().inspect(&format!("sbx-{}.default", world.name()));
    let subnet = network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap();
    assert!(subnet.starts_with("10.197."), "{subnet}");
}

#[test]
fn a_setting_that_is_none_is_named_with_the_file() {
    let world = World::with_spec(ONE);
    let settings = set(&world, "max_sandboxs: 1\n");

    let refused = world.sandbox(["up", "-d"]).exits(1);

    assert!(refused.stderr.contains("max_sandboxs"), "{refused}");
    assert!(refused.stderr.contains(&settings.display().to_string()), "{refused}");
}
