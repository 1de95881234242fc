//! Images: built from a context, or pulled from a registry, which here is one on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{World, eventually};

const BUILT: &str = r"
services:
  app:
    build: { context: app, args: { GREETING: hello } }
    stop_signal: SIGKILL
";

const DOCKERFILE: &str = r#"FROM sbx-test/busybox
ARG GREETING
RUN echo "$GREETING" > /greeting
COPY . /app/
CMD ["sleep", "infinity"]
"#;

fn built() -> World {
    let world = World::with_spec(BUILT);
    world.file("app/Dockerfile", DOCKERFILE).file("app/kept.txt", "kept").file("app/ignored.txt", "ignored");
    world.file("app/.dockerignore", "ignored.txt\n");
    world
}

#[test]
fn a_service_is_built_with_its_arguments_and_without_what_is_ignored() {
    let world = built();

    world.up();

    assert_eq!(world.in_container("app", &["cat", "/greeting"]).text(), "hello");
    assert_eq!(world.in_container("app", &["ls", "/app"]).stdout, "Dockerfile\nkept.txt\n");
}

#[test]
fn a_changed_context_is_rebuilt_when_asked() {
    let world = built();
    world.up();
    world.file("app/new.txt", "new");

    world.sandbox(["up", "-d", "--build"]).success();

    assert_eq!(world.in_container("app", &["cat", "/app/new.txt"]).success().text(), "new");
}

/// The ids of the images that were built for this world.
fn images(world: &World) -> Vec<String> {
    let label = format!("label=dev.sandbox.scope={}", world.name());
    let listed = world.engine().docker(&["images", "-q", "--no-trunc", "--filter", &label]).success();
    listed.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn gc_removes_what_a_later_build_replaced_and_all_of_them_when_everything_is_to_go() {
    let world = built();
    world.up();
    world.file("app/new.txt", "new");
    world.sandbox(["up", "-d", "--build"]).success();
    assert_eq!(images(&world).len(), 2);

    let shown = world.sandbox(["gc", "--dry-run"]).success();
    assert!(shown.stdout.contains("replaced, goes"), "{shown}");
    assert_eq!(images(&world).len(), 2);
    world.sandbox(["gc"]).success();
    assert_eq!(images(&world).len(), 1);
    assert!(world.engine().runs(&world.container("app")));

    world.sandbox(["gc", "--all"]).success();
    assert_eq!(images(&world), [""; 0]);
}

#[test]
fn a_dockerfile_may_be_written_in_the_spec_and_a_stage_chosen() {
    let world = World::with_spec(
        r#"
services:
  app:
    build:
      context: .
      target: first
      dockerfile_inline: |
        FROM sbx-test/busybox AS first
        RUN echo first > /stage
        CMD ["sleep", "infinity"]
        FROM sbx-test/busybox
        RUN exit 1
    stop_signal: SIGKILL
"#,
    );

    world.up();

    assert_eq!(world.in_container("app", &["cat", "/stage"]).text(), "first");
}

#[test]
fn a_failing_build_shows_its_output_and_leaves_nothing() {
    let world = World::with_spec(BUILT);
    world.file("app/Dockerfile", "FROM sbx-test/busybox\nRUN echo the reason it fails; exit 3\n");

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    assert!(outcome.stderr.contains("the reason it fails") && outcome.stderr.contains("app"), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn build_builds_and_starts_nothing() {
    let world = built();

    world.sandbox(["build"]).success();

    assert!(world.engine().running_services().is_empty());
}

/// Who may use a registry.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    Everybody,
    /// `me`, with [`PASSWORD`].
    Me,
}

const PASSWORD: &str = "pa?ss>word~";
/// The password as `htpasswd` writes it.
const HASH: &str = "$2y$04$LKTa67RdniDHYgkvqmsrOelPdYb.mS0kVnwH84V5sqNxkxdC0AMwS";

/// A registry on loopback that holds `thing:latest`; it ends with the test.
struct Registry {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Registry {
    fn start(world: &World) -> Self {
        Self::open_to(world, Access::Everybody)
    }

    fn open_to(world: &World, access: Access) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{port}");
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("data");
        let mut text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {address} }}\n",
            storage.display()
        );
        if access == Access::Me {
            let users = folder.path().join("users");
            std::fs::write(&users, format!("me:{HASH}\n")).unwrap();
            text += &format!("auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n", users.display());
        }
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, address, folder };
        eventually("the registry answers", || std::net::TcpStream::connect(&registry.address).is_ok());
        let image = registry.image();
        let engine = world.engine();
        engine.docker(&["tag", support::BUSYBOX, &image]).success();
        let own = folder_of_client(&registry.folder).display().to_string();
        if access == Access::Me {
            engine
                .docker(&["--config", &own, "login", "-u", "me", "-p", PASSWORD, &registry.address])
                .success();
        }
        engine.docker(&["--config", &own, "push", "-q", &image]).success();
        engine.docker(&["rmi", &image]).success();
        registry
    }

    fn image(&self) -> String {
        format!("{}/{}:latest", self.address, "thing")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", &self.image()]).output();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The configuration of a client that may use the registry.
fn folder_of_client(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("client")
}

/// A door before a registry that answers "unavailable" until it is opened.
struct Door {
    address: String,
    open: Arc<AtomicBool>,
}

impl Door {
    fn closed(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = Arc::new(AtomicBool::new(false));
        let (behind, opened) = (registry.address.clone(), Arc::clone(&open));
        // It ends with the process: nobody connects any more once the test is over.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behind = opened.load(Ordering::Relaxed).then(|| behind.clone());
                std::thread::spawn(move || match behind {
                    Some(behind) => pass(stream, &behind),
                    None => refuse(stream),
                });
            }
        });
        Self { address, open }
    }
}

