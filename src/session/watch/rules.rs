//! The rules of `develop.watch`: what to do when a file changes. Pure.
//!
//! As in the Compose Develop Specification, `ignore` and `include` are relative to a rule's `path`, and the
//! `.dockerignore` of the service's build context applies. Files that version control and editors use internally are
//! ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::engine::ignore::Ignore;
use crate::spec::{Hook, Service, ServiceName, Spec, WatchAction, WatchRule};

/// The rules of all services.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Compiled>);

#[derive(Debug)]
struct Compiled {
    service: ServiceName,
    rule: WatchRule,
    ignored: Ignore,
    included: Option<Ignore>,
    /// The service's build context and its `.dockerignore`.
    context: Option<(PathBuf, Ignore)>,
}

/// The actions for a set of changed files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Services whose image is rebuilt.
    pub rebuild: BTreeSet<ServiceName>,
    /// Files to copy into each service: the path on the host and the target.
    pub copy: BTreeMap<ServiceName, BTreeMap<PathBuf, String>>,
    /// Services that are restarted.
    pub restart: BTreeSet<ServiceName>,
    /// Commands that run in services.
    pub run: Vec<(ServiceName, Hook)>,
}

impl Work {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Rules {
    /// Compiles the rules of a spec. `read` returns a file's text, empty if there is none.
    ///
    /// # Errors
    /// Names the invalid pattern.
    pub(super) fn of(spec: &Spec, read: &dyn Fn(&Path) -> String) -> Result<Self, String> {
        let services = spec.services.values();
        let rules = services.flat_map(|service| service.watch.iter().map(move |rule| (service, rule)));
        Ok(Self(rules.map(|(service, rule)| Compiled::of(service, rule, read)).collect::<Result<_, _>>()?))
    }

    /// The paths that are watched.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|one| one.rule.path.as_path())
    }

    /// Whether no rule applies to the contents of a folder.
    pub(super) fn skips(&self, folder: &Path) -> bool {
        !self.0.iter().any(|one| one.minds(folder))
    }

    /// The actions for changes of these files.
    pub(super) fn work<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Work {
        let mut work = Work::default();
        for path in paths {
            for one in &self.0 {
                if let Some(inner) = one.concerned(path) {
                    one.note(&mut work, path, &inner);
                }
            }
        }
        work.settle();
        work
    }

    /// The files to copy before watching starts.
    pub(super) fn at_first<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Work {
        let mut work = Work::default();
        for path in paths {
            for one in self.0.iter().filter(|one| one.rule.initial_sync) {
                if let Some(inner) = one.concerned(path) {
                    one.copy(&mut work, path, &inner);
                }
            }
        }
        work
    }

    /// Whether anything is copied before watching starts.
    pub(super) fn has_a_first(&self) -> bool {
        self.0.iter().any(|one| one.rule.initial_sync)
    }
}

impl Work {
    /// Drops actions that a rebuild makes unnecessary.
    fn settle(&mut self) {
        let rebuilt = &self.rebuild;
        self.copy.retain(|service, _| !rebuilt.contains(service));
        self.restart.retain(|service| !rebuilt.contains(service));
        self.run.retain(|(service, _)| !rebuilt.contains(service));
    }
}

impl Compiled {
    fn of(service: &Service, rule: &WatchRule, read: &dyn Fn(&Path) -> String) -> Result<Self, String> {
        let folder = service.build().map(|build| PathBuf::from(&build.context));
        let context = match folder.filter(|folder| folder.is_absolute()) {
            Some(folder) => {
                let ignore = Ignore::parse(&read(&folder.join(".dockerignore")))?;
                Some((folder, ignore))
            }
            None => None,
        };
        Ok(Self {
            service: service.name.clone(),
            rule: rule.clone(),
            ignored: Ignore::parse(&rule.ignore.join("\n"))?,
            included: match rule.include.as_slice() {
                [] => None,
                patterns => Some(Ignore::parse(&patterns.join("\n"))?),
            },
            context,
        })
    }

