//! Values of secrets and configs, and the archives that copy them into containers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::{Digest, Sha256};

use crate::data::seed::Inputs;
use crate::engine::identity;
use crate::engine::{ByteStream, Engine};
use crate::host_files::{Owner, WritableFolders, header};
use crate::plan::{FileSource, GrantedFile, held_path};
use crate::session::error::SessionError;
use crate::session::inspect;
use crate::spec::{
    ConfigName, ConfigSource, Loaded, SandboxName, SecretName, SecretSource, Service, ServiceName, Spec,
    Variables,
};

/// Maximum size of the file of a secret or config: the values are held in memory.
const LARGEST: u64 = 64 << 20;

/// The values of a spec's secrets and configs. `Debug` does not print them.
#[derive(Debug, Clone, Default)]
pub struct Values {
    secrets: BTreeMap<SecretName, SecretSlice<u8>>,
    configs: BTreeMap<ConfigName, Vec<u8>>,
}

/// Generated secrets by name, as a baseline stores them.
pub type Generated = BTreeMap<String, String>;

impl Values {
    /// Reads, looks up or generates every value. Secrets in `kept` are taken from there, since they belong to the
    /// cloned data.
    ///
    /// # Errors
    /// Names the secret or config whose file or variable is missing.
    pub fn resolve(loaded: &Loaded, kept: &Generated) -> Result<Self, SessionError> {
        Self::of(&loaded.spec, &loaded.variables, kept)
    }

    /// The secrets of a running sandbox, as its gateway holds them. After a reboot the gateway has none.
    ///
    /// # Errors
    /// Fails if the engine does not answer.
    pub async fn held(engine: &dyn Engine, spec: &Spec, name: &SandboxName) -> Result<Self, SessionError> {
        let mut values = Self::default();
        let gateway = identity::gateway(name.as_str());
        for service in spec.services.values() {
            for grant in &service.secrets {
                let path = held_path(service.name.as_str(), grant);
                let Some(bytes) = inspect::read_whole(engine, &gateway, &path).await? else { continue };
                if let Ok(name) = SecretName::new(grant.source.as_str()) {
                    values.secrets.insert(name, bytes.into());
                }
            }
        }
        Ok(values)
    }

    /// Resolves the values from a spec and variables alone, without a loaded file.
    ///
    /// # Errors
    /// As [`Values::resolve`].
    pub fn of(spec: &Spec, variables: &Variables, kept: &Generated) -> Result<Self, SessionError> {
        let mut values = Self::default();
        let writable = spec.writable_folders();
        for (name, secret) in &spec.secrets {
            let value: Vec<u8> = match &secret.source {
                SecretSource::File(path) => read(&format!("secret `{name}`"), path, &writable)?,
                SecretSource::Environment(variable) => {
                    let value = variables.of_secret(name, variable);
                    let value = value.ok_or_else(|| unset("secret", name, variable))?;
                    value.as_bytes().to_vec()
                }
                SecretSource::Generate(length) => match kept.get(name.as_str()) {
                    Some(value) => value.as_bytes().to_vec(),
                    None => generate(*length).expose_secret().as_bytes().to_vec(),
                },
                SecretSource::External => continue,
            };
            values.secrets.insert(name.clone(), value.into());
        }
        values.read_configs(spec, variables)?;
        Ok(values)
    }

    /// Reads or looks up the value of every config.
    ///
    /// # Errors
    /// Names the config whose file or variable is missing.
    pub fn read_configs(&mut self, spec: &Spec, variables: &Variables) -> Result<(), SessionError> {
        let writable = spec.writable_folders();
        for (name, config) in &spec.configs {
            let value = match &config.source {
                ConfigSource::File(path) => read(&format!("config `{name}`"), path, &writable)?,
                ConfigSource::Content(text) => text.clone().into_bytes(),
                ConfigSource::Environment(variable) => {
                    let value = variables.of_config(name, variable);
                    let value = value.ok_or_else(|| unset("config", name, variable))?;
                    value.as_bytes().to_vec()
                }
                ConfigSource::External => continue,
            };
            self.configs.insert(name.clone(), value);
        }
        Ok(())
    }

