//! The overview of all verbs, in groups.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::{Cli, examples};

/// Every verb in its group.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Make and end", &["init", "up", "run", "shell", "watch", "create", "down", "extend"]),
    ("Look", &["ls", "ps", "logs", "events", "stats", "port", "env", "images", "volumes", "ui"]),
    ("Work in it", &["exec", "attach", "task", "cp", "open", "welcome", "wait", "egress", "fault"]),
    ("Services", &["start", "stop", "restart", "kill", "pause", "unpause", "rm", "scale"]),
    ("Data", &["snapshot", "repro", "diff", "reset", "fork", "lend", "bake", "artifacts"]),
    ("Spec and images", &["config", "graph", "timeline", "schema", "build", "pull", "push"]),
    ("This machine", &["mcp", "doctor", "gc", "version", "completions"]),
];

/// The command line, with examples for each verb.
pub fn documented() -> Command {
    let command = Cli::command();
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().fold(command, |command, verb| match examples::below(&verb) {
        Some(text) => command.mut_subcommand(verb, |verb| verb.after_help(text)),
        None => command,
    })
}

/// The command line with the grouped overview.
pub fn command() -> Command {
    let command = documented();
    let overview = overview(&command);
    let styles = command.get_styles().clone();
    let header = |text: &str| {
        let style = styles.get_header();
        format!("{}{text}{}", style.render(), style.render_reset())
    };
    let options = header("Options:");
    command.help_template(format!(
        "{{about-section}}\n{{usage-heading}} {{usage}}\n\n{overview}{options}\n{{options}}{{after-help}}"
    ))
}

/// Rewrites `help VERB` to `VERB --help`, as in Compose.
pub fn asked(arguments: Vec<String>) -> Vec<String> {
    match arguments.as_slice() {
        [program, help, verb @ ..] if help == "help" => {
            std::iter::once(program).chain(verb).cloned().chain(["--help".to_owned()]).collect()
        }
        _ => arguments,
    }
}

fn overview(command: &Command) -> String {
    let styles = command.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = String::new();
    for (group, verbs) in GROUPS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}{group}:{}", header.render(), header.render_reset());
        for verb in verbs {
            let about = command.find_subcommand(verb).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {}{verb:<11}{}  {about}", literal.render(), literal.render_reset());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn help_may_be_asked_for_as_a_verb() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(asked(words("sandbox help up")), words("sandbox up --help"));
        assert_eq!(asked(words("sandbox help")), words("sandbox --help"));
        assert_eq!(asked(words("sandbox exec web help")), words("sandbox exec web help"));
    }

    /// Fragments without a full stop, as clap's and Docker's own are.
    #[test]
    fn no_help_text_ends_with_a_full_stop() {
        fn check(command: &Command) {
            let texts = command.get_arguments().filter_map(|argument| argument.get_help());
            for text in texts.chain(command.get_about()) {
                assert!(!text.to_string().ends_with('.'), "`{}`: {text}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn every_verb_is_in_one_group_and_its_line_is_short() {
        let command = Cli::command();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let verbs: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), verbs);
        assert_eq!(grouped.len(), verbs.len());
        for verb in verbs {
            assert!(examples::below(verb).is_some(), "`{verb}` has no examples");
        }
        for line in console::strip_ansi_codes(&overview(&command)).lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }
}
