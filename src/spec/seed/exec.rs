//! `exec`: runs a command in a service.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Seed, SeedKind, SeedStage, SeedSyntax};
use crate::spec::canonical::path;
use crate::spec::model::{At, Json};
use crate::spec::render::Object;
use crate::spec::schema::shape::{one_or_more, text};

/// Runs a command in the service, once it is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecSeed {
    /// The command as arguments.
    pub command: Vec<String>,
    /// An absolute file for its stdin; `.gz` and `.zst` are decompressed.
    pub stdin: Option<PathBuf>,
    /// The user, if not the service's.
    pub user: Option<String>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

pub(super) const SYNTAX: SeedSyntax = SeedSyntax {
    key: "exec",
    value: "COMMAND",
    stage: SeedStage::Run,
    schema: || {
        vec![
            ("exec", one_or_more("A command in the service.")),
            ("stdin", text("A file for the command's stdin; unpacked if it is .gz or .zst.")),
            ("user", text("The user that runs it.")),
        ]
    },
    resolve: |seed, base| path(seed, "stdin", base),
    read: |reader, fields, at| {
        let stdin = fields.text("stdin").map(PathBuf::from);
        if let Some(file) = &stdin {
            reader.seed_file_must_exist(file, fields.value_span("stdin"));
        }
        let user = fields.text("user");
        let command = reader.command_of(fields.node("exec")?, &fields.what)?;
        Some(Seed::Exec(ExecSeed { command, stdin, user, at }))
    },
};

impl SeedKind for ExecSeed {
    fn at(&self) -> &At {
        &self.at
    }

    fn files(&self) -> Vec<&Path> {
        self.stdin.iter().map(PathBuf::as_path).collect()
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        self.stdin.iter_mut().collect()
    }

    fn describe(&self, path: &dyn Fn(&Path) -> String) -> String {
        let command = self.command.join(" ");
        match &self.stdin {
            Some(file) => format!("exec {command} < {}", path(file)),
            None => format!("exec {command}"),
        }
    }

    fn render(&self) -> Json {
        let mut object = Object::default();
        object
            .texts("exec", &self.command)
            .some("stdin", self.stdin.as_ref().map(|file| file.to_string_lossy()))
            .some("user", self.user.clone());
        object.into()
    }

    fn shape(&self) -> Json {
        json!({"exec": [self.command, self.user, self.stdin.is_some()]})
    }
}
