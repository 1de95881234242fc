//! A separate engine for a test, which the test may stop, kill, or cut off from power.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::process::{Outcome, Run, Session};
use super::{Engine, Listing, Record, World, repository};

/// A second engine on this machine, removed on drop. Needs root.
pub struct SecondEngine {
    name: String,
    options: Vec<String>,
    address: String,
    /// What the engine had before the first sandbox.
    bare: Listing,
}

impl SecondEngine {
    /// Starts an engine with these options of `fixtures/engines/engine start`, and loads these images.
    pub fn start(options: &[&str], images: &[&str]) -> Self {
        let name = format!("t{:08x}", rand::random::<u32>());
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let mut engine = Self { name, options, address: String::new(), bare: Listing::default() };
        engine.start_again();
        let arguments: Vec<&str> = ["load", &engine.name].into_iter().chain(images.iter().copied()).collect();
        script(&arguments).success();
        engine.bare = engine.listing();
        engine
    }

    /// The value of `DOCKER_HOST`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Creates a world whose sandboxes are on this engine.
    pub fn world(&self, spec: &str) -> World {
        let mut world = World::with_spec(spec);
        world.env("DOCKER_HOST", &self.address);
        world
    }

    /// A path of the engine's mount namespace, as this machine sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first_process()))
    }

    fn first_process(&self) -> String {
        let home = Path::new(self.address.trim_start_matches("unix://"));
        let home = home.ancestors().find(|folder| folder.join("init.pid").exists()).unwrap();
        std::fs::read_to_string(home.join("init.pid")).unwrap().trim().to_owned()
    }

    /// Lists everything on the engine.
    fn listing(&self) -> Listing {
        let root = self.inside("/var/lib/docker");
        let parent = format!("sandbox-engine-{}", self.name);
        Listing::of(&Engine::new("", Some(self.address.clone())), &root, &parent)
    }

    /// What is new on the engine, except the objects of these scopes that outlive sandboxes; and what is missing.
    pub fn changes(&self, scopes: &[&str]) -> Vec<String> {
        self.listing().since(&self.bare, scopes)
    }

    /// Waits until the engine has only what it had before its first sandbox, and of these scopes the keepers and other
    /// objects that outlive sandboxes.
    #[track_caller]
    pub fn is_bare_but_for_keepers(&self, limit: Duration, scopes: &[&str]) {
        let start = Instant::now();
        loop {
            let changes = self.changes(scopes);
            if changes.is_empty() {
                return;
            }
            assert!(start.elapsed() < limit, "after {limit:?} the engine is not as it was: {changes:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn start_again(&mut self) {
        let mut arguments = vec!["start", &self.name];
        arguments.extend(self.options.iter().map(String::as_str));
        self.address = script(&arguments).success().text().to_owned();
    }

    /// Stops the engine as a service manager does.
    pub fn stop(&self) {
        script(&["stop", &self.name]).success();
    }

    /// Kills the engine and its containerd with SIGKILL.
    pub fn kill(&self) {
        script(&["kill", &self.name]).success();
    }

    /// Kills all of its processes at once.
    pub fn cut_the_power(&self) {
        script(&["poweroff", &self.name]).success();
    }

    /// Runs a command of this machine in the engine's network, where its published ports are reachable.
    pub fn in_its_network(&self, command: &[&str]) -> Outcome {
        let arguments: Vec<&str> = ["exec", &self.name].into_iter().chain(command.iter().copied()).collect();
        script(&arguments)
    }

    /// Starts a command in the engine's network.
    pub fn starts_in_its_network(&self, command: &[&str]) -> Session {
        let arguments: Vec<&str> = ["exec", &self.name].into_iter().chain(command.iter().copied()).collect();
        run(&arguments).spawn()
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        script(&["remove", &self.name]);
    }
}

/// Runs `fixtures/engines/engine ARGS…`.
fn script(arguments: &[&str]) -> Outcome {
    run(arguments).limit(Duration::from_mins(10)).run()
}

fn run(arguments: &[&str]) -> Run {
    let path: PathBuf = repository().join("fixtures/engines/engine");
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    Run::new(command, Record::default())
}
