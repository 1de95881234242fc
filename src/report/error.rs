//! Formats errors: the message, its causes, and the hint separately; problems of a spec with their place in the file.

use std::error::Error;
use std::fmt::Write as _;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, ThemeStyles};

use super::style::{Colour, Glyph, Glyphs, OutputStyle, Tint};

/// The messages of an error and its causes, outermost first. A cause that the previous message already ends with is
/// omitted.
pub fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts: Vec<String> = vec![without_number(&error.to_string()).to_owned()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = without_number(&cause.to_string()).to_owned();
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

/// Removes the number from an error of the operating system: `No such file or directory (os error 2)`.
fn without_number(text: &str) -> &str {
    let number = |rest: &str| rest.strip_suffix(')').is_some_and(|digits| digits.parse::<i32>().is_ok());
    text.rsplit_once(" (os error ").filter(|(_, rest)| number(rest)).map_or(text, |(words, _)| words)
}

/// An error as lines: `error: message`, each cause, the hint.
pub fn lines(look: OutputStyle, error: &dyn Error, hint: Option<&str>) -> Vec<String> {
    let texts = chain(error);
    let mut lines = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let mut parts = text.lines();
        let first = parts.next().unwrap_or_default();
        lines.push(if index == 0 {
            format!("{}: {first}", look.paint(Tint::Bad, "error"))
        } else {
            format!("  {}: {first}", look.paint(Tint::Faint, "because"))
        });
        lines.extend(parts.map(|line| format!("    {line}")));
    }
    for (index, hint) in hint.into_iter().flat_map(str::lines).enumerate() {
        let lead = if index == 0 { look.mark(Glyph::Arrow) } else { " ".to_owned() };
        lines.push(format!("  {lead} {hint}"));
    }
    lines
}

/// An error as one JSON object: `{"error": […], "hint": …}`.
pub fn json(error: &dyn Error, hint: Option<&str>) -> serde_json::Value {
    let mut object = serde_json::json!({ "error": chain(error) });
    if let Some(hint) = hint {
        object["hint"] = hint.into();
    }
    object
}

/// Problems of a spec, each with the source lines that it refers to, followed by their number.
pub fn problems<'a>(
    look: OutputStyle,
    width: usize,
    problems: impl IntoIterator<Item = &'a dyn Diagnostic>,
) -> String {
    let handler = handler(look, width);
    let mut text = String::new();
    let mut count = 0;
    for problem in problems {
        if count > 0 {
            text.push('\n');
        }
        count += 1;
        if handler.render_report(&mut text, problem).is_err() {
            // The place is outside its source; the message alone is printed.
            let _ = writeln!(text, "{problem}");
        }
    }
    if count > 1 {
        let _ = writeln!(text, "\n{}", look.paint(Tint::Bad, &format!("{count} problems")));
    }
    text
}

fn handler(look: OutputStyle, width: usize) -> GraphicalReportHandler {
    let characters = match look.glyphs {
        Glyphs::Unicode => miette::ThemeCharacters::unicode(),
        Glyphs::Ascii => miette::ThemeCharacters::ascii(),
    };
    let styles = match look.colour {
        Colour::On => ThemeStyles::ansi(),
        Colour::Off => ThemeStyles::none(),
    };
    GraphicalReportHandler::new_themed(GraphicalTheme { characters, styles })
        .with_links(false)
        .with_context_lines(1)
        .with_width(width.clamp(40, 120))
}

#[cfg(test)]
mod tests {
    use std::io;

    use miette::{NamedSource, SourceSpan};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot remove network `sbx-shop.default`")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("unknown key `imagee`")]
    #[diagnostic(help("did you mean `image`?"))]
    struct Unknown {
        #[source_code]
        file: NamedSource<String>,
        #[label("not a key of a service")]
        at: SourceSpan,
    }

    fn unknown() -> Unknown {
        Unknown {
            file: NamedSource::new("sandbox.yaml", "services:\n  db:\n    imagee: postgres\n".to_owned()),
            at: (20, 6).into(),
        }
    }

    #[test]
    fn causes_stand_below_the_message_and_the_way_out_apart() {
        let error = Outer(io::Error::other("network has active endpoints"));
        insta::assert_snapshot!(lines(OutputStyle::BARE, &error, Some("`sandbox down` tries again")).join("\n"), @r"
        error: cannot remove network `sbx-shop.default`
          because: network has active endpoints
          → `sandbox down` tries again
        ");
    }

    #[test]
    fn a_problem_shows_its_place_and_what_was_meant() {
        insta::assert_snapshot!(problems(OutputStyle::BARE, 80, [&unknown() as &dyn Diagnostic]));
    }

    #[test]
    fn several_problems_are_all_shown_and_counted() {
        let (one, two) = (unknown(), unknown());
        let text = problems(OutputStyle::BARE, 80, [&one as &dyn Diagnostic, &two]);
        assert_eq!(text.matches("did you mean").count(), 2);
        assert!(text.ends_with("2 problems\n"), "{text}");
    }
}
