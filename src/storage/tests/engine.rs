//! The pool as the keeper runs it: in a container with the few capabilities it needs, serving volumes to a real
//! engine.

use std::process::{Command, Output, Stdio};

use super::*;

const IMAGE: &str = "sbx-test/busybox:latest";
const INSIDE: &str = "storage::tests::engine::inside_the_container";

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The engine's objects of one test, removed on drop.
struct Objects {
    prefix: String,
}

impl Objects {
    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    fn keeper(&self, command: &str) -> Vec<String> {
        let exe = std::env::current_exe().unwrap();
        let mut arguments: Vec<String> =
            ["run", "--rm", "--network=none", "--cap-add=SYS_ADMIN", "--cap-add=MKNOD"]
                .iter()
                .map(ToString::to_string)
                .collect();
        arguments.extend(
            ["--device-cgroup-rule=b 7:* rwm", "--device-cgroup-rule=c 10:237 rwm"].map(str::to_owned),
        );
        arguments.push(format!("--volume={}:/pool", self.name("pool")));
        arguments.push(format!("--volume={}:/test:ro", exe.display()));
        arguments.push(format!("--env=POOL_STEP={command}"));
        arguments.push(format!("--env=POOL_HOST_ROOT={}", self.host_root()));
        arguments.extend(
            [IMAGE, "/test", "--ignored", "--exact", "--nocapture", "--test-threads=1", INSIDE]
                .map(str::to_owned),
        );
        arguments
    }

    fn host_root(&self) -> String {
        said(&docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &self.name("pool")]))
    }

    fn step(&self, command: &str) -> String {
        let arguments = self.keeper(command);
        let output = docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        said(&output)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.name("user")]);
        for what in ["data", "pool"] {
            docker(&["volume", "rm", "-f", &self.name(what)]);
        }
    }
}

/// Runs in the container; the test below is its counterpart.
#[tokio::test]
#[ignore = "runs only inside a container that the test below starts"]
async fn inside_the_container() {
    let Ok(step) = std::env::var("POOL_STEP") else { return };
    let host_root = std::env::var("POOL_HOST_ROOT").unwrap();
    let settings = Settings { kind: Some(StorageKind::Pool), budget: Some(1 << 30) };
    let (storage, _) = open_local(Path::new("/pool"), Path::new(&host_root), &settings).unwrap();
    let data = volume(&SetPath::live("0123456789ab").unwrap(), "data");
    match step.as_str() {
        "make" => {
            storage.create(&data).await.unwrap();
            let options = storage.mount(&data).await.unwrap();
            println!("\nOPTIONS {}", serde_json::to_string(&options.options).unwrap());
        }
        "read" => {
            let text = fs::read_to_string(storage.store().join(data.relative()).join("word")).unwrap();
            println!("\nWORD {}", text.trim());
        }
        "delete" => storage.delete_set(&data.set).await.unwrap(),
        other => panic!("no such step: {other}"),
    }
}

fn line<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(word))
        .unwrap_or_else(|| panic!("no {word} in {text}"))
        .trim()
}

#[test]
fn a_keeper_with_few_capabilities_serves_volumes_to_the_engine_and_finds_them_again() {
    let engine = Command::new("docker").args(["image", "inspect", IMAGE]).output();
    if !engine.is_ok_and(|found| found.status.success()) {
        eprintln!("skipped: no engine, or no {IMAGE}");
        return;
    }
    let objects = Objects { prefix: format!("pool-test-{}", std::process::id()) };
    said(&docker(&["volume", "create", &objects.name("pool")]));
    let made = objects.step("make");
    let options: BTreeMap<String, String> = serde_json::from_str(line(&made, "OPTIONS")).unwrap();

    let mut create = vec!["volume".to_owned(), "create".to_owned(), "--driver=local".to_owned()];
    create.extend(options.iter().map(|(key, value)| format!("--opt={key}={value}")));
    create.push(objects.name("data"));

    // The keeper that created it is gone, and its loop device with it, so mounting the volume must fail with an error.
    said(&docker(&create.iter().map(String::as_str).collect::<Vec<_>>()));
    let mount = format!("{}:/data", objects.name("data"));
    let orphan = docker(&["run", "--rm", "-v", &mount, IMAGE, "true"]);
    assert!(!orphan.status.success());

    // The next keeper recreates the node, which then persists.
    let keeper = objects.keeper("stay");
    let holder = objects.name("user");
    let mut held: Vec<&str> = vec!["run", "-d", "--name", &holder];
    held.extend(keeper[2..].iter().map(String::as_str).take_while(|argument| *argument != IMAGE));
    let attach = format!(
        "POOL_STEP=delete /test --ignored --exact {INSIDE} && POOL_STEP=make /test --ignored --exact {INSIDE} \
         && touch /ready && sleep 600"
    );
    held.extend([IMAGE, "sh", "-c", &attach]);
    said(&docker(&held));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !docker(&["exec", &holder, "test", "-f", "/ready"]).status.success() {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            String::from_utf8_lossy(&docker(&["logs", &holder]).stdout)
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    said(&docker(&[
        "run",
        "--rm",
        "-v",
        &mount,
        IMAGE,
        "sh",
        "-c",
        "echo kept > /data/word; chown 70:70 /data/word",
    ]));
    assert_eq!(
        said(&docker(&["run", "--rm", "-v", &mount, IMAGE, "stat", "-c", "%u:%g %s", "/data/word"])),
        "70:70 5"
    );
    said(&docker(&["rm", "-f", &holder]));
    assert_eq!(line(&objects.step("read"), "WORD"), "kept");
    objects.step("delete");
}
