//! `env`: prints a sandbox's addresses as environment variables.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::{Context, Exit, Failure, host_environment};
use crate::report::Output;
use crate::spec::HostAccess;

/// Arguments of `env`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of the output
    #[arg(long, value_enum, default_value = "shell")]
    format: Format,
    /// Include the `env` of a spec that came from a snapshot file or a repository
    #[arg(long)]
    allow_host_access: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For `eval "$(sandbox env)"`
    Shell,
    /// For a `.env` file
    Dotenv,
    /// For an `.envrc`: `eval "$(sandbox env --format direnv)"`
    Direnv,
    /// One JSON object
    Json,
}

/// Runs `env`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let observed = context.chosen().await?;
        let access = if self.allow_host_access { HostAccess::Allowed } else { HostAccess::Refused };
        let variables = host_environment::of(&engine, &observed, access).await?;
        let format = if context.globals.json { Format::Json } else { self.format };
        let mut out = Output::stdout();
        match format {
            Format::Json => out.json(&variables),
            other => out.data(&written(other, &variables)),
        }
        Ok(Exit::Done)
    }
}

fn written(format: Format, variables: &BTreeMap<String, String>) -> String {
    let lines = variables.iter().map(|(key, value)| match format {
        Format::Dotenv => format!("{key}={}\n", dotenv(value)),
        Format::Shell | Format::Direnv | Format::Json => format!("export {key}={}\n", quoted(value)),
    });
    let mut text: String = lines.collect();
    if format == Format::Direnv {
        // No file on the host changes when a sandbox does, so direnv watches the spec.
        text.insert_str(0, "watch_file sandbox.yaml compose.yaml .env\n");
    }
    text
}

/// Quotes for a POSIX shell: in single quotes, if needed.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

/// Quotes for Compose's `.env`: in double quotes, if needed, with `$` doubled to prevent interpolation.
fn dotenv(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,?&".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("DB_URL".to_owned(), "postgres://shop:p%40ss@127.0.0.1:1/shop".to_owned()),
            ("ODD".to_owned(), "it's $HOME".to_owned()),
        ])
    }

    #[test]
    fn every_form_keeps_values_as_they_are() {
        assert_eq!(
            written(Format::Shell, &variables()),
            "export DB_URL=postgres://shop:p%40ss@127.0.0.1:1/shop\nexport ODD='it'\\''s $HOME'\n"
        );
        assert_eq!(
            written(Format::Dotenv, &variables()),
            "DB_URL=postgres://shop:p%40ss@127.0.0.1:1/shop\nODD=\"it's \\$HOME\"\n"
        );
        assert!(written(Format::Direnv, &variables()).starts_with("watch_file "));
    }
}
