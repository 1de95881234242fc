//! Loads a spec: runs all steps from a request to the checked model.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::assemble::{Assembler, Interpolation, Known, Scope, drop_version, read_env_files};
use super::boundary;
use super::canonical;
use super::check::Checker;
use super::diagnostics::Log;
use super::find;
use super::guard;
use super::interpolate::interpolate;
use super::model::{At, GitBranch, ProjectName, SandboxName, SecretName, SecretSource, Spec};
use super::mount_forms;
use super::node::{Node, Span};
use super::placeholders::Placeholders;
use super::planted;
use super::problem::{Problem, ProblemKind, Problems, Warning, WarningKind};
use super::read::{self, Profiles, Reader, Used};
use super::request::{HostAccess, LoadRequest, Loaded, Refusals, Variables};
use super::security_opt;
use super::user_values;
use super::yaml;

/// Loads a spec: finds and reads its files, merges, interpolates, resolves and checks them.
///
/// All problems are reported together.
pub fn load(request: &LoadRequest) -> Result<Loaded, Problems> {
    let log = log_of(request);
    let loaded = run(request, &log);
    let (problems, warnings) = log.into_parts();
    match loaded {
        Some(loaded) if problems.is_empty() => Ok(Loaded { warnings, ..loaded }),
        _ if problems.is_empty() => Err(Problem::new(ProblemKind::Syntax, "the spec is empty").into()),
        _ => Err(Problems::new(problems)),
    }
}

fn run(request: &LoadRequest, log: &Log) -> Option<Loaded> {
    let files = files(request, log)?;
    let folder = folder(request, &files);
    let mut variables = variables(request, &folder, log);
    let explicit = request
        .name
        .clone()
        .or_else(|| variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned());
    let fallback = default_name(&folder);
    let early = explicit.clone().or_else(|| written_name(request, &files, &variables));
    let interpolated_name = early.unwrap_or_else(|| fallback.as_str().to_owned());
    variables.entry("COMPOSE_PROJECT_NAME".to_owned()).or_insert(interpolated_name);

    let mut assembler = Assembler::new(log, &request.folder);
    let scope = Scope { variables: variables.clone(), folder: folder.clone() };
    let mut root = assembler.model(&files, &scope, &[])?;
    let read_files = std::mem::take(&mut assembler.files);
    let scoped = std::mem::take(&mut assembler.scoped);
    let name = project_name(log, &root, explicit.as_deref(), fallback.clone()).unwrap_or(fallback);
    if let Some(map) = root.as_map_mut() {
        drop_version(log, map);
    }

    let profiles = profiles(request, &variables);
    let reader = Reader {
        log,
        variables: &variables,
        standing_in: &request.folder,
        refusals: request.refusals,
        used: Cell::new(true),
        selected: Cell::new(true),
    };
    let read = reader.spec(&root, name, &folder, &profiles);
    let mut spec = Spec { files: read_files, origin: request.origin, ..read.spec };
    unknown_services(log, request, &spec, &read.inactive);
    let checker = Checker {
        log,
        refusals: request.refusals,
        standing_in: &request.folder,
        inactive: &read.inactive,
        unselected: &read.unselected,
        variables: &variables,
        scoped: &scoped,
        root: &root,
    };
    mount_forms::settle(log, &mut spec, request.refusals);
    checker.check(&mut spec);
    Used::keep(&mut spec);
    spec.user_values = user_values::paths(log, &root, &spec);
    if matches!(request.refusals, Refusals::Fail) {
        security_opt::embed_profiles(&mut spec);
    }
    let mut chosen: BTreeSet<PathBuf> = files.iter().cloned().collect();
    chosen.extend(request.env_files.iter().map(|file| canonical::clean(&request.folder.join(file))));
    sources(log, request, &spec, &chosen);
    host_access(log, request, &spec, &root);
    if let Some(boundary) = &request.boundary {
        boundary::check(log, boundary, &spec);
    }
    let branch = find::git_branch(&folder);
    let sandbox = SandboxName::derive(spec.name.as_str(), branch.as_deref());
    let repository = find::git_common_folder(&folder);
    spec.branch = branch.zip(repository).map(|(name, repository)| GitBranch { name, repository });
    Some(Loaded {
        spec,
        warnings: Vec::new(),
        variables: Variables { by_name: variables, scoped },
        sandbox,
        read: log.files_read(),
    })
}