    /// The path relative to the rule's, if the rule applies to it.
    fn concerned(&self, path: &Path) -> Option<PathBuf> {
        let inner = path.strip_prefix(&self.rule.path).ok()?;
        if inner.as_os_str().is_empty() {
            // A rule that names a file applies to that file.
            return Some(PathBuf::new());
        }
        let text = inner.to_str()?;
        let wanted = !is_private(inner)
            && !self.ignored.excludes(text)
            && self.included.as_ref().is_none_or(|included| included.excludes(text))
            && !self.left_out(path);
        wanted.then(|| inner.to_owned())
    }

    /// Whether the `.dockerignore` excludes it from the context.
    fn left_out(&self, path: &Path) -> bool {
        self.context.as_ref().is_some_and(|(folder, ignore)| {
            let inner = path.strip_prefix(folder).ok().and_then(Path::to_str);
            inner.is_some_and(|inner| !inner.is_empty() && ignore.excludes(inner))
        })
    }

    fn minds(&self, folder: &Path) -> bool {
        let Ok(inner) = folder.strip_prefix(&self.rule.path) else { return false };
        let Some(text) = inner.to_str() else { return false };
        if text.is_empty() {
            return true;
        }
        let ignored = self.ignored.excludes(text) && !self.ignored.takes_back();
        let takes_back = self.context.as_ref().is_some_and(|(_, ignore)| ignore.takes_back());
        let left_out = self.left_out(folder) && !takes_back;
        !is_private(inner) && !ignored && !left_out
    }

    fn note(&self, work: &mut Work, path: &Path, inner: &Path) {
        let service = || self.service.clone();
        match self.rule.action {
            WatchAction::Rebuild => drop(work.rebuild.insert(service())),
            WatchAction::Restart => drop(work.restart.insert(service())),
            WatchAction::Sync => self.copy(work, path, inner),
            WatchAction::SyncRestart => {
                self.copy(work, path, inner);
                work.restart.insert(service());
            }
            WatchAction::SyncExec => {
                self.copy(work, path, inner);
                let hook = self.rule.exec.clone().map(|hook| (service(), hook));
                work.run.extend(hook.filter(|hook| !work.run.contains(hook)));
            }
        }
    }

    fn copy(&self, work: &mut Work, path: &Path, inner: &Path) {
        let Some(target) = &self.rule.target else { return };
        let mut to = Path::new("/").join(target);
        if !inner.as_os_str().is_empty() {
            to.push(inner);
        } else if target.ends_with('/')
            && let Some(name) = path.file_name()
        {
            to.push(name);
        }
        let to = to.to_string_lossy().into_owned();
        work.copy.entry(self.service.clone()).or_default().insert(path.to_owned(), to);
    }
}

/// Whether version control or an editor uses the file internally.
pub(super) fn is_private(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => name.to_str().is_some_and(is_private_name),
        _ => false,
    })
}

fn is_private_name(name: &str) -> bool {
    let version_control = [".git", ".hg", ".svn", ".jj"].contains(&name);
    let vim = name == "4913"
        || name.ends_with('~')
        || name.starts_with('.')
            && name.rsplit_once('.').is_some_and(|(_, end)| end.len() == 3 && end.starts_with("sw"));
    let emacs = name.starts_with(".#") || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'));
    let kate = name.ends_with(".kate-swp");
    let jetbrains = ["___jb_tmp___", "___jb_old___", "___jb_bak___"].iter().any(|end| name.ends_with(end));
    version_control || vim || emacs || kate || jetbrains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LoadRequest, load};

    fn rules(text: &str, dockerignore: &str) -> (tempfile::TempDir, Rules) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("web")).unwrap();
        std::fs::write(dir.path().join("web/Dockerfile"), "FROM scratch").unwrap();
        std::fs::write(dir.path().join("sandbox.yaml"), text).unwrap();
        let request = LoadRequest { folder: dir.path().to_owned(), ..LoadRequest::default() };
        let spec = load(&request).unwrap().spec;
        let rules = Rules::of(&spec, &|_| dockerignore.to_owned()).unwrap();
        (dir, rules)
    }

    fn work(dir: &tempfile::TempDir, rules: &Rules, paths: &[&str]) -> Work {
        let paths: Vec<PathBuf> = paths.iter().map(|path| dir.path().join(path)).collect();
        rules.work(&paths)
    }

    fn copied(work: &Work) -> Vec<&str> {
        work.copy.values().flat_map(BTreeMap::values).map(String::as_str).collect()
    }

    const WEB: &str = r#"
