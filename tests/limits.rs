//! `limits`, and the user's own settings: what a sandbox may use of the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;

use support::second::SecondEngine;
use support::{BUSYBOX, World, eventually};

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

fn groups(world: &World) -> Vec<PathBuf> {
    world.engine().groups()
}

/// A limit of the sandbox's group: the first of these files that is there.
fn limit(world: &World, files: [&str; 2]) -> String {
    let groups = groups(world);
    let mut found = groups.iter().flat_map(|group| files.map(|file| group.join(file)));
    found.find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default().trim().to_owned()
}

fn memory_limit(world: &World) -> String {
    limit(world, ["memory.limit_in_bytes", "memory.max"])
}

fn host_config(world: &World, service: &str, key: &str) -> i64 {
    world.engine().inspect(&world.container(service))["HostConfig"][key].as_i64().unwrap_or_default()
}

/// Takes so many mebibytes, says so, and keeps them for a while.
fn take(mebibytes: u32, seconds: u32) -> String {
    format!(
        "awk 'BEGIN {{ s = sprintf(\"%1048576s\", \"\"); for (i = 0; i < {mebibytes}; i++) a[i] = s i; \
         print \"taken\"; fflush(); system(\"sleep {seconds}\") }}'"
    )
}

#[test]
fn a_service_may_use_what_the_others_leave_and_all_together_no_more_memory_than_there_is() {
    let world = World::with_spec(TWO);
    let up = world.up();
    assert!(!up.stderr.contains("divided"), "{up}");
    // What a service says of itself stays its own; the other has no limit but the sandbox's.
    assert_eq!(
        [host_config(&world, "big", "Memory"), host_config(&world, "small", "Memory")],
        [160 << 20, 0]
    );
    assert_eq!(memory_limit(&world), (256_u64 << 20).to_string());

    let most = world.in_container("small", &["sh", "-c", &take(220, 0)]);
    assert!(most.code == Some(0) && most.stdout.contains("taken"), "{most}");

    let (big, small) = std::thread::scope(|scope| {
        let take = |service, mebibytes| {
            let world = &world;
            scope.spawn(move || world.in_container(service, &["sh", "-c", &take(mebibytes, 15)]))
        };
        let (big, small) = (take("big", 140), take("small", 180));
        (big.join().unwrap(), small.join().unwrap())
    });
    let killed = [&big, &small].into_iter().filter(|it| it.code != Some(0)).count();
    assert_eq!(killed, 1, "{big}\n{small}");
    let told = || world.sandbox(["events", "--past"]).success().stdout;
    eventually("it is told whose limit it was", || told().contains("used up its 256 MiB of memory"));
    let victim = world.container(if big.code == Some(0) { "small" } else { "big" });
    assert_eq!(
        told().matches("used up its").count(),
        told().matches(&format!("`{victim}` was killed")).count()
    );
}

#[test]
fn a_service_that_uses_up_its_own_limit_is_told_of_as_such() {
    let world = World::with_spec(TWO);
    world.up();

    let most = world.in_container("big", &["sh", "-c", &take(200, 0)]);

    assert_ne!(most.code, Some(0), "{most}");
    let told = || world.sandbox(["events", "--past"]).success().stdout;
    let words = format!("`{}` was killed: it has used up its own limit", world.container("big"));
    eventually("it is told whose limit it was", || told().contains(&words));
}

#[test]
fn the_session_reports_that_the_sandbox_s_memory_is_used_up() {
    let take = take(300, 0).replace('\'', "''");
    let spec = format!(
        "limits: {{ memory: 96m }}\nservices:\n  app: {{ image: sbx-test/busybox, command: [sh, -c, 'sleep 1; {take}; sleep infinity'], stop_signal: SIGKILL }}\n"
    );
    let world = World::with_spec(&spec);

    let mut session = world.spawn(["up"]);

    session.says("have used up its 96 MiB of memory");
    session.kill();
    world.engine().becomes_clean();
}

