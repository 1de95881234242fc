//! Data in a sandbox that is there: put back, copied, kept, carried in a file, the same for every kind of storage.

mod support;

use sandbox::data::archive::{Import, Limits, Packing, export};
use sandbox::storage::tree::Counter;
use serde_json::{Value, json};
use support::second::SecondEngine;
use support::{BUSYBOX, Outcome, World, eventually};

/// Two services with a volume each, one of which their image fills, and one that both write.
const PAIR: &str = r#"
services:
  app:
    image: sbx-test/base
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["filled:/etc/apt", "shared:/shared"]
  other:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["own:/own"]
volumes: { filled: {}, shared: {}, own: {} }
"#;

/// One service whose volume is seeded.
const SEEDED: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    secrets: [key]
    volumes: ["data:/data"]
volumes: { data: { seed: [{ copy: seed }] } }
secrets: { key: { generate: 20 } }
"#;

fn pair() -> World {
    let world = World::with_spec(PAIR);
    world.up();
    world
}

fn seeded() -> World {
    with_seed(World::with_spec(SEEDED))
}

fn with_seed(world: World) -> World {
    world.file("seed/word", "seeded\n");
    world
}

fn shell(world: &World, service: &str, script: &str) -> Outcome {
    world.in_container(service, &["sh", "-c", script])
}

fn word(world: &World) -> String {
    shell(world, "app", "cat /data/word").success().text().to_owned()
}

fn started(world: &World, service: &str) -> Value {
    world.engine().inspect(&world.container(service))["State"]["StartedAt"].clone()
}

/// The same folder's sandbox under another name.
fn named(world: &World, suffix: &str) -> String {
    format!("{}-{suffix}", world.name())
}

fn in_named(world: &World, sandbox: &str, service: &str, script: &str) -> Outcome {
    world.engine().docker(&["exec", &format!("sbx-{sandbox}.{service}"), "sh", "-c", script])
}

#[test]
fn a_volume_without_a_baseline_goes_back_to_what_its_image_has() {
    let world = pair();
    let listing = "cd /etc/apt && find . -exec stat -c '%n %a %u:%g' {} + | sort";
    let before = shell(&world, "app", listing).success().stdout;
    assert!(before.contains("sources.list"), "{before}");
    shell(&world, "app", "rm -rf /etc/apt/*; chmod 700 /etc/apt; touch /etc/apt/mine /shared/mine").success();

    world.sandbox(["reset", "app"]).success();

    assert_eq!(shell(&world, "app", listing).success().stdout, before);
    assert_eq!(shell(&world, "app", "ls /shared").success().stdout, "");
    let probes = world.engine().docker(&["ps", "-aq", "--filter", "name=..probe.fill"]);
    assert_eq!(probes.stdout, "");
}

#[test]
fn reset_of_one_volume_or_service_leaves_the_others_and_who_uses_them_alone() {
    let world = pair();
    shell(&world, "app", "touch /shared/mine /etc/apt/mine").success();
    shell(&world, "other", "touch /own/mine").success();
    let other = started(&world, "other");

    world.sandbox(["reset", "shared"]).success();
    assert_eq!(shell(&world, "app", "ls /shared; ls /etc/apt/mine").success().text(), "/etc/apt/mine");

    world.sandbox(["reset", "app"]).success();
    assert_ne!(shell(&world, "app", "ls /etc/apt/mine").code, Some(0));
    assert_eq!(
        (shell(&world, "other", "ls /own").success().text(), started(&world, "other")),
        ("mine", other)
    );

    let outcome = world.sandbox(["reset", "nowhere"]);
    assert!(outcome.code != Some(0) && outcome.stderr.contains("nowhere"), "{outcome}");
}

#[test]
fn reset_goes_back_to_the_seeds_or_to_a_named_snapshot() {
    let world = seeded();
    world.up();
    shell(&world, "app", "echo changed > /data/word").success();
    world.sandbox(["snapshot", "create", "changed", "--note", "after the change"]).success();

    world.sandbox(["reset"]).success();
    assert_eq!(word(&world), "seeded");
    world.sandbox(["reset", "--to", "changed"]).success();
    assert_eq!(word(&world), "changed");

    let listed = world.sandbox(["snapshot", "ls", "--json"]).success().json();
    assert_eq!((&listed[0]["name"], &listed[0]["note"]), (&"changed".into(), &"after the change".into()));
    assert_eq!(listed[0]["sandbox"], world.name());
    world.sandbox(["snapshot", "rm", "changed"]).success();
    world.sandbox(["reset", "--to", "changed"]).exits(1).says("changed");
    assert_eq!(word(&world), "changed", "nothing was reset");
}

