//! The databases that a project depends on, by the names of client libraries in its manifests.

use std::path::Path;

use super::read;
use crate::spec::{Cache, Database};

/// Manifests that are read word by word.
const TEXTS: [&str; 8] = [
    "requirements.txt",
    "pyproject.toml",
    "Gemfile",
    "go.mod",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "Cargo.toml",
];

/// Manifests of which only the dependencies are read, and the keys with them.
const OBJECTS: [(&str, &[&str]); 2] =
    [("package.json", &["dependencies", "devDependencies"]), ("composer.json", &["require", "require-dev"])];

/// The client libraries of each database.
const CLIENTS: [(Database, &[&str]); 4] = [
    (
        Database::Postgres,
        &[
            "pg",
            "postgres",
            "postgresql",
            "psycopg",
            "psycopg2",
            "psycopg2-binary",
            "asyncpg",
            "pgx",
            "pq",
            "tokio-postgres",
            "ext-pgsql",
            "ext-pdo_pgsql",
        ],
    ),
    (Database::Mariadb, &["mariadb", "mariadb-java-client"]),
    (
        Database::Mysql,
        &[
            "mysql",
            "mysql2",
            "mysqlclient",
            "pymysql",
            "aiomysql",
            "mysql-connector-j",
            "mysql-connector-java",
            "mysql-connector-python",
            "ext-mysqli",
            "ext-pdo_mysql",
        ],
    ),
    (
        Database::Mongo,
        &[
            "mongodb",
            "mongoose",
            "pymongo",
            "mongoid",
            "mongo",
            "mongo-driver",
            "ext-mongodb",
            "spring-boot-starter-data-mongodb",
        ],
    ),
];

/// The client libraries of Redis.
const REDIS: [&str; 9] = [
    "redis",
    "ioredis",
    "predis",
    "jedis",
    "lettuce-core",
    "go-redis",
    "hiredis",
    "ext-redis",
    "spring-boot-starter-data-redis",
];

/// The words of the manifests in a folder that can be names of libraries, in lower case.
pub(super) fn words(folder: &Path) -> Vec<String> {
    let mut words = Vec::new();
    for text in TEXTS.iter().filter_map(|file| read(&folder.join(file))) {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
        words.extend(lines.flat_map(split));
    }
    for (file, sections) in OBJECTS {
        words.extend(packages(folder, file, sections).iter().flat_map(|name| split(name)));
    }
    words
}

/// The packages that a manifest in JSON depends on.
fn packages(folder: &Path, file: &str, sections: &[&str]) -> Vec<String> {
    let json =
        read(&folder.join(file)).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let Some(json) = json else { return Vec::new() };
    let of = |section: &&str| json.get(*section).and_then(serde_json::Value::as_object).cloned();
    sections.iter().filter_map(of).flat_map(|section| section.into_iter().map(|(name, _)| name)).collect()
}

fn split(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// The database and the cache that a project depends on.
pub(super) fn stores(folder: &Path) -> (Database, Cache) {
    let words = words(folder);
    let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    let database =
        CLIENTS.iter().find(|(_, names)| has(names)).map_or(Database::None, |(database, _)| *database);
    (database, if has(&REDIS) { Cache::Redis } else { Cache::None })
}
