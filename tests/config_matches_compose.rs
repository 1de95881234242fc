//! What we read is what `docker compose` reads: for every fixture, `docker compose config --format json` and ours are the
//! same document, but for the differences listed here; and what Compose refuses we refuse.
//!
//! A fixture is a file of `fixtures/compose`, or a folder with a spec. Its first lines may say how it is run: `# args:` with
//! Compose's flags, `# env:` with variables, `# compose: 2.40` if older releases do not know what it uses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use sandbox::spec::{HostAccess, LoadRequest, Loaded, Problems, Refusals, load, to_compose_json};
use serde_json::Value as Json;

/// Releases of Compose, by the release of Debian that has them.
const RELEASES: [(&str, &str); 2] = [("2.26", "trixie"), ("2.40", "forky")];

const VARIABLE_RESET: &str = "Compose keeps a variable that is reset by its name, against the Specification";
const MODE: &str = "a mode is written in octal, as newer releases do";

/// Where we differ on purpose: releases (empty: all), a fixture, a path in the document, and why.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    ("", "profiles", "services.app.depends_on", "a dependency that is not active and need not be is dropped"),
    ("", "x-sandbox", "volumes.data.x-sandbox", "Compose's JSON leaves free keys of volumes out"),
    ("", "x-sandbox", "secrets.password", "a secret that is generated has no file"),
    ("", "x-sandbox", "x-sandbox", "our words are written out in full"),
    ("", "x-sandbox", "services.db.x-sandbox", "Compose's JSON leaves free keys of services out"),
    ("", "documents", "services.app.environment.A", VARIABLE_RESET),
    ("", "merge-files", "services.app.environment.A", VARIABLE_RESET),
    (
        "",
        "include-forms",
        "services.vars.build.args",
        "an include's variables hold for bare build arguments, too",
    ),
    (
        "",
        "volumes-top",
        "volumes.four.driver_opts.device",
        "a relative path begins at the folder, driver or not",
    ),
    ("2.40", "build-newer", "services.app.build.provenance", "not applied, with a warning"),
    ("2.40", "build-newer", "services.app.build.sbom", "not applied, with a warning"),
    ("2.26", "env-files", "services.app.environment.REF2", "newer releases let a file win over earlier ones"),
    ("2.26", "build-forms", "services.long.build.secrets[1].mode", MODE),
    ("2.26", "everything", "services.db.configs[1].mode", MODE),
    ("2.26", "everything", "services.db.secrets[1].mode", MODE),
    ("2.26", "grants", "services.app.configs[1].mode", MODE),
    ("2.26", "grants", "services.app.secrets[2].mode", MODE),
    ("2.26", "inspect", "services.granted.secrets[1].mode", MODE),
    ("2.26", "merge-files", "services.app.secrets[0].mode", MODE),
    ("2.26", "secrets-configs", "services.app.configs[1].mode", MODE),
    ("2.26", "secrets-configs", "services.app.secrets[1].mode", MODE),
];

/// What one of us refuses and the other does not: releases, a fixture, and why.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("", "include-unknown", "Compose drops an unknown key of an include without a word"),
    ("", "volume-colons", "Compose takes the whole text for a path in the container"),
    ("", "volume-external-and-driver", "an external volume is refused anyway, or warned about by `config`"),
];

/// How a fixture is run.
struct Case {
    name: String,
    folder: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    /// The only release of Compose that knows what it uses.
    only: Option<String>,
}

impl Case {
    fn of(path: &Path) -> Self {
        let folder = if path.is_dir() { path } else { path.parent().expect("a folder") };
        let spec = ["compose.yaml", "docker-compose.yml"].map(|name| path.join(name));
        let spec = spec.iter().find(|spec| spec.is_file()).map_or(path, PathBuf::as_path);
        let text = std::fs::read_to_string(spec).expect("a spec");
        let said = |word: &str| -> Vec<String> {
            let head = format!("# {word}: ");
            let lines = text.lines().take_while(|line| line.starts_with('#'));
            let words = lines.filter_map(|line| line.strip_prefix(&head)).flat_map(|line| line.split(' '));
            words.map(str::to_owned).collect()
        };
        let mut args = said("args");
        if path.is_file() && !args.iter().any(|arg| arg == "-f") {
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            args.splice(0..0, ["-f".to_owned(), file.to_owned()]);
        }
        let mut env: BTreeMap<String, String> = said("env")
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        env.insert("HOME".to_owned(), "/home/user".to_owned());
        env.insert("PATH".to_owned(), std::env::var("PATH").unwrap_or_default());
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        Self { name, folder: folder.to_owned(), args, env, only: said("compose").into_iter().next() }
    }

