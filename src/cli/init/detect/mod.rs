//! Finds out what a folder is: by its Dockerfile, its dev container, or the manifest of a framework; and what it
//! depends on.

mod dependencies;
mod devcontainer;
mod frameworks;

use std::path::Path;

use crate::spec::{Cache, Database, MountedSources, Origin};

/// Maximum size of a file that is looked at.
const LARGEST: u64 = 1 << 20;

/// What a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detected {
    /// What it was recognised by, for the user.
    pub by: String,
    /// A Compose file, which has the services; the rest is empty then.
    pub compose: Option<String>,
    pub image: Option<Origin>,
    pub ports: Vec<u16>,
    pub sources: Option<MountedSources>,
}

/// What a folder's project is; `None` if nothing in it says so.
pub(super) fn project(folder: &Path) -> Option<Detected> {
    dockerfile(folder).or_else(|| devcontainer::detect(folder)).or_else(|| frameworks::detect(folder))
}

/// The database and the cache that the manifests in a folder depend on.
pub(super) fn stores(folder: &Path) -> (Database, Cache) {
    dependencies::stores(folder)
}

fn dockerfile(folder: &Path) -> Option<Detected> {
    let text = read(&folder.join("Dockerfile"))?;
    let exposed = text.lines().filter_map(|line| {
        let line = line.trim();
        let is_expose = line.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("EXPOSE "));
        is_expose.then(|| line[7..].split_whitespace())
    });
    let ports = exposed.flatten().filter_map(|port| port.trim_end_matches("/tcp").parse().ok());
    Some(Detected {
        by: "Dockerfile".to_owned(),
        compose: None,
        image: Some(Origin::Build(".".to_owned())),
        ports: ports.collect(),
        sources: None,
    })
}

