//! An engine of a test's own, which it may stop, kill, and cut the power of.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Outcome, Run};
use super::{Record, World, repository};

/// An engine beside the machine's own, gone when it is dropped. Needs root.
pub struct SecondEngine {
    name: String,
    options: Vec<String>,
    address: String,
}

impl SecondEngine {
    /// Starts one with these options of `fixtures/engines/engine start`, and gives it these images.
    pub fn start(options: &[&str], images: &[&str]) -> Self {
        let name = format!("t{:08x}", rand::random::<u32>());
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let mut engine = Self { name, options, address: String::new() };
        engine.start_again();
        let arguments: Vec<&str> = ["load", &engine.name].into_iter().chain(images.iter().copied()).collect();
        script(&arguments).success();
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
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        script(&["remove", &self.name]);
    }
}

/// `fixtures/engines/engine ARGS…`
fn script(arguments: &[&str]) -> Outcome {
    let path: PathBuf = repository().join("fixtures/engines/engine");
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    Run::new(command, Record::default()).limit(Duration::from_mins(10)).run()
}
