//! Containers as processes of the model: start, output, health, and exit.

use std::collections::BTreeSet;

use super::Model;
use super::refuse;
use crate::engine::recording::now;
use crate::engine::recording::script::Behaviour;
use crate::engine::{
    ContainerState, CreateContainer, ErrorKind, Health, HealthStatus, HealthTest, ObjectKind, PublishedPort,
    Result,
};

impl Model {
    pub(in crate::engine::recording) fn start(&mut self, name: &str) -> Result<()> {
        let index = self.container_index(name, "start")?;
        if self.containers[index].seen.state.is_alive() {
            return Ok(());
        }
        let behaviour = self.behaviour(&self.containers[index].create);
        let ports = self.bind_ports(index)?;
        let seen = &mut self.containers[index].seen;
        seen.ports = ports;
        seen.state = ContainerState::Running;
        seen.started_at = Some(now());
        seen.pid = Some(4242);
        let checked = seen.healthcheck.as_ref().is_some_and(|check| check.test != HealthTest::Disabled);
        seen.health =
            checked.then(|| Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() });
        let (id, name, labels) = (seen.id.clone(), seen.name.clone(), seen.labels.clone());
        self.tell(ObjectKind::Container, "start", &id, &name, labels);
        if let Behaviour::Exits(code) = behaviour {
            self.exit(&name, code);
        }
        Ok(())
    }

    fn behaviour(&self, create: &CreateContainer) -> Behaviour {
        let by_end = create.name.rsplit_once('.').and_then(|(_, service)| self.behaviours.get(service));
        let found =
            self.behaviours.get(&create.name).or(by_end).or_else(|| self.behaviours.get(&create.image));
        found.cloned().unwrap_or(Behaviour::Runs)
    }

    fn bind_ports(&self, index: usize) -> Result<Vec<PublishedPort>> {
        let alive = self.containers.iter().filter(|kept| kept.seen.state.is_alive());
        let mut taken: BTreeSet<u16> =
            alive.flat_map(|kept| &kept.seen.ports).filter_map(|port| port.host_port).collect();
        let mut bound = Vec::new();
        for port in &self.containers[index].create.published {
            let host_port = match port.host_port {
                Some(wanted) if taken.contains(&wanted) => {
                    let words = format!("Bind for 127.0.0.1:{wanted} failed: port is already allocated");
                    let name = &self.containers[index].seen.name;
                    return refuse("start", ObjectKind::Container, name, ErrorKind::PortTaken, words);
                }
                Some(wanted) => Some(wanted),
                None => (49152..=u16::MAX).find(|port| !taken.contains(port)),
            };
            taken.extend(host_port);
            bound.push(PublishedPort { host_port, ..*port });
        }
        Ok(bound)
    }

    pub(in crate::engine::recording) fn exit(&mut self, name: &str, code: i64) {
        let Ok(index) = self.container_index(name, "end") else { return };
        let seen = &mut self.containers[index].seen;
        if !seen.state.is_alive() {
            return;
        }
        seen.state = ContainerState::Exited;
        seen.exit_code = Some(code);
        seen.finished_at = Some(now());
        seen.pid = None;
        seen.ports.clear();
        let (id, name, mut labels) = (seen.id.clone(), seen.name.clone(), seen.labels.clone());
        labels.insert("exitCode".into(), code.to_string());
        self.tell(ObjectKind::Container, "die", &id, &name, labels);
    }

    pub(in crate::engine::recording) fn stop(&mut self, name: &str) -> Result<()> {
        let index = self.container_index(name, "stop")?;
        let name = self.containers[index].seen.name.clone();
        let ignores = self.behaviour(&self.containers[index].create) == Behaviour::IgnoresStop;
        self.exit(&name, if ignores { 137 } else { 0 });
        Ok(())
    }

    pub(in crate::engine::recording) fn kill(&mut self, name: &str, signal: &str) -> Result<()> {
        let index = self.container_index(name, "kill")?;
        let seen = &self.containers[index].seen;
        if !seen.state.is_alive() {
            let words = format!("Container {} is not running", seen.id);
            return refuse("kill", ObjectKind::Container, name, ErrorKind::Conflict, words);
        }
        let name = seen.name.clone();
        match signal.trim_start_matches("SIG") {
            "KILL" => self.exit(&name, 137),
            "TERM" | "INT" | "QUIT" => self.stop(&name)?,
            _ => {}
        }
        Ok(())
    }

    pub(in crate::engine::recording) fn set_state(
        &mut self,
        name: &str,
        operation: &'static str,
        to: ContainerState,
    ) -> Result<()> {
        let seen = &mut self.kept(name, operation)?.seen;
        if !seen.state.is_alive() {
            return refuse(
                operation,
                ObjectKind::Container,
                name,
                ErrorKind::Conflict,
                "Container is not running",
            );
        }
        if (to == ContainerState::Paused) == (seen.state == ContainerState::Paused) {
            let words = format!("Container {} is already {}", seen.id, seen.state);
            return refuse(operation, ObjectKind::Container, name, ErrorKind::Conflict, words);
        }
        seen.state = to;
        Ok(())
    }
}