/// Merges the files of a spec without resolving variables, and renders the result as JSON. Nothing is checked that depends
/// on a variable.
///
/// # Errors
/// Fails with the problems of the files: syntax, `extends`, `include`.
pub fn merged(request: &LoadRequest) -> Result<(Json, Vec<Warning>), Problems> {
    let log = log_of(request);
    let merge = || {
        let files = files(request, &log)?;
        let folder = folder(request, &files);
        let variables = variables(request, &folder, &log);
        let name = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
        let name = name.cloned().unwrap_or_else(|| default_name(&folder).to_string());
        let scope = Scope { variables, folder };
        let mut assembler = Assembler::new(&log, &request.folder);
        assembler.interpolation = Interpolation::Skipped(Placeholders::default());
        let mut root = assembler.model(&files, &scope, &[])?;
        if let Some(map) = root.as_map_mut() {
            drop_version(&log, map);
            if map.get("name").is_none() {
                map.insert("name", Span::default(), Node::str(name, Span::default()));
            }
        }
        let merged = root.to_json();
        Some(match &assembler.interpolation {
            Interpolation::Skipped(placeholders) => placeholders.restore(merged),
            Interpolation::Applied => merged,
        })
    };
    let merged = merge();
    let (problems, warnings) = log.into_parts();
    match merged {
        Some(merged) if problems.is_empty() => Ok((merged, warnings)),
        _ if problems.is_empty() => Err(Problem::new(ProblemKind::Syntax, "the spec is empty").into()),
        _ => Err(Problems::new(problems)),
    }
}

/// The folder that relative paths of the spec begin at.
fn folder(request: &LoadRequest, files: &[PathBuf]) -> PathBuf {
    match &request.project_folder {
        Some(folder) => canonical::clean(&request.folder.join(folder)),
        None => files[0].parent().unwrap_or(Path::new("/")).to_owned(),
    }
}

fn log_of(request: &LoadRequest) -> Log {
    let log = match &request.input {
        Some(bytes) => Log::with_input(request.folder.join("-"), bytes.clone()),
        None => Log::default(),
    };
    log.within(request.boundary.as_ref().map(|boundary| boundary.folder.clone()))
}

/// The absolute paths of the spec's files.
fn files(request: &LoadRequest, log: &Log) -> Option<Vec<PathBuf>> {
    let mut named: Vec<PathBuf> = request.files.clone();
    if named.is_empty() {
        // Errors in files of variables are reported later, when the files are read again.
        let variables = variables(request, &request.folder, &log_of(request));
        if let Some(list) = variables.get("COMPOSE_FILE").filter(|list| !list.is_empty()) {
            let separator = variables.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
            named = list.split(separator).map(PathBuf::from).collect();
        }
    }
    if !named.is_empty() {
        return Some(named.iter().map(|file| canonical::clean(&request.folder.join(file))).collect());
    }
    let found = find::files(&request.folder);
    if found.is_none() {
        let message = format!("there is no spec in `{}` or above it", request.folder.display());
        let hint = format!(
            "make one with `sandbox init`, or name it with `-f`; looked for: {}",
            find::NAMES.join(", ")
        );
        log.push(Problem::new(ProblemKind::File, message).hint(hint));
    }
    found
}

/// The variables of a folder's spec without loading it: the environment, then `.env`.
pub fn variables_in(folder: &Path, env: BTreeMap<String, String>) -> Variables {
    let request = LoadRequest { folder: folder.to_owned(), env, ..LoadRequest::default() };
    Variables { by_name: variables(&request, folder, &Log::default()), ..Variables::default() }
}

/// The variables of a request's files of variables, and its environment, without loading a spec.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn variables_of(request: &LoadRequest) -> Result<BTreeMap<String, String>, Problems> {
    let log = Log::default();
    let variables = variables(request, &request.folder, &log);
    let (problems, _) = log.into_parts();
    if problems.is_empty() { Ok(variables) } else { Err(Problems::new(problems)) }
}

/// The environment, which takes precedence over files of variables. Without these, `.env` beside the spec is read, and
/// with higher precedence the one in the working folder if the search for the spec read it.
fn variables(request: &LoadRequest, folder: &Path, log: &Log) -> BTreeMap<String, String> {
    let mut files: Vec<PathBuf> =
        request.env_files.iter().map(|file| canonical::clean(&request.folder.join(file))).collect();
    let disabled = request.env.get("COMPOSE_DISABLE_ENV_FILE").and_then(|word| read::flag(word));
    if files.is_empty() && disabled != Some(true) {
        let looked_into = request.files.is_empty() && request.project_folder.is_none();
        let working = Some(request.folder.as_path()).filter(|working| looked_into && *working != folder);
        let folders = std::iter::once(folder).chain(working);
        files.extend(folders.map(|folder| folder.join(".env")).filter(|file| file.is_file()));
    }
    let mut variables = read_env_files(log, &files, &Known::outer(&request.env), &request.folder, None);
    variables.extend(request.env.clone());
    variables
}

/// The project name in the spec, read before anything else because `${COMPOSE_PROJECT_NAME}` refers to it.
fn written_name(
    request: &LoadRequest,
    files: &[PathBuf],
    variables: &BTreeMap<String, String>,
) -> Option<String> {
    // Errors in the files are reported later, when they are read again.
    let quiet = log_of(request);
    files.iter().rev().find_map(|file| {
        let text = yaml::read(&quiet, file, file)?;
        let number = quiet.add_source(file, file.clone(), text.clone());
        let documents = yaml::parse(&quiet, number, &text);
        let mut name = documents.iter().rev().find_map(|document| document.as_map()?.get("name").cloned())?;
        interpolate(&quiet, &mut name, variables);
        Some(ProjectName::cleaned(&name.scalar()?)?.to_string())
    })
}

