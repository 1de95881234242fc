//! Our own words: lifetime, egress, limits, artifacts, tasks, readiness, seeds.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::super::model::{
    Artifact, Durability, EgressPolicy, EgressRule, Lifetime, Limits, Probe, Readiness, Seed, ServiceName,
    SnapshotRef, Spec, Task, TaskName, VolumeName,
};
use super::super::node::{Node, Span, Value};
use super::super::problem::{ProblemKind, shown};
use super::storage::names_a_file;
use super::{Fields, Reader};

impl Reader<'_> {
    /// Reads our words at the top level.
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
    }

    /// Reads `durable`.
    pub(super) fn durability(&self, fields: &Fields<'_>) -> Option<Durability> {
        Some(if fields.flag("durable")? { Durability::Durable } else { Durability::Throwaway })
    }

    fn egress(&self, node: &Node) -> EgressPolicy {
        const HINT: &str = "`deny`, `allow`, or a list of names and addresses";
        match &node.value {
            Value::Str(word) if word == "deny" => EgressPolicy::Deny,
            Value::Str(word) if word == "allow" => EgressPolicy::Allow,
            Value::Seq(items) => EgressPolicy::List(
                items
                    .iter()
                    .filter_map(|item| {
                        let text = item.scalar().unwrap_or_default();
                        rule(&text)
                            .map_err(|reason| {
                                let message = format!("`{text}` cannot be let out: {reason}");
                                let hint = "write `api.example.org`, `*.example.org`, `10.1.2.3:5432` or `10.0.0.0/8`";
                                self.log.hinted(ProblemKind::Value, item.span, message, hint);
                            })
                            .ok()
                    })
                    .collect(),
            ),
            Value::Str(word) => {
                let message = format!("`{word}` is not an egress policy");
                self.log.hinted(ProblemKind::Value, node.span, message, HINT);
                EgressPolicy::Deny
            }
            _ => {
                let message = format!("`egress` cannot be {}", node.kind());
                self.log.hinted(ProblemKind::Type, node.span, message, HINT);
                EgressPolicy::Deny
            }
        }
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

    /// A command: a list as it is, a line for a shell.
    fn command_of(&self, node: &Node, what: &str) -> Option<Vec<String>> {
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

    /// Reads `ready`.
    pub(super) fn ready(&self, fields: &Fields<'_>) -> Option<Readiness> {
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
        // `:8080/healthz` names the port as well.
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

    /// Reads the seeds of a service.
    pub(super) fn service_seeds(&self, fields: &Fields<'_>) -> Vec<Seed> {
        let seeds = fields.list("seed").iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("a seed of {}", fields.what))?;
            let at = self.log.at(node.span);
            let user = inner.text("user");
            let seed = if let Some(sql) = inner.node("sql") {
                let patterns: Vec<(String, Span)> = match sql.as_seq() {
                    Some(items) => {
                        items.iter().filter_map(|item| Some((item.scalar()?, item.span))).collect()
                    }
                    None => sql.scalar().map(|text| (text, sql.span)).into_iter().collect(),
                };
                let files = patterns.iter().flat_map(|(text, span)| self.matching(text, *span)).collect();
                let pattern: Vec<&str> = patterns.iter().map(|(text, _)| text.as_str()).collect();
                Some(Seed::Sql {
                    pattern: pattern.join(" "),
                    files,
                    database: inner.text("database"),
                    user,
                    at,
                })
            } else if let Some(exec) = inner.node("exec") {
                let stdin = inner.text("stdin").map(PathBuf::from);
                if let (Some(file), Some(node)) = (&stdin, inner.map.get("stdin")) {
                    self.must_exist(file, node.span);
                }
                self.command_of(exec, &inner.what).map(|command| Seed::Exec { command, stdin, user, at })
            } else {
                let message = format!("{} has neither `sql` nor `exec`", inner.what);
                let hint = "`sql: FILES` or `exec: COMMAND`; `copy` and `snapshot` belong to a volume";
                self.log.hinted(ProblemKind::Type, inner.span, message, hint);
                for key in ["copy", "snapshot", "to", "owner", "volume"] {
                    let _ = inner.node(key);
                }
                None
            };
            inner.finish();
            seed
        });
        seeds.collect()
    }

    /// Reads the seeds of a volume.
    pub(super) fn volume_seeds(&self, fields: &Fields<'_>) -> Vec<Seed> {
        let seeds = fields.list("seed").iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("a seed of {}", fields.what))?;
            let at = self.log.at(node.span);
            let seed = if let Some(source) = inner.text("copy") {
                let source = PathBuf::from(source);
                self.must_exist(&source, inner.map.get("copy")?.span);
                Some(Seed::Copy { source, to: inner.text("to"), owner: self.owner(&inner), at })
            } else if let Some(text) = inner.text("snapshot") {
                let snapshot = if names_a_file(&text) {
                    let file = PathBuf::from(text);
                    self.must_exist(&file, inner.map.get("snapshot")?.span);
                    SnapshotRef::File(file)
                } else {
                    SnapshotRef::Stored(text)
                };
                let volume = inner
                    .text("volume")
                    .and_then(|name| self.name(VolumeName::new(name), inner.key_span("volume")));
                Some(Seed::Snapshot { snapshot, volume, at })
            } else {
                let message = format!("{} has neither `copy` nor `snapshot`", inner.what);
                let hint =
                    "`copy: FOLDER_OR_ARCHIVE` or `snapshot: NAME`; `sql` and `exec` belong to a service";
                self.log.hinted(ProblemKind::Type, inner.span, message, hint);
                for key in ["sql", "exec", "stdin", "user", "database"] {
                    let _ = inner.node(key);
                }
                None
            };
            inner.finish();
            seed
        });
        seeds.collect()
    }

    fn owner(&self, fields: &Fields<'_>) -> Option<String> {
        let owner = fields.text("owner")?;
        let number = |text: &str| text.parse::<u32>().is_ok();
        if !owner.split_once(':').map_or_else(|| number(&owner), |(uid, gid)| number(uid) && number(gid)) {
            let message = format!("`{owner}` is not an owner");
            self.log.hinted(
                ProblemKind::Value,
                fields.key_span("owner"),
                message,
                "write `UID:GID` in numbers",
            );
        }
        Some(owner)
    }

    fn must_exist(&self, file: &Path, span: Span) {
        if !file.exists() {
            let name = shown(file, self.standing_in);
            let message = format!("there is no `{}` to seed from", name.display());
            self.log.hinted(ProblemKind::File, span, message, "paths begin at the folder of the spec");
        }
    }

    /// The files that a pattern stands for, in order.
    fn matching(&self, pattern: &str, span: Span) -> Vec<PathBuf> {
        if !pattern.contains(['*', '?', '[']) {
            self.must_exist(Path::new(pattern), span);
            return vec![PathBuf::from(pattern)];
        }
        let found = match glob::glob(pattern) {
            Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect::<Vec<_>>(),
            Err(error) => {
                let message = format!("`{pattern}` is not a pattern of files: {}", error.msg);
                self.log.problem(ProblemKind::Value, span, message);
                return Vec::new();
            }
        };
        if found.is_empty() {
            let shown = shown(Path::new(pattern), self.standing_in);
            let message = format!("no file matches `{}`", shown.display());
            self.log.hinted(ProblemKind::File, span, message, "paths begin at the folder of the spec");
        }
        found
    }
}

