//! A sandbox disappears, whatever happens to the one who made it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sandbox::agent::client::{self, Keeper, KeeperPlacement, Options};
use sandbox::agent::protocol::{
    Declared, Extension, LeaseRequest, LeaseStatus, Lifetime, Notice, Reason, RecordKind,
};
use sandbox::engine::docker::Docker;
use sandbox::engine::identity::{self, Role, SandboxId, SandboxName};
use sandbox::engine::{CreateContainer, CreateNetwork, CreateVolume, Engine, Mount, network::Subnet};
use sandbox::host_files::Folder;
use sandbox::spec::Spec;
use sandbox::storage::{SetPath, StorageKind, VolumeName};
use support::{BUSYBOX, World, eventually, within};

const GRACE: Duration = Duration::from_secs(2);

/// One sandbox of a test's world, as an incarnation with a lease would be made.
struct Made {
    world: World,
    engine: Arc<dyn Engine>,
    options: Options,
    name: SandboxName,
    id: SandboxId,
}

impl Made {
    async fn new() -> Self {
        let world = World::new();
        let options = Options {
            scope: world.name().parse().unwrap(),
            binary: Some(PathBuf::from(env!("CARGO_BIN_EXE_sandbox"))),
            storage: Some(StorageKind::Copy),
            ..Options::default()
        };
        let engine = Docker::connect_from_env().await.unwrap();
        let name = world.name().parse().unwrap();
        Self { world, engine, options, name, id: SandboxId::random() }
    }

    async fn keeper(&self) -> Keeper {
        Keeper::ensure(&self.engine, self.options.clone()).await.unwrap()
    }

    fn terms(&self) -> LeaseRequest {
        LeaseRequest {
            name: self.name.clone(),
            sandbox: self.id.clone(),
            grace: GRACE,
            lifetime: Lifetime::default(),
            again: false,
            changing: false,
            client: 0,
        }
    }

