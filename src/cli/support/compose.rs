//! Hints for verbs and options that sandbox does not have: what to type instead of those of `docker compose`, and the
//! nearest name for those that are misspelt.

use std::process::ExitCode;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::{self, Failure, FailureFormat};
use crate::spec;

/// Verbs of Compose and similar tools, and the equivalent here.
const VERBS: &[(&str, &str)] = &[
    ("alpha", "sandbox has no experimental verbs"),
    ("bridge", "sandbox does not convert specs for other platforms; `docker compose bridge` does"),
    (
        "commit",
        "`sandbox snapshot create NAME` keeps the data of all services; `docker commit CONTAINER` makes an image",
    ),
    ("convert", "`sandbox config` prints the resolved spec"),
    (
        "export",
        "`sandbox snapshot export NAME` writes the data to a file; `sandbox cp SERVICE:/ DIR` copies a file system",
    ),
    ("publish", "sandbox does not publish specs; `docker compose publish` does"),
    ("viz", "`sandbox graph --format dot` draws the spec"),
    ("delete", "`sandbox down` destroys a sandbox"),
    ("destroy", "`sandbox down` destroys a sandbox"),
    ("remove", "`sandbox down` destroys a sandbox, `sandbox rm` removes stopped containers"),
    ("list", "`sandbox ls` lists sandboxes"),
    ("status", "`sandbox ps` lists the services of a sandbox"),
    ("prune", "`sandbox gc` frees disk space"),
    ("restore", "`sandbox reset --to SNAPSHOT` puts data back"),
    ("clone", "`sandbox fork NEW` copies a sandbox"),
];

/// Options of Compose's verbs, and the equivalent here. `*` matches every verb.
const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "up",
        "--no-recreate",
        "a container is recreated only if its service changed; `up SERVICE…` leaves the others",
    ),
    ("up", "--always-recreate-deps", "`--force-recreate` recreates all containers"),
    ("create", "--no-recreate", "a container is recreated only if its service changed"),
    (
        "watch",
        "--no-up",
        "`sandbox watch` is the session of its sandbox: it builds it and destroys it at the end",
    ),
    ("build", "--build-arg", "set `build.args` in the spec; `${VARIABLE}` takes a value from this shell"),
    ("build", "--push", "`sandbox push` pushes the images that were built"),
    ("build", "--ssh", "set `build.ssh` in the spec"),
    ("build", "--sbom", "sandbox builds for this engine only; `docker buildx build` adds attestations"),
    ("build", "--provenance", "sandbox builds for this engine only; `docker buildx build` adds attestations"),
    ("build", "--builder", "sandbox builds with the engine's own builder"),
    ("build", "--memory", "sandbox builds with the engine's own limits"),
    ("build", "--with-dependencies", "name the services; without names all are built"),
    ("build", "--check", "`docker build --check` checks a Dockerfile"),
    ("build", "--print", "`sandbox config --format json` prints the build sections"),
    ("pull", "--include-deps", "name the services; without names all are pulled"),
    ("push", "--include-deps", "name the services; without names all are pushed"),
    ("pull", "--ignore-pull-failures", "name the services whose images can be pulled"),
    ("config", "--resolve-image-digests", "`sandbox images --format json` shows which images run"),
    ("config", "--lock-image-digests", "`sandbox images --format json` shows which images run"),
    ("config", "--variables", "`sandbox config` names variables that are not set"),
    ("attach", "--detach-keys", "Ctrl-P Ctrl-Q detaches"),
    ("cp", "--all", "`--index` chooses one replica"),
    ("exec", "--privileged", "give the service the capability it needs with `cap_add`"),
    ("ls", "--filter", "`sandbox ls --json` can be filtered with `jq`"),
    ("down", "--dry-run", "`sandbox ls` shows what there is"),
    ("*", "--dry-run", "`sandbox up --dry-run` prints the plan"),
    ("*", "--no-trunc", "nothing is truncated in a pipe or with `--json`"),
    ("*", "--context", "set DOCKER_HOST or DOCKER_CONTEXT to choose an engine"),
    ("*", "--host", "set DOCKER_HOST to choose an engine"),
];

/// Compose's `run` has another meaning: a one-off container of a service.
const RUN: &str = "`sandbox exec SERVICE CMD` runs a command in a service that is up; \
     `sandbox run --in SERVICE -- CMD` builds a sandbox for the command and destroys it afterwards";

/// Prints a usage error: with our own hint for Compose's verbs and options, else as clap does.
pub fn of_usage(error: &clap::Error, arguments: &[String]) -> ExitCode {
    match translated(error, arguments) {
        Some(failure) => failure::report(FailureFormat::Text, &failure).into(),
        None => failure::of_usage(error),
    }
}

fn translated(error: &clap::Error, arguments: &[String]) -> Option<Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = context(ContextKind::InvalidSubcommand)?;
            Some(unknown_verb(typed, &Typed::before(typed, arguments)))
        }
        ErrorKind::UnknownArgument => {
            let typed = context(ContextKind::InvalidArg)?;
            let typed = typed.split('=').next().unwrap_or(typed);
            Some(unknown_argument(typed, &Typed::before(typed, arguments)))
        }
        ErrorKind::MissingRequiredArgument if Typed::before("--", arguments).verb() == Some("run") => {
            Some(Failure::usage("`run` needs a command after `--`", Some(RUN.to_owned())))
        }
        _ => None,
    }
}

