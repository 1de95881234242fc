//! `init`: writes a first spec, around what the folder has (a Compose file, a Dockerfile, a dev container, a framework's
//! manifest) and from a few questions. Every question has its flag.

mod agents;
mod ask;
mod detect;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use self::ask::Asker;
use self::detect::Detected;
use super::{Context, Exit, Failure, SpecOptions};
use crate::report::Output;
use crate::spec::{Basis, Cache, Database, Loaded, Origin, OwnService, Refusals, Scaffold, ServiceName};

/// The file that `init` writes.
const FILE: &str = "sandbox.yaml";

/// Names of Compose files, the preferred one first.
const COMPOSE: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compose file to start from (default: the one in this directory)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "build", "image", "port", "database", "cache", "seed"])]
    from: Option<PathBuf>,
    /// Name of the project's own service (default: app)
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Directory to build its image from (default: what the Dockerfile, devcontainer.json or manifest here says)
    #[arg(long, value_name = "FOLDER", conflicts_with = "image")]
    build: Option<String>,
    /// Image of the service, if it is not built
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Port that the service listens on (default: what the files here say)
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Database of the service (default: the one whose client library is depended on)
    #[arg(long, value_enum, value_name = "KIND")]
    database: Option<DatabaseKind>,
    /// Cache of the service (default: the one whose client library is depended on)
    #[arg(long, value_enum, value_name = "KIND")]
    cache: Option<CacheKind>,
    /// SQL files to seed the database with, such as `seeds/*.sql`
    #[arg(long, value_name = "FILES")]
    seed: Option<String>,
    /// Longest life of a sandbox (default: 8h)
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<String>,
    /// Write a section for coding agents into AGENTS.md, about the spec of this directory
    #[arg(long, conflicts_with_all = ["from", "service", "build", "image", "port", "database", "cache", "seed", "ttl"])]
    agents: bool,
    /// Do not prompt; use the defaults for options that are not given
    #[arg(long, short = 'y')]
    yes: bool,
    /// Overwrite an existing spec
    #[arg(long)]
    force: bool,
    /// Print the spec instead of writing it
    #[arg(long)]
    print: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DatabaseKind {
    None,
    Postgres,
    Mariadb,
    Mysql,
    Mongo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CacheKind {
    None,
    Redis,
}

impl From<DatabaseKind> for Database {
    fn from(kind: DatabaseKind) -> Self {
        match kind {
            DatabaseKind::None => Self::None,
            DatabaseKind::Postgres => Self::Postgres,
            DatabaseKind::Mariadb => Self::Mariadb,
            DatabaseKind::Mysql => Self::Mysql,
            DatabaseKind::Mongo => Self::Mongo,
        }
    }
}

impl From<CacheKind> for Cache {
    fn from(kind: CacheKind) -> Self {
        match kind {
            CacheKind::None => Self::None,
            CacheKind::Redis => Self::Redis,
        }
    }
}

/// Runs `init`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if args.agents {
        return agents::run(context, args.force, args.print);
    }
    let folder = Context::folder()?;
    let asker = Asker::new(args.yes);
    let Some(sketch) = asker.on_its_own(move |asker| sketch(&args, &folder, asker)).await else {
        return Ok(Exit::Interrupted);
    };
    let Some((sketch, print)) = sketch? else { return Ok(Exit::Failed) };
    let text = sketch.to_string();
    let folder = Context::folder()?;
    let loaded = write(context, &folder, &text, print)?;
    tell(context, &folder, &loaded, print);
    Ok(Exit::Done)
}

/// Builds the spec, and returns it with whether to only print it; `None` if the user declines.
fn sketch(args: &Args, folder: &Path, asker: Asker) -> Result<Option<(Scaffold, bool)>, Failure> {
    let there = folder.join(FILE);
    if there.exists() && !args.print && !args.force && !asker.overwrite(FILE)? {
        return Ok(None);
    }
    let ttl = args.ttl.clone().unwrap_or_else(|| "8h".to_owned());
    Ok(Some((Scaffold { ttl, basis: basis(args, folder, asker)? }, args.print)))
}

