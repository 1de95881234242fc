//! Draws a spec as a graph of services with their networks, volumes, seeds and ports: as a tree, as DOT, or as
//! Mermaid.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::style::{Glyphs, OutputStyle, Tint};
use crate::spec::{self, Condition, EgressPolicy, ImageSource, MountKind, Seed, Service, Spec};

/// The content of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// The spec's name.
    pub name: String,
    /// Its services, in the spec's order.
    pub services: Vec<Node>,
    pub networks: Vec<String>,
    /// The networks without outbound connections, whatever the egress policy.
    pub internal: Vec<String>,
    /// The egress policy: "deny", "allow", or a list.
    pub egress: String,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    pub name: String,
    /// Its image, or "build ./web".
    pub image: String,
    /// Its dependencies.
    pub needs: Vec<Need>,
    /// The networks it is on.
    pub networks: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Its seeds, in order.
    pub seeds: Vec<String>,
    /// Published ports: "8080", "5432 → 15432".
    pub ports: Vec<String>,
}

/// A dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// The service that is needed.
    pub service: String,
    /// The state that the dependency must have reached: "healthy", "started", "completed".
    pub until: String,
}

/// A mounted volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The volume's name, or the folder of a bind mount.
    pub volume: String,
    /// The target path in the container.
    pub at: String,
    /// The volume's seeds.
    pub seeds: Vec<String>,
}

impl From<&Spec> for Picture {
    fn from(spec: &Spec) -> Self {
        Self {
            name: spec.name.to_string(),
            networks: spec.networks.keys().map(ToString::to_string).collect(),
            internal: spec
                .networks
                .iter()
                .filter(|(_, network)| network.internal)
                .map(|(name, _)| name.to_string())
                .collect(),
            egress: egress(&spec.egress),
            services: spec.services.values().map(|service| node(spec, service)).collect(),
        }
    }
}

fn egress(policy: &EgressPolicy) -> String {
    match policy {
        EgressPolicy::Deny => "deny".to_owned(),
        EgressPolicy::Allow => "allow".to_owned(),
        EgressPolicy::List(rules) => {
            let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
            rules.join(", ")
        }
    }
}

fn node(spec: &Spec, service: &Service) -> Node {
    let image = match &service.source {
        ImageSource::Image(reference) => reference.clone(),
        ImageSource::Build(build) => format!("build {}", near(spec, &build.context)),
    };
    let needs = service.depends_on.iter().map(|(service, dependency)| Need {
        service: service.to_string(),
        until: match dependency.condition {
            Condition::Started => "started",
            Condition::Healthy => "healthy",
            Condition::CompletedSuccessfully => "completed",
        }
        .to_owned(),
    });
    Node {
        name: service.name.to_string(),
        image,
        needs: needs.collect(),
        networks: service.networks.keys().map(ToString::to_string).collect(),
        mounts: service.mounts.iter().map(|mount| mounted(spec, mount)).collect(),
        seeds: service.seed.iter().map(|seed| seeded(spec, seed)).collect(),
        ports: service.ports.iter().map(port).collect(),
    }
}

fn port(port: &spec::Port) -> String {
    let inside = match port.protocol {
        spec::Protocol::Tcp => port.container.to_string(),
        other => format!("{}/{}", port.container, other.word()),
    };
    match port.host {
        Some(range) if range.start == range.end => format!("{} at {inside}", range.start),
        Some(range) => format!("{}-{} at {inside}", range.start, range.end),
        None => inside,
    }
}

fn mounted(spec: &Spec, mount: &spec::Mount) -> Mount {
    let (volume, seeds) = match &mount.kind {
        MountKind::Named { volume, .. } => {
            let seeds = spec.volumes.get(volume).map(|volume| volume.seed.as_slice()).unwrap_or_default();
            (volume.to_string(), seeds.iter().map(|seed| seeded(spec, seed)).collect())
        }
        MountKind::Anonymous { .. } => ("(its own)".to_owned(), Vec::new()),
        MountKind::Bind { source, .. } => (near(spec, &source.to_string_lossy()), Vec::new()),
        MountKind::Tmpfs { .. } => ("(memory)".to_owned(), Vec::new()),
        MountKind::Image { image, .. } => (format!("image {image}"), Vec::new()),
    };
    Mount { volume, at: mount.target.clone(), seeds }
}

fn seeded(spec: &Spec, seed: &Seed) -> String {
    seed.kind().describe(&|path| near(spec, &path.to_string_lossy()))
}

