//! Checks that the files and variables that a spec names exist.

use std::path::Path;

use super::Checker;
use crate::spec::canonical;
use crate::spec::model::{At, ConfigSource, Dockerfile, MountKind, SecretSource, Service, Spec};
use crate::spec::problem::{ProblemKind, shown};

impl Checker<'_> {
    /// Reports missing files.
    pub(super) fn files(&self, spec: &Spec) {
        let selected =
            spec.services.values().filter(|service| !self.unselected.contains(service.name.as_str()));
        for service in selected {
            self.build_files(service);
            for mount in &service.mounts {
                if let MountKind::Bind { source, options } = &mount.kind
                    && !options.as_ref().is_some_and(|options| options.create_host_path)
                    && !source.exists()
                {
                    let name = shown(source, self.standing_in);
                    let message =
                        format!("there is no `{}` for service `{}` to mount", name.display(), service.name);
                    let hint = "make it, or write the mount as `./folder:/path`, which makes it";
                    self.problem(ProblemKind::File, &mount.at, message, hint);
                }
            }
            for grant in &service.secrets {
                let Some(secret) = spec.secrets.get(grant.source.as_str()) else { continue };
                match &secret.source {
                    SecretSource::File(file) => {
                        self.must_exist(file, &secret.at, &format!("secret `{}`", grant.source));
                    }
                    SecretSource::Environment(name) if !self.is_scoped("secrets", &grant.source) => {
                        self.must_be_set(name, &secret.at, &format!("secret `{}`", grant.source));
                    }
                    SecretSource::Environment(_) | SecretSource::Generate(_) | SecretSource::External => {}
                }
            }
            for grant in &service.configs {
                let Some(config) = spec.configs.get(grant.source.as_str()) else { continue };
                match &config.source {
                    ConfigSource::File(file) => {
                        self.must_exist(file, &config.at, &format!("config `{}`", grant.source));
                    }
                    ConfigSource::Environment(name) if !self.is_scoped("configs", &grant.source) => {
                        self.must_be_set(name, &config.at, &format!("config `{}`", grant.source));
                    }
                    ConfigSource::Environment(_) | ConfigSource::Content(_) | ConfigSource::External => {}
                }
            }
        }
    }

    pub(super) fn build_files(&self, service: &Service) {
        let Some(build) = service.build().filter(|build| !canonical::is_remote(&build.context)) else {
            return;
        };
        let context = Path::new(&build.context);
        let name = shown(context, self.standing_in);
        if !context.is_dir() {
            let message =
                format!("there is no folder `{}` to build service `{}` from", name.display(), service.name);
            self.problem(ProblemKind::File, &build.at, message, "the path begins at the folder of the spec");
            return;
        }
        if let Dockerfile::File(file) = &build.dockerfile {
            let path = context.join(file);
            if !path.is_file() {
                let shown = shown(&path, self.standing_in);
                let message =
                    format!("there is no `{}` to build service `{}` with", shown.display(), service.name);
                self.problem(ProblemKind::File, &build.at, message, "`dockerfile` begins at the context");
            }
        }
    }

    pub(super) fn must_exist(&self, file: &Path, at: &At, what: &str) {
        if file.is_dir() {
            let name = shown(file, self.standing_in);
            let message = format!("`{}`, for {what}, is a folder", name.display());
            let hint = "name a file; a folder is mounted with `volumes: [\"./folder:/path:ro\"]`";
            self.problem(ProblemKind::File, at, message, hint);
        } else if !file.is_file() {
            let name = shown(file, self.standing_in);
            let message = format!("there is no file `{}` for {what}", name.display());
            self.problem(ProblemKind::File, at, message, "the path begins at the folder of the spec");
        }
    }

    pub(super) fn is_scoped(&self, section: &str, name: &str) -> bool {
        self.scoped.contains_key(&(section.to_owned(), name.to_owned()))
    }

    pub(super) fn must_be_set(&self, variable: &str, at: &At, what: &str) {
        if !self.variables.contains_key(variable) {
            let message = format!("the variable `{variable}`, for {what}, is not set");
            let hint = format!("`export {variable}=…`, or write it in `.env`");
            self.problem(ProblemKind::Variable, at, message, hint);
        }
    }
}
