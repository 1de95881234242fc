//! Assembles the spec's files into one canonical tree: applies `extends` and `include`, and merges.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::canonical::{self, Base};
use super::diagnostics::Log;
use super::dotenv;
use super::interpolate::interpolate;
use super::merge;
use super::nearest;
use super::node::{Entry, Map, Node, Span, Value};
use super::problem::{Problem, ProblemKind, WarningKind, shown};
use super::scope::{self, ScopedValues};
use super::yaml;

/// Maximum depth of nested includes and of a chain of `extends`.
const MAX_DEPTH: usize = 32;
/// Maximum number of includes of a spec, including nested ones.
const MAX_INCLUDES: usize = 500;

/// The variables and the base folder of a group of files.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The variables for interpolation.
    pub variables: BTreeMap<String, String>,
    /// The base folder of relative paths.
    pub folder: PathBuf,
}

/// Reads and assembles files.
pub(super) struct Assembler<'a> {
    pub log: &'a Log,
    /// Messages show paths relative to this folder.
    pub standing_in: &'a Path,
    /// All files that were read.
    pub files: Vec<PathBuf>,
    /// Services of files that `extends` refers to, by file.
    extended: HashMap<PathBuf, Rc<Map>>,
    /// Cycles of `extends` that were reported.
    circles: BTreeSet<String>,
    /// Values of secrets and configs from variables of an included file.
    pub scoped: ScopedValues,
    /// Number of includes so far.
    includes: usize,
}

impl<'a> Assembler<'a> {
    pub fn new(log: &'a Log, standing_in: &'a Path) -> Self {
        Self {
            log,
            standing_in,
            files: Vec::new(),
            extended: HashMap::new(),
            circles: BTreeSet::new(),
            scoped: ScopedValues::new(),
            includes: 0,
        }
    }

    /// The merged tree of some files. `trail` lists the files that include these.
    pub fn model(&mut self, files: &[PathBuf], scope: &Scope, trail: &[PathBuf]) -> Option<Node> {
        let mut merged: Option<Node> = None;
        for file in files {
            if !self.files.contains(file) {
                self.files.push(file.clone());
            }
            for mut document in self.documents(file, scope)? {
                self.extend_all(&mut document, file, scope);
                let mut trail = trail.to_vec();
                trail.push(file.clone());
                self.include_all(&mut document, scope, &trail);
                match &mut merged {
                    None => {
                        merge::settle(&mut document);
                        merge::unique_all(&mut document, &mut Vec::new());
                        merged = Some(document);
                    }
                    Some(base) => {
                        // Also removes duplicates from lists that are merged into nothing.
                        merge::merge(base, document);
                        merge::unique_all(base, &mut Vec::new());
                    }
                }
            }
        }
        if let Some(merged) = &mut merged {
            canonical::defaults(merged, &scope.folder);
        }
        merged
    }

    /// The documents of one file, interpolated and canonical.
    fn documents(&self, file: &Path, scope: &Scope) -> Option<Vec<Node>> {
        let name = shown(file, self.standing_in);
        let text = yaml::read(self.log, file, &name)?;
        let number = self.log.add_source(file, name.clone(), text.clone());
        let problems = self.log.problem_count();
        let mut documents = yaml::parse(self.log, number, &text);
        documents.retain(|document| !document.is_null());
        if documents.is_empty() && self.log.problem_count() == problems {
            let problem = Problem::new(ProblemKind::Syntax, format!("`{}` is empty", name.display()))
                .hint("a spec has at least `services:`");
            self.log.push(problem);
            return None;
        }
        let home = scope.variables.get("HOME").map(String::as_str);
        let base = Base { folder: &scope.folder, home };
        for document in &mut documents {
            if document.as_map().is_none() {
                let message = format!("a spec is a mapping, this is {}", document.kind());
                self.log.hinted(ProblemKind::Type, document.span, message, "begin with `services:`");
                return None;
            }
            interpolate(self.log, document, &scope.variables);
            canonical::document(self.log, document, &base);
        }
        Some(documents)
    }