#[test]
fn a_fork_has_the_data_as_it_is_now_and_the_first_runs_on() {
    let world = seeded();
    world.up();
    shell(&world, "app", "echo before > /data/word").success();
    let (pid, since) = (world.engine().pid(&world.container("app")), started(&world, "app"));
    let second = named(&world, "second");

    world.sandbox(["fork", world.name(), &second]).success();

    assert_eq!(in_named(&world, &second, "app", "cat /data/word").success().text(), "before");
    in_named(&world, &second, "app", "echo after > /data/word").success();
    assert_eq!(word(&world), "before");
    assert_eq!((world.engine().pid(&world.container("app")), started(&world, "app")), (pid, since));
    let secrets = ["cat /run/secrets/key"; 2];
    let first = shell(&world, "app", secrets[0]).success().stdout;
    assert_eq!(in_named(&world, &second, "app", secrets[1]).success().stdout, first);
    world.sandbox(["down", world.name(), &second]).success();
    world.engine().is_clean();
}

#[test]
fn a_clean_snapshot_stops_the_services_and_a_crash_one_does_not() {
    let world = World::with_spec(&SEEDED.replace(
        "[sleep, infinity]\n    stop_signal: SIGKILL",
        "[sh, -c, \"trap 'echo stopped >> /data/log; exit 0' TERM; while :; do sleep 0.1; done\"]",
    ));
    world.file("seed/word", "seeded\n");
    world.up();

    world.sandbox(["snapshot", "create", "frozen", "--crash"]).success().says("crash").says("memory");
    assert_ne!(shell(&world, "app", "cat /data/log").code, Some(0), "it was not asked to stop");
    world.sandbox(["snapshot", "create", "still"]).success().says("clean");
    assert_eq!(shell(&world, "app", "cat /data/log").success().text(), "stopped");
    world.sandbox(["reset", "--to", "still"]).success();
    assert_eq!(shell(&world, "app", "cat /data/log").success().text(), "stopped");
    world.sandbox(["reset", "--to", "frozen"]).success();
    assert_ne!(shell(&world, "app", "cat /data/log").code, Some(0));
}

/// Seeds, changes, resets, keeps, forks, carries out and in again, with one kind of storage.
fn data_goes_round(mut world: World, storage: &str) {
    world.env("SANDBOX_STORAGE", storage);
    world.up();
    assert_eq!(world.engine().stored("live").len(), 1);
    let usage = world.sandbox(["gc", "--dry-run", "--json"]).success().json();
    assert_eq!(usage["usage"]["kind"], storage);
    assert_eq!(word(&world), "seeded");
    shell(&world, "app", "echo changed > /data/word; ln /data/word /data/again; truncate -s 64M /data/holes")
        .success();
    world.sandbox(["snapshot", "create", "kept"]).success();
    world.sandbox(["reset"]).success();
    assert_eq!(word(&world), "seeded");
    world.sandbox(["reset", "--to", "kept"]).success();
    assert_eq!(word(&world), "changed");
    let second = named(&world, "second");
    world.sandbox(["fork", world.name(), &second]).success();
    assert_eq!(in_named(&world, &second, "app", "cat /data/word").success().text(), "changed");
    world.sandbox(["down", &second]).success();

    world.sandbox(["snapshot", "export", "kept", "kept.sandbox.tar.zst"]).success();
    world.sandbox(["snapshot", "import", "kept.sandbox.tar.zst", "--as", "back"]).success();
    let third = named(&world, "third");
    world.sandbox(["up", "-d", "--from", "back", "--name", &third]).success();
    let seen = in_named(
        &world,
        &third,
        "app",
        "cat /data/again; stat -c %h /data/word; du -k /data/holes; wc -c < /data/holes",
    );
    assert_eq!(seen.success().stdout, "changed\n2\n0\t/data/holes\n67108864\n");

    world.sandbox(["down", world.name(), &third]).success();
    assert_eq!((world.engine().stored("live"), world.engine().stored("making")), (vec![], vec![]));
}

#[test]
fn data_goes_round_in_a_pool() {
    data_goes_round(seeded(), "pool");
}

#[test]
fn data_goes_round_in_copies() {
    data_goes_round(seeded(), "copy");
}

/// The machine's own engine may have its data on a file system that cannot clone files, so this needs one that can.
#[test]
fn data_goes_round_in_reflinks() {
    let engine = SecondEngine::start(&["--fs", "xfs"], &[BUSYBOX]);
    data_goes_round(with_seed(engine.world(SEEDED)), "reflink");
}

