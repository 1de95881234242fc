//! Applies `include`.

use std::path::{Path, PathBuf};

use super::{Assembler, Known, MAX_DEPTH, MAX_INCLUDES, Scope, read_env_files};
use crate::spec::canonical;
use crate::spec::merge;
use crate::spec::nearest;
use crate::spec::node::{Entry, Map, Node, Value};
use crate::spec::problem::{ProblemKind, WarningKind, shown};
use crate::spec::scope;

impl Assembler<'_> {
    /// Merges the files that a document includes.
    pub(super) fn include_all(&mut self, document: &mut Node, scope: &Scope, trail: &[PathBuf]) {
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

    pub(super) fn included(&mut self, item: &Node, scope: &Scope, trail: &[PathBuf]) -> Option<Node> {
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
            self.require_file(file, "include", span)?;
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
    pub(super) fn import(&self, document: &mut Node, included: Node) {
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

    /// Handles other keys of an included file: artifacts are added to the spec's. The rest applies to the whole spec,
    /// and an included file must not set it.
    pub(super) fn not_imported(&self, document: &mut Node, part: Entry) {
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