    /// Applies `extends` to every service of a document.
    fn extend_all(&mut self, document: &mut Node, file: &Path, scope: &Scope) {
        let Some(services) = section(document, "services").cloned().map(Rc::new) else { return };
        let names: Vec<String> = services.entries.iter().map(|entry| entry.key.clone()).collect();
        for name in names {
            let mut trail = Vec::new();
            let extended = self.extended(&services, &name, file, scope, &mut trail);
            if let (Some(extended), Some(own)) = (extended, section_mut(document, "services"))
                && let Some(service) = own.get_mut(&name)
            {
                *service = extended;
            }
        }
    }

    /// A service, merged over the service that it extends, if any.
    fn extended(
        &mut self,
        services: &Rc<Map>,
        name: &str,
        file: &Path,
        scope: &Scope,
        trail: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        let service = services.get(name)?;
        let extends = service.as_map()?.get("extends")?;
        let Some(reference) = extends.as_map() else {
            let message =
                format!("`extends` of service `{name}` takes a service's name, this is {}", extends.kind());
            self.log.problem(ProblemKind::Type, extends.span, message);
            return Some(service.clone());
        };
        trail.push((file.to_owned(), name.to_owned()));
        let base = self.extended_base(services, name, extends.span, reference, (file, scope), trail);
        trail.pop();
        let Some(mut base) = base else { return Some(service.clone()) };
        let own = without_extends(service);
        merge::settle(&mut base);
        let tags = own.clone();
        merge::merge_service(&mut base, own);
        // A reset or override also applies to the values of earlier files.
        merge::retag(&mut base, &tags);
        Some(base)
    }

    /// The service that another one extends, with its own `extends` applied.
    fn extended_base(
        &mut self,
        services: &Rc<Map>,
        name: &str,
        span: Span,
        reference: &Map,
        (file, scope): (&Path, &Scope),
        trail: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        for entry in &reference.entries {
            if !matches!(entry.key.as_str(), "service" | "file") && !entry.key.starts_with("x-") {
                let message = format!("`{}` is not a key of `extends`", entry.key);
                let hint = nearest::hint(&entry.key, ["service", "file"]);
                self.log.hinted(ProblemKind::UnknownKey, entry.span, message, hint);
            }
        }
        let Some(of) = reference.get("service").and_then(Node::scalar) else {
            let message = format!("`extends` of service `{name}` does not name a service");
            self.log.hinted(ProblemKind::Type, span, message, "add `service: NAME`");
            return None;
        };
        let at = reference.get("service").map_or(span, |node| node.span);
        let (found, from, scope) =
            match reference.get("file").and_then(|node| Some((node.scalar()?, node.span))) {
                None => (Rc::clone(services), file.to_owned(), scope.clone()),
                Some((other, span)) => {
                    let path = canonical::clean(&scope.folder.join(other));
                    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                    let scope = Scope { variables: scope.variables.clone(), folder };
                    (self.services_of(&path, &scope, span)?, path, scope)
                }
            };
        if trail.len() > MAX_DEPTH {
            let message = format!("services extend each other more than {MAX_DEPTH} deep");
            self.log.problem(ProblemKind::Cycle, at, message);
            return None;
        }
        let step = (from.clone(), of.clone());
        if trail.contains(&step) {
            let mut names: Vec<&str> = trail.iter().map(|(_, name)| name.as_str()).collect();
            names.push(&of);
            let message = format!("services extend each other in a circle: {}", names.join(" → "));
            // Every service of the cycle finds the same cycle.
            names.sort_unstable();
            names.dedup();
            if self.circles.insert(names.join(" ")) {
                self.log.hinted(ProblemKind::Cycle, at, message, "let one of them stand alone");
            }
            return None;
        }
        let Some(base) = found.get(&of) else {
            let place = shown(&from, self.standing_in);
            let message = format!("service `{name}` extends `{of}`, which is not in `{}`", place.display());
            let names = found.entries.iter().map(|entry| entry.key.as_str()).filter(|other| *other != name);
            self.log.hinted(ProblemKind::Reference, at, message, nearest::hint(&of, names));
            return None;
        };
        self.extended(&found, &of, &from, &scope, trail).or_else(|| Some(base.clone()))
    }