#[test]
fn a_file_is_inspected_without_an_engine_and_its_secrets_stay_in_it() {
    let world = seeded();
    world.up();
    let secret = shell(&world, "app", "cat /run/secrets/key").success().stdout;
    world.sandbox(["snapshot", "create", "bug", "--note", "the total is wrong"]).success();
    let told = world.command(["--json", "snapshot", "export", "bug", "bug.sandbox.tar.zst"]).run().success();
    assert!(told.json()["file_bytes"].as_u64().unwrap() > 0, "{told}");

    let summary = world.sandbox(["snapshot", "inspect", "bug.sandbox.tar.zst"]).success();
    summary.prints("the total is wrong").prints("sbx-test/busybox");
    let inspect = ["--json", "snapshot", "inspect", "bug.sandbox.tar.zst"];
    let outcome = world.command(inspect).env("DOCKER_HOST", "unix:///nowhere.sock").run().success();

    let shown = outcome.json();
    assert_eq!((&shown["note"], &shown["sandbox"]), (&"the total is wrong".into(), &world.name().into()));
    assert_eq!(shown["images"]["app"]["reference"], "sbx-test/busybox");
    assert!(shown["volumes"]["data"]["entries"].as_u64().unwrap() >= 2, "{outcome}");
    assert!(!outcome.stdout.contains(&secret), "{outcome}");
    world.file("no.sandbox.tar.zst", "not one");
    world.sandbox(["snapshot", "inspect", "no.sandbox.tar.zst"]).exits(1).says("not a snapshot file");
}

/// A service whose secrets and configs come from where the spec says.
const GIVEN: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    secrets: [key, token]
    configs: [colour]
    volumes: ["data:/data"]
volumes: { data: {} }
secrets: { key: { file: key.bin }, token: { environment: TOKEN } }
configs: { colour: { environment: COLOUR } }
"#;

#[test]
fn what_is_given_by_files_and_variables_is_in_forks_and_in_what_comes_from_snapshots() {
    let mut world = World::with_spec(GIVEN);
    world.file("key.bin", [0xff, 0xfe, 0, b'k']);
    world.env("TOKEN", "sesame").env("COLOUR", "blue");
    world.up();
    shell(&world, "app", "echo one > /data/word").success();
    world.sandbox(["snapshot", "create", "given"]).success();
    let (second, third) = (named(&world, "second"), named(&world, "third"));
    world.sandbox(["fork", world.name(), &second]).success();
    world.sandbox(["up", "-d", "--from", "given", "--name", &third]).success();

    let given =
        "cat /run/secrets/token /colour /data/word; wc -c < /run/secrets/key; tail -c 1 /run/secrets/key";
    for sandbox in [world.name(), &second, &third] {
        let seen = in_named(&world, sandbox, "app", given).success();
        assert_eq!(seen.text(), "sesameblueone\n4\nk", "{sandbox}");
    }
    world.sandbox(["down", world.name(), &second, &third]).success();
    world.engine().is_clean();
}

#[test]
fn a_crash_snapshot_leaves_frozen_what_its_user_has_frozen() {
    let world = pair();
    let paused = |service: &str| world.engine().inspect(&world.container(service))["State"]["Paused"].clone();
    world.engine().docker(&["pause", &world.container("other")]).success();
    world.sandbox(["snapshot", "create", "--crash", "one"]).success();
    assert_eq!((paused("app"), paused("other")), (false.into(), true.into()));
    world.engine().docker(&["unpause", &world.container("other")]).success();
}