fn refuse(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    let _ = stream
        .write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

fn pass(mut client: TcpStream, behind: &str) {
    let Ok(mut server) = TcpStream::connect(behind) else { return };
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_registry_that_is_unavailable_for_a_moment_is_asked_again() {
    let world = World::new();
    let registry = Registry::start(&world);
    let door = Door::closed(&registry);
    let image = format!("{}/thing:latest", door.address);
    world.spec(&format!("services:\n  app: {{ image: '{image}', command: [sleep, infinity] }}\n"));

    let mut session = world.spawn(["pull"]);
    session.says("starts over (attempt 2)");
    door.open.store(true, Ordering::Relaxed);

    session.wait(support::PATIENCE).success();
    assert!(world.engine().exists(&image));
    world.engine().docker(&["rmi", &image]).success();
}

#[test]
fn a_registry_that_wants_a_password_gets_that_of_the_credential_helper() {
    let mut world = World::new();
    let registry = Registry::open_to(&world, Access::Me);
    let image = registry.image();
    world.spec(&format!("services:\n  app: {{ image: '{image}', command: [sleep, infinity] }}\n"));

    let outcome = world.sandbox(["pull"]).exits(1);
    assert!(outcome.stderr.contains("docker login"), "{outcome}");

    let helper = format!(
        "#!/bin/sh\nread registry\necho \"$1 $registry\" >> \"$HOME/asked\"\n\
        echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"{PASSWORD}\"}}'\n"
    );
    world.file("bin/docker-credential-kept", helper);
    world.host("chmod", &["755", "bin/docker-credential-kept"]).run().success();
    let config = format!("{{\"credHelpers\":{{\"{}\":\"kept\"}}}}", registry.address);
    world.file("docker/config.json", config);
    let path = format!("{}:{}", world.project().join("bin").display(), std::env::var("PATH").unwrap());
    let docker = world.project().join("docker").display().to_string();
    world.env("PATH", &path).env("DOCKER_CONFIG", &docker);

    world.sandbox(["pull"]).success();

    assert!(world.engine().exists(&image));
    let asked = std::fs::read_to_string(world.home().join("asked")).unwrap();
    assert_eq!(asked, format!("get {}\n", registry.address));
}

#[test]
fn an_image_that_is_not_there_is_pulled() {
    let world = World::new();
    let registry = Registry::start(&world);
    let image = registry.image();
    world.spec(&format!(
        "services:\n  app: {{ image: '{image}', command: [sleep, infinity], stop_signal: SIGKILL }}\n"
    ));

    world.up();

    assert!(world.engine().runs(&world.container("app")));
    world.sandbox(["down"]).success();
}

#[test]
fn push_pushes_what_was_built_under_each_of_its_names() {
    let world = World::new();
    let registry = Registry::start(&world);
    let [first, second] = ["1", "2"].map(|tag| format!("{}/built:{tag}", registry.address));
    world.spec(&format!(
        "services:\n  app:\n    image: '{first}'\n    build: {{ dockerfile_inline: \"FROM sbx-test/busybox\\nRUN echo \
         pushed > /mark\", tags: ['{second}'] }}\n  unnamed: {{ build: {{ dockerfile_inline: \"FROM \
         sbx-test/busybox\" }} }}\n  pulled: {{ image: sbx-test/busybox }}\n"
    ));

    world.sandbox(["push"]).exits(1).says("sandbox build app");
    world.sandbox(["build"]).success();
    world.sandbox(["push"]).success().says(&format!("pushed `{second}`")).says("`unnamed` is not pushed");

    for image in [&first, &second] {
        world.engine().docker(&["rmi", image]).success();
    }
    for image in [&first, &second] {
        world.engine().docker(&["pull", "-q", image]).success();
    }
    let quiet = world.sandbox(["push", "-q", "app"]).success();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "{quiet}");
    for image in [&first, &second] {
        world.engine().docker(&["rmi", image]).success();
    }
}

#[test]
fn a_push_that_fails_names_the_registry_and_may_be_ignored() {
    let world = World::new();
    let registry = Registry::open_to(&world, Access::Me);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let [dead, closed] = [format!("127.0.0.1:{port}/a:1"), format!("{}/b:1", registry.address)];
    let built = |image: &str| {
        format!("{{ image: '{image}', build: {{ dockerfile_inline: \"FROM sbx-test/busybox\" }} }}")
    };
    world.spec(&format!("services:\n  a: {}\n  b: {}\n", built(&dead), built(&closed)));
    world.sandbox(["build"]).success();

    world.sandbox(["push"]).exits(1).says(&dead);
    world.sandbox(["push", "b"]).exits(1).says("docker login");
    world.sandbox(["push", "--ignore-push-failures"]).success().says(&dead).says(&closed);

    for image in [&dead, &closed] {
        world.engine().docker(&["rmi", image]).success();
    }
}

#[test]
fn an_image_is_pulled_again_once_its_last_pull_is_too_old() {
    let world = World::new();
    let registry = Registry::start(&world);
    let image = registry.image();
    let spec = |policy: &str| {
        world.spec(&format!(
            "services:\n  app: {{ image: '{image}', pull_policy: {policy}, command: [sleep, infinity], stop_signal: \
             SIGKILL }}\n"
        ));
    };
    let plan = || world.sandbox(["up", "--dry-run"]).success().stdout;
    spec("daily");
    world.up();

    assert!(!plan().contains("pull image"), "{}", plan());
    spec("every_1s");
    eventually("it is too old", || plan().contains("pull image"));
    world.up();
    spec("weekly");
    assert!(!plan().contains("pull image"), "{}", plan());
    world.sandbox(["down"]).success();
}

#[test]
fn a_terminal_shows_the_output_of_the_step_that_fails() {
    let world = World::with_spec(BUILT);
    world.file("app/Dockerfile", "FROM sbx-test/busybox\nRUN echo the reason it fails; exit 3\n");

    let outcome = world.terminal(["up"]).wait(support::PATIENCE).exits(1);

    let text = outcome.stdout.replace('\r', "");
    let failed = text.find("the build failed").unwrap_or_else(|| panic!("{text}"));
    assert!(text[failed..].contains("the reason it fails"), "{text}");
    world.engine().becomes_clean();
}

#[test]
fn a_terminal_shows_one_line_for_each_image_that_is_pulled() {
    let world = World::new();
    let registry = Registry::start(&world);
    let image = registry.image();
    world.spec(&format!(
        "services:\n  one: {{ image: '{image}', command: [sleep, infinity], stop_signal: SIGKILL }}\n  two: {{ image: \
         '{image}', command: [sleep, infinity], stop_signal: SIGKILL }}\n"
    ));

    let outcome = world.terminal(["pull"]).wait(support::PATIENCE).success();

    let lines: Vec<&str> = outcome.stdout.lines().filter(|line| line.contains("pulled `")).collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("(0 B)"), "{}", outcome.stdout);
}

