//! Reads `depends_on`, `healthcheck`, `restart`, `logging` and the hooks of a service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Fields, Reader};
use crate::spec::model::{
    Condition, Dependency, HealthTest, Healthcheck, Hook, RestartPolicy, Service, ServiceName, WatchAction,
    WatchRule,
};
use crate::spec::nearest;
use crate::spec::node::{Node, Value};
use crate::spec::problem::ProblemKind;

impl Reader<'_> {
    pub(super) fn depends_on(&self, fields: &Fields<'_>) -> BTreeMap<ServiceName, Dependency> {
        let mut read = BTreeMap::new();
        let Some(inner) = fields.inner("depends_on") else { return read };
        for entry in &inner.map.entries {
            let Some(name) = self.name(ServiceName::new(&*entry.key), entry.span) else { continue };
            let what = format!("the dependency of {} on `{name}`", fields.what);
            let Some(one) = Fields::of(self.log, &entry.value, what) else { continue };
            let words = [Condition::Started, Condition::Healthy, Condition::CompletedSuccessfully]
                .map(|condition| (condition.word(), condition));
            let dependency = Dependency {
                condition: one.word("condition", &words).unwrap_or_default(),
                required: one.flag("required").unwrap_or(true),
                restart: one.flag("restart").unwrap_or(false),
            };
            one.finish();
            read.insert(name, dependency);
        }
        read
    }

    /// Adds the dependencies that `links`, `volumes_from` and shared namespaces imply.
    pub(super) fn implied_dependencies(&self, service: &mut Service) {
        let mut implied: Vec<(String, bool)> = Vec::new();
        implied.extend(service.links.iter().map(|link| {
            let name = link.split_once(':').map_or(link.as_str(), |(name, _)| name);
            (name.to_owned(), true)
        }));
        if let Some(crate::spec::model::NetworkMode::Service(name)) = &service.network_mode {
            implied.push((name.to_string(), true));
        }
        for mode in [&service.ipc, &service.pid, &service.settings.uts, &service.cgroup] {
            let name = mode.as_deref().and_then(|mode| mode.strip_prefix("service:"));
            implied.extend(name.map(|name| (name.to_owned(), true)));
        }
        for from in service.volumes_from.iter().filter(|from| !from.starts_with("container:")) {
            let name = from.split_once(':').map_or(from.as_str(), |(name, _)| name);
            implied.push((name.to_owned(), false));
        }
        for (name, restart) in implied {
            if let Ok(name) = ServiceName::new(name) {
                service.depends_on.entry(name).or_insert(Dependency { restart, ..Dependency::default() });
            }
        }
    }

    pub(super) fn healthcheck(&self, fields: &Fields<'_>) -> Option<Healthcheck> {
        let inner = fields.inner("healthcheck")?;
        let test = inner.texts("test").filter(|words| !words.is_empty()).and_then(|words| {
            match (words[0].as_str(), &words[1..]) {
                ("NONE", _) => Some(HealthTest::None),
                ("CMD", rest) if !rest.is_empty() => Some(HealthTest::Exec(rest.to_vec())),
                ("CMD-SHELL", [line]) => Some(HealthTest::Shell(line.clone())),
                ("CMD-SHELL", rest) if !rest.is_empty() => Some(HealthTest::Shell(rest.join(" "))),
                _ => {
                    let message =
                        format!("`test` of {} does not begin with NONE, CMD or CMD-SHELL", inner.what);
                    let hint = "write it as one line, or begin the list with `CMD` and the command";
                    self.log.hinted(ProblemKind::Value, inner.map.get("test")?.span, message, hint);
                    None
                }
            }
        });
        let read = Healthcheck {
            test,
            disable: inner.flag("disable").unwrap_or(false),
            interval: inner.duration("interval"),
            timeout: inner.duration("timeout"),
            retries: inner.int_in("retries", "from 0 on"),
            start_period: inner.duration("start_period"),
            start_interval: inner.duration("start_interval"),
        };
        inner.finish();
        Some(read)
    }

    pub(super) fn restart(&self, fields: &Fields<'_>) -> Option<RestartPolicy> {
        let node = fields.node("restart")?;
        if node.value == Value::Bool(false) {
            return Some(RestartPolicy::No);
        }
        let text = fields.filled("restart")?;
        let policy = text.parse::<RestartPolicy>();
        if let Err(error) = &policy {
            if let Some(max) = text.strip_prefix("on-failure:") {
                let message = format!("`{max}` is not a number of restarts");
                self.log.problem(ProblemKind::Value, node.span, message);
            } else {
                let hint = nearest::hint(&text, ["no", "always", "on-failure", "unless-stopped"]);
                self.log.hinted(ProblemKind::Value, node.span, error.to_string(), hint);
            }
        }
        policy.ok()
    }

    pub(super) fn hooks(&self, fields: &Fields<'_>, key: &'static str) -> Vec<Hook> {
        let hooks = fields.list(key).iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("an entry of `{key}` of {}", fields.what))?;
            let (mut image, mut per_replica) = (None, false);
            if key == "pre_start" {
                image = inner.text("image");
                per_replica = inner.flag("per_replica").unwrap_or(false);
            }
            Some(Hook { image, per_replica, ..self.hook(inner) })
        });
        hooks.collect()
    }

    fn hook(&self, inner: Fields<'_>) -> Hook {
        let command = inner.texts("command").unwrap_or_default();
        if command.is_empty() {
            let message = format!("{} has no `command`", inner.what);
            self.log.problem(ProblemKind::Type, inner.span, message);
        }
        let hook = Hook {
            command,
            user: inner.text("user"),
            privileged: inner.flag("privileged").unwrap_or(false),
            working_dir: inner.text("working_dir"),
            environment: self.inheriting(&inner, "environment"),
            ..Hook::default()
        };
        inner.finish();
        hook
    }

    pub(super) fn watch(&self, node: &Node, service: &Fields<'_>) -> Option<WatchRule> {
        let inner = Fields::of(self.log, node, format!("a watch rule of {}", service.what))?;
        let words = [
            ("rebuild", WatchAction::Rebuild),
            ("sync", WatchAction::Sync),
            ("sync+restart", WatchAction::SyncRestart),
            ("sync+exec", WatchAction::SyncExec),
            ("restart", WatchAction::Restart),
        ];
        let (path, action) = (inner.text("path"), inner.word("action", &words));
        for key in ["path", "action"] {
            if inner.node(key).is_none() {
                let message = format!("{} has no `{key}`", inner.what);
                self.log.problem(ProblemKind::Type, inner.span, message);
            }
        }
        let target = inner.text("target");
        if matches!(action, Some(WatchAction::Sync | WatchAction::SyncRestart | WatchAction::SyncExec))
            && target.is_none()
        {
            let message = format!("{} copies, but has no `target`", inner.what);
            self.log.hinted(ProblemKind::Type, inner.span, message, "add `target: /path/in/the/container`");
        }
        let rule = WatchRule {
            path: PathBuf::from(path.clone().unwrap_or_default()),
            action: action.unwrap_or(WatchAction::Restart),
            target,
            ignore: inner.texts("ignore").unwrap_or_default(),
            include: inner.texts("include").unwrap_or_default(),
            initial_sync: inner.flag("initial_sync").unwrap_or(false),
            exec: inner.inner("exec").map(|hook| self.hook(hook)),
        };
        inner.finish();
        (path.is_some() && action.is_some()).then_some(rule)
    }
}
