//! The Docker implementation of `Engine` against the real engine that the environment names.
//!
//! Every test has its own prefix and removes what it made, also when it fails.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sandbox::engine::docker::{ConnectRequest, Docker};
use sandbox::engine::identity::{self, Role, SandboxId, Scope};
use sandbox::engine::{
    Attachment, BuildContext, BuildImage, BuildProgress, ContainerState, CreateContainer, CreateNetwork,
    CreateVolume, Dockerfile, Engine, EngineError, ErrorKind, Exec, Filter, ImportImage, LogOptions,
    LogStream, Mount, ObjectKind, Port, PublishedPort, PullImage, PullPhase, PullProgress, StdStream,
    network::Subnet,
};
use sandbox::sweep::{NoHooks, Patience, StopMode, Target, destroy, find};
use tokio::io::AsyncWriteExt;

const IMAGE: &str = "sbx-test/busybox:latest";
const LABEL: &str = "dev.sandbox.engine-test";

/// One test's world: everything in it has its label.
struct World {
    engine: Arc<dyn Engine>,
    prefix: String,
}

impl World {
    async fn new(name: &str) -> Self {
        let engine = Docker::connect_from_env().await.expect("an engine");
        assert!(engine.image(IMAGE).await.unwrap().is_some(), "make `{IMAGE}` first");
        Self { engine, prefix: format!("sbxengine-{name}-{}", std::process::id()) }
    }

    /// Runs a test and removes everything it made, whatever came of it.
    async fn run<F: Future<Output = ()> + Send + 'static>(name: &str, test: impl FnOnce(Arc<World>) -> F) {
        let world = Arc::new(Self::new(name).await);
        let outcome = tokio::spawn(test(Arc::clone(&world))).await;
        world.clean().await;
        if let Err(error) = outcome {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.prefix)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.prefix.clone())])
    }

    fn filter(&self) -> Filter {
        Filter::all().label(LABEL, &self.prefix)
    }

    fn container(&self, part: &str, cmd: &[&str]) -> CreateContainer {
        let mut container = CreateContainer::new(self.name(part), IMAGE);
        container.cmd = Some(cmd.iter().map(ToString::to_string).collect());
        container.labels = self.labels();
        container.settings.stop_grace_period = Some(Duration::ZERO);
        container
    }

    async fn network(&self, part: &str, subnet: &str) -> String {
        let mut network = CreateNetwork::bridge(self.name(part));
        network.labels = self.labels();
        network.subnets = vec![Subnet::new(subnet.parse().unwrap())];
        self.engine.create_network(&network).await.unwrap();
        network.name
    }

    async fn volume(&self, part: &str) -> String {
        let volume = CreateVolume { name: self.name(part), labels: self.labels(), ..CreateVolume::default() };
        self.engine.create_volume(&volume).await.unwrap().name
    }

    async fn clean(&self) {
        for container in self.engine.containers(&self.filter()).await.unwrap() {
            let _ = self.engine.remove_container(&container.id, true, true).await;
        }
        for network in self.engine.networks(&self.filter()).await.unwrap() {
            let _ = self.engine.remove_network(&network.id).await;
        }
        for volume in self.engine.volumes(&self.filter()).await.unwrap() {
            let _ = self.engine.remove_volume(&volume.name).await;
        }
        for image in self.engine.images(&self.filter()).await.unwrap() {
            // By id an image of several tags is refused.
            for tag in image.tags.iter().chain([&image.id]) {
                let _ = self.engine.remove_image(tag).await;
            }
        }
    }
}