fn basis(args: &Args, folder: &Path, asker: Asker) -> Result<Basis, Failure> {
    if let Some(file) = &args.from {
        if !folder.join(file).is_file() {
            return Err(Failure::usage(format!("there is no file `{}`", file.display()), None));
        }
        return Ok(Basis::Compose(file.display().to_string()));
    }
    let named = args.build.is_some() || args.image.is_some();
    let stores = args.database.is_some() || args.cache.is_some();
    let asked_for = named || stores || args.service.is_some() || args.port.is_some();
    let found = COMPOSE.into_iter().find(|name| folder.join(name).is_file());
    if let Some(file) = found.filter(|_| !asked_for)
        && asker.confirm(&format!("There is a {file}. Build the spec around it?"), true)?
    {
        return Ok(Basis::Compose(file.to_owned()));
    }
    let detected = if named { None } else { detect::project(folder) };
    if let Some(file) = detected.as_ref().and_then(|it| it.compose.as_ref()).filter(|_| !asked_for) {
        return Ok(Basis::Compose(file.clone()));
    }
    let own = own_service(args, detected, asker)?;
    // A spec about a database alone says so.
    let (likely, likely_cache) = match own {
        Some(_) => detect::stores(folder),
        None => (Database::None, Cache::None),
    };
    let database = match args.database {
        Some(kind) => kind.into(),
        None => asker.choose("Which database?", &likeliest(&DATABASES, likely))?,
    };
    let cache = match args.cache {
        Some(kind) => kind.into(),
        None => asker.choose("Which cache?", &likeliest(&CACHES, likely_cache))?,
    };
    let seed = seed(args, folder, database, asker)?;
    if own.is_none() && database == Database::None && cache == Cache::None {
        return Err(Failure::usage(
            "there is nothing to write a spec about: no Compose file, no Dockerfile, no devcontainer.json, no known framework",
            Some(
                "name an image or a database: `sandbox init --image nginx --port 80 --database postgres`"
                    .to_owned(),
            ),
        ));
    }
    Ok(Basis::Services { own, database, cache, seed })
}

const DATABASES: [(&str, Database); 5] = [
    ("none", Database::None),
    ("PostgreSQL", Database::Postgres),
    ("MariaDB", Database::Mariadb),
    ("MySQL", Database::Mysql),
    ("MongoDB", Database::Mongo),
];

const CACHES: [(&str, Cache); 2] = [("none", Cache::None), ("Redis", Cache::Redis)];

