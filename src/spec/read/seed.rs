//! Reads `seed` of a service and of a volume.

use std::path::{Path, PathBuf};

use super::super::model::{Seed, SnapshotRef, VolumeName};
use super::super::node::Span;
use super::super::problem::{ProblemKind, shown};
use super::storage::names_a_file;
use super::{Fields, Reader};

impl Reader<'_> {
    pub(super) fn service_seeds(&self, fields: &Fields<'_>) -> Vec<Seed> {
        let seeds = fields.list("seed").iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("a seed of {}", fields.what))?;
            let at = self.log.at(node.span);
            let user = inner.text("user");
            let seed = if let Some(sql) = inner.node("sql") {
                let patterns: Vec<(String, Span)> = match sql.as_seq() {
                    Some(items) => {
                        items.iter().filter_map(|item| Some((item.scalar()?, item.span))).collect()
                    }
                    None => sql.scalar().map(|text| (text, sql.span)).into_iter().collect(),
                };
                let files = patterns.iter().flat_map(|(text, span)| self.matching(text, *span)).collect();
                let pattern: Vec<&str> = patterns.iter().map(|(text, _)| text.as_str()).collect();
                Some(Seed::Sql {
                    pattern: pattern.join(" "),
                    files,
                    database: inner.text("database"),
                    user,
                    at,
                })
            } else if let Some(exec) = inner.node("exec") {
                let stdin = inner.text("stdin").map(PathBuf::from);
                if let (Some(file), Some(node)) = (&stdin, inner.map.get("stdin")) {
                    self.must_exist(file, node.span);
                }
                self.command_of(exec, &inner.what).map(|command| Seed::Exec { command, stdin, user, at })
            } else {
                let message = format!("{} has neither `sql` nor `exec`", inner.what);
                let hint = "`sql: FILES` or `exec: COMMAND`; `copy` and `snapshot` belong to a volume";
                self.log.hinted(ProblemKind::Type, inner.span, message, hint);
                for key in ["copy", "snapshot", "to", "owner", "volume"] {
                    let _ = inner.node(key);
                }
                None
            };
            inner.finish();
            seed
        });
        seeds.collect()
    }

    pub(super) fn volume_seeds(&self, fields: &Fields<'_>) -> Vec<Seed> {
        let seeds = fields.list("seed").iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("a seed of {}", fields.what))?;
            let at = self.log.at(node.span);
            let seed = if let Some(source) = inner.text("copy") {
                let source = PathBuf::from(source);
                self.must_exist(&source, inner.map.get("copy")?.span);
                Some(Seed::Copy { source, to: inner.text("to"), owner: self.owner(&inner), at })
            } else if let Some(text) = inner.text("snapshot") {
                let snapshot = if names_a_file(&text) {
                    let file = PathBuf::from(text);
                    self.must_exist(&file, inner.map.get("snapshot")?.span);
                    SnapshotRef::File(file)
                } else {
                    SnapshotRef::Stored(text)
                };
                let volume = inner
                    .text("volume")
                    .and_then(|name| self.name(VolumeName::new(name), inner.key_span("volume")));
                Some(Seed::Snapshot { snapshot, volume, at })
            } else {
                let message = format!("{} has neither `copy` nor `snapshot`", inner.what);
                let hint =
                    "`copy: FOLDER_OR_ARCHIVE` or `snapshot: NAME`; `sql` and `exec` belong to a service";
                self.log.hinted(ProblemKind::Type, inner.span, message, hint);
                for key in ["sql", "exec", "stdin", "user", "database"] {
                    let _ = inner.node(key);
                }
                None
            };
            inner.finish();
            seed
        });
        seeds.collect()
    }

    fn owner(&self, fields: &Fields<'_>) -> Option<String> {
        let owner = fields.text("owner")?;
        let number = |text: &str| text.parse::<u32>().is_ok();
        if !owner.split_once(':').map_or_else(|| number(&owner), |(uid, gid)| number(uid) && number(gid)) {
            let message = format!("`{owner}` is not an owner");
            self.log.hinted(
                ProblemKind::Value,
                fields.key_span("owner"),
                message,
                "write `UID:GID` in numbers",
            );
        }
        Some(owner)
    }

    fn must_exist(&self, file: &Path, span: Span) {
        if !file.exists() {
            let name = shown(file, self.standing_in);
            let message = format!("there is no `{}` to seed from", name.display());
            self.log.hinted(ProblemKind::File, span, message, "paths begin at the folder of the spec");
        }
    }

    /// The files that match a pattern, sorted.
    fn matching(&self, pattern: &str, span: Span) -> Vec<PathBuf> {
        if !pattern.contains(['*', '?', '[']) {
            self.must_exist(Path::new(pattern), span);
            return vec![PathBuf::from(pattern)];
        }
        let found = match glob::glob(pattern) {
            Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect::<Vec<_>>(),
            Err(error) => {
                let message = format!("`{pattern}` is not a pattern of files: {}", error.msg);
                self.log.problem(ProblemKind::Value, span, message);
                return Vec::new();
            }
        };
        if found.is_empty() {
            let shown = shown(Path::new(pattern), self.standing_in);
            let message = format!("no file matches `{}`", shown.display());
            self.log.hinted(ProblemKind::File, span, message, "paths begin at the folder of the spec");
        }
        found
    }
}