async fn read(mut output: LogStream) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk.unwrap();
        match chunk.stream {
            StdStream::Stdout => out.extend_from_slice(&chunk.bytes),
            StdStream::Stderr => err.extend_from_slice(&chunk.bytes),
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

fn tar_of(path: &str, text: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o640);
    header.set_uid(70);
    tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

fn owner_and_mode(archive: &[u8]) -> (u64, u32) {
    let mut archive = tar::Archive::new(archive);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    (entry.header().uid().unwrap(), entry.header().mode().unwrap() & 0o777)
}

fn one(bytes: Vec<u8>) -> sandbox::engine::ByteStream {
    Box::pin(stream::iter([Ok(Bytes::from(bytes))]))
}

#[tokio::test]
async fn the_engine_says_what_it_is() {
    let info = Docker::connect_from_env().await.unwrap().info().await.unwrap();
    assert_eq!(info.os, "linux");
    assert!(info.cpus > 0 && info.memory > 0, "{info:?}");
    assert!(["amd64", "arm64"].contains(&info.arch.as_str()));
}

#[tokio::test]
async fn a_container_writes_ends_and_tells_its_exit_code() {
    World::run("life", |world| async move {
        let engine = &world.engine;
        let container = world.container("c", &["sh", "-c", "echo out; echo err >&2; printf tail; exit 7"]);
        let id = engine.create_container(&container).await.unwrap();
        assert_eq!(engine.container(&container.name).await.unwrap().unwrap().state, ContainerState::Created);
        engine.start_container(&container.name).await.unwrap();
        assert_eq!(engine.wait_container(&container.name).await.unwrap(), 7);
        let (out, err) = read(engine.logs(&container.name, &LogOptions::default()).await.unwrap()).await;
        assert_eq!((out.as_str(), err.as_str()), ("out\ntail", "err\n"));
        let seen = engine.container(&id).await.unwrap().unwrap();
        assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(7)));
        assert_eq!(engine.containers(&world.filter().name(&container.name)).await.unwrap().len(), 1);
        assert!(engine.containers(&world.filter().running()).await.unwrap().is_empty());
        let again = engine.create_container(&container).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::Conflict);
        engine.remove_container(&id, true, true).await.unwrap();
        assert!(engine.container(&id).await.unwrap().is_none());
        assert!(engine.remove_container(&id, true, true).await.unwrap_err().is_not_found());
    })
    .await;
}

#[tokio::test]
async fn a_command_reads_stdin_to_its_end_and_tells_its_exit_code() {
    World::run("exec", |world| async move {
        let engine = &world.engine;
        let container = world.container("c", &["sleep", "600"]);
        engine.create_container(&container).await.unwrap();
        engine.start_container(&container.name).await.unwrap();
        let exec = Exec { stdin: true, ..Exec::new(["sh", "-c", "cat; echo done >&2; exit 3"]) };
        let mut session = engine.exec(&container.name, &exec).await.unwrap();
        session.input.write_all(b"hello").await.unwrap();
        session.input.shutdown().await.unwrap();
        let (out, err) = read(session.output).await;
        assert_eq!((out.as_str(), err.as_str()), ("hello", "done\n"));
        assert_eq!(engine.exec_exit_code(&session.id).await.unwrap(), Some(3));
        // Dropping the input is end-of-file as well.
        let session = engine.exec(&container.name, &exec).await.unwrap();
        drop(session.input);
        let (_, err) = tokio::time::timeout(Duration::from_secs(20), read(session.output)).await.unwrap();
        assert_eq!(err, "done\n");
        let tty = Exec { tty: true, size: Some((33, 99)), ..Exec::new(["sh", "-c", "sleep 0.3; stty size"]) };
        let (out, _) = read(engine.exec(&container.name, &tty).await.unwrap().output).await;
        assert_eq!(out.trim(), "33 99");
        let missing = engine.exec(&world.name("nobody"), &exec).await.unwrap_err();
        assert!(missing.is_not_found());
    })
    .await;
}

#[tokio::test]
async fn an_archive_goes_into_a_created_container_and_comes_out_again() {
    World::run("copy", |world| async move {
        let engine = &world.engine;
        let volume = world.volume("v").await;
        let mut container = world.container("c", &["sleep", "600"]);
        container.mounts = vec![Mount::volume(&volume, "/data")];
        engine.create_container(&container).await.unwrap();
        engine.upload(&container.name, "/data", one(tar_of("a/b", "text"))).await.unwrap();
        let mut bytes = Vec::new();
        let mut archive = engine.download(&container.name, "/data/a/b").await.unwrap();
        while let Some(chunk) = archive.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(owner_and_mode(&bytes), (70, 0o640));
        let stat = engine.stat_path(&container.name, "/data/a").await.unwrap().unwrap();
        assert!(stat.is_dir && stat.name == "a");
        assert!(engine.stat_path(&container.name, "/data/none").await.unwrap().is_none());
        assert!(engine.download(&container.name, "/none").await.err().unwrap().is_not_found());
        assert!(
            engine.upload(&container.name, "/none", one(tar_of("x", ""))).await.unwrap_err().is_not_found()
        );
        let busy = engine.remove_volume(&volume).await.unwrap_err();
        assert_eq!(busy.kind, ErrorKind::InUse, "{}", busy.cause);
    })
    .await;
}