#[test]
fn a_reset_to_a_snapshot_of_less_changes_nothing() {
    let world = seeded();
    world.up();
    world.sandbox(["snapshot", "create", "small"]).success();
    shell(&world, "app", "echo changed > /data/word").success();
    world.spec(
        &SEEDED
            .replace("volumes: { data", "volumes: { more: {}, data")
            .replace(r#"["data:/data"]"#, r#"["data:/data", "more:/more"]"#),
    );
    world.up();
    shell(&world, "app", "echo kept > /more/word").success();
    let refused = world.sandbox(["reset", "--to", "small"]).exits(1);
    refused.says("has no data of `more`").says("it has `data`");
    assert_eq!(word(&world), "changed");
    assert_eq!(shell(&world, "app", "cat /more/word").success().text(), "kept");
    world.sandbox(["reset", "data", "--to", "small"]).success();
    assert_eq!(word(&world), "seeded");
    assert_eq!(shell(&world, "app", "cat /more/word").success().text(), "kept");
}

#[test]
fn a_sandbox_comes_up_from_a_file_with_its_spec_data_and_secrets_alone() {
    let world = seeded();
    world.up();
    shell(&world, "app", "echo the bug > /data/word").success();
    let secret = shell(&world, "app", "cat /run/secrets/key").success().stdout;
    world.sandbox(["snapshot", "create", "bug"]).success();
    world.sandbox(["snapshot", "export", "bug", "bug.sandbox.tar.zst"]).success();
    world.sandbox(["down"]).success();
    world.sandbox(["snapshot", "rm", "bug"]).success();

    // Somebody else's machine: nothing but the file.
    let other = World::new();
    std::fs::copy(world.project().join("bug.sandbox.tar.zst"), other.project().join("a-bug.file")).unwrap();
    other.sandbox(["up", "-d", "--from", "a-bug.file"]).success();

    assert_eq!(word(&other), "the bug");
    assert_eq!(shell(&other, "app", "cat /run/secrets/key").success().stdout, secret);
    // The second time it is a clone of what the first one imported.
    let second = named(&other, "second");
    let again = other.sandbox(["up", "-d", "--from", "./a-bug.file", "--name", &second]).success();
    assert!(!again.stderr.contains("importing"), "{again}");
    assert_eq!(other.engine().stored("baseline").len(), 1);
    other.sandbox(["up", "-d", "--from", "nothing"]).exits(1).says("neither a snapshot nor a file");
}

#[test]
fn a_spec_out_of_a_file_may_not_mount_this_host_whatever_it_says_of_itself() {
    let world = World::with_spec(&PAIR.replace("\"own:/own\"", "\"./here:/own\""));
    world.file("here/x", "x");
    world.up();
    world.sandbox(["snapshot", "create", "mine"]).success();
    world.sandbox(["snapshot", "export", "mine", "mine.sandbox.tar.zst"]).success();
    let second = named(&world, "second");
    // Not a checkout of the project any more.
    std::fs::remove_file(world.project().join("sandbox.yaml")).unwrap();

    let refused = world.sandbox(["up", "-d", "--from", "mine.sandbox.tar.zst", "--name", &second]).exits(2);

    assert!(
        refused.stderr.contains("snapshot file") && refused.stderr.contains("--allow-host-access"),
        "{refused}"
    );
    world.sandbox(["up", "-d", "--from", "mine", "--name", &second]).success();
    assert_eq!(in_named(&world, &second, "other", "cat /own/x").success().text(), "x");
}

#[test]
fn a_spec_out_of_a_file_may_say_no_more_than_a_spec_of_ones_own() {
    let world = World::with_spec(PAIR);
    world.up();
    world.sandbox(["snapshot", "create", "mine"]).success();
    world.sandbox(["snapshot", "export", "mine", "mine.sandbox.tar.zst"]).success();
    let (mine, second) = (world.project().join("mine.sandbox.tar.zst"), named(&world, "second"));
    // Not a checkout of the project any more.
    std::fs::remove_file(world.project().join("sandbox.yaml")).unwrap();
    // A file like that one, of no data, whose spec says something else.
    let forged = |other: &str, change: &dyn Fn(&mut Value)| {
        let import = Import::open(std::fs::File::open(&mine).unwrap(), Limits::default()).unwrap();
        let mut manifest = import.head().manifest.clone();
        change(manifest.spec.as_mut().unwrap());
        let nothing = tempfile::tempdir().unwrap();
        let volumes = manifest.volumes.iter().map(|name| (name.clone(), nothing.path().to_owned()));
        let volumes: Vec<_> = volumes.collect();
        let out = std::fs::File::create(world.project().join(other)).unwrap();
        export(out, Packing::Zstd, &manifest, &volumes, None, &Counter::default()).unwrap();
    };
    let keeper = format!("sandbox-keeper-{}", world.name());
    let foreign = "a sandbox does not join containers that are not its own";
    let own_profile = r#"seccomp={"defaultAction":"SCMP_ACT_ERRNO"}"#;

    for (key, value, said) in [
        ("pid", json!(format!("container:{keeper}")), foreign),
        ("ipc", json!(format!("container:{keeper}")), foreign),
        ("network_mode", json!({ "container": keeper }), foreign),
        ("volumes_from", json!([format!("/{keeper}")]), "it is not the sandbox's"),
        ("volumes_from", json!([keeper]), "which is not a service"),
        ("scale", json!(u32::MAX), "containers"),
        ("security_opt", json!([own_profile]), "came out of a snapshot file"),
    ] {
        let other = format!("{key}.sandbox.tar.zst");
        forged(&other, &|spec| {
            let app = &mut spec["services"]["app"];
            app["settings"]["cap_add"] = json!(["SYS_PTRACE"]);
            let place = if key == "security_opt" { &mut app["settings"] } else { &mut *app };
            place[key] = value.clone();
            if key == "network_mode" {
                app["networks"] = json!({});
            }
        });

        let up = world.sandbox(["up", "-d", "--from", &other, "--name", &second]).exits(2);

        assert!(up.stderr.contains(said), "{key}: {up}");
    }
    let containers = world.engine().docker(&["ps", "-aq", "--filter", &format!("name={second}")]).success();
    assert_eq!(containers.text(), "");
    // The same file without malice.
    forged("good.sandbox.tar.zst", &|_| ());
    world.sandbox(["up", "-d", "--from", "good.sandbox.tar.zst", "--name", &second]).success();
    world.sandbox(["down", &second]).success();
}

#[test]
fn what_files_are_besides_their_bytes_goes_along_to_another_engine() {
    let spec = r#"
services:
  app:
    image: sbx-test/base
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
volumes: { data: {} }
"#;
    let world = World::with_spec(spec);
    world.up();
    let make = r#"
        set -e; cd /data; mkdir -p d/deep && echo one > d/file && ln d/file linked && ln -s d/file short
        ln -s ../.. d/deep/out && ln -s /etc/passwd absolute && mkfifo d/pipe
        truncate -s 64M holes && printf x | dd of=holes bs=1 seek=5000000 conv=notrunc 2>/dev/null
        cp /bin/true d/tool && chmod 4750 d/tool && chmod 2770 d && chmod 1777 .
        chown 1234:4321 d/file && chown 70000:5 d/deep && chown -h 7:8 short
        perl -e 'my ($f, $k, $v) = ("/data/d/file", "user.note", "a\0b"); syscall(188, $f, $k, $v, 3, 0) and die "$!"'
        touch -d '2001-02-03 04:05:06.123456789' d/file && touch -h -d '1999-01-01' short
        touch -d '2002-01-01 00:00:00.5' d/deep d . "#;
    shell(&world, "app", make).success();
    let picture = r#"cd /data && find . -printf '%P %y %#m %U:%G %T@ %n %s %l\n' | sort
        find . -type f -exec sha256sum {} + | sort -k 2; stat -c %b holes | awk '{ print ($1 < 1000) }'
        perl -e 'my ($f, $k, $v) = ("/data/d/file", "user.note", " " x 9); print syscall(191, $f, $k, $v, 9), " $v"'"#;
    let before = shell(&world, "app", picture).success().stdout;
    world.sandbox(["snapshot", "create", "bug"]).success();
    world.sandbox(["snapshot", "export", "bug", "bug.sandbox.tar.zst"]).success();

    assert!(before.contains("1234:4321 981173106.1234567890 2 4") && before.contains("\n3 a\0b"), "{before}");
    let newer = SecondEngine::start(&["--release", "trixie", "--fs", "xfs"], &["sbx-test/base"]);
    let file = std::fs::read(world.project().join("bug.sandbox.tar.zst")).unwrap();
    for other in [World::new(), newer.world(spec)] {
        other.file("bug.sandbox.tar.zst", &file);
        other.sandbox(["snapshot", "import", "bug.sandbox.tar.zst", "--as", "bug"]).success();
        other.sandbox(["up", "-d", "--from", "bug"]).success();
        assert_eq!(shell(&other, "app", picture).success().stdout, before);
        other.sandbox(["down"]).success();
    }
}

#[test]
fn an_image_that_differs_is_refused_unless_drift_is_allowed_and_one_that_is_missing_is_said() {
    let image = format!("sbx-test/drift-{:08x}:1", rand::random::<u32>());
    let world = World::with_spec(&SEEDED.replace("sbx-test/busybox", &image));
    world.file("seed/word", "seeded\n");
    let docker = |arguments: &[&str]| world.engine().docker(arguments);
    docker(&["tag", "sbx-test/busybox", &image]).success();
    world.up();
    world.sandbox(["snapshot", "create", "kept"]).success();
    world.sandbox(["snapshot", "export", "kept", "kept.sandbox.tar.zst", "--with-images"]).success();
    world.sandbox(["down"]).success();

    docker(&["tag", "sbx-test/base", &image]).success();
    world.sandbox(["up", "-d", "--from", "kept"]).exits(1).says("is not the one").says("--allow-image-drift");
    world.engine().becomes_clean();
    world.sandbox(["up", "-d", "--from", "kept", "--allow-image-drift"]).success();
    world.sandbox(["down"]).success();
    // What comes along does not replace what is here, unless that is asked for.
    let import = ["snapshot", "import", "kept.sandbox.tar.zst"];
    world.sandbox(import.into_iter().chain(["--as", "one"])).success().says("another one here");
    world.sandbox(["up", "-d", "--from", "one"]).exits(1).says("is not the one");

    docker(&["rmi", &image]).success();
    world.sandbox(["up", "-d", "--from", "one"]).exits(1).says("not on this engine").says("--with-images");
    world.sandbox(import.into_iter().chain(["--as", "two"])).success().says("loaded");
    world.sandbox(["up", "-d", "--from", "two"]).success();
    assert_eq!(word(&world), "seeded");
    world.sandbox(["down"]).success();
    docker(&["rmi", &image]).success();
}

/// A project as in the README's tour: one service is built, one mounts a folder of the project.
const TOUR: &str = r#"
name: tour
services:
  app:
    build: { context: ., dockerfile_inline: "FROM sbx-test/busybox\nCOPY mark /mark" }
    command: [sleep, infinity]
    stop_signal: SIGKILL
    environment: { TOKEN: "${TOUR_TOKEN}", MODE: dev }
    volumes: ["data:/data"]
volumes: { data: {} }
"#;

#[test]
fn a_snapshot_of_a_built_service_travels_between_engines_whatever_their_image_stores_and_back() {
    let mut world = World::with_spec(TOUR);
    world.file("mark", "built by the sender");
    world.env("TOUR_TOKEN", "hush-hush");
    world.up();
    shell(&world, "app", "echo the bug > /data/word").success();
    world.sandbox(["snapshot", "create", "bug"]).success();
    world.sandbox(["snapshot", "export", "bug", "bare.sandbox.tar.zst"]).success().says("app.TOKEN");
    world.sandbox(["snapshot", "export", "bug", "bug.sandbox.tar.zst", "--with-images"]).success();
    let shown = world.sandbox(["--json", "snapshot", "inspect", "bug.sandbox.tar.zst"]).success();
    let project = world.project().display().to_string();
    assert!(!shown.stdout.contains("hush-hush") && !shown.stdout.contains(&project), "{shown}");

    let containerd = SecondEngine::start(
        &["--release", "trixie", "--fs", "ext4", "--store", "containerd"],
        &["sbx-test/busybox"],
    );
    let other = containerd.world("");
    std::fs::remove_file(other.project().join("sandbox.yaml")).unwrap();
    for file in ["bare", "bug"].map(|name| format!("{name}.sandbox.tar.zst")) {
        std::fs::copy(world.project().join(&file), other.project().join(&file)).unwrap();
    }
    let refused = other.sandbox(["up", "-d", "--from", "bare.sandbox.tar.zst"]).exits(1);
    refused.says("`app`, which was built").says("--with-images").says("checkout");
    other.sandbox(["up", "-d", "--from", "bug.sandbox.tar.zst"]).success();
    assert_eq!(word(&other), "the bug");
    assert_eq!(shell(&other, "app", "cat /mark; echo; echo $MODE").text(), "built by the sender\ndev");
    // And back, without images: the one that is there is the same.
    other.sandbox(["snapshot", "create", "again"]).success();
    other.sandbox(["snapshot", "export", "again", "again.sandbox.tar.zst"]).success();
    std::fs::copy(
        other.project().join("again.sandbox.tar.zst"),
        world.project().join("again.sandbox.tar.zst"),
    )
    .unwrap();
    world.sandbox(["down"]).success();
    world.sandbox(["snapshot", "import", "again.sandbox.tar.zst"]).success();
    std::fs::remove_file(world.project().join("sandbox.yaml")).unwrap();
    let second = named(&world, "second");
    world.sandbox(["up", "-d", "--from", "again", "--name", &second]).success();
    assert_eq!(in_named(&world, &second, "app", "cat /data/word").success().text(), "the bug");
    world.sandbox(["down", &second]).success();
}

#[test]
fn a_snapshot_file_in_a_checkout_of_its_project_is_used_with_the_sources_there() {
    let world = World::with_spec(TOUR);
    world.file("mark", "the sender's");
    world.up();
    shell(&world, "app", "echo the bug > /data/word").success();
    world.sandbox(["snapshot", "create", "bug"]).success();
    world.sandbox(["snapshot", "export", "bug", "bug.sandbox.tar.zst"]).success();
    world.sandbox(["down"]).success();
    let file = std::fs::read(world.project().join("bug.sandbox.tar.zst")).unwrap();

    let checkout = World::with_spec(TOUR);
    checkout.file("mark", "the sender's").file("bug.sandbox.tar.zst", &file);
    let same = checkout.sandbox(["up", "-d", "--from", "bug.sandbox.tar.zst"]).success();
    let same = same.says("the sources beside it");
    assert!(!same.stderr.contains("other sources"), "{same}");
    assert_eq!(word(&checkout), "the bug");
    checkout.sandbox(["down"]).success();

    checkout.file("mark", "the receiver's");
    let changed = checkout.sandbox(["up", "-d", "--build", "--from", "bug.sandbox.tar.zst"]).success();
    changed.says("other sources");
    assert_eq!(shell(&checkout, "app", "cat /mark; cat /data/word").text(), "the receiver'sthe bug");
}

#[test]
fn gc_shows_first_and_then_removes_what_nothing_uses() {
    let world = seeded();
    world.up();
    world.file("seed/word", "another\n");
    world.sandbox(["bake"]).success();
    let baselines = || world.engine().stored("baseline");
    assert_eq!(baselines().len(), 2);

    let shown = world.sandbox(["gc", "--baselines", "--dry-run", "--json"]).success().json();
    assert_eq!((shown["going"].as_array().unwrap().len(), baselines().len()), (1, 2));
    world.sandbox(["gc"]).success();
    assert_eq!(baselines().len(), 2, "all of it is within the budget");
    world.sandbox(["gc", "--baselines"]).success();
    assert_eq!(baselines().len(), 1, "the other one is in use");

    world.sandbox(["reset"]).success();
    assert_eq!(word(&world), "seeded");
    eventually("the pool has no more than its budget", || {
        let usage = world.sandbox(["gc", "--dry-run", "--json"]).success().json()["usage"].clone();
        usage["used"].as_u64() <= usage["budget"].as_u64()
    });
}

/// Python, to ask the kernel directly: what a bad descriptor's sync answers tells whether the sync was looked at.
fn asked(world: &World, service: &str, script: &str) -> String {
    let python = format!(
        "import os, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef call(*a):\n  r = libc.syscall(*a)\n  return 'done' if r >= 0 else os.strerror(ctypes.get_errno())\n{script}"
    );
    world.in_container(service, &["python3", "-c", &python]).success().text().to_owned()
}

const FSYNC: &str = "print(call(74, 999), call(75, 999))";

#[test]
fn a_sync_costs_nothing_unless_it_is_durable() {
    let world = World::with_spec(
        r#"
services:
  throwaway: { image: sbx-test/python, command: [sleep, infinity], stop_signal: SIGKILL }
  durable: { image: sbx-test/python, command: [sleep, infinity], stop_signal: SIGKILL, durable: true }
  own:
    image: sbx-test/python
    command: [sleep, infinity]
    stop_signal: SIGKILL
    security_opt: ["seccomp:profile.json"]
"#,
    );
    let profile =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;
    world.file("profile.json", profile);
    world.sandbox(["up", "-d", "--allow-host-access"]).exits(0);

    // A sync that nobody looks at succeeds even on what is not open.
    assert_eq!(asked(&world, "throwaway", FSYNC), "done done");
    assert_eq!(asked(&world, "durable", FSYNC), "Bad file descriptor Bad file descriptor");
    // A user's profile keeps its rules, and gets this one.
    assert_eq!(asked(&world, "own", FSYNC), "done done");
    assert_eq!(asked(&world, "own", "print(call(83, b'/tmp/x', 0o755))"), "Operation not permitted");
    // What the engine's default denies stays denied: keyctl, unshare, mount, io_uring_setup, reboot, vsock.
    let denied = "print({call(250, 0, 0, 0), call(272, 0x10000000), call(165, 0, 0, 0, 0, 0), call(425, 1, 0), call(169, 0), call(41, 40, 1, 0)})";
    assert_eq!(asked(&world, "throwaway", denied), "{'Operation not permitted'}");
}

/// Makes a subvolume `/data/PATH` from inside of a service, and a read-only one of it if that is asked for.
fn subvolume(world: &World, path: &str, file: &str, read_only: bool) {
    let script = format!(
        r"
import fcntl, os, struct
parent, name = os.path.split('/data/{path}')
fcntl.ioctl(os.open(parent, os.O_RDONLY), 0x5000940e, bytearray(struct.pack('q4088s', 0, name.encode())))
open('/data/{path}/file', 'w').write('{file}')
if {read_only}:
    fcntl.ioctl(os.open('/data/{path}', os.O_RDONLY), 0x4008941a, bytearray(struct.pack('Q', 2)))
",
        read_only = if read_only { "True" } else { "False" }
    );
    world.in_container("app", &["python3", "-c", &script]).success();
}

#[test]
fn subvolumes_that_a_service_made_in_its_volume_are_cloned_and_deleted_with_it() {
    let world = World::with_spec(
        r#"
services:
  app: { image: sbx-test/python, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ["data:/data"] }
volumes: { data: {} }
"#,
    );
    world.up();
    // One in another, each read-only in the end, and one below a folder.
    shell(&world, "app", "mkdir /data/folder");
    subvolume(&world, "outer", "one", false);
    subvolume(&world, "outer/inner", "two", true);
    subvolume(&world, "folder/third", "three", true);
    let lock = "import fcntl, os, struct; fcntl.ioctl(os.open('/data/outer', 0), 0x4008941a, bytearray(struct.pack('Q', 2)))";
    world.in_container("app", &["python3", "-c", lock]).success();
    let second = named(&world, "b");

    world.sandbox(["snapshot", "create", "kept"]).success();
    world.sandbox(["fork", world.name(), &second]).success();

    let seen = in_named(
        &world,
        &second,
        "app",
        "cat /data/outer/file /data/outer/inner/file /data/folder/third/file",
    );
    assert_eq!(seen.success().stdout, "onetwothree");
    world.sandbox(["down", &second]).success();
    shell(&world, "app", "! touch /data/outer/inner/new").success();
    world.sandbox(["reset"]).success();
    world.sandbox(["down"]).success();
    world.sandbox(["snapshot", "rm", "kept"]).success();
    for shelf in ["live", "making", "snapshot"] {
        assert!(world.engine().stored(shelf).is_empty(), "{shelf}: {:?}", world.engine().stored(shelf));
    }
}

/// Sets flags of `chattr` from inside of a service: 16 is immutable, 32 append-only.
fn set_flags(world: &World, path: &str, flags: u32) {
    let script = format!(
        "import fcntl, os, struct; fcntl.ioctl(os.open('{path}', os.O_RDONLY), 0x40086602, struct.pack('i', {flags}))"
    );
    world.in_container("app", &["python3", "-c", &script]).success();
}

#[test]
fn files_that_a_service_made_immutable_are_cloned_reset_and_deleted_with_the_rest() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/python
    command: [sleep, infinity]
    stop_signal: SIGKILL
    cap_add: [LINUX_IMMUTABLE]
    volumes: ["data:/data"]
volumes: { data: {} }
"#,
    );
    world.sandbox(["up", "-d", "--allow-host-access"]).success();
    shell(&world, "app", "mkdir -p /data/folder/inner; echo one > /data/folder/file; echo two > /data/log")
        .success();
    set_flags(&world, "/data/folder/file", 16);
    set_flags(&world, "/data/folder/inner", 16);
    set_flags(&world, "/data/folder", 16);
    set_flags(&world, "/data/log", 32);
    shell(&world, "app", "! rm -rf /data/folder && ! touch /data/folder/new").success();
    let second = named(&world, "b");

    world.sandbox(["snapshot", "create", "kept"]).success();
    world.sandbox(["fork", world.name(), &second]).success();
    let seen = in_named(&world, &second, "app", "cat /data/folder/file /data/log");
    assert_eq!(seen.success().stdout, "one\ntwo\n");
    world.sandbox(["down", &second]).success();
    world.sandbox(["reset"]).success();
    world.sandbox(["down"]).success();
    world.sandbox(["snapshot", "rm", "kept"]).success();

    for shelf in ["live", "making", "snapshot"] {
        assert!(world.engine().stored(shelf).is_empty(), "{shelf}: {:?}", world.engine().stored(shelf));
    }
}

#[test]
fn what_a_service_nested_deeper_than_any_path_goes_with_it() {
    let world = World::with_spec(
        r#"
services:
  app: { image: sbx-test/python, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ["data:/data"] }
volumes: { data: {} }
"#,
    );
    world.up();
    let script = "
import os
os.chdir('/data')
for _ in range(3000):
    os.mkdir('a-folder-with-a-name')
    os.chdir('a-folder-with-a-name')
";
    world.in_container("app", &["python3", "-c", script]).success();

    world.sandbox(["down"]).success();

    assert!(world.engine().stored("live").is_empty() && world.engine().stored("making").is_empty());
}
