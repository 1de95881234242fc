//! Generates the initial spec of a project (`sandbox init`), from a few answers or around a Compose file.

mod own_service;

use std::fmt::{self, Display, Write as _};

pub use own_service::{MountedSources, Origin, OwnService};
use own_service::{PACKAGES, in_quotes};

/// The parameters of the generated spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaffold {
    /// The `ttl` in the form of a spec.
    pub ttl: String,
    /// What the spec is based on.
    pub basis: Basis,
}

/// What a generated spec is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a run of the program has one")]
pub enum Basis {
    /// A Compose file, which does not change: its path as written.
    Compose(String),
    /// Services selected by the user.
    Services {
        /// The project's own service, if any.
        own: Option<OwnService>,
        /// The database service.
        database: Database,
        /// The cache service.
        cache: Cache,
        /// The SQL files (a pattern) that seed the database.
        seed: Option<String>,
    },
}

/// A database that a generated spec can set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Database {
    /// No database.
    #[default]
    None,
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
    /// MongoDB.
    Mongo,
}

/// A cache that a generated spec can set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cache {
    /// No cache.
    #[default]
    None,
    /// Redis.
    Redis,
}

/// The settings of a database's image.
struct Recipe {
    image: &'static str,
    environment: &'static str,
    data: &'static str,
    ready: &'static str,
    scheme: &'static str,
    user: &'static str,
    port: u16,
}

impl Database {
    fn recipe(self) -> Option<Recipe> {
        match self {
            Self::None => None,
            Self::Postgres => Some(Recipe {
                image: "postgres:16-alpine",
                environment: "{ POSTGRES_DB: app, POSTGRES_PASSWORD_FILE: /run/secrets/db_password }",
                data: "/var/lib/postgresql/data",
                ready: "{ exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }",
                scheme: "postgres",
                user: "postgres",
                port: 5432,
            }),
            Self::Mariadb => Some(Recipe {
                image: "mariadb:11",
                environment: "{ MARIADB_DATABASE: app, MARIADB_ROOT_PASSWORD_FILE: /run/secrets/db_password }",
                data: "/var/lib/mysql",
                ready: "{ exec: [healthcheck.sh, --connect, --innodb_initialized] }",
                scheme: "mysql",
                user: "root",
                port: 3306,
            }),
            Self::Mysql => Some(Recipe {
                image: "mysql:8",
                environment: "{ MYSQL_DATABASE: app, MYSQL_ROOT_PASSWORD_FILE: /run/secrets/db_password }",
                data: "/var/lib/mysql",
                ready: "{ exec: [mysqladmin, ping, -h, 127.0.0.1] }",
                scheme: "mysql",
                user: "root",
                port: 3306,
            }),
            Self::Mongo => Some(Recipe {
                image: "mongo:7",
                environment: "{ MONGO_INITDB_ROOT_USERNAME: root, MONGO_INITDB_ROOT_PASSWORD_FILE: /run/secrets/db_password }",
                data: "/data/db",
                ready: "{ exec: [mongosh, --quiet, --eval, quit()] }",
                scheme: "mongodb",
                user: "root",
                port: 27017,
            }),
        }
    }
}

impl Display for Scaffold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match &self.basis {
            Basis::Compose(file) => {
                format!("What `sandbox up` adds to {file}; Compose reads that file as before.")
            }
            Basis::Services { .. } => "What `sandbox up` builds here.".to_owned(),
        };
        writeln!(f, "# {head} `sandbox schema` has every key; `sandbox config` says what this comes to.")?;
        writeln!(f, "lifetime: {{ ttl: {} }}", self.ttl)?;
        match self.hosts() {
            [] => writeln!(
                f,
                "egress: deny                # nothing gets out; or `allow`, or a list: [api.example.com]\n"
            )?,
            hosts => writeln!(
                f,
                "egress: [{}]   # what installs packages; nothing else gets out\n",
                hosts.join(", ")
            )?,
        }
        match &self.basis {
            Basis::Compose(file) => f.write_str(&around(file)),
            Basis::Services { own, database, cache, seed } => {
                f.write_str(&services(own.as_ref(), *database, *cache, seed.as_deref()))
            }
        }
    }
}

impl Scaffold {
    /// The hosts that the project's own service asks for packages.
    fn hosts(&self) -> &[String] {
        match &self.basis {
            Basis::Services { own: Some(OwnService { sources: Some(sources), .. }), .. } => &sources.egress,
            _ => &[],
        }
    }
}

fn around(file: &str) -> String {
    format!(
        "include: [{}]\n\n\
         # Seeds and readiness checks go into the Compose file, under\n\
         # `x-sandbox` in a service or volume:\n\
         #\n\
         #   services:\n\
         #     db:\n\
         #       x-sandbox:\n\
         #         ready: {{ tcp: 5432 }}\n\
         #         seed: [{{ sql: seeds/*.sql }}]\n",
        quoted(file)
    )
}

