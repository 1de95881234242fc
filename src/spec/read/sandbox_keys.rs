//! Reads our own keys except `egress` and `seed`: lifetime, limits, artifacts, tasks, readiness.

use super::{Fields, Reader};
use crate::spec::model::{
    Artifact, Durability, Lifetime, Limits, Probe, Readiness, ServiceName, Spec, Task, TaskName,
};
use crate::spec::node::{Node, Value};
use crate::spec::problem::ProblemKind;

impl Reader<'_> {
    /// Reads our own top-level keys.
    pub(super) fn top_words(&self, fields: &Fields<'_>, spec: &mut Spec) {
        if let Some(inner) = fields.inner("lifetime") {
            spec.lifetime = Lifetime {
                ttl: inner.duration("ttl"),
                idle: inner.duration("idle"),
                grace: inner.duration("grace"),
            };
            inner.finish();
        }
        if let Some(inner) = fields.inner("limits") {
            spec.limits = Limits {
                memory: inner.size("memory"),
                cpus: inner.number("cpus"),
                pids: inner.int_in("pids", "from 1 on"),
            };
            inner.finish();
        }
        if let Some(node) = fields.node("egress") {
            spec.egress = self.egress(node);
        }
        spec.durable = self.durability(fields).unwrap_or_default();
        spec.artifacts = fields.list("artifacts").iter().filter_map(|node| self.artifact(node)).collect();
        if let Some(inner) = fields.inner("tasks") {
            for entry in &inner.map.entries {
                let Some(name) = self.name(TaskName::new(&*entry.key), entry.span) else { continue };
                if let Some(task) = self.task(&name, &entry.value) {
                    spec.tasks.insert(name, task);
                }
            }
        }
        self.onboarding(fields, spec);
    }

    pub(super) fn durability(&self, fields: &Fields<'_>) -> Option<Durability> {
        Some(if fields.flag("durable")? { Durability::Durable } else { Durability::Throwaway })
    }

    fn artifact(&self, node: &Node) -> Option<Artifact> {
        let text = node.scalar().unwrap_or_default();
        let Some((service, path)) = text.split_once(':').filter(|(_, path)| path.starts_with('/')) else {
            let message = format!("`{text}` is not an artifact");
            self.log.hinted(ProblemKind::Value, node.span, message, "write `SERVICE:/absolute/path`");
            return None;
        };
        let service = self.name(ServiceName::new(service), node.span)?;
        Some(Artifact { service, path: path.to_owned(), at: self.log.at(node.span) })
    }

    fn task(&self, name: &TaskName, node: &Node) -> Option<Task> {
        let at = self.log.at(node.span);
        let plain = |command| Task {
            command,
            service: None,
            description: None,
            environment: std::collections::BTreeMap::new(),
            working_dir: None,
            at: at.clone(),
        };
        if matches!(node.value, Value::Str(_) | Value::Seq(_)) {
            return self.command_of(node, &format!("task `{name}`")).map(plain);
        }
        let fields = Fields::of(self.log, node, format!("task `{name}`"))?;
        let command = fields.node("run").and_then(|run| self.command_of(run, &fields.what));
        if fields.node("run").is_none() {
            let message = format!("{} has no `run`", fields.what);
            self.log.hinted(ProblemKind::Type, fields.span, message, "add `run: COMMAND`");
        }
        let service =
            fields.text("in").and_then(|service| self.name(ServiceName::new(service), fields.key_span("in")));
        let task = Task {
            service,
            description: fields.text("description"),
            environment: fields.texts_by_name("environment"),
            working_dir: fields.text("working_dir"),
            ..plain(command.unwrap_or_default())
        };
        fields.finish();
        (!task.command.is_empty()).then_some(task)
    }

    /// Reads a command: a list of arguments, or a line for a shell.
    pub(in crate::spec) fn command_of(&self, node: &Node, what: &str) -> Option<Vec<String>> {
        let words = match &node.value {
            Value::Str(line) if !line.trim().is_empty() => {
                vec!["sh".to_owned(), "-c".to_owned(), line.clone()]
            }
            Value::Seq(items) => items.iter().filter_map(Node::scalar).collect(),
            _ => Vec::new(),
        };
        if words.is_empty() {
            let message = format!("the command of {what} must be a line or a list of words");
            self.log.problem(ProblemKind::Type, node.span, message);
            return None;
        }
        Some(words)
    }

    pub(super) fn ready(&self, fields: &Fields<'_>) -> Option<Readiness> {
        let node = fields.node("ready")?;
        if node.as_str() == Some("none") {
            return Some(Readiness { probe: Probe::None, timeout: None, at: self.log.at(node.span) });
        }
        if let Some(word) = node.as_str() {
            let message = format!("`ready: {word}` of {} is neither `none` nor a mapping", fields.what);
            let hint = "write `none`, or one of `exec`, `tcp`, `http`, `log`: `ready: { tcp: 5432 }`";
            self.log.hinted(ProblemKind::Type, node.span, message, hint);
            return None;
        }
        let inner = fields.inner("ready")?;
        let at = self.log.at(inner.span);
        let mut probes: Vec<(&str, Probe)> = Vec::new();
        if let Some(node) = inner.node("exec") {
            probes.extend(self.command_of(node, &inner.what).map(|words| ("exec", Probe::Exec(words))));
        }
        if let Some(port) = inner.int_in::<u16>("tcp", "from 1 to 65535") {
            probes.push(("tcp", Probe::Tcp { port }));
        }
        probes.extend(self.http(&inner).map(|probe| ("http", probe)));
        if let Some(pattern) = inner.text("log") {
            if let Err(error) = regex::Regex::new(&pattern) {
                let reason = error.to_string();
                let reason =
                    reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let message = format!("`{pattern}` is not a regular expression: {reason}");
                self.log.problem(ProblemKind::Value, inner.map.get("log")?.span, message);
            }
            probes.push(("log", Probe::Log { pattern }));
        }
        let timeout = inner.duration("timeout");
        match probes.as_slice() {
            [_] => {}
            [] => {
                if ["exec", "tcp", "http", "log"].iter().all(|key| inner.map.get(key).is_none()) {
                    let message = format!("{} says nothing to try", inner.what);
                    self.log.hinted(
                        ProblemKind::Type,
                        inner.span,
                        message,
                        "one of `exec`, `tcp`, `http`, `log`",
                    );
                }
            }
            [(first, _), (second, _), ..] => {
                let message = format!("{} has both `{first}` and `{second}`", inner.what);
                self.log.hinted(
                    ProblemKind::Conflict,
                    inner.key_span(second),
                    message,
                    "keep one of the two",
                );
            }
        }
        inner.finish();
        Some(Readiness { probe: probes.into_iter().next()?.1, timeout, at })
    }

    fn http(&self, fields: &Fields<'_>) -> Option<Probe> {
        let node = fields.node("http")?;
        let mut path_text = node.as_str().map(str::to_owned);
        let (mut port, mut status, mut headers) = (None, None, std::collections::BTreeMap::new());
        if node.as_map().is_some() {
            let inner = fields.inner("http")?;
            path_text = Some(inner.text("path").unwrap_or_else(|| "/".to_owned()));
            port = inner.int_in("port", "from 1 to 65535");
            status = inner.int_in("status", "from 100 to 599");
            headers = inner.texts_by_name("headers");
            inner.finish();
        }
        let Some(mut path) = path_text else {
            let message =
                format!("`http` of {} is a path or a mapping, this is {}", fields.what, node.kind());
            self.log.problem(ProblemKind::Type, node.span, message);
            return None;
        };
        // `:8080/healthz` also sets the port.
        if let Some((before, after)) = path.strip_prefix(':').and_then(|rest| rest.split_once('/'))
            && let Ok(number) = before.parse()
        {
            port = Some(number);
            path = format!("/{after}");
        }
        if !path.starts_with('/') {
            let message = format!("`{path}` is not a path to request");
            self.log.hinted(ProblemKind::Value, node.span, message, "begin it with `/`");
        }
        Some(Probe::Http { port, path, status, headers })
    }
}
