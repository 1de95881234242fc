//! Renders our own keys, for `x-sandbox`.

use serde_json::{Value as Json, json};

use super::{Object, number};
use crate::spec::model::{
    Durability, EgressPolicy, Probe, Readiness, Service, ServiceName, Spec, Task, Volume,
};
use crate::spec::units::duration_text;

pub(super) fn top(spec: &Spec) -> Object {
    let mut object = Object::default();
    let mut lifetime = Object::default();
    lifetime
        .some("ttl", spec.lifetime.ttl.map(duration_text))
        .some("idle", spec.lifetime.idle.map(duration_text))
        .some("grace", spec.lifetime.grace.map(duration_text));
    object.object("lifetime", lifetime);
    match &spec.egress {
        EgressPolicy::Deny => {}
        EgressPolicy::Allow => {
            object.set("egress", "allow");
        }
        EgressPolicy::List(rules) => {
            object.set("egress", rules.iter().map(|one| json!(one.to_string())).collect::<Vec<_>>());
        }
    }
    let mut limits = Object::default();
    limits
        .some("memory", spec.limits.memory.map(|size| size.to_string()))
        .some("cpus", spec.limits.cpus.map(number))
        .some("pids", spec.limits.pids);
    object.object("limits", limits);
    object.flag("durable", spec.durable == Durability::Durable);
    let artifacts = spec.artifacts.iter().map(|one| json!(format!("{}:{}", one.service, one.path)));
    object.list("artifacts", artifacts.collect());
    let mut tasks = Object::default();
    for (name, one) in &spec.tasks {
        tasks.set(name.as_str(), task(one));
    }
    object.object("tasks", tasks);
    onboarding(spec, &mut object);
    object
}

fn onboarding(spec: &Spec, object: &mut Object) {
    object.some("welcome", spec.welcome.clone());
    object.list("open", spec.open.iter().map(|page| json!(page.to_string())).collect());
    let mut requires = Object::default();
    requires
        .some("memory", spec.requires.memory.map(|size| size.to_string()))
        .some("disk", spec.requires.disk.map(|size| size.to_string()))
        .some("engine", spec.requires.engine.as_ref().map(ToString::to_string))
        .texts("commands", &spec.requires.commands);
    object.object("requires", requires);
    let env = spec.env.iter().map(|(name, value)| (name.clone(), value.marked())).collect();
    object.pairs("env", &env);
}

fn task(task: &Task) -> Object {
    let mut object = Object::default();
    object
        .texts("run", &task.command)
        .some("in", task.service.as_ref().map(ServiceName::as_str))
        .some("description", task.description.clone())
        .pairs("environment", &task.environment)
        .some("working_dir", task.working_dir.clone());
    object
}

pub(super) fn service(service: &Service) -> Object {
    let mut object = Object::default();
    object
        .some("ready", service.ready.as_ref().map(ready))
        .list("seed", service.seed.iter().map(|seed| seed.kind().render()).collect())
        .some("durable", service.durable.map(|durable| durable == Durability::Durable));
    object
}

pub(super) fn volume(volume: &Volume) -> Object {
    let mut object = Object::default();
    object.list("seed", volume.seed.iter().map(|seed| seed.kind().render()).collect());
    object
}

fn ready(ready: &Readiness) -> Json {
    let mut object = Object::default();
    match &ready.probe {
        Probe::None => return json!("none"),
        Probe::Exec(words) => object.texts("exec", words),
        Probe::Tcp { port } => object.set("tcp", *port),
        Probe::Log { pattern } => object.set("log", pattern.as_str()),
        Probe::Http { port: None, path, status: None, headers } if headers.is_empty() => {
            object.set("http", path.as_str())
        }
        Probe::Http { port, path, status, headers } => {
            let mut inner = Object::default();
            inner
                .set("path", path.as_str())
                .some("port", *port)
                .some("status", *status)
                .pairs("headers", headers);
            object.set("http", inner)
        }
    };
    object.some("timeout", ready.timeout.map(duration_text));
    object.into()
}