/// Spins for a while and says how many processors that took.
const SPIN: &str = r#"
used() { cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || sed -n 's/usage_usec \(.*\)/\1000/p' /sys/fs/cgroup/cpu.stat; }
now() { cut -d' ' -f1 /proc/uptime; }
a=$(used); s=$(now)
timeout 5 sh -c 'while true; do :; done'
awk "BEGIN { print ($(used) - $a) / 1e9 / ($(now) - $s) }"
"#;

#[test]
fn all_together_have_no_more_processors_than_there_are_and_none_is_bound_to_a_part() {
    let world = World::with_spec(&TWO.replace("cpus: 1", "cpus: 0.5"));
    world.up();

    assert_eq!([host_config(&world, "big", "NanoCpus"), host_config(&world, "small", "NanoCpus")], [0; 2]);
    let quota = limit(&world, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota.starts_with("50000"), "{quota}");
    let each = std::thread::scope(|scope| {
        let world = &world;
        let spin = |service| scope.spawn(move || world.in_container(service, &["sh", "-c", SPIN]).success());
        let both = [spin("big"), spin("small")];
        both.map(|one| one.join().unwrap().text().trim().parse::<f64>().unwrap())
    });
    assert!(each.iter().all(|one| *one > 0.0) && each.iter().sum::<f64>() < 0.6, "{each:?}");
}

#[test]
fn all_together_have_no_more_processes_and_one_alone_may_have_them_all() {
    let world = World::with_spec(&TWO.replace("pids: 200", "pids: 60"));
    world.up();
    let fill = ["sh", "-c", "for i in $(seq 40); do sleep 100 & done; echo all; kill $(jobs -p)"];
    let alone = world.in_container("small", &fill);
    assert!(alone.stdout.contains("all"), "{alone}");
    world.in_container(
        "big",
        &["sh", "-c", "for i in $(seq 40); do sleep 100 & done >/dev/null 2>&1; echo all"],
    );
    let more = world.in_container("small", &fill);
    // Where the engine itself finds room to begin at all, the shell cannot fork.
    assert!(!more.stdout.lines().any(|line| line == "all"), "{more}");
}

#[test]
fn another_limit_is_applied_to_what_runs() {
    let world = World::with_spec(TWO);
    world.up();
    let ids = || ["big", "small"].map(|it| world.engine().inspect(&world.container(it))["Id"].clone());
    let before = ids();
    let again = world.up();
    assert!(!again.stderr.contains("limit of all services"), "{again}");

    for (limits, memory) in [("memory: 512m, cpus: 2", 512), ("memory: 128m, cpus: 0.3", 128)] {
        world.spec(&TWO.replace("memory: 256m, cpus: 1", limits));
        let plan = world.sandbox(["up", "-d", "--dry-run"]).success();
        let limit = format!("limit of all services together: {memory} MiB");
        assert!(plan.stdout.contains(&limit), "{plan}");
        world.up();
        assert_eq!(memory_limit(&world), (memory << 20).to_string());
    }
    world.spec(&TWO.replace("limits: { memory: 256m, cpus: 1, pids: 200 }", ""));
    world.up();
    assert!(
        memory_limit(&world).parse::<u64>().is_ok_and(|it| it > 1 << 60) || memory_limit(&world) == "max"
    );
    assert_eq!(ids(), before);
}

#[test]
fn the_group_goes_with_the_sandbox_however_that_ends() {
    let world = World::with_spec(&format!("lifetime: {{ grace: 1s }}\n{TWO}"));
    let keeper = format!("sandbox-keeper-{}", world.name());
    let gone =
        |when: &str| eventually(&format!("no group is left after {when}"), || groups(&world).is_empty());

    world.up();
    assert!(!groups(&world).is_empty());
    world.sandbox(["down"]).success();
    assert_eq!(groups(&world), Vec::<PathBuf>::new());

    let up_until_there = || {
        let session = world.spawn(["up", "--no-logs"]);
        eventually("it is up", || world.engine().running_services().len() == 2 && !groups(&world).is_empty());
        session
    };
    up_until_there().kill();
    gone("its client's death");

    let mut session = up_until_there();
    world.engine().docker(&["kill", &keeper]).success();
    session.kill();
    world.sandbox(["ls"]);
    gone("the death of both");
    world.engine().becomes_clean();
}

