//! An engine of a test's own, which it may stop, kill, and cut the power of.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::process::{Outcome, Run, Session};
use super::{Engine, Listing, Record, World, repository};

/// An engine beside the machine's own, gone when it is dropped. Needs root.
pub struct SecondEngine {
    name: String,
    options: Vec<String>,
    address: String,
    /// What it had before the first sandbox.
    bare: Listing,
}

impl SecondEngine {
    /// Starts one with these options of `fixtures/engines/engine start`, and gives it these images.
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

    /// A world whose sandboxes are on this engine.
    pub fn world(&self, spec: &str) -> World {
        let mut world = World::with_spec(spec);
        world.env("DOCKER_HOST", &self.address);
        world
    }

    /// Everything that it has.
    fn listing(&self) -> Listing {
        let home = Path::new(self.address.trim_start_matches("unix://")).ancestors().nth(2).unwrap();
        let init = std::fs::read_to_string(home.join("init.pid")).unwrap();
        let root = PathBuf::from(format!("/proc/{}/root/var/lib/docker", init.trim()));
        let parent = format!("sandbox-engine-{}", self.name);
        Listing::of(&Engine::new("", Some(self.address.clone())), &root, &parent)
    }

    /// What is new on it, but for what outlasts the sandboxes of these scopes, and what is missing.
    pub fn changes(&self, scopes: &[&str]) -> Vec<String> {
        self.listing().since(&self.bare, scopes)
    }

    /// Waits until it has what it had before its first sandbox, and besides only the keepers of these scopes with all
    /// that outlasts sandboxes.
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

    /// Asks it to stop, as a service manager does.
    pub fn stop(&self) {
        script(&["stop", &self.name]).success();
    }

    /// Kills it and its containerd outright.
    pub fn kill(&self) {
        script(&["kill", &self.name]).success();
    }

    /// Kills everything at once.
    pub fn cut_the_power(&self) {
        script(&["poweroff", &self.name]).success();
    }

    /// Runs a command of this machine in the engine's network, where its published ports are.
    pub fn in_its_network(&self, command: &[&str]) -> Outcome {
        let arguments: Vec<&str> = ["exec", &self.name].into_iter().chain(command.iter().copied()).collect();
        script(&arguments)
    }

    /// Starts one there.
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

/// `fixtures/engines/engine ARGS…`
fn script(arguments: &[&str]) -> Outcome {
    run(arguments).limit(Duration::from_mins(10)).run()
}

fn run(arguments: &[&str]) -> Run {
    let path: PathBuf = repository().join("fixtures/engines/engine");
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    Run::new(command, Record::default())
}
