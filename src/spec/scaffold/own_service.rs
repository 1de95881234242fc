//! The service of a generated spec that runs the project itself.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{Cache, Recipe, quoted};
use crate::spec::model::ServiceName;

/// The service that runs the project itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnService {
    /// The service's name.
    pub name: ServiceName,
    /// The source of its image.
    pub image: Origin,
    /// The ports it listens on.
    pub ports: Vec<u16>,
    /// How it works on the files of the project, if its image does not hold them.
    pub sources: Option<MountedSources>,
}

/// The source of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built from this folder.
    Build(String),
    /// Built from a folder by another file than its `Dockerfile`.
    BuildBy {
        /// The folder.
        context: String,
        /// The file, relative to the folder.
        dockerfile: String,
    },
    /// An existing or pulled image.
    Image(String),
}

/// A service that has the project's folder mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountedSources {
    /// Where the folder is mounted.
    pub folder: String,
    /// The command, a line for a shell; the service only waits for commands without one.
    pub command: Option<String>,
    /// A folder in it that a package manager fills. It is a volume, so that the project's folder stays as it is.
    pub packages: Option<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Hosts that a package manager asks.
    pub egress: Vec<String>,
    /// Tasks in the service: a name and a line for a shell.
    pub tasks: BTreeMap<String, String>,
}

/// The name of the volume with a package manager's files.
pub(super) const PACKAGES: &str = "packages";

pub(super) fn write(
    text: &mut String,
    own: &OwnService,
    recipe: Option<&Recipe>,
    cache: Cache,
) -> fmt::Result {
    writeln!(text, "  {}:", own.name)?;
    match &own.image {
        Origin::Build(folder) => writeln!(text, "    build: {}", quoted(folder))?,
        Origin::BuildBy { context, dockerfile } => {
            writeln!(
                text,
                "    build: {{ context: {}, dockerfile: {} }}",
                quoted(context),
                quoted(dockerfile)
            )?;
        }
        Origin::Image(image) => writeln!(text, "    image: {}", quoted(image))?,
    }
    if let Some(sources) = &own.sources {
        write_sources(text, sources)?;
    }
    match own.ports.as_slice() {
        [] => {}
        [port] => writeln!(
            text,
            "    ports: [\"{port}\"]            # at a free port of 127.0.0.1; `8080:{port}` wishes for one"
        )?,
        ports => {
            let ports: Vec<String> = ports.iter().map(|port| format!("\"{port}\"")).collect();
            writeln!(text, "    ports: [{}]", ports.join(", "))?;
        }
    }
    if let (Some(port), true) = (own.ports.first(), own.runs_a_package_manager()) {
        writeln!(text, "    ready: {{ tcp: {port}, timeout: 10m }}   # the first start installs packages")?;
    }
    write_connections(text, own, recipe, cache)?;
    text.push('\n');
    Ok(())
}

impl OwnService {
    fn runs_a_package_manager(&self) -> bool {
        self.sources.as_ref().is_some_and(|sources| sources.command.is_some())
    }
}

fn write_sources(text: &mut String, sources: &MountedSources) -> fmt::Result {
    match &sources.command {
        Some(line) => writeln!(text, "    command: [sh, -c, {}]", in_quotes(line))?,
        None => writeln!(text, "    command: [sleep, infinity]   # `sandbox exec` and tasks work in it")?,
    }
    writeln!(text, "    working_dir: {}", quoted(&sources.folder))?;
    let packages = sources.packages.as_ref().map(|folder| format!(", \"{PACKAGES}:{folder}\""));
    writeln!(
        text,
        "    volumes: [{}{}]",
        in_quotes(&format!(".:{}", sources.folder)),
        packages.unwrap_or_default()
    )
}

/// What the service needs to reach the others.
fn write_connections(
    text: &mut String,
    own: &OwnService,
    recipe: Option<&Recipe>,
    cache: Cache,
) -> fmt::Result {
    let mut environment = Vec::new();
    let mut needs = Vec::new();
    for (name, value) in own.sources.iter().flat_map(|sources| &sources.environment) {
        environment.push(format!("{}: {}", quoted(name), in_quotes(value)));
    }
    if let Some(recipe) = recipe {
        let Recipe { scheme, user, port, .. } = recipe;
        environment.push(format!("DATABASE_URL: {scheme}://{user}@db:{port}/app"));
        environment.push("DATABASE_PASSWORD_FILE: /run/secrets/db_password".to_owned());
        needs.push("db: { condition: service_healthy }".to_owned());
    }
    if cache == Cache::Redis {
        environment.push("REDIS_URL: redis://cache:6379".to_owned());
        needs.push("cache: { condition: service_healthy }".to_owned());
    }
    for (key, lines) in [("environment", environment), ("depends_on", needs)] {
        if !lines.is_empty() {
            writeln!(text, "    {key}:")?;
            lines.iter().try_for_each(|line| writeln!(text, "      {line}"))?;
        }
    }
    if recipe.is_some() {
        text.push_str("    secrets: [db_password]\n");
    }
    Ok(())
}

/// A text in double quotes, with its dollar signs doubled.
pub(super) fn in_quotes(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}
