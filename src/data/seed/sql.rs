//! `sql`: the commands that run SQL through the image's own client, with the credentials in the container's environment.

use std::path::PathBuf;

use super::{SeedCommand, SeedError};
use crate::engine::{Exec, Image};
use crate::spec::{Service, SqlSeed};

/// One command for each file, in the order of their names.
pub(super) fn commands(
    seed: &SqlSeed,
    service: &Service,
    image: &Image,
) -> Result<Vec<SeedCommand>, SeedError> {
    if seed.files.is_empty() {
        let patterns: Vec<_> = seed.patterns.iter().map(|pattern| pattern.display().to_string()).collect();
        return Err(SeedError::NoMatch { patterns: patterns.join(", ") });
    }
    let reference = service.image().unwrap_or_default();
    let client = SqlClient::of(reference, image)
        .ok_or_else(|| SeedError::UnknownClient { image: reference.to_owned() })?;
    let mut files = seed.files.clone();
    files.sort();
    let command = |file: PathBuf| SeedCommand {
        label: file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        exec: Exec { stdin: true, ..client.command(seed.database.as_deref(), seed.user.as_deref()) },
        input: Some(file),
    };
    Ok(files.into_iter().map(command).collect())
}

/// A database client of the official images, and of images built on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SqlClient {
    /// `psql`
    Postgres,
    /// `mysql`
    Mysql,
    /// `mariadb`, or `mysql` in its older images
    Mariadb,
}

/// Shell function that sets `v` to the value of the first variable that is set, directly or by a file (`NAME_FILE`),
/// as the images' entrypoints do.
const VALUE: &str = r#"value() { for n in "$@"; do eval "v=\${$n:-}"; if [ -n "$v" ]; then return; fi; eval "f=\${${n}_FILE:-}"; if [ -n "$f" ] && [ -r "$f" ]; then v=$(cat "$f"); return; fi; done; v=; }"#;

const POSTGRES: &str = r#"value POSTGRES_USER; u=${SEED_USER:-${v:-postgres}}
value POSTGRES_DB; d=${SEED_DATABASE:-${v:-$u}}
value POSTGRES_PASSWORD; if [ -n "$v" ]; then export PGPASSWORD="$v"; fi
exec psql -X -q -v ON_ERROR_STOP=1 -U "$u" -d "$d" -f - >/dev/null"#;

const MYSQL: &str = r#"value MYSQL_DATABASE; d=${SEED_DATABASE:-$v}
value MYSQL_ROOT_PASSWORD; if [ -n "$v" ]; then export MYSQL_PWD="$v"; fi
exec mysql -u "${SEED_USER:-root}" ${d:+"$d"}"#;

const MARIADB: &str = r#"value MARIADB_DATABASE MYSQL_DATABASE; d=${SEED_DATABASE:-$v}
value MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD; if [ -n "$v" ]; then export MYSQL_PWD="$v"; fi
c=$(command -v mariadb || command -v mysql) || { echo "the image has neither mariadb nor mysql" >&2; exit 127; }
exec "$c" -u "${SEED_USER:-root}" ${d:+"$d"}"#;

impl SqlClient {
    /// Detects the client of an image by the variables that official images set, else by the image's name.
    fn of(reference: &str, image: &Image) -> Option<Self> {
        let set = |name: &str| {
            image.config.env.iter().any(|env| env.split('=').next().is_some_and(|key| key == name))
        };
        if set("MARIADB_VERSION") || set("MARIADB_MAJOR") {
            return Some(Self::Mariadb);
        }
        if set("MYSQL_VERSION") || set("MYSQL_MAJOR") {
            return Some(Self::Mysql);
        }
        if set("PG_MAJOR") || set("PGDATA") {
            return Some(Self::Postgres);
        }
        let name = reference.rsplit('/').next().unwrap_or(reference);
        let name = name.split(['@', ':']).next().unwrap_or(name).to_lowercase();
        let has = |word: &str| name.contains(word);
        if has("mariadb") {
            Some(Self::Mariadb)
        } else if has("mysql") || has("percona") {
            Some(Self::Mysql)
        } else if ["postgres", "postgis", "pgvector", "timescale", "citus"].into_iter().any(has) {
            Some(Self::Postgres)
        } else {
            None
        }
    }

