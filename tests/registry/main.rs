//! Snapshots in a registry: pushed, pulled, only what changed, whatever the registry does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod fake;
mod server;

use std::time::Duration;

use fake::{Fake, Relay};
use server::{Door, RegistryServer};
use support::{Outcome, World, eventually, within};

const SHOP: &str = r#"
name: shop
services:
  web:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
volumes: { data: {} }
"#;

/// How long the keeper may take to remove what is left.
const GONE: Duration = Duration::from_secs(30);

/// A running shop with a small file.
fn shop() -> World {
    let world = World::with_spec(SHOP);
    world.up();
    shell(&world, "echo first > /data/word; ln -s word /data/link; chmod 600 /data/word");
    world
}

fn shell(world: &World, script: &str) -> Outcome {
    world.in_container("web", &["sh", "-c", script]).success()
}

/// Fills a file of a database's kind with this many MiB of noise.
fn fill(world: &World, mebibytes: u32) {
    shell(world, &format!("head -c {} /dev/urandom > /data/table", mebibytes << 20));
}

/// Overwrites every hundredth page of the file.
fn overwrite(world: &World, mebibytes: u32) {
    let pages = mebibytes * 128;
    let script = format!(
        "i=0; while [ $i -lt {pages} ]; do dd if=/dev/urandom of=/data/table bs=8192 count=1 seek=$i conv=notrunc 2>/dev/null; i=$((i+100)); done"
    );
    world.in_container("web", &["sh", "-c", &script]).success();
}

fn take(world: &World, name: &str) {
    world.sandbox(["snapshot", "create", name]).success();
}

fn push(world: &World, name: &str, to: &str) -> u64 {
    let outcome = world.command(["--json", "snapshot", "push", name, to]).limit(support::PATIENCE * 10).run();
    outcome.success().json()["moved_bytes"].as_u64().unwrap()
}

fn pull(world: &World, from: &str, name: &str) -> u64 {
    let outcome =
        world.command(["--json", "snapshot", "pull", from, "--as", name]).limit(support::PATIENCE * 10).run();
    outcome.success().json()["moved_bytes"].as_u64().unwrap()
}