/// A path as it is written in the spec.
fn near(spec: &Spec, path: &str) -> String {
    match std::path::Path::new(path).strip_prefix(&spec.folder) {
        Ok(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
        Ok(rest) => format!("./{}", rest.display()),
        Err(_) => path.to_owned(),
    }
}

/// The graph as a tree, for a terminal.
pub fn tree(look: OutputStyle, picture: &Picture) -> Vec<String> {
    let mut lines = vec![look.paint(Tint::Strong, &picture.name)];
    let facts = [
        (!picture.networks.is_empty()).then(|| fact(look, "networks", &networks(picture))),
        (!picture.egress.is_empty()).then(|| fact(look, "egress", &picture.egress)),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    let total = facts.len() + picture.services.len();
    let mut branches = Branches::new(look, total);
    for fact in facts {
        lines.push(branches.next(&fact).0);
    }
    for (index, node) in picture.services.iter().enumerate() {
        let head = format!(
            "{}  {}",
            look.paint(Tint::Name(index), &node.name),
            look.paint(Tint::Faint, &node.image)
        );
        let (line, below) = branches.next(&head);
        lines.push(line);
        let details = details(look, node);
        let mut twigs = Branches::new(look, details.len());
        for (detail, subs) in details {
            let (line, under) = twigs.next(&detail);
            lines.push(format!("{below}{line}"));
            let mut leaves = Branches::new(look, subs.len());
            lines.extend(subs.iter().map(|sub| format!("{below}{under}{}", leaves.next(sub).0)));
        }
    }
    lines
}

fn networks(picture: &Picture) -> String {
    let names = picture.networks.iter().map(|name| {
        if picture.internal.contains(name) { format!("{name} (internal)") } else { name.clone() }
    });
    names.collect::<Vec<_>>().join(", ")
}

fn fact(look: OutputStyle, label: &str, text: &str) -> String {
    format!("{} {text}", look.paint(Tint::Faint, label))
}

fn details(look: OutputStyle, node: &Node) -> Vec<(String, Vec<String>)> {
    let arrow = if look.glyphs == Glyphs::Unicode { "→" } else { "->" };
    let leaf = |text: String| (text, Vec::new());
    let needs = node.needs.iter().map(|n| leaf(fact(look, "needs", &format!("{} ({})", n.service, n.until))));
    let networks = node.networks.iter().map(|network| leaf(fact(look, "network", network)));
    let ports = node.ports.iter().map(|port| leaf(fact(look, "port", port)));
    let mounts = node.mounts.iter().map(|mount| {
        let seeds = mount.seeds.iter().map(|seed| fact(look, "seed", seed)).collect();
        (fact(look, "volume", &format!("{} {arrow} {}", mount.volume, mount.at)), seeds)
    });
    let seeds = node.seeds.iter().map(|seed| leaf(fact(look, "seed", seed)));
    needs.chain(networks).chain(ports).chain(mounts).chain(seeds).collect()
}

/// Draws the branches of one node; the last one has a corner.
struct Branches {
    look: OutputStyle,
    left: usize,
}

impl Branches {
    fn new(look: OutputStyle, count: usize) -> Self {
        Self { look, left: count }
    }

    /// The next branch's line, and the prefix of all lines below it.
    fn next(&mut self, text: &str) -> (String, String) {
        self.left = self.left.saturating_sub(1);
        let (twig, below) = match (self.look.glyphs, self.left == 0) {
            (Glyphs::Unicode, false) => ("├── ", "│   "),
            (Glyphs::Unicode, true) => ("└── ", "    "),
            (Glyphs::Ascii, false) => ("|-- ", "|   "),
            (Glyphs::Ascii, true) => ("`-- ", "    "),
        };
        (format!("{}{text}", self.look.paint(Tint::Faint, twig)), self.look.paint(Tint::Faint, below))
    }
}

/// The graph in Graphviz's DOT language.
pub fn dot(picture: &Picture) -> String {
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
        dot_id(&picture.name)
    );
    for node in &picture.services {
        let texts: Vec<&str> =
            [&node.name, &node.image].into_iter().chain(&node.ports).map(String::as_str).collect();
        let label = dot_id(&texts.join("\n"));
        let _ = writeln!(text, "  {} [label={label}];", dot_id(&service_id(&node.name)));
    }
    for volume in volumes(picture) {
        let label = dot_id(&volume);
        let _ = writeln!(text, "  {} [label={label}, shape=cylinder];", dot_id(&volume_id(&volume)));
    }
    for network in &picture.networks {
        let _ =
            writeln!(text, "  {} [label={}, shape=ellipse];", dot_id(&network_id(network)), dot_id(network));
    }
    for node in &picture.services {
        let from = dot_id(&service_id(&node.name));
        for need in &node.needs {
            let _ = writeln!(
                text,
                "  {from} -> {} [label={}];",
                dot_id(&service_id(&need.service)),
                dot_id(&need.until)
            );
        }
        for mount in &node.mounts {
            let to = dot_id(&volume_id(&mount.volume));
            let _ = writeln!(text, "  {from} -> {to} [label={}, style=dashed];", dot_id(&mount.at));
        }
        for network in &node.networks {
            let _ = writeln!(text, "  {from} -> {} [dir=none, style=dotted];", dot_id(&network_id(network)));
        }
    }
    text.push_str("}\n");
    text
}

/// The graph in Mermaid's language.
pub fn mermaid(picture: &Picture) -> String {
    let mut text = "flowchart LR\n".to_owned();
    let index = |name: &str| picture.services.iter().position(|node| node.name == name);
    let volumes: Vec<String> = volumes(picture).into_iter().collect();
    for (n, node) in picture.services.iter().enumerate() {
        let texts: Vec<String> =
            [&node.name, &node.image].into_iter().chain(&node.ports).map(|text| mermaid_text(text)).collect();
        let _ = writeln!(text, "  s{n}[\"{}\"]", texts.join("<br/>"));
    }
    for (n, volume) in volumes.iter().enumerate() {
        let _ = writeln!(text, "  v{n}[(\"{}\")]", mermaid_text(volume));
    }
    for (n, network) in picture.networks.iter().enumerate() {
        let _ = writeln!(text, "  n{n}((\"{}\"))", mermaid_text(network));
    }
    for (n, node) in picture.services.iter().enumerate() {
        for need in &node.needs {
            if let Some(to) = index(&need.service) {
                let _ = writeln!(text, "  s{n} -->|{}| s{to}", mermaid_text(&need.until));
            }
        }
        for mount in &node.mounts {
            if let Some(to) = volumes.iter().position(|volume| *volume == mount.volume) {
                let _ = writeln!(text, "  s{n} -.->|{}| v{to}", mermaid_text(&mount.at));
            }
        }
        for network in &node.networks {
            if let Some(to) = picture.networks.iter().position(|known| known == network) {
                let _ = writeln!(text, "  s{n} --- n{to}");
            }
        }
    }
    text
}

fn volumes(picture: &Picture) -> BTreeSet<String> {
    picture.services.iter().flat_map(|node| &node.mounts).map(|mount| mount.volume.clone()).collect()
}

fn service_id(name: &str) -> String {
    format!("service {name}")
}

fn volume_id(name: &str) -> String {
    format!("volume {name}")
}

fn network_id(name: &str) -> String {
    format!("network {name}")
}

fn dot_id(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn mermaid_text(text: &str) -> String {
    text.replace('&', "#amp;")
        .replace('"', "#quot;")
        .replace('<', "#lt;")
        .replace('>', "#gt;")
        .replace('|', "#124;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Picture {
        let node =
            |name: &str, image: &str| Node { name: name.into(), image: image.into(), ..Node::default() };
        Picture {
            name: "shop".into(),
            egress: "deny".into(),
            networks: vec!["default".into()],
            internal: vec![],
            services: vec![
                Node {
                    networks: vec!["default".into()],
                    mounts: vec![Mount {
                        volume: "pgdata".into(),
                        at: "/var/lib/postgresql/data".into(),
                        seeds: vec!["snapshot prod".into()],
                    }],
                    seeds: vec!["sql fixtures/*.sql".into()],
                    ..node("db", "postgres:16-alpine")
                },
                Node {
                    networks: vec!["default".into()],
                    needs: vec![Need { service: "db".into(), until: "healthy".into() }],
                    ports: vec!["8080".into()],
                    ..node("web", "build \"./web\"")
                },
            ],
        }
    }

    #[test]
    fn the_tree_shows_all_that_a_service_has() {
        insta::assert_snapshot!(tree(OutputStyle::BARE, &shop()).join("\n"));
    }

    #[test]
    fn dot_and_mermaid_quote_what_they_must() {
        insta::assert_snapshot!(format!("{}\n{}", dot(&shop()), mermaid(&shop())));
    }
}