    /// These values, with those in `kept` replaced: they belong to the data that was made with them.
    #[must_use]
    pub fn keeping(&self, kept: &Generated) -> Self {
        let mut values = self.clone();
        for (name, value) in kept {
            if let Some(secret) = values.secrets.get_mut(name.as_str()) {
                *secret = value.as_bytes().to_vec().into();
            }
        }
        values
    }

    /// These values, with missing ones added from `kept`.
    #[must_use]
    pub fn completed(mut self, kept: Generated) -> Self {
        for (name, value) in kept {
            if let Ok(name) = SecretName::new(name.as_str()) {
                self.secrets.entry(name).or_insert_with(|| value.into_bytes().into());
            }
        }
        self
    }

    /// These values, with missing secrets added from `others`.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (name, value) in others.secrets {
            self.secrets.entry(name).or_insert(value);
        }
        self
    }

    /// The services that are granted a secret that is missing here.
    pub fn lacking(&self, spec: &Spec) -> BTreeSet<ServiceName> {
        let lacks = |service: &&Service| {
            service.secrets.iter().any(|grant| !self.secrets.contains_key(grant.source.as_str()))
        };
        spec.services.values().filter(lacks).map(|service| service.name.clone()).collect()
    }

    /// Digests of the values that these services are granted and that come from the user's variables: the spec has only
    /// the names of those.
    pub fn given(&self, spec: &Spec, services: &BTreeSet<ServiceName>) -> Inputs {
        let services = || services.iter().filter_map(|name| spec.services.get(name));
        let is_given = |name: &str| {
            spec.secrets.get(name).is_some_and(|it| matches!(it.source, SecretSource::Environment(_)))
        };
        let secrets = services().flat_map(|service| &service.secrets).filter_map(|grant| {
            let value = self.secrets.get(grant.source.as_str()).filter(|_| is_given(&grant.source))?;
            Some((format!("secrets.{}", grant.source), digest(value.expose_secret())))
        });
        let is_given = |name: &str| {
            spec.configs.get(name).is_some_and(|it| matches!(it.source, ConfigSource::Environment(_)))
        };
        let configs = services().flat_map(|service| &service.configs).filter_map(|grant| {
            let value = self.configs.get(grant.source.as_str()).filter(|_| is_given(&grant.source))?;
            Some((format!("configs.{}", grant.source), digest(value)))
        });
        secrets.chain(configs).collect()
    }

    /// A digest for each service of the files that it gets: configs, and secrets that are not generated. None for a
    /// service of which a value is unknown here.
    pub fn digests(&self, spec: &Spec) -> BTreeMap<ServiceName, String> {
        let of_service = |service: &Service| {
            let mut hasher = Sha256::new();
            for grant in &service.secrets {
                let secret = spec.secrets.get(grant.source.as_str())?;
                if matches!(secret.source, SecretSource::Generate(_) | SecretSource::External) {
                    continue;
                }
                let value = self.secrets.get(grant.source.as_str())?;
                hasher.update(format!("secret {} {}\n", grant.source, digest(value.expose_secret())));
            }
            for grant in &service.configs {
                if matches!(spec.configs.get(grant.source.as_str())?.source, ConfigSource::External) {
                    continue;
                }
                let value = self.configs.get(grant.source.as_str())?;
                hasher.update(format!("config {} {}\n", grant.source, digest(value)));
            }
            Some(hex::encode(hasher.finalize()))
        };
        let has_files = |service: &&Service| !service.secrets.is_empty() || !service.configs.is_empty();
        let services = spec.services.values().filter(has_files);
        services.filter_map(|service| Some((service.name.clone(), of_service(service)?))).collect()
    }

    /// The generated secrets, which are stored with the data that is made with them.
    pub fn generated(&self, spec: &Spec) -> Generated {
        spec.secrets
            .iter()
            .filter(|(_, secret)| matches!(secret.source, SecretSource::Generate(_)))
            .filter_map(|(name, _)| {
                let value = self.secrets.get(name)?;
                let text = String::from_utf8(value.expose_secret().to_vec()).ok()?;
                Some((name.to_string(), text))
            })
            .collect()
    }

    fn of_file(&self, source: &FileSource) -> std::io::Result<&[u8]> {
        let none = |what: String| std::io::Error::other(format!("{what} has no value"));
        match source {
            FileSource::Secret(name) => match self.secrets.get(name) {
                Some(value) => Ok(value.expose_secret()),
                None => Err(none(format!("secret `{name}`"))),
            },
            FileSource::Config(name) => match self.configs.get(name) {
                Some(value) => Ok(value),
                None => Err(none(format!("config `{name}`"))),
            },
            FileSource::Link(_) => Ok(&[]),
        }
    }

    /// An archive of files, named relative to `base`.
    ///
    /// # Errors
    /// Names the secret or config that has no value. Fails if an archive cannot hold the path.
    pub fn archive(&self, files: &[GrantedFile], base: &str) -> std::io::Result<ByteStream> {
        let mut archive = tar::Builder::new(Vec::new());
        for file in files {
            let name = file.path.strip_prefix(base).unwrap_or(&file.path).trim_start_matches('/');
            let owner = Owner { uid: file.uid.into(), gid: file.gid.into() };
            if let FileSource::Link(target) = &file.source {
                let mut header = header(tar::EntryType::Symlink, 0, file.mode, owner);
                archive.append_link(&mut header, name, target)?;
            } else {
                let content = self.of_file(&file.source)?;
                let mut header = header(tar::EntryType::Regular, content.len() as u64, file.mode, owner);
                archive.append_data(&mut header, name, content)?;
            }
        }
        let bytes = Bytes::from(archive.into_inner()?);
        Ok(Box::pin(futures_util::stream::once(async move { Ok(bytes) })))
    }
}