#[test]
fn pull_pulls_and_starts_nothing() {
    let world = World::new();
    let registry = Registry::start(&world);
    let image = registry.image();
    world.spec(&format!("services:\n  app: {{ image: '{image}', command: [sleep, infinity] }}\n"));

    world.sandbox(["pull"]).success();

    assert!(world.engine().exists(&image));
    assert!(world.engine().running_services().is_empty());
}

#[test]
fn an_image_that_no_registry_has_is_named() {
    let world = World::new();
    let registry = Registry::start(&world);
    let image = format!("{}/nothing:1", registry.address);
    world.spec(&format!("services:\n  app: {{ image: '{image}' }}\n"));

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    assert!(outcome.stderr.contains(&image), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn a_registry_that_does_not_answer_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let world = World::with_spec(&format!("services:\n  app: {{ image: '127.0.0.1:{port}/thing:1' }}\n"));

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    assert!(outcome.stderr.contains(&format!("127.0.0.1:{port}")), "{outcome}");
    world.engine().becomes_clean();
}

#[test]
fn pull_policy_never_does_not_ask_a_registry() {
    let world = World::with_spec("services:\n  app: { image: 'sbx-test/not-made:1', pull_policy: never }\n");

    world.sandbox(["up", "-d"]).exits(1).says("sbx-test/not-made:1");

    world.engine().becomes_clean();
}

#[test]
fn a_volume_begins_with_the_content_of_the_image_that_the_others_depend_on() {
    let world = World::with_spec(
        r#"
services:
  a:
    build: { dockerfile_inline: "FROM sbx-test/busybox\nRUN mkdir /c && echo a > /c/a && echo a > /c/who\n" }
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["c:/c"]
    depends_on: [b]
  b:
    build: { dockerfile_inline: "FROM sbx-test/busybox\nRUN mkdir /c && echo b > /c/b && echo b > /c/who\n" }
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["c:/c"]
volumes: { c: {} }
"#,
    );

    world.up();

    assert_eq!(world.in_container("a", &["sh", "-c", "ls /c; cat /c/who"]).success().stdout, "b\nwho\nb\n");
}

#[test]
fn labels_of_an_image_hide_nothing_from_who_destroys() {
    let spec = "
services:
  app: { build: ./app, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ['data:/data'] }
volumes: { data: {} }
";
    let world = World::with_spec(spec);
    let recipe = "FROM sbx-test/busybox\nLABEL dev.sandbox.scope=elsewhere dev.sandbox.role=keeper dev.sandbox.from=other\n";
    world.file("app/Dockerfile", recipe);
    world.up();

    let labels = world.engine().inspect(&world.container("app"))["Config"]["Labels"].clone();
    assert_eq!(labels["dev.sandbox.scope"], world.name());
    assert_eq!(labels["dev.sandbox.role"], "service");
    assert_eq!(labels["dev.sandbox.from"], "");

    world.sandbox(["ls"]).success();
    world.sandbox(["down"]).success();
    world.engine().is_clean();
}

#[test]
fn what_a_service_writes_is_shown_without_what_a_terminal_would_act_on() {
    let spec = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "printf 'x\\033]0;owned\\007\\033[2J\\302\\2332Jy\\n'; exit 3"]
    ready: { exec: ["true"] }
"#;
    let world = World::with_spec(spec);

    let said = world.sandbox(["up", "-d"]);

    assert_ne!(said.code, Some(0));
    let told = format!("{}{}", said.stdout, said.stderr);
    assert!(told.contains("xy"), "{told}");
    assert!(!told.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{told:?}");
}

#[test]
fn an_image_that_one_service_builds_and_another_names_is_built_once() {
    let image = "local/built-and-named:1";
    let world = World::with_spec(&format!(
        "services:\n  a: {{ image: {image}, command: [sleep, infinity], stop_signal: SIGKILL }}\n  b: {{ image: {image}, \
         build: {{ dockerfile_inline: \"FROM sbx-test/busybox\\nRUN echo built > /mark\" }}, command: [sleep, infinity], \
         stop_signal: SIGKILL }}\n"
    ));

    world.up();

    assert_eq!(world.in_container("a", &["cat", "/mark"]).text(), "built");
    world.sandbox(["down"]).success();
    world.engine().docker(&["rmi", "-f", image]);
}

/// A base that another service's Dockerfile starts from and copies from, by its image and by the service.
const NEEDED: &str = r#"
services:
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM local/needed-base:1
        COPY --from=base /base-mark /copied
        COPY --from=assets . /assets/
        COPY . /own/
      additional_contexts: { base: "service:zbase", assets: ./assets }
    command: [sleep, infinity]
    stop_signal: SIGKILL
  zbase:
    image: local/needed-base:1
    build: { dockerfile_inline: "FROM sbx-test/busybox\nRUN echo base > /base-mark" }
    command: [sleep, infinity]
    stop_signal: SIGKILL
"#;

#[test]
fn what_a_build_needs_is_built_first_and_its_contexts_are_there() {
    let world = World::with_spec(NEEDED);
    world.file("assets/logo.txt", "logo").file("assets/.dockerignore", "secret\n").file("assets/secret", "x");

    world.sandbox(["up", "-d", "app"]).success();

    assert_eq!(world.in_container("app", &["cat", "/base-mark", "/copied"]).text(), "base\nbase");
    assert_eq!(world.in_container("app", &["cat", "/assets/logo.txt"]).text(), "logo");
    world.in_container("app", &["test", "!", "-e", "/assets/secret"]).success();
    let own = world.in_container("app", &["ls", "/own"]).stdout;
    assert!(own.contains("assets"), "{own}");
    world.sandbox(["down"]).success();
    world.engine().docker(&["rmi", "-f", "local/needed-base:1"]);
}

#[test]
fn a_build_reads_its_secrets_and_they_stay_out_of_the_image() {
    let mut world = World::with_spec(
        "services:\n  app:\n    build:\n      dockerfile_inline: |\n        FROM sbx-test/busybox\n        RUN \
         --mount=type=secret,id=token sha256sum < /run/secrets/token > /of-file\n        RUN \
         --mount=type=secret,id=word,target=/word sha256sum < /word > /of-word\n      secrets: [token, {source: \
         phrase, target: word}]\n    command: [sleep, infinity]\n    stop_signal: SIGKILL\nsecrets:\n  token: { file: \
         ./token }\n  phrase: { environment: PHRASE }\n",
    );
    world.file("token", "from a file");
    world.env("PHRASE", "from a variable");

    world.up();

    let sum = |text: &str| {
        use sha2::{Digest, Sha256};
        format!("{}  -", hex::encode(Sha256::digest(text.as_bytes())))
    };
    assert_eq!(world.in_container("app", &["cat", "/of-file"]).text(), sum("from a file"));
    assert_eq!(world.in_container("app", &["cat", "/of-word"]).text(), sum("from a variable"));
    world.in_container("app", &["test", "!", "-s", "/run/secrets/token"]).success();
}

#[test]
fn a_build_speaks_to_the_users_ssh_agent() {
    let mut world = World::with_spec(
        "services:\n  app:\n    build:\n      dockerfile_inline: |\n        FROM sbx-test/python\n        RUN \
         --mount=type=ssh python3 -c \"import os, socket; s = socket.socket(socket.AF_UNIX); \
         s.connect(os.environ['SSH_AUTH_SOCK']); s.send(b'ping'); open('/answer', 'wb').write(s.recv(9))\"\n      ssh: \
         [default]\n    command: [sleep, infinity]\n    stop_signal: SIGKILL\n",
    );
    let socket = world.home().join("agent");
    let agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    world.env("SSH_AUTH_SOCK", &socket.display().to_string());
    std::thread::spawn(move || {
        for stream in agent.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() {
                stream.write_all(b"pong").unwrap();
            }
        }
    });

    world.up();

    assert_eq!(world.in_container("app", &["cat", "/answer"]).text(), "pong");
}

