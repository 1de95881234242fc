//! Decides how mounts are implemented: volumes whose driver options make them a folder or a tmpfs, and configs of
//! read-only services.
//!
//! A sandbox's volumes lie in its own storage, so that they can be cloned, reset and saved. A volume that is a folder
//! of the host becomes a bind mount instead, which the host-access guard then checks.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::diagnostics::Log;
use super::model::{
    BindOptions, ConfigSource, FileGrant, Mount, MountKind, Service, Spec, Volume, VolumeName, VolumeOptions,
};
use super::problem::{Problem, ProblemKind, Warning, WarningKind};
use super::request::Refusals;

/// What a volume is according to its driver options.
enum Form {
    /// A folder of the host.
    Folder { device: String, read_only: bool },
    /// A tmpfs with these options.
    Memory { options: Vec<String> },
}

/// Why a volume is rejected, and a hint.
type Refusal = (String, &'static str);

const OWN: &str = "take `driver_opts` out, and seed the volume: `seed: [{ copy: … }]`";

/// Converts a spec's mounts to the form in which they are implemented. In a spec that is only displayed they stay as
/// written, and rejections become warnings.
pub(super) fn settle(log: &Log, spec: &mut Spec, refusals: Refusals) {
    let shows_only = matches!(refusals, Refusals::Warn);
    let mut forms = BTreeMap::new();
    for (name, volume) in spec.volumes.iter().filter(|(_, volume)| !volume.external) {
        if volume.driver_opts.is_empty() || uses(spec, name) == 0 {
            continue;
        }
        match form(name, volume).and_then(|form| fits(spec, name, volume, form)) {
            Ok(form) => {
                forms.insert(name.clone(), form);
            }
            Err((message, hint)) => refuse(log, volume, shows_only, message, hint),
        }
    }
    if shows_only {
        return;
    }
    let configs = spec.configs.clone();
    for service in spec.services.values_mut() {
        remount(service, &forms);
        if service.settings.read_only {
            for grant in std::mem::take(&mut service.configs) {
                match configs.iter().find(|(name, _)| name.as_str() == grant.source).map(|(_, it)| &it.source)
                {
                    Some(ConfigSource::File(file)) => bind_config(log, service, &grant, file),
                    _ => service.configs.push(grant),
                }
            }
            unplaceable(log, service);
        }
    }
}

/// The number of mounts of a volume in all containers.
fn uses(spec: &Spec, volume: &VolumeName) -> u32 {
    let of = |service: &Service| {
        let mounts = service
            .mounts
            .iter()
            .filter(|mount| matches!(&mount.kind, MountKind::Named { volume: other, .. } if other == volume));
        u32::try_from(mounts.count()).unwrap_or(u32::MAX).saturating_mul(service.replicas().max(1))
    };
    spec.services.values().map(of).fold(0, u32::saturating_add)
}

/// Evaluates the options of the engine's `local` driver.
fn form(name: &VolumeName, volume: &Volume) -> Result<Form, Refusal> {
    let option =
        |key: &str| volume.driver_opts.get(key).map(|value| value.trim()).filter(|it| !it.is_empty());
    let unknown = volume.driver_opts.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device"));
    if let Some(unknown) = unknown {
        return Err((
            format!("the option `{unknown}` of volume `{name}` is refused: it is not applied"),
            OWN,
        ));
    }
    let flags: Vec<&str> =
        option("o").into_iter().flat_map(|o| o.split(',')).map(str::trim).filter(|o| !o.is_empty()).collect();
    let is_bound = flags.iter().any(|flag| matches!(*flag, "bind" | "rbind"));
    match (option("type"), option("device")) {
        (Some("tmpfs"), _) => Ok(Form::Memory { options: flags.into_iter().map(str::to_owned).collect() }),
        (None | Some("none" | "bind"), Some(device)) if is_bound => {
            let other = flags.iter().find(|flag| !matches!(**flag, "bind" | "rbind" | "ro" | "rw"));
            if let Some(other) = other {
                let message =
                    format!("the option `{other}` of volume `{name}` is refused: a bind mount has none such");
                return Err((message, "take it out of `o`"));
            }
            Ok(Form::Folder { device: device.to_owned(), read_only: flags.contains(&"ro") })
        }
        (kind, _) => {
            let kind = kind.unwrap_or("none");
            let message = format!(
                "volume `{name}` is of type `{kind}`, which is refused: the engine's machine would mount it, past `egress` and out of reach of snapshots"
            );
            Err((message, OWN))
        }
    }
}

/// Whether the form is possible where the volume is mounted.
fn fits(spec: &Spec, name: &VolumeName, volume: &Volume, form: Form) -> Result<Form, Refusal> {
    let what = match &form {
        Form::Folder { .. } => "a folder of this machine",
        Form::Memory { .. } => "memory",
    };
    if !volume.seed.is_empty() {
        let message = format!("volume `{name}` is {what} by its `driver_opts`, and is not seeded");
        return Err((message, "take `driver_opts` or `seed` out"));
    }
    if matches!(form, Form::Memory { .. }) && uses(spec, name) > 1 {
        let message = format!("volume `{name}` is memory that several containers share, which is refused");
        return Err((message, "take `driver_opts` out: a sandbox's volumes are gone with it anyway"));
    }
    Ok(form)
}

fn refuse(log: &Log, volume: &Volume, shows_only: bool, message: String, hint: &str) {
    let place = log.place_of(&volume.at);
    if shows_only {
        log.push_warning(Warning { kind: WarningKind::Refused, message, hint: Some(hint.to_owned()), place });
    } else {
        log.push(Problem::new(ProblemKind::Unsupported, message).hint(hint).at(place));
    }
}

/// Converts a service's mounts.
fn remount(service: &mut Service, forms: &BTreeMap<VolumeName, Form>) {
    let mut memory = Vec::new();
    service.mounts.retain_mut(|mount| {
        let MountKind::Named { volume, options } = &mount.kind else { return true };
        match forms.get(volume) {
            None => true,
            Some(Form::Folder { device, read_only }) => {
                mount.read_only |= *read_only;
                mount.kind = bound(device, options.as_ref());
                true
            }
            Some(Form::Memory { options }) => {
                let read_only = mount.read_only.then(|| "ro".to_owned());
                let options: Vec<String> = options.iter().cloned().chain(read_only).collect();
                let colon = if options.is_empty() { "" } else { ":" };
                memory.push(format!("{}{colon}{}", mount.target, options.join(",")));
                false
            }
        }
    });
    service.tmpfs.extend(memory);
}

fn bound(device: &str, options: Option<&VolumeOptions>) -> MountKind {
    let subpath = options.and_then(|options| options.subpath.as_deref()).map(Path::new);
    // The guard checks a path with `..` as a whole.
    let inner =
        subpath.into_iter().flat_map(Path::components).filter(|part| !matches!(part, Component::RootDir));
    let source = inner.fold(Path::new(device).to_owned(), |path, part| path.join(part));
    MountKind::Bind { source: super::canonical::clean(&source), options: Some(BindOptions::default()) }
}

/// Bind-mounts the file of a config: nothing can be copied into a container with a read-only root.
fn bind_config(log: &Log, service: &mut Service, grant: &FileGrant, file: &Path) {
    if grant.uid.is_some() || grant.gid.is_some() || grant.mode.is_some() {
        let message = format!(
            "`uid`, `gid` and `mode` of config `{}` are not applied: service `{}` is `read_only`, and the file itself is mounted",
            grant.source, service.name
        );
        log.warn_at(WarningKind::NotApplied, &grant.at, message, "take them out".to_owned());
    }
    service.mounts.push(Mount {
        kind: MountKind::Bind { source: file.to_owned(), options: Some(BindOptions::default()) },
        target: grant.config_path(),
        read_only: true,
        consistency: None,
        at: grant.at.clone(),
    });
}

/// Rejects files that would have to be copied into a container with a read-only root.
fn unplaceable(log: &Log, service: &Service) {
    let refuse = |grant: &FileGrant, what: String, hint: &str| {
        let message = format!(
            "{what} cannot be put into service `{}`: it is `read_only`, so its files cannot be changed",
            service.name
        );
        let place = log.place_of(&grant.at);
        log.push(Problem::new(ProblemKind::Unsupported, message).hint(hint).at(place));
    };
    for grant in &service.configs {
        refuse(
            grant,
            format!("config `{}`", grant.source),
            "write its text to a file, and name it with `file:`",
        );
    }
    for grant in service.secrets.iter().filter(|grant| !grant.secret_path().starts_with("/run/secrets/")) {
        let what = format!("secret `{}` at `{}`", grant.source, grant.secret_path());
        refuse(grant, what, "take `target` out: it is at `/run/secrets` then");
    }
}