    fn peer(&self, program: &Path) -> Result<Json, String> {
        let output = Command::new(program)
            .args(&self.args)
            .args(["config", "--format", "json"])
            .current_dir(&self.folder)
            .env_clear()
            .envs(&self.env)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    fn ours(&self) -> Result<Loaded, Problems> {
        let mut request = LoadRequest {
            folder: self.folder.clone(),
            env: self.env.clone(),
            allow_host_access: HostAccess::Allowed,
            refusals: Refusals::Warn,
            ..LoadRequest::default()
        };
        let mut args = self.args.iter();
        while let Some(arg) = args.next() {
            let value = args.next().expect("a value").clone();
            match arg.as_str() {
                "-f" => request.files.push(value.into()),
                "-p" => request.name = Some(value),
                "--profile" => request.profiles.push(value),
                "--env-file" => request.env_files.push(value.into()),
                other => panic!("{other} is not known"),
            }
        }
        load(&request)
    }
}

/// Every path at which two documents differ.
fn differences(peer: &Json, ours: &Json, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (peer, ours) {
        (Json::Object(a), Json::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => differences(value, other, &below(key), found),
                    None => found.push(format!("{}: only Compose has {value}", below(key))),
                }
            }
            found.extend(
                b.iter()
                    .filter(|(key, _)| !a.contains_key(*key))
                    .map(|(key, value)| format!("{}: only we have {value}", below(key))),
            );
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (n, (one, other)) in a.iter().zip(b).enumerate() {
                differences(one, other, &format!("{path}[{n}]"), found);
            }
        }
        (Json::Number(a), Json::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: Compose has {a}, we have {b}")),
    }
}

fn fixtures(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/compose").join(folder);
    let entries = std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("entry").path());
    let mut paths: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml") || path.is_dir())
        .filter(|path| !["parts", "refused"].iter().any(|name| path.ends_with(name)))
        .collect();
    paths.sort();
    paths.iter().map(|path| Case::of(path)).collect()
}

/// The programs of all releases; `None` where they cannot be had, which fails where everything must be tested.
fn programs() -> Option<Vec<(&'static str, PathBuf)>> {
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/engines/compose");
    let mut programs = Vec::new();
    for (version, release) in RELEASES {
        let output = Command::new(&fetch).args(["path", release]).output().expect("fixtures/engines/compose");
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(std::env::var_os("CI").is_none(), "no Compose {version}: {reason}");
            #[expect(clippy::print_stdout, reason = "outside CI a missing release is only said")]
            {
                println!("skipped: no Compose {version}: {reason}");
            }
            return None;
        }
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        programs.push((version, PathBuf::from(path)));
    }
    Some(programs)
}

/// Whether a list of releases has one.
fn covers(releases: &str, version: &str) -> bool {
    releases.is_empty() || releases == version
}

/// Applies `check` to each case and release, and collects what is wrong.
fn each(
    cases: &[Case],
    check: impl Fn(&Case, &str, Result<Json, String>) -> Vec<String> + Sync,
) -> Vec<String> {
    let Some(programs) = programs() else { return Vec::new() };
    let check = &check;
    thread::scope(|scope| {
        let running: Vec<_> = programs
            .iter()
            .map(|(version, program)| {
                scope.spawn(move || {
                    let known =
                        cases.iter().filter(|case| case.only.as_deref().is_none_or(|only| only == *version));
                    let wrong = known.flat_map(|case| {
                        let wrong = check(case, version, case.peer(program));
                        wrong.into_iter().map(|line| format!("{} ({version}): {line}", case.name))
                    });
                    wrong.collect::<Vec<_>>()
                })
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a check")).collect()
    })
}

#[test]
fn our_config_is_that_of_compose() {
    let cases = fixtures("");
    assert!(cases.len() > 60);

    let wrong = each(&cases, |case, version, peer| {
        let peer = match peer {
            Ok(peer) => peer,
            Err(error) => return vec![format!("Compose refuses it: {error}")],
        };
        let ours = match case.ours() {
            Ok(loaded) => to_compose_json(&loaded.spec),
            Err(problems) => return vec![format!("we refuse it: {problems}")],
        };
        let mut found = Vec::new();
        differences(&peer, &ours, "", &mut found);
        found.retain(|line| {
            !DIFFERENCES.iter().any(|(releases, name, path, _)| {
                *name == case.name && covers(releases, version) && line.starts_with(path)
            })
        });
        found
    });

    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_compose_refuses_we_refuse() {
    let cases = fixtures("refused");
    assert!(cases.len() > 40);

    let wrong = each(&cases, |case, version, peer| {
        let meant =
            REFUSALS.iter().any(|(releases, name, _)| *name == case.name && covers(releases, version));
        match (peer, case.ours()) {
            (Ok(_), Err(_)) if !meant => vec!["Compose takes it, and we refuse it".to_owned()],
            (Err(error), Ok(_)) if !meant => vec![format!("we take it, and Compose refuses it: {error}")],
            (Ok(_), Ok(_)) => vec!["nobody refuses it".to_owned()],
            _ => Vec::new(),
        }
    });

    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