    /// The services of a file that `extends` refers to.
    fn services_of(&mut self, path: &Path, scope: &Scope, span: Span) -> Option<Rc<Map>> {
        if !self.extended.contains_key(path) {
            if !path.is_file() {
                let name = shown(path, self.standing_in);
                let message = format!("there is no file `{}` to extend from", name.display());
                self.log.hinted(
                    ProblemKind::File,
                    span,
                    message,
                    "the path begins at the folder of the spec",
                );
                return None;
            }
            if !self.files.contains(&path.to_owned()) {
                self.files.push(path.to_owned());
            }
            let mut documents = self.documents(path, scope)?.into_iter();
            // Tags are kept: they also apply to what the services of this file extend.
            let mut all = documents.next()?;
            documents.for_each(|document| merge::merge(&mut all, document));
            let services = section(&all, "services").cloned().unwrap_or_default();
            self.extended.insert(path.to_owned(), Rc::new(services));
        }
        self.extended.get(path).cloned()
    }

    /// Merges the files that a document includes.
    fn include_all(&mut self, document: &mut Node, scope: &Scope, trail: &[PathBuf]) {
        let Some(entry) = document.as_map_mut().and_then(|map| map.remove("include")) else { return };
        let Value::Seq(items) = entry.value.value else {
            if !entry.value.is_null() {
                let message = format!("`include` must be a list, this is {}", entry.value.kind());
                self.log.problem(ProblemKind::Type, entry.value.span, message);
            }
            return;
        };
        for item in items {
            if let Some(included) = self.included(&item, scope, trail) {
                self.import(document, included);
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one entry of `include`, key by key")]
    fn included(&mut self, item: &Node, scope: &Scope, trail: &[PathBuf]) -> Option<Node> {
        let span = item.span;
        let Some(map) = item.as_map() else {
            let message = format!("an entry of `include` is a path or a mapping, this is {}", item.kind());
            self.log.problem(ProblemKind::Type, span, message);
            return None;
        };
        let known = ["path", "env_file", "project_directory"];
        for entry in map.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let message = format!("`{}` is not a key of `include`", entry.key);
            self.log.hinted(ProblemKind::UnknownKey, entry.span, message, nearest::hint(&entry.key, known));
        }
        let texts = |key: &str| -> Vec<String> {
            map.get(key)
                .and_then(Node::as_seq)
                .map(|list| list.iter().filter_map(Node::scalar).collect())
                .unwrap_or_default()
        };
        let files: Vec<PathBuf> =
            texts("path").iter().map(|path| canonical::clean(&scope.folder.join(path))).collect();
        let Some(main) = files.first() else {
            self.log.hinted(ProblemKind::Type, span, "an `include` names no file", "add `path: FILE`");
            return None;
        };
        if let Some(at) = trail.iter().position(|file| file == main) {
            let mut names: Vec<String> =
                trail[at..].iter().map(|f| shown(f, self.standing_in).display().to_string()).collect();
            names.push(shown(main, self.standing_in).display().to_string());
            let message = format!("files include each other in a circle: {}", names.join(" → "));
            self.log.hinted(ProblemKind::Cycle, span, message, "take one of the includes out");
            return None;
        }
        if trail.len() > MAX_DEPTH {
            self.log.problem(
                ProblemKind::Cycle,
                span,
                format!("includes are nested more than {MAX_DEPTH} deep"),
            );
            return None;
        }
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            // Files that each include the next one twice would double the work at every level.
            if self.includes == MAX_INCLUDES + 1 {
                let message = format!("more than {MAX_INCLUDES} files are included");
                self.log.hinted(ProblemKind::Cycle, span, message, "include each file once");
            }
            return None;
        }
        for file in &files {
            if !file.is_file() {
                let name = shown(file, self.standing_in);
                let message = format!("there is no file `{}` to include", name.display());
                self.log.hinted(
                    ProblemKind::File,
                    span,
                    message,
                    "the path begins at the folder of the spec",
                );
                return None;
            }
        }
        let folder = match map.get("project_directory").and_then(Node::scalar) {
            Some(folder) => canonical::clean(&scope.folder.join(folder)),
            None => main.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let env_files = texts("env_file");
        let env_files: Vec<PathBuf> = if env_files.is_empty() {
            Some(folder.join(".env")).into_iter().filter(|file| file.is_file()).collect()
        } else {
            env_files.iter().map(|file| canonical::clean(&scope.folder.join(file))).collect()
        };
        let mut variables = scope.variables.clone();
        for (name, value) in read_env_files(
            self.log,
            &env_files,
            &Known::outer(&scope.variables),
            self.standing_in,
            Some(span),
        ) {
            variables.entry(name).or_insert(value);
        }
        let scope_of_file = Scope { variables, folder };
        let mut model = self.model(&files, &scope_of_file, trail)?;
        scope::fill_in(&mut model, &scope_of_file.variables);
        scope::values(&model, &scope.variables, &scope_of_file.variables, &mut self.scoped);
        Some(model)
    }

    /// Imports the sections of an included model; two different definitions of one name are a conflict.
    fn import(&self, document: &mut Node, included: Node) {
        let Value::Map(included) = included.value else { return };
        for part in included.entries {
            if !merge::SECTIONS.contains(&part.key.as_str()) {
                self.not_imported(document, part);
                continue;
            }
            let Value::Map(things) = part.value.value else { continue };
            let Some(root) = document.as_map_mut() else { return };
            if root.get(&part.key).is_none_or(Node::is_null) {
                root.insert(&part.key, part.span, Node::new(Value::Map(Map::default()), part.value.span));
            }
            let Some(own) = root.get_mut(&part.key).and_then(Node::as_map_mut) else { continue };
            for thing in things.entries {
                match own.get(&thing.key) {
                    None => own.entries.push(thing),
                    Some(other) if other.to_json() == thing.value.to_json() => {}
                    Some(_) => {
                        let kind = part.key.trim_end_matches('s');
                        let message =
                            format!("the {kind} `{}` is also defined by what includes this file", thing.key);
                        let hint = "rename one of the two, or lay an override file on the included one: `path: [a.yaml, override.yaml]`";
                        self.log.hinted(ProblemKind::Conflict, thing.span, message, hint);
                    }
                }
            }
        }
    }
}

impl Assembler<'_> {
    /// Handles other keys of an included file: artifacts are added to the spec's. The rest applies to the whole spec,
    /// and an included file must not set it.
    fn not_imported(&self, document: &mut Node, part: Entry) {
        let key = part.key.as_str();
        match key {
            "name" => {}
            key if key.starts_with("x-") => {}
            "version" => {
                let message = "`version` is obsolete and means nothing";
                self.log.warn(WarningKind::Obsolete, part.span, message, Some("take it out".to_owned()));
            }
            "artifacts" => {
                let Some(root) = document.as_map_mut() else { return };
                match (root.get_mut("artifacts").map(|node| &mut node.value), part.value.value) {
                    (Some(Value::Seq(own)), Value::Seq(included)) => own.extend(included),
                    (_, value) => root.insert("artifacts", part.span, Node::new(value, part.value.span)),
                }
            }
            key if canonical::TOP_WORDS.contains(&key) => {
                let message =
                    format!("`{key}` of an included file is not applied: it is about the whole sandbox");
                let hint = "write it in the file that includes this one".to_owned();
                self.log.warn(WarningKind::NotApplied, part.span, message, Some(hint));
            }
            "models" => {
                let Some(root) = document.as_map_mut() else { return };
                root.insert("models", part.span, part.value);
            }
            _ => {
                let message = format!("`{key}` is not a key of a spec");
                let known =
                    merge::SECTIONS.into_iter().chain(canonical::TOP_WORDS).chain(["name", "include"]);
                self.log.hinted(ProblemKind::UnknownKey, part.span, message, nearest::hint(key, known));
            }
        }
    }
}

fn section<'n>(document: &'n Node, key: &str) -> Option<&'n Map> {
    document.as_map()?.get(key)?.as_map()
}