#[test]
fn groups_of_no_sandbox_are_removed_when_a_keeper_starts() {
    let world = World::with_spec(TWO);
    world.up();
    let groups_now = groups(&world);
    let id = world.engine().inspect(&world.container("big"))["Config"]["Labels"]["dev.sandbox.id"].clone();
    let id = id.as_str().unwrap();
    let orphan = |group: &PathBuf| PathBuf::from(group.to_string_lossy().replace(id, "0123456789ab"));
    for group in &groups_now {
        std::fs::create_dir(orphan(group)).unwrap();
    }

    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]).success();
    world.sandbox(["ls"]).success();

    eventually("the orphan is gone", || groups(&world) == groups_now);
}

#[test]
fn services_that_start_again_after_a_reboot_share_as_before() {
    let world = World::with_spec(TWO);
    world.up();
    let groups_before = groups(&world);
    // A reboot leaves stopped containers and no group.
    world.sandbox(["stop"]).success();
    world.engine().docker(&["kill", &format!("sandbox-keeper-{}", world.name())]).success();
    for group in &groups_before {
        std::fs::remove_dir(group).unwrap();
    }

    world.sandbox(["start"]).success();

    assert_eq!(memory_limit(&world), (256_u64 << 20).to_string());
    let killed = world.in_container("small", &["sh", "-c", &take(300, 0)]);
    assert_ne!(killed.code, Some(0), "{killed}");
}

#[test]
fn the_group_is_where_the_engine_puts_its_containers() {
    let engine = SecondEngine::start(&[], &[BUSYBOX]);
    let world = engine.world(TWO);

    world.up();

    let parent = world.engine().inspect(&world.container("big"))["HostConfig"]["CgroupParent"].clone();
    let parent = parent.as_str().unwrap();
    assert!(parent.starts_with("/sandbox-engine-"), "{parent}");
    assert!(
        !groups(&world).is_empty() && groups(&world).iter().all(|it| it.to_string_lossy().ends_with(parent))
    );
    assert_eq!(memory_limit(&world), (256_u64 << 20).to_string());
    world.sandbox(["down"]).success();
    assert_eq!(groups(&world), Vec::<PathBuf>::new());
}

#[test]
fn a_keeper_that_is_a_process_has_its_storage_server_make_the_group() {
    let mut world = World::with_spec(TWO);
    world.env("SANDBOX_KEEPER", "process").env("SANDBOX_LINGER", "1");
    world.up();
    assert_eq!(memory_limit(&world), (256_u64 << 20).to_string());
    world.sandbox(["down"]).success();
    assert_eq!(groups(&world), Vec::<PathBuf>::new());
}

#[test]
fn where_nothing_can_be_shared_limits_is_divided_and_up_and_doctor_say_why() {
    let mut world = World::with_spec(TWO);
    world.env("SANDBOX_LIMITS", "divided");

    let up = world.up();

    let limit = |service: &str, key: &str| host_config(&world, service, key);
    assert_eq!([limit("big", "Memory"), limit("small", "Memory")], [160 << 20, 96 << 20]);
    assert_eq!([limit("big", "NanoCpus"), limit("small", "NanoCpus")], [500_000_000; 2]);
    assert_eq!([limit("big", "PidsLimit"), limit("small", "PidsLimit")], [100; 2]);
    assert!(up.stderr.contains("divided") && up.stderr.contains("SANDBOX_LIMITS says so"), "{up}");
    assert!(up.stderr.contains("big 160 MiB 0.5 cpus 100 pids, small 96 MiB"), "{up}");
    assert_eq!(groups(&world), Vec::<PathBuf>::new());
    let doctor = world.sandbox(["doctor"]).stdout;
    assert!(doctor.contains("divided: SANDBOX_LIMITS says so"), "{doctor}");
}

#[test]
fn doctor_says_that_limits_is_shared() {
    let world = World::with_spec(TWO);
    world.up();
    let doctor = world.sandbox(["doctor"]).stdout;
    assert!(doctor.contains("shared by a sandbox's services"), "{doctor}");
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