    fn labels(&self, role: Role) -> std::collections::BTreeMap<String, String> {
        let mut labels = [
            (identity::NAME, self.name.to_string()),
            (identity::ID, self.id.to_string()),
            (identity::ROLE, role.to_string()),
            (identity::SERVICE, "web".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        self.options.scope.mark(&mut labels);
        labels
    }

    /// A network, a volume and a service that runs, all of this sandbox.
    async fn build(&self) {
        let name = self.name.as_str();
        let mut network = CreateNetwork::bridge(identity::network(name, "default"));
        // Out of the ranges that sandboxes' own come from.
        let [a, b, c]: [u8; 3] = rand::random();
        let subnet = format!("198.{}.{b}.{}/28", 18 + a % 2, c & 0xf0);
        network.subnets = vec![Subnet::new(subnet.parse().unwrap())];
        network.internal = true;
        network.labels = self.labels(Role::Network);
        self.engine.create_network(&network).await.unwrap();
        let volume = identity::volume(name, "data");
        let labels = self.labels(Role::Volume);
        let made = CreateVolume { name: volume.clone(), labels, ..CreateVolume::default() };
        self.engine.create_volume(&made).await.unwrap();
        self.service(&["sh", "-c", "echo hello; mkdir /out; echo made > /out/made; sleep 1000"], "").await;
    }

    async fn service(&self, cmd: &[&str], restart: &str) -> String {
        let name = identity::service(self.name.as_str(), "web", 1);
        let mut container = CreateContainer::new(&name, BUSYBOX);
        container.cmd = Some(cmd.iter().map(|it| (*it).to_owned()).collect());
        container.labels = self.labels(Role::Service);
        container.labels.insert("dev.sandbox.restart".to_owned(), restart.to_owned());
        container.mounts = vec![Mount::volume(identity::volume(self.name.as_str(), "data"), "/data")];
        if restart.is_empty() {
            container.networks =
                vec![sandbox::engine::Attachment::new(identity::network(self.name.as_str(), "default"))];
        } else {
            container.mounts.clear();
        }
        self.engine.create_container(&container).await.unwrap();
        self.engine.start_container(&name).await.unwrap();
        name
    }

    /// A process of its own that holds the lease on this sandbox, which is built already.
    fn client_process(&self) -> Client {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holds_a_lease_until_it_is_killed", "--ignored", "--nocapture"])
            .env("TEST_SCOPE", self.world.name())
            .env("TEST_ID", self.id.as_str())
            .env("TEST_PLACE", format!("{:?}", self.options.place))
            .env("XDG_RUNTIME_DIR", std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Client(child.unwrap())
    }

    async fn wait_for(&self, keeper: &Keeper, hold: LeaseStatus) {
        let begin = std::time::Instant::now();
        loop {
            let standings = keeper.sandboxes().await.unwrap();
            if standings.iter().any(|it| it.sandbox == self.id && it.hold == hold) {
                return;
            }
            assert!(begin.elapsed() < support::PATIENCE, "never {hold:?}: {standings:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A process that holds a lease; one that a failed test has not killed would keep the sandbox.
struct Client(Child);

impl Client {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test: the process that the tests below kill.
#[tokio::test]
#[ignore = "a part of other tests"]
async fn holds_a_lease_until_it_is_killed() {
    let variable = |name| std::env::var(name).unwrap();
    let mut made = Made::new().await;
    // It is killed, and its folder would stay.
    std::fs::remove_dir_all(made.world.home().parent().unwrap()).unwrap();
    made.options.scope = variable("TEST_SCOPE").parse().unwrap();
    if variable("TEST_PLACE") == "Process" {
        made.options.place = KeeperPlacement::Process;
    }
    made.name = variable("TEST_SCOPE").parse().unwrap();
    made.id = variable("TEST_ID").parse().unwrap();
    let keeper = made.keeper().await;
    let mut lease = keeper.lease(made.terms()).await.unwrap();
    lease.lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_gone_after_its_client_was_killed() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let mut client = made.client_process();
    made.wait_for(&keeper, LeaseStatus::Held).await;
    made.build().await;
    client.kill();
    within(GRACE + Duration::from_secs(5), "nothing is left", || made.world.engine().remains().is_empty());
    // It is told of once a sweep has found nothing more, which is after the last object went.
    let begin = std::time::Instant::now();
    loop {
        let events = keeper.events(None).await.unwrap();
        let lost =
            |what: &RecordKind| matches!(what, RecordKind::Destroyed { reason: Reason::LeaseLost, .. });
        if events.iter().any(|it| lost(&it.what)) {
            return;
        }
        assert!(begin.elapsed() < support::PATIENCE, "never told: {events:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_leaves_can_be_read_afterwards() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
    let artifact = serde_json::json!({ "service": "web", "path": "/out" });
    spec.artifacts = vec![serde_json::from_value(artifact).unwrap()];
    let declared: Declared = serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap();
    keeper.declare(&made.id, declared.clone()).await.unwrap();
    assert_eq!(keeper.declared(&made.id).await.unwrap(), Some(declared));
    eventually("the artifact is made", || {
        made.world.in_container("web", &["cat", "/out/made"]).code == Some(0)
    });
    keeper.destroy(&made.name, Reason::Down).await.unwrap();
    made.world.engine().is_clean();
    drop(lease);
    assert_eq!(keeper.declared(&made.id).await.unwrap(), None);
    let left = keeper.left(Some(&made.name)).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    keeper.bring(&left[0], Folder::open(into.path()).unwrap()).await.unwrap();
    let read = |path: &str| std::fs::read_to_string(into.path().join(path)).unwrap();
    assert!(read("logs/web.log").contains("hello"));
    assert_eq!(read("artifacts/web/out/made"), "made\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_sandbox_ends_at_its_deadline_and_not_before() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    let until = Timestamp::now() + Duration::from_secs(60);
    lease.detach(Lifetime { until: Some(until), ..Lifetime::default() }).await.unwrap();
    drop(keeper);
    let keeper = made.keeper().await;
    assert_eq!(keeper.sandboxes().await.unwrap()[0].hold, LeaseStatus::Detached);
    let soon = Timestamp::now() + Duration::from_secs(1);
    keeper.extend(&made.name, Extension::To(soon)).await.unwrap();
    assert!(!made.world.engine().remains().is_empty());
    made.world.engine().becomes_clean();
    assert!(Timestamp::now() >= soon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_keeper_comes_back_and_the_lease_is_taken_up_again() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let mut lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    let name = made.options.scope.keeper();
    made.world.engine().docker(&["kill", &name]).success();
    eventually("the keeper runs again", || made.world.engine().runs(&name));
    made.wait_for(&keeper, LeaseStatus::Held).await;
    let lost = tokio::time::timeout(GRACE * 2, lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    lease.release(Reason::SessionEnded).await.unwrap();
    made.world.engine().is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_keeper_and_client_are_killed_a_call_of_the_program_is_enough() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let mut child = made.client_process();
    made.wait_for(&keeper, LeaseStatus::Held).await;
    made.build().await;
    drop(keeper);
    child.kill();
    made.world.engine().docker(&["kill", &made.options.scope.keeper()]).success();
    client::sweep_expired(&made.engine, &made.options).await.unwrap();
    made.world.engine().becomes_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_clients_at_once_make_one_keeper() {
    let made = Made::new().await;
    let tries = (0..20).map(|_| Keeper::ensure(&made.engine, made.options.clone()));
    let keepers = futures_util::future::join_all(tries).await;
    for keeper in &keepers {
        assert!(keeper.as_ref().unwrap().sandboxes().await.unwrap().is_empty());
    }
    assert_eq!(made.world.engine().containers(), [made.options.scope.keeper()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_falls_back_to_the_label() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    let until = Timestamp::now() + Duration::from_secs(3600);
    lease.detach(Lifetime { until: Some(until), ..Lifetime::default() }).await.unwrap();
    drop(keeper);
    let volume = made.engine.volume(&made.options.scope.pool()).await.unwrap().unwrap();
    let record = PathBuf::from(volume.mountpoint).join(format!("keeper/sandboxes/{}.json", made.id));
    std::fs::write(record, b"{\"name\": 7").unwrap();
    made.world.engine().docker(&["restart", "-t", "1", &made.options.scope.keeper()]).success();
    let keeper = made.keeper().await;
    // No label of this sandbox names a deadline: it counts as one that was used last when it was found.
    made.wait_for(&keeper, LeaseStatus::Detached).await;
    let ends = keeper.sandboxes().await.unwrap()[0].ends.unwrap();
    assert!(ends > until, "{ends}");
    keeper.destroy(&made.name, Reason::Down).await.unwrap();
    made.world.engine().is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_loop_runs_as_a_process() {
    let mut made = Made::new().await;
    made.options.place = KeeperPlacement::Process;
    made.options.linger = Duration::from_secs(1);
    let keeper = made.keeper().await;
    // What serves its storage has nothing to do with sandboxes.
    let storage_server = made.options.scope.storage_server();
    assert_eq!(made.world.engine().containers(), [storage_server.as_str()]);
    let mut client = made.client_process();
    made.wait_for(&keeper, LeaseStatus::Held).await;
    made.build().await;
    client.kill();
    made.world.engine().becomes_clean();
    client::remove_everything(&made.engine, &made.options).await.unwrap();
    assert!(!made.world.engine().exists(&storage_server));
}

/// This program as it was built long ago: another image.
fn an_older_build(folder: &std::path::Path) -> PathBuf {
    let older = folder.join("sandbox");
    std::fs::copy(env!("CARGO_BIN_EXE_sandbox"), &older).unwrap();
    let mut file = std::fs::File::options().append(true).open(&older).unwrap();
    file.write_all(&rand::random::<[u8; 16]>()).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    older
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_build_replaces_an_older_keeper_and_every_lease_lives_on() {
    let mut made = Made::new().await;
    let folder = tempfile::tempdir().unwrap();
    let newer = made.options.binary.replace(an_older_build(folder.path()));
    let keeper = made.keeper().await;
    let mut lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    let before = made.world.engine().inspect(&made.options.scope.keeper())["Id"].clone();
    made.options.binary = newer;
    let second = made.keeper().await;
    assert_ne!(before, made.world.engine().inspect(&made.options.scope.keeper())["Id"]);
    made.wait_for(&second, LeaseStatus::Held).await;
    assert!(tokio::time::timeout(GRACE * 2, lease.lost()).await.is_err());
    lease.release(Reason::SessionEnded).await.unwrap();
    made.world.engine().is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_build_replaces_an_older_keeper_and_its_image_and_every_deadline_lives_on() {
    let mut made = Made::new().await;
    let folder = tempfile::tempdir().unwrap();
    let newer = made.options.binary.replace(an_older_build(folder.path()));
    let keeper = made.keeper().await;
    let image = made.world.engine().inspect(&made.options.scope.keeper())["Image"].clone();
    let image = image.as_str().unwrap();
    let lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    lease.detach(Lifetime::default()).await.unwrap();
    let until = Timestamp::now() + Duration::from_secs(3600);
    keeper.extend(&made.name, Extension::To(until)).await.unwrap();
    drop(keeper);
    made.options.binary = newer;
    let second = made.keeper().await;
    made.wait_for(&second, LeaseStatus::Detached).await;
    assert_eq!(second.sandboxes().await.unwrap()[0].ends, Some(until));
    eventually("the older image is gone", || !made.world.engine().exists(image));
    second.destroy(&made.name, Reason::Down).await.unwrap();
    made.world.engine().is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_keeper_and_volume_are_deleted_the_lease_is_taken_up_and_nothing_stays() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let mut lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    let scope = &made.options.scope;
    made.world.engine().docker(&["rm", "-f", &scope.keeper()]).success();
    made.world.engine().docker(&["volume", "rm", "-f", &scope.pool()]);
    made.wait_for(&keeper, LeaseStatus::Held).await;
    assert!(tokio::time::timeout(GRACE * 2, lease.lost()).await.is_err());
    drop(lease);
    drop(keeper);
    made.world.engine().becomes_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_tells_is_in_its_containers_log() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let lease = keeper.lease(made.terms()).await.unwrap();
    lease.release(Reason::SessionEnded).await.unwrap();
    eventually("its log tells of the end", || {
        let log = made.world.engine().docker(&["logs", &made.options.scope.keeper()]);
        log.stderr.contains(made.name.as_str()) && log.stderr.contains("destroyed by the client")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_pool_it_has_that_pools_powers_and_without_one_none() {
    let mut made = Made::new().await;
    made.options.storage = None;
    let keeper = made.keeper().await;
    let added = |made: &Made| {
        let keeper = made.world.engine().inspect(&made.options.scope.keeper());
        let host = &keeper["HostConfig"];
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["NetworkMode"], "none");
        host["CapAdd"].as_array().map_or(0, Vec::len)
    };
    let pool = keeper.storage_kind() == Some(StorageKind::Pool);
    assert_eq!(added(&made), if pool { 3 } else { 0 });
    drop(keeper);
    client::remove_everything(&made.engine, &made.options).await.unwrap();
    made.options.storage = Some(StorageKind::Copy);
    drop(made.keeper().await);
    assert_eq!(added(&made), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_by_itself_when_there_is_nothing_to_keep() {
    let mut made = Made::new().await;
    made.options.linger = Duration::from_millis(300);
    let keeper = made.keeper().await;
    keeper.lease(made.terms()).await.unwrap().release(Reason::Down).await.unwrap();
    drop(keeper);
    eventually("the keeper has left", || made.world.engine().containers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_ours_is_left_when_everything_is_to_go() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let lease = keeper.lease(made.terms()).await.unwrap();
    made.build().await;
    lease.detach(Lifetime::default()).await.unwrap();
    drop(keeper);
    let left = client::remove_everything(&made.engine, &made.options).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert!(made.world.engine().containers().is_empty());
    assert!(made.world.engine().volumes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_is_told_that_its_time_is_nearly_over_and_that_it_was_moved() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let until = Timestamp::now() + Duration::from_secs(300);
    let terms =
        LeaseRequest { lifetime: Lifetime { until: Some(until), ..Lifetime::default() }, ..made.terms() };
    let mut lease = keeper.lease(terms).await.unwrap();
    assert!(matches!(lease.notice().await.unwrap(), Notice::EndsSoon { .. }));
    keeper.extend(&made.name, Extension::To(until + Duration::from_secs(3600))).await.unwrap();
    assert!(matches!(lease.notice().await.unwrap(), Notice::EndMoved { .. }));
    lease.release(Reason::SessionEnded).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_sandboxs_service_is_started_again_as_its_spec_says() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let lease = keeper.lease(made.terms()).await.unwrap();
    lease.detach(Lifetime::default()).await.unwrap();
    let container = made.service(&["sh", "-c", "sleep 0.3; exit 3"], "always").await;
    let starts = || {
        let engine = made.world.engine();
        engine.docker(&["inspect", "-f", "{{.State.StartedAt}}", &container]).text().to_owned()
    };
    let first = starts();
    eventually("it was started again", || starts() != first);
    made.engine.stop_container(&container, None, Some(Duration::ZERO)).await.ok();
    keeper.destroy(&made.name, Reason::Down).await.unwrap();
    made.world.engine().is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_served_by_messages() {
    let made = Made::new().await;
    let keeper = made.keeper().await;
    let storage = keeper.storage().unwrap();
    assert_eq!(storage.kind(), StorageKind::Copy);
    let lease = keeper.lease(made.terms()).await.unwrap();
    let set = SetPath::live(made.id.as_str()).unwrap();
    let volume = set.volume(VolumeName::new("data").unwrap());
    storage.create(&volume).await.unwrap();
    assert_eq!(storage.inspect(&set).await.unwrap().unwrap().volumes.len(), 1);
    assert!(storage.create(&volume).await.is_err());
    lease.release(Reason::SessionEnded).await.unwrap();
    assert!(storage.inspect(&set).await.unwrap().is_none());
}
