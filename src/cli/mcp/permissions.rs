//! What specs may ask for. Fixed by the options of `sandbox mcp`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Args;
use crate::cli::Failure;
use crate::spec::{self, Boundary, EgressPolicy, HostAccess, LoadRequest, Loaded};

/// The longest time to take up a lost lease again: how long a sandbox outlives a server that was killed.
const LONGEST_GRACE: Duration = Duration::from_mins(5);

/// The permissions of a server.
#[derive(Debug)]
pub(super) struct Permissions {
    /// The folder that holds everything, without links in its path.
    pub folder: PathBuf,
    /// The widest egress policy.
    pub egress: EgressPolicy,
    /// How many sandboxes there may be at a time.
    pub most: usize,
    /// How long each may live.
    pub ttl: Duration,
    variables: BTreeMap<String, String>,
    snapshots: BTreeSet<String>,
    builds: bool,
}

/// Which spec a tool asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct SpecRequest {
    /// Its folder, relative to ours.
    pub folder: Option<String>,
    /// Its files, relative to its folder; by default those that `up` finds.
    pub files: Vec<String>,
    /// The selected services.
    pub services: Vec<String>,
    /// The active profiles.
    pub profiles: Vec<String>,
}

impl Permissions {
    /// Reads the options.
    ///
    /// # Errors
    /// Fails if the folder does not exist, or if the policy is invalid.
    pub fn new(args: &Args, here: &Path) -> Result<Self, Failure> {
        let folder = args.folder.as_ref().map_or_else(|| here.to_owned(), |folder| here.join(folder));
        let folder = folder.canonicalize().map_err(|error| {
            let hint = "name an existing directory with `--folder`".to_owned();
            Failure::usage(format!("cannot use `{}`: {error}", folder.display()), Some(hint))
        })?;
        let egress = args.egress.parse().map_err(|error| {
            let hint = "deny, allow, or names and addresses: api.example.com,*.npmjs.org,10.1.2.3:5432";
            Failure::usage(format!("--egress: {error}"), Some(hint.to_owned()))
        })?;
        let variable = |name: &String| Some((name.clone(), std::env::var(name).ok()?));
        Ok(Self {
            folder,
            egress,
            most: args.max_sandboxes,
            ttl: args.ttl,
            variables: args.env.iter().filter_map(variable).collect(),
            snapshots: args.snapshots.iter().cloned().collect(),
            builds: !args.no_build,
        })
    }

    /// Loads a spec that asks for no more than is allowed.
    ///
    /// # Errors
    /// Fails with all problems of the spec, or names what is not allowed.
    pub fn load(&self, asked: &SpecRequest) -> Result<Loaded, Failure> {
        let request = LoadRequest {
            files: asked.files.iter().map(PathBuf::from).collect(),
            folder: self.inside(asked.folder.as_deref().unwrap_or("."))?,
            env: self.variables.clone(),
            profiles: asked.profiles.clone(),
            services: asked.services.clone(),
            allow_host_access: HostAccess::Refused,
            boundary: Some(Boundary { folder: self.folder.clone(), snapshots: self.snapshots.clone() }),
            ..LoadRequest::default()
        };
        if request.files.iter().any(|file| file.as_os_str() == "-") {
            return Err(Failure::usage("a spec cannot come from standard input", None));
        }
        let mut loaded = spec::load(&request).map_err(Failure::Spec)?;
        self.check_egress(&loaded)?;
        self.check_builds(&loaded)?;
        let lifetime = &mut loaded.spec.lifetime;
        lifetime.ttl = Some(lifetime.ttl.map_or(self.ttl, |ttl| ttl.min(self.ttl)));
        lifetime.grace = lifetime.grace.map(|grace| grace.min(LONGEST_GRACE));
        Ok(loaded)
    }

    /// The absolute path of a folder below ours.
    fn inside(&self, folder: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(folder);
        let found = path.canonicalize().ok().filter(|path| path.is_dir());
        // A folder outside is reported in the same way whether it exists or not.
        found.filter(|path| path.starts_with(&self.folder)).ok_or_else(|| {
            let message = format!("there is no folder `{folder}` in `{}`", self.folder.display());
            let hint = "paths are relative to that folder; nothing outside of it can be used".to_owned();
            Failure::usage(message, Some(hint))
        })
    }