fn digest(value: &[u8]) -> String {
    hex::encode(Sha256::digest(value))
}

fn read(what: &str, path: &Path, writable: &WritableFolders) -> Result<Vec<u8>, SessionError> {
    let read = || {
        let mut bytes = Vec::new();
        writable.open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it has more than 64 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|source| SessionError::File { what: what.to_owned(), path: path.to_owned(), source })
}

fn unset(kind: &str, name: impl std::fmt::Display, variable: &str) -> SessionError {
    SessionError::NoValue {
        what: format!("{kind} `{name}`"),
        reason: format!("`{variable}` is not set in the environment or in `.env`"),
    }
}

fn generate(length: u32) -> SecretString {
    let mut rng = rand::rng();
    let text: String = (0..length).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect();
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, LoadRequest};

    #[test]
    fn what_variables_give_to_what_makes_data_counts_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = r"
services:
  db: { image: x, secrets: [password], configs: [colour] }
  web: { image: x, secrets: [token] }
secrets: { password: { environment: PASSWORD }, token: { environment: TOKEN } }
configs: { colour: { environment: COLOUR } }
";
        std::fs::write(folder.path().join("sandbox.yaml"), yaml).unwrap();
        let given = |password: &str, token: &str| {
            let env = [("PASSWORD", password), ("TOKEN", token), ("COLOUR", "red")];
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let request = LoadRequest { folder: folder.path().to_owned(), env, ..LoadRequest::default() };
            let loaded = spec::load(&request).unwrap();
            let values = Values::resolve(&loaded, &Generated::new()).unwrap();
            values.given(&loaded.spec, &BTreeSet::from(["db".parse().unwrap()]))
        };
        let names: Vec<String> = given("a", "b").into_keys().collect();
        assert_eq!(names, ["configs.colour", "secrets.password"]);
        assert_eq!(given("a", "b"), given("a", "c"));
        assert_ne!(given("a", "b"), given("c", "b"));
    }
}