/// Choices with the likeliest first: the first is the default.
fn likeliest<T: Copy + PartialEq>(choices: &[(&'static str, T)], likely: T) -> Vec<(&'static str, T)> {
    let (first, others): (Vec<_>, Vec<_>) =
        choices.iter().copied().partition(|(_, choice)| *choice == likely);
    first.into_iter().chain(others).collect()
}

fn own_service(args: &Args, detected: Option<Detected>, asker: Asker) -> Result<Option<OwnService>, Failure> {
    let detected = match detected {
        Some(detected) if asker.confirm(&question(&detected), true)? => Some(detected),
        _ => None,
    };
    let (ports, sources) = match &detected {
        Some(detected) => (detected.ports.clone(), detected.sources.clone()),
        None => (Vec::new(), None),
    };
    let image = match (&args.build, &args.image, detected.and_then(|it| it.image)) {
        (Some(build), _, _) => Origin::Build(build.clone()),
        (None, Some(image), _) => Origin::Image(image.clone()),
        (None, None, Some(image)) => image,
        (None, None, None) => {
            match asker.text("Which image does your own service run? (none: leave it empty)", "")? {
                image if image.is_empty() => return Ok(None),
                image => Origin::Image(image),
            }
        }
    };
    let name = match &args.service {
        Some(name) => name.clone(),
        None => asker.parsed("What is it called?", "app", |text| {
            text.parse::<ServiceName>().map_err(|error| error.to_string())
        })?,
    };
    let ports = match args.port {
        Some(port) => vec![port],
        None => asked_ports(&ports, asker)?,
    };
    Ok(Some(OwnService { name, image, ports, sources }))
}

fn question(detected: &Detected) -> String {
    match (&detected.image, &detected.sources) {
        (Some(Origin::Build(_)), None) => "Build the Dockerfile in this folder?".to_owned(),
        (_, _) => format!("There is a {}. Build the spec around it?", detected.by),
    }
}

fn asked_ports(known: &[u16], asker: Asker) -> Result<Vec<u16>, Failure> {
    let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    asker.parsed("Which port does it listen on? (none: leave it empty)", &known, |text| {
        let ports = text.split([' ', ',']).filter(|port| !port.is_empty()).map(str::parse::<u16>);
        ports.collect::<Result<Vec<u16>, _>>().map_err(|_| "a number from 1 to 65535".to_owned())
    })
}

/// The path of the SQL seeds, from the option or found in the folder.
fn seed(args: &Args, folder: &Path, database: Database, asker: Asker) -> Result<Option<String>, Failure> {
    if matches!(database, Database::None | Database::Mongo) || args.seed.is_some() {
        return Ok(args.seed.clone());
    }
    let has_sql = |inner: &&str| {
        let entries = std::fs::read_dir(folder.join(inner)).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.path().extension().is_some_and(|end| end == "sql"))
    };
    let found = ["seeds", "seed", "sql", "db", "db/seeds", "fixtures", "."].into_iter().find(has_sql);
    let Some(found) = found else { return Ok(None) };
    let pattern = if found == "." { "*.sql".to_owned() } else { format!("{found}/*.sql") };
    let wanted = asker.confirm(&format!("Begin the database with {pattern}?"), true)?;
    Ok(wanted.then_some(pattern))
}

/// Writes the spec to a temporary file, loads it as a check, and then renames it.
fn write(context: &Context, folder: &Path, text: &str, print: bool) -> Result<Loaded, Failure> {
    let named = tempfile::Builder::new().prefix(".sandbox-").suffix(".yaml").tempfile_in(folder);
    let file = named.map_err(|error| cannot_write(folder, FILE, &error))?;
    std::fs::write(file.path(), text).map_err(|error| cannot_write(folder, FILE, &error))?;
    let options = SpecOptions { files: vec![file.path().to_owned()], ..SpecOptions::default() };
    let loaded = context.load(&options, &[], Refusals::Warn)?;
    if print {
        Output::stdout().text(text);
        return Ok(loaded);
    }
    // A temporary file is readable by its owner only; a spec should not be.
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644));
    file.persist(folder.join(FILE)).map_err(|error| cannot_write(folder, FILE, &error.error))?;
    Ok(loaded)
}

fn cannot_write(folder: &Path, file: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write `{}`: {error}", folder.join(file).display()), None)
}

fn tell(context: &Context, folder: &Path, loaded: &Loaded, print: bool) {
    let mut errors = Output::stderr();
    for warning in &loaded.warnings {
        errors.line(&format!("warning: {warning}"));
    }
    if print {
        return;
    }
    let services: Vec<&str> = loaded.spec.services.keys().map(AsRef::as_ref).collect();
    if context.globals.json {
        let file = folder.join(FILE);
        Output::stdout().json(&serde_json::json!({ "file": file, "services": services }));
    } else {
        errors.line(&format!("wrote {FILE}: {}", services.join(", ")));
        errors.line("`sandbox up` builds it");
    }
}

fn ttl(text: &str) -> Result<String, String> {
    super::build_options::duration(text).map(|_| text.to_owned())
}
