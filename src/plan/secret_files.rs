//! Lists the files of a service's secrets (held in the gateway's memory) and configs.

use super::op::{FileSource, GrantedFile};
use crate::spec::{ConfigName, FileGrant, SecretName, SecretSource, Service, Spec};

/// The folder of the gateway below which it mounts the services' secrets.
pub const FOLDER: &str = "/secrets";

/// Where the gateway mounts a service's secrets, which it holds in memory until the service starts.
pub(super) fn held_at(service: &Service) -> String {
    format!("{FOLDER}/{}", service.name)
}

/// The path of a service's secret in the gateway.
pub fn held_path(service: &str, grant: &FileGrant) -> String {
    format!("{FOLDER}/{service}/{}", kept_as(grant))
}

/// A service's secrets, as files in the gateway.
pub fn held(service: &Service) -> Vec<GrantedFile> {
    let secret = |grant: &FileGrant| {
        let name = SecretName::new(grant.source.as_str()).ok()?;
        Some(file(grant, FileSource::Secret(name), held_path(service.name.as_str(), grant)))
    };
    service.secrets.iter().filter_map(secret).collect()
}

/// Files in the service's own container: configs, and links to secrets whose target is outside the mount point.
pub(super) fn placed(service: &Service) -> Vec<GrantedFile> {
    let link = |grant: &FileGrant| {
        let path = grant.secret_path();
        let elsewhere = !path.starts_with("/run/secrets/");
        elsewhere.then(|| file(grant, FileSource::Link(format!("/run/secrets/{}", kept_as(grant))), path))
    };
    let config = |grant: &FileGrant| {
        let name = ConfigName::new(grant.source.as_str()).ok()?;
        Some(file(grant, FileSource::Config(name), grant.config_path()))
    };
    service.secrets.iter().filter_map(link).chain(service.configs.iter().filter_map(config)).collect()
}

/// The generated secrets of a service: they cannot be read again from elsewhere.
pub(super) fn generated(spec: &Spec, service: &Service) -> Vec<SecretName> {
    let names = service.secrets.iter().filter_map(|grant| SecretName::new(grant.source.as_str()).ok());
    let is_generated = |name: &SecretName| {
        let secret = spec.secrets.get(name);
        secret.is_some_and(|secret| matches!(secret.source, SecretSource::Generate(_)))
    };
    names.filter(is_generated).collect()
}

fn kept_as(grant: &FileGrant) -> String {
    let path = grant.secret_path();
    path.strip_prefix("/run/secrets/").map_or_else(|| format!(".{}", grant.source), str::to_owned)
}

fn file(grant: &FileGrant, source: FileSource, path: String) -> GrantedFile {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
    GrantedFile {
        source,
        path,
        uid: number(&grant.uid),
        gid: number(&grant.gid),
        mode: grant.mode.unwrap_or(0o444),
    }
}