#[test]
fn only_the_named_stage_is_rebuilt() {
    let world = World::with_spec(
        "services:\n  app:\n    build:\n      dockerfile_inline: |\n        FROM sbx-test/busybox AS kept\n        RUN cat \
         /proc/sys/kernel/random/uuid > /kept\n        FROM sbx-test/busybox AS anew\n        RUN cat \
         /proc/sys/kernel/random/uuid > /anew\n        FROM sbx-test/busybox\n        COPY --from=kept /kept /kept\n        \
         COPY --from=anew /anew /anew\n      no_cache_filter: [anew]\n    command: [sleep, infinity]\n    stop_signal: \
         SIGKILL\n",
    );
    let read = || {
        let texts =
            ["/kept", "/anew"].map(|path| world.in_container("app", &["cat", path]).text().to_owned());
        world.sandbox(["down"]).success();
        texts
    };
    world.up();
    let [kept, anew] = read();

    world.sandbox(["up", "-d", "--build"]).success();

    let [kept_then, anew_then] = read();
    assert_eq!(kept, kept_then);
    assert_ne!(anew, anew_then);
}

#[test]
fn what_a_build_cannot_be_given_is_refused_where_the_spec_is_read() {
    let world = World::new();
    for (build, says) in [
        ("network: 'container:other'", "asks for the network `container:other`"),
        ("network: sbx-other.default", "asks for the network `sbx-other.default`"),
        ("additional_contexts: { base: 'service:nosuch' }", "which is not a"),
        ("additional_contexts: { base: 'service:app' }", "needs its own image"),
        ("additional_contexts: { base: 'https://example.org/x.git' }", "cannot fetch"),
    ] {
        world.spec(&format!("services: {{ app: {{ build: {{ context: ., {build} }} }} }}\n"));
        world.file("Dockerfile", "FROM sbx-test/busybox\n");
        let outcome = world.sandbox(["config"]);
        assert_ne!(outcome.code, Some(0), "{build}: {outcome}");
        outcome.says(says);
    }
    world.engine().is_clean();
}