/// The SHA-256 of the file in the sandbox of a snapshot.
fn digest_of(world: &World, snapshot: &str) -> String {
    let name = format!("{}-{snapshot}", world.name());
    world.sandbox(["up", "-d", "--from", snapshot, "--name", &name]).success();
    let container = format!("sbx-{name}.web");
    let sum = world.engine().docker(&["exec", &container, "sha256sum", "/data/table"]).success();
    world.sandbox(["down", &name]).success();
    sum.stdout.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_snapshot_goes_through_a_registry_with_a_password_and_a_colleague_starts_from_it() {
    let mut world = shop();
    let registry = RegistryServer::start(Door::Password);
    let reference = registry.reference("team/shop:bug-1");
    world
        .sandbox(["snapshot", "create", "bug", "--repro", "cat /data/word; exit 3", "--in", "web"])
        .success();
    world.sandbox(["snapshot", "push", "bug", &reference]).exits(1).says("docker login");

    registry.log_in(&mut world);
    world.sandbox(["snapshot", "push", "bug", &reference]).success().says("digest: sha256:");
    world.sandbox(["down"]).success();

    let mut other = World::new();
    registry.log_in(&mut other);
    other.sandbox(["snapshot", "pull", &reference]).success();
    assert_eq!(other.engine().stored("snapshot"), ["bug-1"]);
    let from = format!("oci://{reference}");
    other.sandbox(["up", "-d", "--from", &from]).success();
    let seen = other.in_container("web", &["sh", "-c", "cat /data/link; stat -c %a /data/word"]).success();
    assert_eq!(seen.text(), "first\n600");
    other.sandbox(["down"]).success();
    // The second time nothing is pulled.
    let again = other.sandbox(["repro", &from]).success().prints("reproduced");
    assert!(!again.stderr.contains("pulling"), "{again}");
    other.sandbox(["snapshot", "pull", &registry.reference("team/shop:none")]).exits(1).says("has no");
}

#[test]
fn a_registry_with_tls_is_trusted_by_its_authority_only() {
    let mut world = shop();
    let registry = RegistryServer::start(Door::Tls);
    let reference = registry.reference("shop:one");
    take(&world, "one");
    world
        .sandbox(["snapshot", "push", "one", &reference])
        .exits(1)
        .says("certificate")
        .says("/etc/docker/certs.d");

    world.env("SSL_CERT_FILE", &registry.certificate());
    push(&world, "one", &reference);
    assert!(pull(&world, &reference, "two") > 0);
}

/// Pushes and pulls a file, changes one percent of it, and does so again. Returns what was moved each time.
fn moved_for_one_percent(mebibytes: u32) -> [u64; 4] {
    let (world, registry) = (shop(), RegistryServer::start(Door::Open));
    let other = World::new();
    let reference = registry.reference("shop:main");
    fill(&world, mebibytes);
    take(&world, "one");
    let first = push(&world, "one", &reference);
    let first_pull = pull(&other, &reference, "one");
    overwrite(&world, mebibytes);
    take(&world, "two");
    let second = push(&world, "two", &reference);
    let second_pull = pull(&other, &reference, "two");
    let sum = shell(&world, "sha256sum /data/table").stdout.split_whitespace().next().unwrap().to_owned();
    world.sandbox(["down"]).success();
    assert_eq!(digest_of(&other, "two"), sum);
    [first, first_pull, second, second_pull]
}

#[test]
fn a_second_push_and_pull_move_only_what_changed() {
    let mebibytes = 64;
    let [first, first_pull, second, second_pull] = moved_for_one_percent(mebibytes);
    let whole = u64::from(mebibytes) << 20;
    assert!(first >= whole && first_pull >= whole, "{first} {first_pull}");
    assert!(second <= whole / 20 && second_pull <= whole / 20, "{second} {second_pull} of {whole}");
}

#[test]
fn a_push_to_a_new_tag_builds_on_another_one() {
    let (world, registry) = (shop(), RegistryServer::start(Door::Open));
    fill(&world, 8);
    take(&world, "one");
    push(&world, "one", &registry.reference("shop:main"));
    take(&world, "two");

    let moved = push(&world, "two", &registry.reference("shop:other"));

    assert!(moved < 1 << 20, "{moved}");
    assert!(pull(&world, &registry.reference("shop:other"), "three") < 1 << 20);
}

#[test]
#[ignore = "takes minutes: run with `--ignored` before a release"]
fn of_a_gibibyte_at_most_a_twentieth_is_moved_again() {
    let [first, first_pull, second, second_pull] = moved_for_one_percent(1024);
    let whole = 1 << 30;
    assert!(first >= whole && first_pull >= whole, "{first} {first_pull}");
    assert!(second <= whole / 20 && second_pull <= whole / 20, "{second} {second_pull} of {whole}");
}

#[test]
fn a_registry_without_ranges_is_read_in_whole_blobs() {
    let (world, registry) = (shop(), RegistryServer::start(Door::Open));
    fill(&world, 20);
    take(&world, "one");
    push(&world, "one", &registry.reference("shop:one"));
    world.sandbox(["down"]).success();
    let relay = Relay::without_ranges(registry.address());
    let other = World::new();

    assert!(pull(&other, &format!("{}/shop:one", relay.address()), "one") >= 20 << 20);
    assert_eq!(digest_of(&other, "one").len(), 64);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let (world, registry) = (shop(), RegistryServer::start(Door::Open));
    fill(&world, 20);
    take(&world, "one");
    push(&world, "one", &registry.reference("shop:one"));
    world.sandbox(["down"]).success();
    // Each connection ends after some bytes.
    let relay = Relay::that_breaks_after(registry.address(), 6 << 20);
    let other = World::new();

    let moved = pull(&other, &format!("{}/shop:one", relay.address()), "one");

    assert!(relay.connections() > 3 && moved < 22 << 20, "{} {moved}", relay.connections());
}

#[test]
fn a_push_that_is_killed_is_not_in_the_registry() {
    let (world, registry) = (shop(), RegistryServer::start(Door::Open));
    let relay = Relay::that_stops_after(registry.address(), 8 << 20);
    fill(&world, 40);
    take(&world, "one");
    let mut pushing = world.spawn(["snapshot", "push", "one", &format!("{}/shop:one", relay.address())]);
    eventually("it is half-way", || relay.has_stopped());

    pushing.kill();

    let direct = registry.reference("shop:one");
    world.sandbox(["snapshot", "pull", &direct, "--as", "x"]).exits(1).says("has no");
    // What was sent completely is not sent again.
    assert!(push(&world, "one", &direct) <= 41 << 20);
    pull(&world, &direct, "two");
}

#[test]
fn a_pull_that_is_killed_leaves_nothing() {
    let (world, registry) = (shop(), RegistryServer::start(Door::Open));
    fill(&world, 40);
    take(&world, "one");
    push(&world, "one", &registry.reference("shop:one"));
    world.sandbox(["down"]).success();
    let other = World::new();
    let relay = Relay::that_stops_after(registry.address(), 8 << 20);
    let mut pulling = other.spawn(["snapshot", "pull", &format!("{}/shop:one", relay.address())]);
    eventually("it is half-way", || relay.has_stopped());

    pulling.kill();

    let keeper = format!("sandbox-keeper-{}", other.name());
    within(GONE, "its process is gone", || {
        !other.engine().docker(&["top", &keeper, "-o", "pid,args"]).stdout.contains("agent unpack")
    });
    within(GONE, "nothing is half-made", || other.engine().stored("making").is_empty());
    assert!(other.engine().stored("snapshot").is_empty());
}

#[test]
fn a_registry_that_lies_is_refused_and_nothing_is_stored() {
    let world = World::new();
    let fake = Fake::start();
    for (repository, said) in [
        ("wrong-index", "another digest"),
        ("huge-manifest", "longer than"),
        ("huge-index", "are the most"),
        ("endless-index", "more of a blob than was asked for"),
        ("short-index", "shorter than it should be"),
        ("bad-index", "not valid"),
        ("redirect-http", "not https"),
        ("redirect-private", "not public"),
        ("redirect-loop", "redirects more than"),
        ("image", "no snapshot of sandbox"),
        ("token-elsewhere", "not reached by https"),
        ("wrong-chunk", "not what its digest says"),
    ] {
        let reference = format!("{}/{repository}:x", fake.address());
        let outcome = world.sandbox(["snapshot", "pull", &reference]).exits(1);
        assert!(outcome.stderr.contains(said), "{repository}: expected {said:?}\n{outcome}");
    }
    let wrong = format!("{}/wrong-chunk@sha256:{}", fake.address(), "0".repeat(64));
    world.sandbox(["snapshot", "pull", &wrong]).exits(1).says("another digest");
    assert!(world.engine().stored("snapshot").is_empty() && world.engine().stored("making").is_empty());
    assert!(!fake.saw_credentials_elsewhere());
}