fn services(own: Option<&OwnService>, database: Database, cache: Cache, seed: Option<&str>) -> String {
    let recipe = database.recipe();
    let mut text = String::from("services:\n");
    // Writing to a string cannot fail.
    let _ = own.map(|own| own_service::write(&mut text, own, recipe.as_ref(), cache));
    let _ = recipe.as_ref().map(|recipe| write_database(&mut text, recipe, seed));
    if cache == Cache::Redis {
        text.push_str("  cache:\n    image: redis:7-alpine\n    ready: { tcp: 6379 }\n");
    }
    let sources = own.and_then(|own| own.sources.as_ref());
    let packages = sources.is_some_and(|sources| sources.packages.is_some()).then_some(PACKAGES);
    let volumes = recipe.as_ref().map(|_| "data").into_iter().chain(packages);
    let volumes: Vec<String> = volumes.map(|name| format!("{name}: {{}}")).collect();
    if !volumes.is_empty() {
        let _ = writeln!(text, "\nvolumes: {{ {} }}", volumes.join(", "));
    }
    if recipe.is_some() {
        text.push_str(
            "secrets: { db_password: { generate: 24 } }   # fresh for each sandbox, never written down\n",
        );
    }
    if let (Some(own), Some(sources)) = (own, sources.filter(|sources| !sources.tasks.is_empty())) {
        text.push_str("tasks:\n");
        for (name, line) in &sources.tasks {
            let _ = writeln!(text, "  {name}: {{ in: {}, run: {} }}", own.name, in_quotes(line));
        }
    }
    text
}

fn write_database(text: &mut String, recipe: &Recipe, seed: Option<&str>) -> fmt::Result {
    writeln!(text, "  db:\n    image: {}", recipe.image)?;
    writeln!(text, "    environment: {}", recipe.environment)?;
    writeln!(text, "    secrets: [db_password]")?;
    writeln!(text, "    volumes: [\"data:{}\"]", recipe.data)?;
    writeln!(text, "    ports: [\"{}\"]", recipe.port)?;
    writeln!(text, "    ready: {}", recipe.ready)?;
    match seed {
        Some(pattern) => writeln!(
            text,
            "    seed:                     # runs once; every later sandbox begins with a clone of the result\n      - sql: {}\n",
            quoted(pattern)
        ),
        // No seed is made for its files.
        None if recipe.scheme == "mongodb" => writeln!(text),
        None => writeln!(
            text,
            "    # seed: [{{ sql: seeds/*.sql }}]   # runs once; later sandboxes begin with a clone\n"
        ),
    }
}

/// Formats a text for YAML: in double quotes unless it is plain.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "./".contains(c))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:*@".contains(c))
        && text.parse::<f64>().is_err();
    if plain && !text.ends_with(':') {
        text.to_owned()
    } else {
        serde_json::Value::from(text.replace('$', "$$")).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LoadRequest, Spec, load};

    fn loaded(basis: Basis) -> Spec {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("seeds")).unwrap();
        std::fs::write(dir.path().join("Dockerfile"), "FROM scratch").unwrap();
        std::fs::write(dir.path().join("seeds/one.sql"), "select 1;").unwrap();
        std::fs::write(dir.path().join("compose.yaml"), "services:\n  web:\n    image: nginx\n").unwrap();
        let text = Scaffold { ttl: "8h".to_owned(), basis }.to_string();
        std::fs::write(dir.path().join("sandbox.yaml"), &text).unwrap();
        let request = LoadRequest { folder: dir.path().to_owned(), ..LoadRequest::default() };
        let loaded = load(&request).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert!(loaded.warnings.is_empty(), "{:?}\n{text}", loaded.warnings);
        loaded.spec
    }

    #[test]
    fn every_sketch_loads_without_a_warning() {
        let own = OwnService {
            name: "app".parse().unwrap(),
            image: Origin::Build(".".into()),
            ports: vec![8080],
            sources: None,
        };
        let image =
            OwnService { image: Origin::Image("ghcr.io/a/b:1".into()), ports: Vec::new(), ..own.clone() };
        for own in [None, Some(own), Some(image)] {
            for database in
                [Database::None, Database::Postgres, Database::Mariadb, Database::Mysql, Database::Mongo]
            {
                for cache in [Cache::None, Cache::Redis] {
                    if own.is_none() && database == Database::None && cache == Cache::None {
                        continue;
                    }
                    let seed = (!matches!(database, Database::None | Database::Mongo))
                        .then(|| "seeds/*.sql".to_owned());
                    let spec =
                        loaded(Basis::Services { own: own.clone(), database, cache, seed: seed.clone() });
                    assert_eq!(spec.services.contains_key("app"), own.is_some());
                    assert_eq!(spec.services.get("db").is_some_and(|db| !db.seed.is_empty()), seed.is_some());
                }
            }
        }
    }

    #[test]
    fn a_compose_file_is_included_and_stays_what_it_is() {
        let spec = loaded(Basis::Compose("compose.yaml".into()));
        assert!(spec.services.contains_key("web"));
        assert!(spec.lifetime.ttl.is_some());
    }

    #[test]
    fn odd_paths_are_quoted() {
        assert_eq!(quoted("a b.yaml"), "\"a b.yaml\"");
        assert_eq!(quoted("docker/compose.yaml"), "docker/compose.yaml");
        assert_eq!(quoted("12"), "\"12\"");
    }
}
