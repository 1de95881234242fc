//! `sql`: runs SQL with the image's own client.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Seed, SeedKind, SeedStage, SeedSyntax};
use crate::spec::canonical::absolute;
use crate::spec::model::{At, Json};
use crate::spec::node::{Node, Span, Value};
use crate::spec::problem::{ProblemKind, shown};
use crate::spec::read::{Fields, Reader};
use crate::spec::render::Object;
use crate::spec::schema::shape::{one_or_more, text};

/// Runs SQL with the image's own client, once the service is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlSeed {
    /// The patterns in the spec, for messages.
    #[serde(default)]
    pub patterns: Vec<PathBuf>,
    /// The matching files: absolute, sorted, optionally compressed (`.gz`, `.zst`).
    pub files: Vec<PathBuf>,
    /// The database, if not the image's default.
    pub database: Option<String>,
    /// The user, if not the image's default.
    pub user: Option<String>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

pub(super) const SYNTAX: SeedSyntax = SeedSyntax {
    key: "sql",
    value: "FILES",
    stage: SeedStage::Run,
    schema: || {
        vec![
            ("sql", one_or_more("Files of SQL, run by the image's own client. Of a service.")),
            ("database", text("The database for `sql`.")),
            ("user", text("The user that runs it.")),
        ]
    },
    resolve: |seed, base| match seed.get_mut("sql") {
        Some(Node { value: Value::Seq(list), .. }) => list.iter_mut().for_each(|one| absolute(one, base)),
        Some(one) => absolute(one, base),
        None => {}
    },
    read,
};

fn read(reader: &Reader<'_>, fields: &Fields<'_>, at: At) -> Option<Seed> {
    let sql = fields.node("sql")?;
    let patterns: Vec<(String, Span)> = match sql.as_seq() {
        Some(items) => items.iter().filter_map(|item| Some((item.scalar()?, item.span))).collect(),
        None => sql.scalar().map(|text| (text, sql.span)).into_iter().collect(),
    };
    let files = patterns.iter().flat_map(|(text, span)| matching(reader, text, *span)).collect();
    let patterns = patterns.into_iter().map(|(text, _)| PathBuf::from(text)).collect();
    let (database, user) = (fields.text("database"), fields.text("user"));
    Some(Seed::Sql(SqlSeed { patterns, files, database, user, at }))
}

/// The files that match a pattern, sorted.
fn matching(reader: &Reader<'_>, pattern: &str, span: Span) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?', '[']) {
        reader.seed_file_must_exist(Path::new(pattern), span);
        return vec![PathBuf::from(pattern)];
    }
    let found = match glob::glob(pattern) {
        Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect::<Vec<_>>(),
        Err(error) => {
            let message = format!("`{pattern}` is not a pattern of files: {}", error.msg);
            reader.log.problem(ProblemKind::Value, span, message);
            return Vec::new();
        }
    };
    if found.is_empty() {
        let shown = shown(Path::new(pattern), reader.standing_in);
        let message = format!("no file matches `{}`", shown.display());
        reader.log.hinted(ProblemKind::File, span, message, "paths begin at the folder of the spec");
    }
    found
}

impl SeedKind for SqlSeed {
    fn at(&self) -> &At {
        &self.at
    }

    fn files(&self) -> Vec<&Path> {
        self.files.iter().map(PathBuf::as_path).collect()
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        self.files.iter_mut().chain(&mut self.patterns).collect()
    }

    fn describe(&self, path: &dyn Fn(&Path) -> String) -> String {
        let patterns: Vec<String> = self.patterns.iter().map(|pattern| path(pattern)).collect();
        format!("sql {}", patterns.join(", "))
    }

    fn render(&self) -> Json {
        let files: Vec<Json> = self.files.iter().map(|file| json!(file.to_string_lossy())).collect();
        let mut object = Object::default();
        object.set("sql", files).some("database", self.database.clone()).some("user", self.user.clone());
        object.into()
    }

    fn shape(&self) -> Json {
        json!({"sql": [self.database, self.user]})
    }
}