    fn check_egress(&self, loaded: &Loaded) -> Result<(), Failure> {
        let beyond = spec::egress_beyond(&self.egress, &loaded.spec.egress);
        if beyond.is_empty() {
            return Ok(());
        }
        let message =
            format!("the spec asks for {}, and this server allows {}", beyond.join(", "), self.egress);
        let hint =
            "take it out of the spec; or the user starts the server with a wider `--egress`".to_owned();
        Err(Failure::usage(message, Some(hint)))
    }

    fn check_builds(&self, loaded: &Loaded) -> Result<(), Failure> {
        let built = loaded.spec.services.values().find(|service| service.build().is_some());
        match built.filter(|_| !self.builds) {
            None => Ok(()),
            Some(service) => {
                let message =
                    format!("service `{}` builds an image, and this server allows no builds", service.name);
                let hint = "use an image that exists; or the user starts the server without `--no-build`";
                Err(Failure::usage(message, Some(hint.to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(folder: &Path, egress: &str) -> Permissions {
        let args = Args {
            folder: Some(folder.to_owned()),
            egress: egress.to_owned(),
            env: vec!["PATH".to_owned()],
            snapshots: Vec::new(),
            no_build: true,
            ttl: Duration::from_hours(1),
            max_sandboxes: 1,
        };
        Permissions::new(&args, Path::new("/")).unwrap()
    }

    fn load(spec: &str, egress: &str) -> Result<Loaded, Failure> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sandbox.yaml"), spec).unwrap();
        permissions(folder.path(), egress).load(&SpecRequest::default())
    }

    fn refusal(outcome: Result<Loaded, Failure>) -> String {
        match outcome {
            Ok(_) => "nothing was refused".to_owned(),
            Err(Failure::Spec(problems)) => problems.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn egress_is_bounded_by_the_option() {
        let spec = "services: { a: { image: x } }\negress: [a.example]";
        assert!(refusal(load(spec, "deny")).contains("asks for `egress` to `a.example`"));
        assert!(load(spec, "a.example,b.example").is_ok());
        assert!(load(spec, "allow").is_ok());
        assert!(
            refusal(load("services: { a: { image: x } }\negress: allow", "a.example"))
                .contains("egress: allow")
        );
    }

    #[test]
    fn host_access_builds_and_other_variables_are_refused() {
        assert!(
            refusal(load("services: { a: { image: x, privileged: true } }", "allow")).contains("privileged")
        );
        assert!(
            refusal(load("services: { a: { build: { dockerfile_inline: FROM x } } }", "allow"))
                .contains("allows no builds")
        );
        let loaded = load("services: { a: { image: x, environment: [HOME, PATH] } }", "deny").unwrap();
        let environment = &loaded.spec.services.values().next().unwrap().environment;
        assert!(environment.get("HOME").is_none_or(|value| value.as_deref().unwrap_or_default().is_empty()));
        assert!(environment.get("PATH").is_some_and(Option::is_some));
    }

    #[test]
    fn a_life_is_bounded_and_so_is_the_time_after_a_kill() {
        let loaded = load("services: { a: { image: x } }\nlifetime: { ttl: 9h, grace: 2h }", "deny").unwrap();
        assert_eq!(loaded.spec.lifetime.ttl, Some(Duration::from_hours(1)));
        assert_eq!(loaded.spec.lifetime.grace, Some(LONGEST_GRACE));
    }

    #[test]
    fn a_folder_outside_is_no_folder() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir_all(inner.join("deep")).unwrap();
        std::os::unix::fs::symlink("..", inner.join("link")).unwrap();
        let permissions = permissions(&inner, "deny");
        assert!(permissions.inside("deep").is_ok());
        for outside in ["..", "link", "/etc", "deep/../..", "nothing"] {
            assert!(permissions.inside(outside).is_err(), "{outside}");
        }
    }
}