/// Reads one entry of an egress list: only what a gateway can let out.
fn rule(text: &str) -> Result<EgressRule, String> {
    let text = text.trim();
    if text.contains("://") {
        return Err("it is a URL; a name alone is meant".to_owned());
    }
    if text.starts_with('[')
        || text.split('/').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
    {
        return Err("it is an IPv6 address, and what leaves a sandbox leaves by IPv4".to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, number)) => (host, Some(port(number)?)),
        None => (text, None),
    };
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(EgressRule::Address { address: address.into(), prefix: 32, port });
    }
    if let Some((address, prefix)) = host.split_once('/') {
        let address: Ipv4Addr = address.parse().map_err(|_| format!("`{address}` is not an address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| format!("`{prefix}` is not the length of a prefix"))?;
        if prefix > 32 {
            return Err(format!("a prefix of {prefix} bits is too long"));
        }
        return Ok(EgressRule::Address { address: address.into(), prefix, port });
    }
    name(host.trim_end_matches('.'), port)
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{text}` is not a port"))
}

/// A name that the gateway passes connections on to.
fn name(host: &str, port: Option<u16>) -> Result<EgressRule, String> {
    let name = host.to_ascii_lowercase();
    let below = name.strip_prefix("*.");
    let labels: Vec<&str> = below.unwrap_or(&name).split('.').collect();
    let sound = |label: &&str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !labels.iter().all(sound) {
        return Err("it is neither a name nor an address".to_owned());
    }
    if labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("it is neither a name nor a whole address".to_owned());
    }
    if labels.len() == 1 && below.is_none() {
        return Err("a name without a dot is looked for inside the sandbox alone".to_owned());
    }
    if port == Some(53) {
        return Err("the gateway itself answers at port 53; to reach a resolver outside, write its address"
            .to_owned());
    }
    Ok(EgressRule::Name { name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wildcards_addresses_and_networks_may_be_let_out() {
        let name = |name: &str, port| Ok(EgressRule::Name { name: name.to_owned(), port });
        let address = |text: &str, prefix, port| {
            Ok(EgressRule::Address { address: text.parse().unwrap(), prefix, port })
        };
        assert_eq!(rule("api.Stripe.com"), name("api.stripe.com", None));
        assert_eq!(rule("*.npmjs.org:443"), name("*.npmjs.org", Some(443)));
        assert_eq!(rule("10.1.2.3:5432"), address("10.1.2.3", 32, Some(5432)));
        assert_eq!(rule("10.0.0.0/8"), address("10.0.0.0", 8, None));
        assert_eq!(rule("10.0.0.0/8:80"), address("10.0.0.0", 8, Some(80)));
        assert_eq!(rule("10.1.2.3:53"), address("10.1.2.3", 32, Some(53)));
        for wrong in ["", "https://a.b", "a b", "*", "10.0.0.0/40", "a.b:0", "a..b", "a.b:http"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_no_gateway_would_let_out_is_refused_with_its_reason() {
        for (wrong, reason) in [
            ("::1", "IPv6"),
            ("fd00::/8", "IPv6"),
            ("[fd00::1]:80", "IPv6"),
            ("10.1.2", "whole address"),
            ("10.1.2.3.4:80", "whole address"),
            ("api.example.org:53", "port 53"),
            ("*.example.org:53", "port 53"),
            ("registry", "inside"),
            ("registry:5000", "inside"),
        ] {
            let refused = rule(wrong).expect_err(wrong);
            assert!(refused.contains(reason), "{wrong}: {refused}");
        }
    }
}