/// The command that the words before a mistake name: `sandbox`, `sandbox up`, `sandbox snapshot export`.
struct Typed {
    words: Vec<String>,
    command: Command,
}

impl Typed {
    fn before(mistake: &str, arguments: &[String]) -> Self {
        let mut typed = Self { words: vec!["sandbox".to_owned()], command: super::help::documented() };
        for word in arguments.iter().skip(1) {
            if word == mistake || word.strip_prefix(mistake).is_some_and(|rest| rest.starts_with('=')) {
                break;
            }
            if let Some(verb) = typed.command.find_subcommand(word) {
                typed.words.push(verb.get_name().to_owned());
                typed.command = verb.clone();
            }
        }
        typed
    }

    fn verb(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }

    /// How the user asks what there is.
    fn help(&self) -> String {
        format!("`{} --help`", self.words.join(" "))
    }
}

fn unknown_verb(mistake: &str, typed: &Typed) -> Failure {
    let message = format!("{} has no verb `{mistake}`", typed.words.join(" "));
    let known = VERBS.iter().find(|(verb, _)| *verb == mistake && typed.verb().is_none());
    let hint = known.map_or_else(
        || {
            let verbs = typed.command.get_subcommands();
            let names = verbs.flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_all_aliases()));
            format!("{}{} lists the verbs", did_you_mean(mistake, names), typed.help())
        },
        |(_, hint)| (*hint).to_owned(),
    );
    Failure::usage(message, Some(hint))
}

fn unknown_argument(mistake: &str, typed: &Typed) -> Failure {
    let (of, help) = (typed.words.last().map_or("sandbox", String::as_str), typed.help());
    let known = option_hint(typed.verb(), mistake);
    if !mistake.starts_with('-') {
        let hint = known.map_or_else(|| format!("{help} shows what it takes"), str::to_owned);
        return Failure::usage(format!("`{of}` has no argument `{mistake}`"), Some(hint));
    }
    let nearest = || {
        let options = typed.command.get_arguments().filter(|option| !option.is_hide_set());
        let names = options.flat_map(|option| option.get_long_and_visible_aliases().unwrap_or_default());
        let names: Vec<String> = names.into_iter().map(|name| format!("--{name}")).collect();
        let guess = did_you_mean(mistake, names.iter().map(String::as_str));
        format!("{guess}{help} lists the options")
    };
    let hint = known.map_or_else(nearest, str::to_owned);
    Failure::usage(format!("`{of}` has no option `{mistake}`"), Some(hint))
}

/// The question whether the nearest name was meant, followed by a space; empty if no name is near.
fn did_you_mean<'a>(mistake: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    spec::nearest_name(mistake, names).map(|name| format!("did you mean `{name}`? ")).unwrap_or_default()
}

fn option_hint(verb: Option<&str>, typed: &str) -> Option<&'static str> {
    if verb == Some("run") {
        return Some(RUN);
    }
    let entry = |wanted: &str| {
        let found = OPTIONS.iter().find(|(of, option, _)| *of == wanted && *option == typed);
        found.map(|(_, _, hint)| *hint)
    };
    verb.and_then(entry).or_else(|| entry("*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_for(line: &str) -> Option<String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = super::super::help::command().try_get_matches_from(&arguments).unwrap_err();
        translated(&error, &arguments).and_then(|failure| failure.hint())
    }

    #[test]
    fn what_compose_has_and_sandbox_has_not_is_answered_with_what_to_type() {
        for (line, hint) in [
            ("sandbox convert", "sandbox config"),
            ("sandbox viz", "sandbox graph"),
            ("sandbox -f a.yaml publish", "docker compose publish"),
            ("sandbox up --no-recreate", "only if its service changed"),
            ("sandbox build --ssh default", "build.ssh"),
            ("sandbox run --rm web ls", "sandbox exec"),
            ("sandbox run web ls", "sandbox exec"),
            ("sandbox ps --no-trunc", "--json"),
        ] {
            let found = hint_for(line).unwrap_or_default();
            assert!(found.contains(hint), "{line}: {found}");
        }
    }

    #[test]
    fn a_typing_mistake_is_answered_with_the_nearest_name_and_where_to_look() {
        for (line, hint) in [
            ("sandbox upp", "did you mean `up`? `sandbox --help` lists the verbs"),
            ("sandbox frobnicate", "`sandbox --help` lists the verbs"),
            ("sandbox up --detahc", "did you mean `--detach`? `sandbox up --help` lists the options"),
            ("sandbox up --frobnicate=1", "`sandbox up --help` lists the options"),
            ("sandbox --frobnicate up", "`sandbox --help` lists the options"),
            ("sandbox snapshot exprot x", "did you mean `export`? `sandbox snapshot --help` lists the verbs"),
            ("sandbox snapshot create x --nota y", "did you mean `--note`? `sandbox snapshot create --help`"),
            ("sandbox version now", "`sandbox version --help` shows what it takes"),
        ] {
            let found = hint_for(line).unwrap_or_default();
            assert!(found.starts_with(hint), "{line}: {found}");
        }
    }
}
