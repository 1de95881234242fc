//! Well-known frameworks, by their manifest. The service has the project's folder mounted and runs the framework's own
//! development server.

use std::path::Path;

use super::{Detected, dependencies};
use crate::spec::{MountedSources, Origin};

/// A framework.
struct Framework {
    name: &'static str,
    /// One of these files is there …
    manifests: &'static [&'static str],
    /// … and names one of these packages. Empty: any.
    packages: &'static [&'static str],
    image: &'static str,
    /// Installs packages.
    install: &'static str,
    /// Starts the server.
    start: &'static str,
    port: u16,
    /// The folder that the package manager fills inside of the project.
    filled: Option<&'static str>,
    egress: &'static [&'static str],
}

/// Where the project's folder is mounted.
const FOLDER: &str = "/app";

const NPM: &[&str] = &["registry.npmjs.org"];
const PYPI: &[&str] = &["pypi.org", "files.pythonhosted.org"];
const MAVEN: &[&str] = &["repo.maven.apache.org", "repo1.maven.org"];
const GRADLE: &[&str] =
    &["repo.maven.apache.org", "repo1.maven.org", "plugins.gradle.org", "plugins-artifacts.gradle.org"];
const COMPOSER: &[&str] = &["repo.packagist.org", "api.github.com", "codeload.github.com", "github.com"];

const NODE: Framework = Framework {
    name: "Node.js",
    manifests: &["package.json"],
    packages: &[],
    image: "node:22-alpine",
    install: "npm install",
    start: "npm start",
    port: 3000,
    filled: Some("node_modules"),
    egress: NPM,
};

const PYTHON: Framework = Framework {
    name: "Python",
    manifests: &["requirements.txt", "pyproject.toml"],
    packages: &[],
    image: "python:3.13-slim",
    install: "if [ -f requirements.txt ]; then pip install -r requirements.txt; else pip install .; fi",
    start: "python main.py",
    port: 8000,
    filled: None,
    egress: PYPI,
};

const SPRING: &[&str] =
    &["springframework", "spring-boot-starter", "spring-boot-starter-web", "spring-boot-maven-plugin"];

/// The frameworks; the first that fits is taken.
const FRAMEWORKS: [Framework; 14] = [
    Framework { name: "Next.js", packages: &["next"], start: "npm run dev -- --hostname 0.0.0.0", ..NODE },
    Framework {
        name: "Vite",
        packages: &["vite"],
        start: "npm run dev -- --host 0.0.0.0",
        port: 5173,
        ..NODE
    },
    NODE,
    Framework {
        name: "Django",
        packages: &["django"],
        start: "python manage.py migrate && exec python manage.py runserver 0.0.0.0:8000",
        ..PYTHON
    },
    Framework {
        name: "FastAPI",
        packages: &["fastapi"],
        start: "pip install uvicorn && exec python -m uvicorn main:app --host 0.0.0.0 --port 8000 --reload",
        ..PYTHON
    },
    Framework {
        name: "Flask",
        packages: &["flask"],
        start: "exec python -m flask run --host 0.0.0.0 --port 5000",
        port: 5000,
        ..PYTHON
    },
    Framework {
        name: "Rails",
        manifests: &["Gemfile"],
        packages: &["rails"],
        image: "ruby:3.4",
        install: "bundle install",
        start: "exec bin/rails server -b 0.0.0.0",
        port: 3000,
        filled: None,
        egress: &["rubygems.org", "index.rubygems.org"],
    },
    Framework {
        name: "Go",
        manifests: &["go.mod"],
        packages: &[],
        image: "golang:1.25-alpine",
        install: "go mod download",
        start: "exec go run .",
        port: 8080,
        filled: None,
        egress: &["proxy.golang.org", "sum.golang.org", "storage.googleapis.com"],
    },
    Framework {
        name: "Spring Boot (Maven)",
        manifests: &["pom.xml"],
        packages: SPRING,
        image: "maven:3-eclipse-temurin-21",
        install: "mvn -q dependency:go-offline",
        start: "exec mvn -q spring-boot:run",
        port: 8080,
        filled: Some("target"),
        egress: MAVEN,
    },
    Framework {
        name: "Spring Boot (Gradle)",
        manifests: &["build.gradle", "build.gradle.kts"],
        packages: SPRING,
        image: "gradle:8-jdk21",
        install: "gradle --no-daemon dependencies --quiet",
        start: "exec gradle --no-daemon bootRun",
        port: 8080,
        filled: Some("build"),
        egress: GRADLE,
    },
    Framework {
        name: "Laravel",
        manifests: &["composer.json"],
        packages: &["laravel"],
        image: "composer:2",
        install: "composer install",
        start: "exec php artisan serve --host 0.0.0.0 --port 8000",
        port: 8000,
        filled: Some("vendor"),
        egress: COMPOSER,
    },
    Framework {
        name: "PHP",
        manifests: &["composer.json"],
        packages: &[],
        image: "composer:2",
        install: "composer install",
        start: "exec php -S 0.0.0.0:8000 -t public",
        port: 8000,
        filled: Some("vendor"),
        egress: COMPOSER,
    },
    Framework {
        name: "Rust",
        manifests: &["Cargo.toml"],
        packages: &[],
        image: "rust:1-slim",
        install: "cargo fetch",
        start: "exec cargo run",
        port: 8080,
        filled: Some("target"),
        egress: &["index.crates.io", "static.crates.io"],
    },
    PYTHON,
];

/// The framework of a folder.
pub(super) fn detect(folder: &Path) -> Option<Detected> {
    let there = |framework: &&Framework| framework.manifests.iter().any(|file| folder.join(file).is_file());
    let words = dependencies::words(folder);
    let named = |framework: &&Framework| {
        framework.packages.is_empty()
            || framework.packages.iter().any(|name| words.iter().any(|word| word == name))
    };
    let found = FRAMEWORKS.iter().filter(there).find(named)?;
    let manifest = found.manifests.iter().find(|file| folder.join(file).is_file())?;
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Some(Detected {
        by: format!("{manifest}: {}", found.name),
        compose: None,
        image: Some(Origin::Image(found.image.to_owned())),
        ports: vec![found.port],
        sources: Some(MountedSources {
            folder: FOLDER.to_owned(),
            command: Some(format!("{} && {}", found.install, found.start)),
            packages: found.filled.map(|inner| format!("{FOLDER}/{inner}")),
            egress: owned(found.egress),
            ..MountedSources::default()
        }),
    })
}