fn section_mut<'n>(document: &'n mut Node, key: &str) -> Option<&'n mut Map> {
    document.as_map_mut()?.get_mut(key)?.as_map_mut()
}

fn without_extends(service: &Node) -> Node {
    let mut service = service.clone();
    if let Some(map) = service.as_map_mut() {
        map.remove("extends");
    }
    service
}

/// Variables that files of variables may refer to, in addition to their own.
pub(super) struct Known<'a> {
    /// Takes precedence over what they set.
    pub outer: &'a BTreeMap<String, String>,
    /// Set by earlier files; the later files take precedence.
    pub earlier: &'a BTreeMap<String, String>,
}

static NONE: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Known<'a> {
    pub fn outer(outer: &'a BTreeMap<String, String>) -> Self {
        Self { outer, earlier: &NONE }
    }
}

/// Reads files of variables; later files take precedence.
pub(super) fn read_env_files(
    log: &Log,
    files: &[PathBuf],
    known: &Known<'_>,
    standing_in: &Path,
    span: Option<Span>,
) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let name = shown(file, standing_in);
        let Some(text) = read_text(log, file, &name, span) else { continue };
        let number = log.add_source(file, name, text.clone());
        let before = found.clone();
        let outer = |key: &str| known.outer.get(key).or_else(|| before.get(key)).cloned();
        let earlier = |key: &str| known.earlier.get(key).cloned();
        match dotenv::parse(&text, &outer, &earlier) {
            Ok(read) => {
                found.extend(read.variables);
                for variable in read.unset {
                    log.unset(&variable, first_line(number));
                }
            }
            Err(error) => {
                let offset: usize =
                    text.split_inclusive('\n').take(error.line as usize - 1).map(str::len).sum();
                let line = text[offset.min(text.len())..].lines().next().unwrap_or_default();
                let span = Span {
                    file: number,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    line: error.line,
                    column: 1,
                    length: u32::try_from(line.chars().count()).unwrap_or(1).max(1),
                };
                log.hinted(ProblemKind::Value, span, error.message, "a line is written `NAME=value`");
            }
        }
    }
    found
}

fn first_line(file: u32) -> Span {
    Span { file, offset: 0, line: 1, column: 1, length: 1 }
}

fn read_text(log: &Log, file: &Path, name: &Path, span: Option<Span>) -> Option<std::sync::Arc<str>> {
    if !file.is_file() {
        let message = format!("there is no file `{}` to read variables from", name.display());
        match span {
            Some(span) => log.problem(ProblemKind::File, span, message),
            None => log
                .push(Problem::new(ProblemKind::File, message).hint("check the path given to `--env-file`")),
        }
        return None;
    }
    yaml::read(log, file, name)
}

/// Removes the obsolete `version`, with a warning.
pub(super) fn drop_version(log: &Log, root: &mut Map) {
    if let Some(entry) = root.remove("version") {
        let message = "`version` is obsolete and means nothing";
        log.warn(WarningKind::Obsolete, entry.span, message, Some("take it out".to_owned()));
    }
}
