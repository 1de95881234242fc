//! Reads mounts, volumes, secrets and configs.

use std::path::{Path, PathBuf};

use super::super::canonical;
use super::super::model::{
    BindOptions, Config, ConfigName, ConfigSource, FileGrant, Mount, MountKind, Secret, SecretName,
    SecretSource, TmpfsOptions, Volume, VolumeName, VolumeOptions,
};
use super::super::node::{Node, Span};
use super::super::problem::ProblemKind;
use super::{Fields, Reader};

const ALONE: &str = "a sandbox's data is its own";

impl Reader<'_> {
    /// Reads the `volumes` of a service.
    pub(super) fn mounts(&self, fields: &Fields<'_>) -> Vec<Mount> {
        fields.list("volumes").iter().filter_map(|node| self.mount(fields, node)).collect()
    }

    fn mount(&self, service: &Fields<'_>, node: &Node) -> Option<Mount> {
        let fields = Fields::of(self.log, node, format!("a mount of {}", service.what))?;
        let kind = fields.text("type").unwrap_or_else(|| "volume".to_owned());
        let source = fields.text("source").filter(|source| !source.is_empty());
        let target = fields.text("target").map(|target| {
            if target.starts_with('/') {
                return canonical::clean(Path::new(&target)).to_string_lossy().into_owned();
            }
            target
        });
        if let Some(target) = target.as_deref().filter(|target| !target.starts_with('/')) {
            let message = format!("`{target}`, where {} is to appear, is not an absolute path", fields.what);
            self.log.hinted(ProblemKind::Value, fields.key_span("target"), message, "begin it with `/`");
        }
        let options = self.volume_options(&fields);
        let bind = self.bind_options(&fields);
        let tmpfs = self.tmpfs_options(&fields);
        let subpath = fields.inner("image").and_then(|image| {
            let subpath = image.text("subpath");
            image.finish();
            subpath
        });
        let read_only = fields.flag("read_only").unwrap_or(false);
        let consistency = fields.text("consistency");
        let missing = |key: &str| {
            let message = format!("{} has no `{key}`", fields.what);
            self.log.problem(ProblemKind::Type, fields.span, message);
        };
        let kind = match kind.as_str() {
            "volume" => Some(match source {
                None => MountKind::Anonymous { options },
                Some(name) => {
                    let volume = self.name(VolumeName::new(name), fields.key_span("source"))?;
                    MountKind::Named { volume, options }
                }
            }),
            "bind" | "image" if source.is_none() => {
                missing("source");
                None
            }
            "bind" => Some(MountKind::Bind { source: PathBuf::from(source?), options: bind }),
            "tmpfs" => Some(MountKind::Tmpfs { options: tmpfs }),
            "image" => Some(MountKind::Image { image: source?, subpath }),
            "npipe" | "cluster" => {
                let message = format!(
                    "{} is of type `{kind}`, which is refused: it is not for Linux engines",
                    fields.what
                );
                self.refuse(fields.key_span("type"), message, "use a volume");
                None
            }
            other => {
                let message = format!("`{other}` is not a type of mount");
                let hint = super::super::nearest::hint(other, ["volume", "bind", "tmpfs", "image"]);
                self.log.hinted(ProblemKind::Value, fields.key_span("type"), message, hint);
                None
            }
        };
        if target.is_none() {
            missing("target");
        }
        let span = fields.span;
        fields.finish();
        Some(Mount { kind: kind?, target: target?, read_only, consistency, at: self.log.at(span) })
    }

    fn volume_options(&self, fields: &Fields<'_>) -> Option<VolumeOptions> {
        let inner = fields.inner("volume")?;
        if inner.node("labels").is_some() {
            let message = format!("`labels` of {} is not applied: label the volume itself", inner.what);
            self.not_applied(inner.key_span("labels"), message);
        }
        let read =
            VolumeOptions { nocopy: inner.flag("nocopy").unwrap_or(false), subpath: inner.text("subpath") };
        inner.finish();
        Some(read)
    }

    fn bind_options(&self, fields: &Fields<'_>) -> Option<BindOptions> {
        let inner = fields.inner("bind")?;
        let recursive = ["enabled", "disabled", "writable", "readonly"];
        let read = BindOptions {
            propagation: inner.text("propagation"),
            create_host_path: inner.flag("create_host_path").unwrap_or(false),
            selinux: inner.text("selinux"),
            recursive: inner.word("recursive", &recursive.map(|word| (word, word))).map(str::to_owned),
        };
        if read.recursive.is_some() {
            let message =
                format!("`recursive` of {} is not applied: mounts below the source come along", inner.what);
            self.not_applied(inner.key_span("recursive"), message);
        }
        inner.finish();
        Some(read)
    }

    fn tmpfs_options(&self, fields: &Fields<'_>) -> Option<TmpfsOptions> {
        let inner = fields.inner("tmpfs")?;
        let read = TmpfsOptions { size: inner.size("size"), mode: self.mode(&inner) };
        inner.finish();
        Some(read)
    }

    /// Reads a file mode: a number, or text in octal.
    fn mode(&self, fields: &Fields<'_>) -> Option<u32> {
        let node = fields.node("mode")?;
        let mode = match node.as_str() {
            Some(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
            None => return fields.int_in("mode", "such as 0444"),
        };
        if mode.is_none() {
            let message = format!("`{}` is not a mode", node.scalar().unwrap_or_default());
            self.log.hinted(ProblemKind::Value, node.span, message, "write it in octal: 0444");
        }
        mode
    }

    /// Reads the `secrets` or `configs` of a service.
    pub(super) fn grants(&self, fields: &Fields<'_>, key: &'static str) -> Vec<FileGrant> {
        let read = fields.list(key).iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("an entry of `{key}` of {}", fields.what))?;
            let source = inner.text("source");
            let grant = FileGrant {
                target: inner.text("target"),
                uid: inner.text("uid"),
                gid: inner.text("gid"),
                mode: self.mode(&inner),
                source: source.clone().unwrap_or_default(),
                at: self.log.at(node.span),
            };
            if source.is_none() {
                let message = format!("{} has no `source`", inner.what);
                self.log.problem(ProblemKind::Type, inner.span, message);
            }
            inner.finish();
            source.map(|_| grant)
        });
        read.collect()
    }

    /// Reads a top-level volume.
    pub(super) fn volume(&self, name: &VolumeName, span: Span, node: &Node) -> Volume {
        let Some(fields) = Fields::of(self.log, node, format!("volume `{name}`")) else {
            return Volume::default();
        };
        let (external, external_name) = self.external(&fields);
        if external {
            let message = format!("volume `{name}` is external, which is refused: {ALONE}");
            let hint = "take `external` out, and seed it: `seed: [{ copy: … }]` or `seed: [{ snapshot: … }]`";
            self.refuse(fields.key_span("external"), message, hint);
        }
        let written_name = fields.text("name").or(external_name);
        if written_name.is_some() && !external {
            let message =
                format!("`name` of volume `{name}` is not applied: a sandbox's volumes are named after it");
            self.not_applied(fields.key_span("name"), message);
        }
        let driver = fields.text("driver");
        if let Some(driver) = driver.as_deref().filter(|driver| !matches!(*driver, "" | "local" | "default"))
            && !external
        {
            let message = format!("the driver `{driver}` of volume `{name}` is refused: {ALONE}");
            self.refuse(fields.key_span("driver"), message, "take `driver` out");
        }
        let volume = Volume {
            written_name,
            driver,
            driver_opts: fields.texts_by_name("driver_opts"),
            labels: self.labels(&fields),
            external,
            seed: self.volume_seeds(&fields),
            extensions: fields.extensions(),
            at: self.log.at(span),
        };
        fields.finish_with(&[("ready", "it belongs into a service")]);
        volume
    }

    /// Reads a top-level secret.
    pub(super) fn secret(&self, name: &SecretName, span: Span, node: &Node) -> Option<Secret> {
        let fields = Fields::of(self.log, node, format!("secret `{name}`"))?;
        let (external, external_name) = self.swarm_s(&fields, "use `file:`, `environment:` or `generate:`");
        for key in ["driver", "driver_opts", "template_driver"] {
            if fields.node(key).is_some() {
                let message = format!("`{key}` of secret `{name}` is refused: it speaks of a swarm");
                self.refuse(fields.key_span(key), message, "use `file:`, `environment:` or `generate:`");
            }
        }
        let mut sources = Vec::new();
        sources.extend(fields.text("file").map(|file| ("file", SecretSource::File(PathBuf::from(file)))));
        sources
            .extend(fields.text("environment").map(|name| ("environment", SecretSource::Environment(name))));
        if let Some(length) = fields.int_in::<u32>("generate", "from 1 to 4096") {
            if !(1..=4096).contains(&length) {
                let message = format!("secret `{name}` cannot have {length} characters");
                self.log.hinted(
                    ProblemKind::Value,
                    fields.key_span("generate"),
                    message,
                    "from 1 to 4096 are possible",
                );
            }
            sources.push(("generate", SecretSource::Generate(length)));
        }
        if external {
            sources = vec![("external", SecretSource::External)];
        }
        self.without_meaning(
            &fields,
            &["labels", "name"],
            "it is a file of a service, not an object of the engine",
        );
        let hint = "add `generate: 24`, `file: PATH` or `environment: NAME`";
        let secret = Secret {
            source: self.one_source(&fields, sources, hint)?,
            written_name: fields.text("name").or(external_name),
            labels: self.labels(&fields),
            extensions: fields.extensions(),
            at: self.log.at(span),
        };
        fields.finish();
        Some(secret)
    }

    /// Reads a top-level config.
    pub(super) fn config(&self, name: &ConfigName, span: Span, node: &Node) -> Option<Config> {
        let fields = Fields::of(self.log, node, format!("config `{name}`"))?;
        let (external, external_name) = self.swarm_s(&fields, "use `file:`, `environment:` or `content:`");
        if fields.node("template_driver").is_some() {
            let message = format!("`template_driver` of config `{name}` is refused: it speaks of a swarm");
            self.refuse(fields.key_span("template_driver"), message, "use `content:` with variables");
        }
        let mut sources = Vec::new();
        sources.extend(fields.text("file").map(|file| ("file", ConfigSource::File(PathBuf::from(file)))));
        sources
            .extend(fields.text("environment").map(|name| ("environment", ConfigSource::Environment(name))));
        sources.extend(fields.text("content").map(|content| ("content", ConfigSource::Content(content))));
        if external {
            sources = vec![("external", ConfigSource::External)];
        }
        self.without_meaning(
            &fields,
            &["labels", "name"],
            "it is a file of a service, not an object of the engine",
        );
        let hint = "add `file: PATH`, `content: …` or `environment: NAME`";
        let config = Config {
            source: self.one_source(&fields, sources, hint)?,
            written_name: fields.text("name").or(external_name),
            labels: self.labels(&fields),
            extensions: fields.extensions(),
            at: self.log.at(span),
        };
        fields.finish();
        Some(config)
    }

    /// Warns about keys that have no effect here.
    pub(super) fn without_meaning(&self, fields: &Fields<'_>, keys: &[&'static str], reason: &str) {
        for key in keys.iter().filter(|key| fields.node(key).is_some()) {
            let message = format!("`{key}` of {} is not applied: {reason}", fields.what);
            self.not_applied(fields.key_span(key), message);
        }
    }

    /// Whether a secret or config belongs to a swarm, which is rejected, and its name there.
    fn swarm_s(&self, fields: &Fields<'_>, hint: &str) -> (bool, Option<String>) {
        let (external, name) = self.external(fields);
        if external {
            let message =
                format!("{} is external, which is refused: there is no swarm that keeps it", fields.what);
            self.refuse(fields.key_span("external"), message, hint);
        }
        (external, name)
    }

    /// The one source of a value; no source, or more than one, is a problem.
    fn one_source<S>(&self, fields: &Fields<'_>, sources: Vec<(&str, S)>, hint: &str) -> Option<S> {
        match sources.as_slice() {
            [_] => {}
            [] => {
                let message = format!("{} does not say where its value comes from", fields.what);
                self.log.hinted(ProblemKind::Type, fields.span, message, hint);
            }
            [(first, _), (second, _), ..] => {
                let message = format!("{} has both `{first}` and `{second}`", fields.what);
                self.log.hinted(
                    ProblemKind::Conflict,
                    fields.key_span(second),
                    message,
                    "keep one of the two",
                );
            }
        }
        sources.into_iter().next_back().map(|(_, source)| source)
    }
}