fn default_name(folder: &Path) -> ProjectName {
    ProjectName::from_folder(folder.file_name().and_then(|name| name.to_str()).unwrap_or_default())
}

/// The project name: from the request, the spec, or the folder.
fn project_name(
    log: &Log,
    root: &Node,
    explicit: Option<&str>,
    fallback: ProjectName,
) -> Option<ProjectName> {
    let written = root.as_map().and_then(|map| map.get("name")).filter(|node| !node.is_null());
    if let Some(name) = explicit {
        return ProjectName::new(name)
            .map_err(|error| {
                let message = format!("`{name}` cannot be a spec's name");
                log.push(Problem::new(ProblemKind::Name, message).hint(error.rule));
            })
            .ok();
    }
    let Some(node) = written else { return Some(fallback) };
    let Some(name) = node.scalar() else {
        log.problem(ProblemKind::Type, node.span, format!("`name` must be text, this is {}", node.kind()));
        return None;
    };
    if name.is_empty() {
        return Some(fallback);
    }
    // Like Compose: characters that are not allowed are removed from the written name.
    let cleaned = ProjectName::cleaned(&name);
    if cleaned.is_none() {
        let hint = "it needs a letter or digit";
        log.hinted(ProblemKind::Name, node.span, format!("`{name}` cannot be a spec's name"), hint);
    }
    cleaned
}

fn profiles(request: &LoadRequest, variables: &BTreeMap<String, String>) -> Profiles {
    let named = variables.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    let named = named.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    let asked = !request.profiles.is_empty();
    Profiles {
        profiles: if asked { request.profiles.iter().cloned().collect() } else { named.collect() },
        services: request.services.iter().cloned().collect(),
    }
}

fn unknown_services(log: &Log, request: &LoadRequest, spec: &Spec, inactive: &BTreeSet<String>) {
    for name in &request.services {
        if !spec.services.contains_key(name.as_str()) && !inactive.contains(name) {
            let known = spec.services.keys().map(AsRef::as_ref);
            let hint = super::nearest::hint(name, known);
            log.push(
                Problem::new(ProblemKind::Reference, format!("there is no service `{name}`")).hint(hint),
            );
        }
    }
}

/// Rejects what the spec was read from if a service can have chosen it, or if it lies outside of the spec's repository.
/// `chosen` are the files that the user named.
fn sources(log: &Log, request: &LoadRequest, spec: &Spec, chosen: &BTreeSet<PathBuf>) {
    let values = log.variables_read();
    let read: Vec<_> = log.sources_read().into_iter().chain(values.clone()).collect();
    for problem in planted::sources(spec, &read, chosen) {
        match request.refusals {
            Refusals::Warn => {
                let hint = problem.hint.unwrap_or_default();
                log.warn_at(WarningKind::Refused, &At::default(), problem.message, hint);
            }
            Refusals::Fail => log.push(problem),
        }
    }
    // The folder that the user stands in is chosen, too: its `.env` may name a spec elsewhere.
    let chosen = chosen.iter().cloned().chain([request.folder.join(".env")]).collect();
    for message in guard::outside(spec, &values, &chosen) {
        refuse_access(log, request, &At::default(), message);
    }
}

/// Rejects host access, or allows or reports it with a warning.
fn host_access(log: &Log, request: &LoadRequest, spec: &Spec, root: &Node) {
    for (at, problem) in planted::links(spec) {
        match request.refusals {
            Refusals::Warn => {
                log.warn_at(WarningKind::Refused, &at, problem.message, problem.hint.unwrap_or_default());
            }
            Refusals::Fail => log.push(problem.at(log.place_of(&at))),
        }
    }
    for mut reach in guard::reaches(spec) {
        if let Some((service, key)) = &reach.key
            && let Some(span) = root.key_span(&["services", service, key])
        {
            reach.at = log.at(span);
        }
        refuse_access(log, request, &reach.at, reach.message);
    }
}

fn refuse_access(log: &Log, request: &LoadRequest, at: &At, message: String) {
    match (request.allow_host_access, request.refusals) {
        (HostAccess::Allowed, _) => {
            log.warn_at(WarningKind::HostAccess, at, message, "it was allowed".to_owned());
        }
        (HostAccess::Refused, Refusals::Warn) => {
            log.warn_at(WarningKind::Refused, at, message, guard::WAY_OUT.to_owned());
        }
        (HostAccess::Refused, Refusals::Fail) => {
            let problem = Problem::new(ProblemKind::HostAccess, message).hint(guard::WAY_OUT);
            log.push(problem.at(log.place_of(at)));
        }
    }
}

impl Loaded {
    /// The value of a secret whose source is the environment. `None` for other sources, and if the variable is not
    /// set.
    pub fn secret_from_environment(&self, secret: &SecretName) -> Option<secrecy::SecretString> {
        match &self.spec.secrets.get(secret)?.source {
            SecretSource::Environment(name) => {
                self.variables.of_secret(secret, name).map(secrecy::SecretString::from)
            }
            SecretSource::File(_) | SecretSource::Generate(_) | SecretSource::External => None,
        }
    }
}