#[tokio::test]
async fn networks_give_fixed_addresses_and_names_and_tell_why_they_stay() {
    World::run("net", |world| async move {
        let engine = &world.engine;
        let third = std::process::id() % 256;
        let subnet = |last: u32| format!("10.97.{third}.{last}/28");
        let address = format!("10.97.{third}.5").parse().ok();
        let (one, two) = (world.network("one", &subnet(0)).await, world.network("two", &subnet(16)).await);
        let mut container = world.container("c", &["sleep", "600"]);
        let first = Attachment::new(&one).at(address.unwrap()).alias("web");
        container.networks = vec![first, Attachment::new(&two)];
        let loopback = "127.0.0.1".parse().ok();
        container.published =
            vec![PublishedPort { container: Port::tcp(80), host_ip: loopback, host_port: None }];
        engine.create_container(&container).await.unwrap();
        engine.start_container(&container.name).await.unwrap();
        let seen = engine.container(&container.name).await.unwrap().unwrap();
        assert_eq!(seen.networks[&one].ipv4, address);
        assert!(seen.networks[&one].aliases.contains(&"web".to_owned()));
        assert!(seen.networks.contains_key(&two));
        assert!(seen.ports[0].host_port.is_some() && seen.ports[0].host_ip == loopback);
        assert_eq!(engine.network(&one).await.unwrap().unwrap().containers[0].name, container.name);
        let busy = engine.remove_network(&one).await.unwrap_err();
        assert_eq!(busy.kind, ErrorKind::InUse, "{}", busy.cause);
        let mut overlapping = CreateNetwork::bridge(world.name("three"));
        overlapping.labels = world.labels();
        overlapping.subnets = vec![Subnet::new(subnet(0).replace("/28", "/29").parse().unwrap())];
        let overlap = engine.create_network(&overlapping).await.unwrap_err();
        assert_eq!(overlap.kind, ErrorKind::SubnetOverlap, "{}", overlap.cause);
        let mut second = world.container("d", &["sleep", "600"]);
        second.networks = vec![Attachment::new(&two)];
        second.published =
            vec![PublishedPort { host_port: seen.ports[0].host_port, ..container.published[0] }];
        engine.create_container(&second).await.unwrap();
        let taken = engine.start_container(&second.name).await.unwrap_err();
        assert_eq!(taken.kind, ErrorKind::PortTaken, "{}", taken.cause);
        engine.disconnect(&two, &container.name).await.unwrap();
        engine.remove_container(&second.name, true, true).await.unwrap();
        engine.remove_network(&two).await.unwrap();
        assert!(engine.network(&two).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn an_image_is_imported_with_its_configuration_and_travels_as_an_archive() {
    World::run("image", |world| async move {
        let engine = &world.engine;
        let tag = format!("{}:1", world.name("image"));
        let import = ImportImage {
            tag: tag.clone(),
            changes: vec!["ENTRYPOINT [\"/x\"]".into(), "ENV A=b".into(), "EXPOSE 53/udp".into()],
            labels: world.labels(),
            ..ImportImage::default()
        };
        let id = engine.import_image(&import, one(tar_of("x", "#!"))).await.unwrap();
        let image = engine.image(&tag).await.unwrap().unwrap();
        assert_eq!((&image.id, image.config.entrypoint.as_slice()), (&id, ["/x".to_owned()].as_slice()));
        assert_eq!(image.config.exposed, [Port::udp(53)]);
        assert_eq!(image.config.labels[LABEL], world.prefix);
        let mut bytes = Vec::new();
        let mut archive = engine.save_images(std::slice::from_ref(&tag)).await.unwrap();
        while let Some(chunk) = archive.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        engine.remove_image(&tag).await.unwrap();
        assert!(engine.image(&tag).await.unwrap().is_none());
        assert_eq!(engine.load_images(one(bytes)).await.unwrap(), std::slice::from_ref(&tag));
        assert_eq!(engine.images(&world.filter()).await.unwrap()[0].tags, std::slice::from_ref(&tag));
        let missing = CreateContainer {
            labels: world.labels(),
            ..CreateContainer::new(world.name("c"), "no-such-image:1")
        };
        let error = engine.create_container(&missing).await.unwrap_err();
        assert_eq!((error.object, error.kind), (ObjectKind::Image, ErrorKind::NotFound));
    })
    .await;
}

#[tokio::test]
async fn events_tell_what_happens_to_labelled_containers() {
    World::run("events", |world| async move {
        let engine = &world.engine;
        let mut events = engine.events(&world.filter(), None).await.unwrap();
        let container = world.container("c", &["true"]);
        engine.create_container(&container).await.unwrap();
        engine.start_container(&container.name).await.unwrap();
        let seen = async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if event.action == "die" {
                    return event;
                }
            }
        };
        let event = tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
        assert_eq!(
            (event.name.as_str(), event.attributes["exitCode"].as_str()),
            (container.name.as_str(), "0")
        );
    })
    .await;
}

/// Builds from a folder and answers the image's name and what the build wrote.
async fn build(
    world: &World,
    engine: &Arc<dyn Engine>,
    folder: &std::path::Path,
    change: impl FnOnce(&mut BuildImage),
) -> (Result<String, EngineError>, String) {
    let mut build = BuildImage {
        context: BuildContext::Folder(folder.to_owned()),
        tags: vec![format!("{}:1", world.name("built")), format!("{}:2", world.name("built"))],
        labels: world.labels(),
        ..BuildImage::default()
    };
    change(&mut build);
    let mut output = Vec::new();
    let mut tell = |progress: BuildProgress| output.push(format!("{progress:?}"));
    let outcome = engine.build_image(&build, &mut tell).await;
    (outcome, output.join("\n"))
}

async fn builders_build(world: Arc<World>, engine: Arc<dyn Engine>) {
    let folder = tempfile::tempdir().unwrap();
    let recipe = format!(
        "FROM {IMAGE} AS first\nARG WHO=nobody\nRUN echo made for $WHO | tee /who\nCOPY . /files\nENTRYPOINT [\"cat\", \"/who\"]\nFROM first AS second\nRUN false\n"
    );
    std::fs::write(folder.path().join("Dockerfile"), &recipe).unwrap();
    std::fs::write(folder.path().join(".dockerignore"), "secret\n").unwrap();
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    std::fs::write(folder.path().join("kept"), "k").unwrap();
    let first = |build: &mut BuildImage| {
        build.target = Some("first".into());
        build.args = BTreeMap::from([("WHO".into(), Some("you & me".into()))]);
    };
    let (built, output) = build(&world, &engine, folder.path(), first).await;
    let id = built.unwrap_or_else(|error| panic!("{error}: {}\n{output}", error.cause));
    assert!(output.contains("made for you & me"), "{output}");
    for tag in ["1", "2"] {
        let image = engine.image(&format!("{}:{tag}", world.name("built"))).await.unwrap().unwrap();
        assert_eq!((&image.id, image.config.labels.get(LABEL)), (&id, Some(&world.prefix)));
    }
    let mut container = world.container("c", &[]);
    container.image = world.name("built") + ":1";
    container.entrypoint = Some(vec!["sh".into(), "-c".into(), "cat /who; ls /files".into()]);
    container.cmd = None;
    engine.create_container(&container).await.unwrap();
    engine.start_container(&container.name).await.unwrap();
    engine.wait_container(&container.name).await.unwrap();
    let (out, _) = read(engine.logs(&container.name, &LogOptions::default()).await.unwrap()).await;
    assert!(out.starts_with("made for you & me\n") && out.contains("kept"), "{out}");
    assert!(!out.contains("secret"), "{out}");
    engine.remove_container(&container.name, true, true).await.unwrap();
    let (failed, output) = build(&world, &engine, folder.path(), |_| {}).await;
    let error = failed.unwrap_err();
    assert_eq!((error.object, error.kind), (ObjectKind::Image, ErrorKind::Other), "{}", error.cause);
    assert!(error.cause.0.contains("false"), "{}\n{output}", error.cause);
    let inline = |build: &mut BuildImage| {
        build.dockerfile = Dockerfile::Inline(format!("FROM {IMAGE}\nCOPY kept /there\nRUN cat /there\n"));
    };
    let (built, output) = build(&world, &engine, folder.path(), inline).await;
    built.unwrap_or_else(|error| panic!("{error}: {}\n{output}", error.cause));
    let missing =
        |build: &mut BuildImage| build.dockerfile = Dockerfile::Inline("FROM 127.0.0.1:9/none\n".into());
    let (failed, _) = build(&world, &engine, folder.path(), missing).await;
    assert_eq!(failed.unwrap_err().kind, ErrorKind::NoNetwork);
}

#[tokio::test]
async fn buildkit_builds_from_a_folder_and_shows_what_failed() {
    World::run("buildkit", |world| async move {
        let engine = Arc::clone(&world.engine);
        builders_build(world, engine).await;
    })
    .await;
}

#[tokio::test]
async fn the_classic_builder_builds_from_a_folder_and_shows_what_failed() {
    World::run("classic", |world| async move {
        let request = ConnectRequest { classic_builder: true, ..ConnectRequest::from_env() };
        let engine = Docker::connect(&request).await.unwrap();
        builders_build(world, engine).await;
    })
    .await;
}

/// A registry on loopback that wants a password, ended with the test.
struct Registry {
    process: std::process::Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// `None` where there is no registry to run.
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        // The password is `pa?ss>word~`, whose base64 differs between the two alphabets.
        std::fs::write(folder.path().join("htpasswd"), format!("me:{HASH}\n")).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root}/data}}\nhttp: {{addr: '{address}'}}\nauth:\n  htpasswd: {{realm: r, path: {root}/htpasswd}}\n",
            root = folder.path().display()
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        let process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        let registry = Self { process, folder, address };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(&registry.address).await.is_ok() {
                return Some(registry);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the registry does not listen");
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("docker")
    }

    fn docker(&self, arguments: &[&str]) {
        let config = self.config();
        let output = std::process::Command::new("docker")
            .arg("--config")
            .arg(config)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

const HASH: &str = "$2y$04$LKTa67RdniDHYgkvqmsrOelPdYb.mS0kVnwH84V5sqNxkxdC0AMwS";

#[tokio::test]
async fn a_pull_uses_the_docker_configurations_credentials_and_tells_of_every_layer() {
    let Some(registry) = Registry::start().await else { return };
    World::run("pull", |world| async move {
        let name = format!("{}/{}", registry.address, world.name("image"));
        let reference = format!("{name}:1");
        registry.docker(&["login", "-u", "me", "-p", "pa?ss>word~", &registry.address]);
        let import = ImportImage { tag: reference.clone(), labels: world.labels(), ..ImportImage::default() };
        world.engine.import_image(&import, one(tar_of("x", &"text".repeat(10_000)))).await.unwrap();
        registry.docker(&["push", &reference]);
        world.engine.remove_image(&reference).await.unwrap();
        let request = ConnectRequest { config: Some(registry.config()), ..ConnectRequest::from_env() };
        let engine = Docker::connect(&request).await.unwrap();
        let mut steps = Vec::new();
        let pull = PullImage { reference: reference.clone(), platform: None };
        engine.pull_image(&pull, &mut |step: PullProgress| steps.push(step)).await.unwrap();
        assert!(engine.image(&reference).await.unwrap().is_some());
        assert!(
            steps.iter().any(|step| step.phase == PullPhase::Done && step.layer.len() == 12),
            "{steps:?}"
        );
        let missing = PullImage { reference: format!("{name}:none"), platform: None };
        let error = engine.pull_image(&missing, &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{}", error.cause);
        let stranger = ConnectRequest { config: Some("/nonexistent".into()), ..ConnectRequest::from_env() };
        let stranger = Docker::connect(&stranger).await.unwrap();
        let error = stranger.pull_image(&missing, &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthorized, "{}", error.cause);
        let nowhere = PullImage { reference: "127.0.0.1:9/none:1".into(), platform: None };
        let error = engine.pull_image(&nowhere, &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoNetwork, "{}", error.cause);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_removes_what_runs_what_is_paused_and_what_a_stranger_holds() {
    World::run("sweep", |world| async move {
        let engine = &world.engine;
        let id = SandboxId::random();
        // A keeper of this machine's own would take what it sees for a sandbox.
        let scope: Scope = format!("t{id}").parse().unwrap();
        let label = |role: Role| {
            let ours = [
                (identity::NAME, world.prefix.clone()),
                (identity::ID, id.to_string()),
                (identity::ROLE, role.to_string()),
                (identity::SCOPE, scope.to_string()),
            ];
            world
                .labels()
                .into_iter()
                .chain(ours.map(|(key, value)| (key.to_owned(), value)))
                .collect::<BTreeMap<_, _>>()
        };
        let mut network = CreateNetwork::bridge(world.name("n"));
        network.labels = label(Role::Network);
        network.subnets =
            vec![Subnet::new(format!("10.98.{}.0/28", std::process::id() % 256).parse().unwrap())];
        engine.create_network(&network).await.unwrap();
        let volume =
            CreateVolume { name: world.name("v"), labels: label(Role::Volume), ..CreateVolume::default() };
        engine.create_volume(&volume).await.unwrap();
        for part in ["runs", "paused", "stranger"] {
            let mut container = world.container(part, &["sleep", "600"]);
            container.networks = vec![Attachment::new(&network.name)];
            if part != "stranger" {
                container.labels = label(Role::Service);
                container.mounts = vec![Mount::volume(&volume.name, "/v"), Mount::volume("", "/anonymous")];
            }
            engine.create_container(&container).await.unwrap();
            engine.start_container(&container.name).await.unwrap();
        }
        engine.pause_container(&world.name("paused")).await.unwrap();
        let anonymous = engine.container(&world.name("runs")).await.unwrap().unwrap().mounts[0].name.clone();
        let target = Target::id(&scope, &id);
        let swept = destroy(&**engine, &target, StopMode::Kill, &Patience::default(), &NoHooks).await;
        assert!(swept.is_clean(), "{:?}", swept.left);
        assert_eq!(swept.removed.len(), 4);
        assert!(find(&**engine, &target).await.unwrap().is_empty());
        assert!(engine.volume(&anonymous).await.unwrap().is_none());
        assert!(engine.container(&world.name("stranger")).await.unwrap().unwrap().state.is_alive());
    })
    .await;
}

/// Puts an `ssh` into a folder that logs its process id and runs what it is told to run, here.
fn fake_ssh(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let script = "#!/bin/sh\necho $$ >> \"${0%/*}/pids\"\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nunset DOCKER_HOST\nexec \"$@\"\n";
    let path = folder.join("ssh");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the test of this name of this program behind the `ssh` of the folder.
fn behind_ssh(folder: &std::path::Path, test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    command.args(["--exact", test, "--ignored"]).env("PATH", path).env("DOCKER_HOST", "ssh://me@far");
    command.stdout(std::process::Stdio::null());
    command
}

/// Whether none of the logged processes is left, within a moment.
async fn all_are_gone(folder: &std::path::Path) -> bool {
    let pids = std::fs::read_to_string(folder.join("pids")).unwrap();
    for _ in 0..100 {
        let runs = |pid: &str| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        if !pids.lines().any(runs) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn an_engine_behind_ssh_is_used_through_children_that_die_with_us() {
    let folder = tempfile::tempdir().unwrap();
    fake_ssh(folder.path());
    let status = behind_ssh(folder.path(), "use_an_engine_behind_ssh").status().unwrap();
    assert!(status.success());
    assert!(all_are_gone(folder.path()).await);
    std::fs::remove_file(folder.path().join("pids")).unwrap();
    let mut watching = behind_ssh(folder.path(), "watch_an_engine_behind_ssh").spawn().unwrap();
    while !folder.path().join("watching").exists() {
        assert!(watching.try_wait().unwrap().is_none(), "it ended before it watched");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(all_are_gone(folder.path()).await);
}

#[tokio::test]
#[ignore = "run by another test, behind its ssh"]
async fn use_an_engine_behind_ssh() {
    World::run("ssh", |world| async move {
        let engine = &world.engine;
        assert_eq!(engine.info().await.unwrap().location.to_string(), "ssh://me@far");
        let container = world.container("c", &["sleep", "600"]);
        engine.create_container(&container).await.unwrap();
        engine.start_container(&container.name).await.unwrap();
        let exec = Exec { stdin: true, ..Exec::new(["cat"]) };
        let mut session = engine.exec(&container.name, &exec).await.unwrap();
        session.input.write_all(b"hello").await.unwrap();
        session.input.shutdown().await.unwrap();
        let (out, _) = tokio::time::timeout(Duration::from_secs(20), read(session.output)).await.unwrap();
        assert_eq!(out, "hello");
    })
    .await;
}

#[tokio::test]
#[ignore = "run by another test, behind its ssh"]
async fn watch_an_engine_behind_ssh() {
    let engine = Docker::connect_from_env().await.unwrap();
    let mut events = engine.events(&Filter::all().label(LABEL, "nobody"), None).await.unwrap();
    let path = std::env::var("PATH").unwrap();
    std::fs::write(std::path::Path::new(path.split(':').next().unwrap()).join("watching"), "").unwrap();
    events.next().await;
}
