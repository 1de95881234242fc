//! Moves a spec to another folder: a snapshot's spec names files of the project, whose path differs per machine.

use std::path::{Path, PathBuf};

use super::canonical;
use super::model::{Build, ConfigSource, Dockerfile, ImageSource, MountKind, SecretSource, Service, Spec};
use super::seed::Seed;

/// The folder of a spec whose paths are relative to the project.
pub const ANYWHERE: &str = ".";

/// Rebases all paths below the spec's folder. Other paths do not change.
pub fn relocate(spec: &mut Spec, to: &Path) {
    let from = std::mem::replace(&mut spec.folder, to.to_owned());
    spec.branch = None;
    let mover = Mover { from, to: to.to_owned() };
    spec.files.iter_mut().for_each(|file| mover.path(file));
    spec.services.values_mut().chain(spec.build_only.values_mut()).for_each(|service| mover.service(service));
    for volume in spec.volumes.values_mut() {
        volume.seed.iter_mut().for_each(|seed| mover.seed(seed));
        if let Some(device) = volume.driver_opts.get_mut("device") {
            mover.text(device);
        }
    }
    for secret in spec.secrets.values_mut() {
        if let SecretSource::File(file) = &mut secret.source {
            mover.path(file);
        }
    }
    for config in spec.configs.values_mut() {
        if let ConfigSource::File(file) = &mut config.source {
            mover.path(file);
        }
    }
    for task in spec.tasks.values_mut() {
        task.working_dir.as_mut().into_iter().for_each(|folder| mover.text(folder));
    }
}

struct Mover {
    from: PathBuf,
    to: PathBuf,
}

impl Mover {
    fn path(&self, path: &mut PathBuf) {
        if let Ok(rest) = path.strip_prefix(&self.from)
            && (path.is_absolute() || self.from == Path::new(ANYWHERE))
        {
            *path = if rest.as_os_str().is_empty() { self.to.clone() } else { self.to.join(rest) };
        }
    }

    fn text(&self, text: &mut String) {
        let mut path = PathBuf::from(&*text);
        self.path(&mut path);
        if let Some(moved) = path.to_str() {
            moved.clone_into(text);
        }
    }

    fn service(&self, service: &mut Service) {
        service.seed.iter_mut().for_each(|seed| self.seed(seed));
        for mount in &mut service.mounts {
            if let MountKind::Bind { source, .. } = &mut mount.kind {
                self.path(source);
            }
        }
        if let ImageSource::Build(build) = &mut service.source {
            self.build(build);
        }
        service.watch.iter_mut().for_each(|rule| self.path(&mut rule.path));
    }

    fn build(&self, build: &mut Build) {
        if !canonical::is_remote(&build.context) {
            self.text(&mut build.context);
        }
        if let Dockerfile::File(file) = &mut build.dockerfile
            && Path::new(file).is_absolute()
        {
            self.text(file);
        }
        build.additional_contexts.values_mut().for_each(|context| self.text(context));
        build.ssh.values_mut().flatten().for_each(|key| self.text(key));
    }

    fn seed(&self, seed: &mut Seed) {
        seed.kind_mut().paths_mut().into_iter().for_each(|file| self.path(file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ProjectName;

    #[test]
    fn what_lies_in_the_project_goes_along_and_what_lies_elsewhere_stays() {
        let mut spec = Spec::new(ProjectName::new("shop").unwrap(), Path::new("/home/a/shop"));
        spec.files =
            vec!["/home/a/shop/sandbox.yaml".into(), "/etc/shared.yaml".into(), "/home/a/shopper".into()];
        relocate(&mut spec, Path::new(ANYWHERE));
        assert_eq!(spec.folder, Path::new("."));
        let files: Vec<_> = spec.files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(files, ["./sandbox.yaml", "/etc/shared.yaml", "/home/a/shopper"]);
        relocate(&mut spec, Path::new("/srv/b"));
        assert_eq!(spec.files[0], Path::new("/srv/b/sandbox.yaml"));
        assert_eq!(spec.files[1], Path::new("/etc/shared.yaml"));
    }
}