/// The text of a file; `None` if there is none, or if it is unusually large.
fn read(path: &Path) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > LARGEST {
        return None;
    }
    Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Basis, LoadRequest, OwnService, Scaffold, load};

    /// Detects what a folder with these files is, and checks that the spec for it is valid.
    fn detected(files: &[(&str, &str)]) -> (Option<Detected>, Database, Cache) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let (found, (database, cache)) = (project(dir.path()), stores(dir.path()));
        if let Some(found) = &found {
            let own = found.image.clone().map(|image| OwnService {
                name: "app".parse().unwrap(),
                image,
                ports: found.ports.clone(),
                sources: found.sources.clone(),
            });
            let basis = match &found.compose {
                Some(file) => Basis::Compose(file.clone()),
                None => Basis::Services { own, database, cache, seed: None },
            };
            let text = Scaffold { ttl: "8h".to_owned(), basis }.to_string();
            std::fs::write(dir.path().join("sandbox.yaml"), &text).unwrap();
            let request = LoadRequest { folder: dir.path().to_owned(), ..LoadRequest::default() };
            let loaded = load(&request).unwrap_or_else(|problems| panic!("{files:?}\n{problems}\n{text}"));
            assert!(loaded.warnings.is_empty(), "{files:?}\n{:?}\n{text}", loaded.warnings);
        }
        (found, database, cache)
    }

    #[test]
    fn frameworks_are_recognised_by_their_manifest() {
        for (file, text, by, port) in [
            ("package.json", r#"{"dependencies":{"next":"15","pg":"8"}}"#, "Next.js", Some(3000)),
            ("package.json", r#"{"devDependencies":{"vite":"6"}}"#, "Vite", Some(5173)),
            ("package.json", r#"{"dependencies":{"express":"5"}}"#, "Node.js", Some(3000)),
            ("requirements.txt", "Django==5.1\npsycopg[binary]\n", "Django", Some(8000)),
            ("requirements.txt", "fastapi\nuvicorn\n", "FastAPI", Some(8000)),
            ("pyproject.toml", "dependencies = [\"flask>=3\"]\n", "Flask", Some(5000)),
            ("Gemfile", "gem 'rails', '~> 8'\ngem 'pg'\n", "Rails", Some(3000)),
            ("go.mod", "module x\nrequire github.com/jackc/pgx/v5 v5.7\n", "Go", Some(8080)),
            ("pom.xml", "<artifactId>spring-boot-starter-web</artifactId>", "Spring Boot", Some(8080)),
            ("build.gradle.kts", "id(\"org.springframework.boot\")", "Spring Boot", Some(8080)),
            ("composer.json", r#"{"require":{"laravel/framework":"12"}}"#, "Laravel", Some(8000)),
            ("composer.json", r#"{"require":{"slim/slim":"4"}}"#, "PHP", Some(8000)),
            ("Cargo.toml", "[dependencies]\naxum = \"0.8\"\n", "Rust", Some(8080)),
            ("Dockerfile", "FROM x\nEXPOSE 9000/tcp\n", "Dockerfile", Some(9000)),
        ] {
            let (found, ..) = detected(&[(file, text)]);
            let found = found.unwrap_or_else(|| panic!("{file}: {text}"));
            assert!(found.by.contains(by), "{file}: {}", found.by);
            assert_eq!(found.ports.first().copied(), port, "{file}");
        }
        assert_eq!(detected(&[("README.md", "rails")]).0, None);
    }

    #[test]
    fn databases_are_recognised_by_what_is_depended_on() {
        for (file, text, database, cache) in [
            (
                "package.json",
                r#"{"description":"mysql","dependencies":{"pg":"8","ioredis":"5"}}"#,
                Database::Postgres,
                Cache::Redis,
            ),
            ("package.json", r#"{"dependencies":{"mongoose":"8"}}"#, Database::Mongo, Cache::None),
            ("requirements.txt", "flask\npsycopg2-binary==2.9\nredis>=5\n", Database::Postgres, Cache::Redis),
            ("requirements.txt", "flask\nmysqlclient\n", Database::Mysql, Cache::None),
            ("Gemfile", "gem 'rails'\ngem \"mysql2\"\ngem 'redis'\n", Database::Mysql, Cache::Redis),
            (
                "go.mod",
                "require (\n\tgithub.com/lib/pq v1.10\n\tgithub.com/redis/go-redis/v9 v9.7\n)\n",
                Database::Postgres,
                Cache::Redis,
            ),
            ("pom.xml", "<artifactId>mariadb-java-client</artifactId>", Database::Mariadb, Cache::None),
            ("build.gradle", "runtimeOnly 'org.postgresql:postgresql'", Database::Postgres, Cache::None),
            (
                "composer.json",
                r#"{"require":{"ext-pdo_mysql":"*","predis/predis":"2"}}"#,
                Database::Mysql,
                Cache::Redis,
            ),
            ("Cargo.toml", "sqlx = { features = [\"postgres\"] }\n", Database::Postgres, Cache::None),
            ("requirements.txt", "flask\n", Database::None, Cache::None),
        ] {
            let (_, found, with) = detected(&[(file, text)]);
            assert_eq!((found, with), (database, cache), "{file}: {text}");
        }
    }

    #[test]
    fn a_dev_container_is_a_service_with_the_project_in_it() {
        let text = r#"// comment
        {
            "image": "mcr.microsoft.com/devcontainers/base:ubuntu", /* more */
            "forwardPorts": [3000, "db:5432", "9229"],
            "containerEnv": { "MODE": "a$b // no comment" },
            "postCreateCommand": ["npm", "install"],
        }"#;
        let (found, ..) = detected(&[(".devcontainer/devcontainer.json", text)]);
        let found = found.unwrap();
        let sources = found.sources.unwrap();
        assert_eq!(found.ports, [3000, 9229]);
        assert_eq!(sources.environment["MODE"], "a$b // no comment");
        assert_eq!(sources.tasks["post-create"], "npm install");

        let built = r#"{ "build": { "dockerfile": "Dockerfile.dev", "context": ".." } }"#;
        let (found, ..) = detected(&[
            (".devcontainer/devcontainer.json", built),
            ("Dockerfile.dev", ""),
            (".devcontainer/Dockerfile.dev", "FROM x"),
        ]);
        let by = Origin::BuildBy { context: ".".into(), dockerfile: ".devcontainer/Dockerfile.dev".into() };
        assert_eq!(found.unwrap().image, Some(by));

        let compose = r#"{ "dockerComposeFile": ["../docker/compose.yaml"], "service": "app" }"#;
        let (found, ..) = detected(&[
            (".devcontainer/devcontainer.json", compose),
            ("docker/compose.yaml", "services: { app: { image: x } }"),
        ]);
        assert_eq!(found.unwrap().compose.as_deref(), Some("docker/compose.yaml"));
    }

    #[test]
    fn what_is_no_json_is_no_dev_container() {
        assert_eq!(detected(&[(".devcontainer.json", "{ nonsense")]).0, None);
        assert_eq!(detected(&[(".devcontainer.json", "{ \"features\": {} }")]).0, None);
    }
}
