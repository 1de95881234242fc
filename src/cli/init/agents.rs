//! `init --agents`: writes a section for coding agents into `AGENTS.md`.

use std::path::Path;

use super::cannot_write;
use crate::cli::{Context, Exit, Failure, SpecOptions};
use crate::report::Output;
use crate::spec::{Refusals, Spec};

/// The file that coding agents read first.
const FILE: &str = "AGENTS.md";
/// The heading of our section.
const HEADING: &str = "## Sandbox";

/// Writes the section. An existing file keeps the rest of its text; an existing section is replaced only by `force`.
///
/// # Errors
/// Fails if there is no spec to write about, or if the section exists.
pub(super) fn run(context: &Context, force: bool, print: bool) -> Result<Exit, Failure> {
    let loaded = context.load(&SpecOptions::default(), &[], Refusals::Warn)?;
    let section = section(&loaded.spec);
    if print {
        Output::stdout().text(&section);
        return Ok(Exit::Done);
    }
    let folder = &loaded.spec.folder;
    let path = folder.join(FILE);
    let there = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot_write(folder, FILE, &error)),
    };
    if has_section(&there) && !force {
        let hint = "`--force` replaces it, `--print` shows the new one".to_owned();
        return Err(Failure::failed(format!("`{FILE}` has a section `{HEADING}` already"), Some(hint)));
    }
    std::fs::write(&path, merged(&there, &section)).map_err(|error| cannot_write(folder, FILE, &error))?;
    if context.globals.json {
        Output::stdout().json(&serde_json::json!({ "file": path }));
    } else {
        Output::stderr().line(&format!("wrote the section `{HEADING}` of {}", shown(&path)));
    }
    Ok(Exit::Done)
}

fn shown(path: &Path) -> String {
    let here = Context::folder().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    short.unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// What an agent needs to know of this project.
fn section(spec: &Spec) -> String {
    let services: Vec<String> = spec.services.keys().map(|name| format!("`{name}`")).collect();
    let file = spec.files.first().and_then(|file| file.file_name()).unwrap_or_default().to_string_lossy();
    let tasks: Vec<String> = spec.tasks.keys().map(|name| format!("`{name}`")).collect();
    let tasks = if tasks.is_empty() {
        String::new()
    } else {
        format!("- `sandbox task NAME` runs a command of this project: {}.\n", tasks.join(", "))
    };
    format!(
        "{HEADING}

`{file}` describes this project as a disposable environment ({services}). Use one for what needs running
services: tests, migrations, reproducing a bug. It is isolated, and destroyed with all its data at the end, so try
things in it freely.

- MCP server `sandbox`: `up`, then `sql`, `http`, `exec`, `logs`. `snapshot` before a risky step, `reset` after it,
  `fork` to compare two ways.
- Command line: `sandbox run -- CMD` builds an environment, runs CMD on this machine with the services' addresses as
  variables, and destroys it. `sandbox run --in SERVICE -- CMD` runs CMD in a service.
{tasks}- Services reach the internet only as far as `egress` in `{file}` allows; `sandbox egress` shows what was refused.
  Ask before you widen it.
- Leave containers and volumes named `sbx-…` to `sandbox`.
",
        services = services.join(", ")
    )
}

fn has_section(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == HEADING)
}

/// The text with the section at its place, or at the end.
fn merged(text: &str, section: &str) -> String {
    let is_heading = |line: &str| line.starts_with("# ") || line.starts_with("## ");
    let (mut before, mut after, mut inside) = (String::new(), String::new(), false);
    for line in text.lines() {
        if line.trim_end() == HEADING {
            inside = true;
        } else if inside && is_heading(line) || !after.is_empty() {
            inside = false;
            after += &format!("{line}\n");
        } else if !inside {
            before += &format!("{line}\n");
        }
    }
    let gap = if before.is_empty() || before.ends_with("\n\n") { "" } else { "\n" };
    let tail = if after.is_empty() { String::new() } else { format!("\n{after}") };
    format!("{before}{gap}{section}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &str = "## Sandbox\n\nnew\n";

    #[test]
    fn the_rest_of_the_file_stays() {
        assert_eq!(merged("", SECTION), SECTION);
        assert_eq!(merged("# Shop\n\nUse tabs.\n", SECTION), format!("# Shop\n\nUse tabs.\n\n{SECTION}"));
        let old = "# Shop\n\n## Sandbox\n\nold\n### deep\nold\n\n## Style\n\nUse tabs.\n";
        assert_eq!(merged(old, SECTION), format!("# Shop\n\n{SECTION}\n## Style\n\nUse tabs.\n"));
    }

    #[test]
    fn a_section_is_known_by_its_heading() {
        assert!(has_section("a\n## Sandbox  \nb"));
        assert!(!has_section("a\n## Sandboxes\n### Sandbox\n"));
    }
}