    /// The command that reads statements from its standard input and stops at the first failure. It runs as the
    /// container's own user.
    fn command(self, database: Option<&str>, user: Option<&str>) -> Exec {
        let script = match self {
            Self::Postgres => POSTGRES,
            Self::Mysql => MYSQL,
            Self::Mariadb => MARIADB,
        };
        let mut exec = Exec::new(["sh".to_owned(), "-ec".to_owned(), format!("{VALUE}\n{script}")]);
        for (name, value) in [("SEED_DATABASE", database), ("SEED_USER", user)] {
            if let Some(value) = value {
                exec.env.insert(name.to_owned(), value.to_owned());
            }
        }
        exec
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::ImageConfig;

    fn image(env: &[&str]) -> Image {
        Image {
            id: "sha256:aa".to_owned(),
            digests: Vec::new(),
            tags: Vec::new(),
            arch: "amd64".to_owned(),
            variant: String::new(),
            os: "linux".to_owned(),
            layers: Vec::new(),
            size: 0,
            created: None,
            tagged: None,
            config: ImageConfig {
                env: env.iter().map(ToString::to_string).collect(),
                ..ImageConfig::default()
            },
        }
    }

    #[test]
    fn the_client_is_told_by_the_image_and_else_by_its_name() {
        let plain = image(&[]);
        let of = |reference| SqlClient::of(reference, &plain);
        assert_eq!(of("registry.example:5000/team/postgres-ours:16@sha256:aa"), Some(SqlClient::Postgres));
        assert_eq!(of("mysql:8"), Some(SqlClient::Mysql));
        assert_eq!(of("linuxserver/mariadb"), Some(SqlClient::Mariadb));
        assert_eq!(of("redis"), None);
        assert_eq!(SqlClient::of("shop/db", &image(&["PG_MAJOR=16"])), Some(SqlClient::Postgres));
        assert_eq!(SqlClient::of("mysql", &image(&["MARIADB_VERSION=11"])), Some(SqlClient::Mariadb));
    }

    /// Runs a client's command with a fake client that reports its arguments and environment.
    fn called(client: SqlClient, program: &str, env: &[(&str, &str)], database: Option<&str>) -> String {
        let bin = tempfile::tempdir().unwrap();
        let stand_in = bin.path().join(program);
        std::fs::write(&stand_in, "#!/bin/sh\necho \"$@ PG=$PGPASSWORD MY=$MYSQL_PWD\" >&2\n").unwrap();
        std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755)).unwrap();
        let exec = client.command(database, None);
        let path = format!("{}:/usr/bin:/bin", bin.path().display());
        let output = std::process::Command::new(&exec.cmd[0])
            .args(&exec.cmd[1..])
            .env_clear()
            .env("PATH", path)
            .envs(env.iter().copied())
            .envs(&exec.env)
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap().trim().to_owned()
    }

    #[test]
    fn psql_is_called_as_the_image_was_set_up() {
        let postgres = |env: &[_], database| called(SqlClient::Postgres, "psql", env, database);
        assert_eq!(postgres(&[], None), "-X -q -v ON_ERROR_STOP=1 -U postgres -d postgres -f - PG= MY=");
        assert_eq!(
            postgres(&[("POSTGRES_USER", "app"), ("POSTGRES_PASSWORD", "p w")], None),
            "-X -q -v ON_ERROR_STOP=1 -U app -d app -f - PG=p w MY="
        );
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "s3cret\n").unwrap();
        let env = [("POSTGRES_PASSWORD_FILE", secret.path().to_str().unwrap()), ("POSTGRES_DB", "shop")];
        assert_eq!(
            postgres(&env, Some("other")),
            "-X -q -v ON_ERROR_STOP=1 -U postgres -d other -f - PG=s3cret MY="
        );
    }

    #[test]
    fn mysql_is_called_as_the_image_was_set_up() {
        let env = [("MYSQL_ROOT_PASSWORD", "r"), ("MYSQL_DATABASE", "shop")];
        assert_eq!(called(SqlClient::Mysql, "mysql", &env, None), "-u root shop PG= MY=r");
        assert_eq!(called(SqlClient::Mariadb, "mariadb", &env, None), "-u root shop PG= MY=r");
        assert_eq!(
            called(SqlClient::Mariadb, "mysql", &[("MARIADB_ROOT_PASSWORD", "m")], None),
            "-u root PG= MY=m"
        );
    }
}
