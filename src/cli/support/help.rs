//! The overview of all verbs: too many for one list, so in groups, the way to them first.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::Cli;

/// Every verb, in the group that somebody would look for it in.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Make and end", &["init", "up", "run", "shell", "down", "extend"]),
    ("Look", &["ls", "ps", "logs", "events", "top", "port", "env", "ui"]),
    ("Work in it", &["exec", "task", "cp", "open", "start", "stop", "restart", "egress", "fault"]),
    ("Data", &["snapshot", "reset", "fork", "bake", "artifacts"]),
    ("Spec and images", &["config", "graph", "timeline", "schema", "build", "pull"]),
    ("This machine", &["doctor", "gc", "completions"]),
];

/// The command line, with its overview in groups.
pub fn command() -> Command {
    let command = Cli::command();
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
    fn every_verb_is_in_one_group_and_its_line_is_short() {
        let command = Cli::command();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let verbs: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), verbs);
        assert_eq!(grouped.len(), verbs.len());
        for line in console::strip_ansi_codes(&overview(&command)).lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }
}