services:
  web:
    build: ./web
    develop:
      watch:
        - { path: web/src, action: sync, target: /app/src, ignore: [node_modules/, "*.md"] }
        - { path: web/package.json, action: rebuild }
        - { path: web/app.conf, action: sync+restart, target: /etc/app/ }
"#;

    #[test]
    fn a_changed_file_is_copied_to_its_place_below_the_target() {
        let (dir, rules) = rules(WEB, "");
        let work = work(&dir, &rules, &["web/src/a/b.js", "web/app.conf", "web/other"]);
        assert_eq!(copied(&work), ["/etc/app/app.conf", "/app/src/a/b.js"]);
        assert!(work.rebuild.is_empty());
        assert_eq!(work.restart.len(), 1);
    }

    #[test]
    fn a_new_image_makes_copies_and_restarts_needless() {
        let (dir, rules) = rules(WEB, "");
        let work = work(&dir, &rules, &["web/src/a.js", "web/package.json", "web/app.conf"]);
        assert_eq!(work.rebuild.len(), 1);
        assert!(work.copy.is_empty() && work.restart.is_empty());
    }

    #[test]
    fn what_is_ignored_is_no_change() {
        let (dir, rules) = rules(WEB, "src/secret*\nsrc/tmp\n");
        let ignored = [
            "web/src/node_modules/x.js",
            "web/src/README.md",
            "web/src/secret.env",
            "web/src/tmp/x",
            "web/src/.git/HEAD",
            "web/src/.a.js.swp",
            "web/src/4913",
            "web/src/a.js~",
            "web/src/.#a.js",
            "web/src/a.js___jb_tmp___",
        ];
        assert!(work(&dir, &rules, &ignored).is_empty(), "{:?}", work(&dir, &rules, &ignored));
        assert!(rules.skips(&dir.path().join("web/src/node_modules")));
        assert!(rules.skips(&dir.path().join("web/src/tmp")));
        assert!(!rules.skips(&dir.path().join("web/src/inner")));
    }

    #[test]
    fn a_rule_that_names_a_file_is_heeded_though_the_dockerignore_leaves_it_out() {
        let (dir, rules) = rules(WEB, "package.json");
        assert_eq!(work(&dir, &rules, &["web/package.json"]).rebuild.len(), 1);
    }

    #[test]
    fn with_include_only_what_it_names_is_looked_at() {
        let (dir, rules) = rules(
            "services:\n  web:\n    image: x\n    develop:\n      watch: [{ path: ., action: sync, target: /app, include: '*.js' }]\n",
            "",
        );
        assert_eq!(copied(&work(&dir, &rules, &["a.js", "b.css"])), ["/app/a.js"]);
    }

    #[test]
    fn a_command_runs_once_however_many_files_have_changed() {
        let (dir, rules) = rules(
            "services:\n  web:\n    image: x\n    develop:\n      watch: [{ path: ., action: sync+exec, target: /app, exec: { command: reload } }]\n",
            "",
        );
        let work = work(&dir, &rules, &["a.js", "b.css"]);
        assert_eq!((work.run.len(), copied(&work).len()), (1, 2));
    }
}
