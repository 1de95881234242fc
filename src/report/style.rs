//! Colours and glyphs of an output, and removal of control sequences from untrusted text.

use std::borrow::Cow;
use std::sync::OnceLock;

use console::Style;

/// The meaning of a text, from which its colour follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tint {
    /// Success.
    Good,
    /// Needs attention.
    Warn,
    /// Failure.
    Bad,
    /// In progress.
    Busy,
    /// Less important than its surroundings.
    Faint,
    /// More important than its surroundings.
    Strong,
    /// One of several names, each in its own colour.
    Name(usize),
}

/// A mark at the start of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyph {
    /// Done successfully.
    Done,
    Failed,
    /// Needs attention.
    Warning,
    /// Not started.
    Pending,
    /// In progress; the number is the frame of the animation.
    Busy(usize),
    /// An arrow to what follows.
    Arrow,
}

/// The style of an output: colours or none, Unicode or ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputStyle {
    /// Whether escape sequences for colour may be written.
    pub colour: Colour,
    /// The characters used for lines and marks.
    pub glyphs: Glyphs,
}

/// Whether escape sequences for colour may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Colours are allowed.
    On,
    /// Plain text only.
    Off,
}

/// The command line's setting for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Decided by the terminal and the environment.
    Detected,
    /// No colours (`--no-color`, `--ansi never`).
    Never,
    /// Colours everywhere (`--ansi always`).
    Always,
}

static COLOURS: OnceLock<Colours> = OnceLock::new();

/// Stores the command line's setting for colours. Called once, before any output.
pub fn set_colours(colours: Colours) {
    if colours != Colours::Detected {
        let _ = COLOURS.set(colours);
    }
}

/// The characters used for lines and marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyphs {
    /// Box drawing, ticks, Braille.
    Unicode,
    /// ASCII only, for every terminal and log viewer.
    Ascii,
}

impl OutputStyle {
    /// No colour, Unicode marks: for files and pipes.
    #[cfg(test)]
    pub const BARE: Self = Self { colour: Colour::Off, glyphs: Glyphs::Unicode };

    /// Detects the style for an output that is or is not a terminal, from `NO_COLOR`, `CLICOLOR_FORCE`, `TERM`, and
    /// the locale's character set.
    pub fn detect(is_terminal: bool, environment: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let detected = set("NO_COLOR").is_none() && (forced || (is_terminal && !dumb));
        let colour = match COLOURS.get() {
            Some(Colours::Never) => false,
            Some(Colours::Always) => true,
            Some(Colours::Detected) | None => detected,
        };
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let ascii = is_terminal && (dumb || locale.is_some_and(|locale| locale == "C" || locale == "POSIX"));
        Self {
            colour: if colour { Colour::On } else { Colour::Off },
            glyphs: if ascii { Glyphs::Ascii } else { Glyphs::Unicode },
        }
    }

    /// `text` in the colour of `tone`.
    pub fn paint(self, tone: Tint, text: &str) -> String {
        if self.colour == Colour::Off || text.is_empty() {
            return text.to_owned();
        }
        let style = match tone {
            Tint::Good => Style::new().green(),
            Tint::Warn => Style::new().yellow(),
            Tint::Bad => Style::new().red(),
            Tint::Busy => Style::new().cyan(),
            Tint::Faint => Style::new().dim(),
            Tint::Strong => Style::new().bold(),
            Tint::Name(index) => Style::new().color256(NAMES[index % NAMES.len()]),
        };
        style.force_styling(true).apply_to(text).to_string()
    }

    /// A mark, in its colour.
    pub fn mark(self, glyph: Glyph) -> String {
        let unicode = self.glyphs == Glyphs::Unicode;
        let pick = |rich, poor| if unicode { rich } else { poor };
        let (tone, text) = match glyph {
            Glyph::Done => (Tint::Good, pick("✔", "+")),
            Glyph::Failed => (Tint::Bad, pick("✘", "x")),
            Glyph::Warning => (Tint::Warn, "!"),
            Glyph::Pending => (Tint::Faint, pick("·", ".")),
            Glyph::Busy(frame) => {
                (Tint::Busy, pick(SPINNER[frame % SPINNER.len()], ["|", "/", "-", "\\"][frame % 4]))
            }
            Glyph::Arrow => (Tint::Faint, pick("→", "->")),
        };
        self.paint(tone, text)
    }
}

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Colours of the 256-colour palette that are legible on dark and light backgrounds and differ from each other.
const NAMES: [u8; 12] = [39, 208, 77, 170, 178, 44, 203, 141, 107, 215, 69, 168];

/// A log line that is safe for a terminal: colours stay if colours are on, every other control sequence is removed,
/// and of a line that overwrites itself (`\r`) only the last visible text stays.
pub fn harmless(line: &str, colour: Colour) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut clean = String::with_capacity(line.len());
    let mut coloured = false;
    for (piece, is_sequence) in console::AnsiCodeIterator::new(line) {
        if is_sequence {
            if colour == Colour::On && is_colour(piece) {
                clean.push_str(piece);
                coloured = true;
            }
        } else {
            clean.extend(piece.chars().filter(|c| *c == '\t' || !acts(*c)));
        }
    }
    if coloured {
        clean.push_str("\u{1b}[0m");
    }
    clean
}

/// A text of several lines, possibly with untrusted parts, that is safe for a terminal: control sequences, invisible
/// and reordering characters are removed. Colours stay, because our own text uses them.
pub fn on_terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && c != '\t' && acts(c)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut ends_plain = true;
    for (piece, is_sequence) in console::AnsiCodeIterator::new(text) {
        if !is_sequence {
            clean.extend(piece.chars().filter(|c| matches!(c, '\n' | '\t') || !acts(*c)));
        } else if is_colour(piece) {
            clean.push_str(piece);
            ends_plain = matches!(piece, "\u{1b}[0m" | "\u{1b}[m");
        }
    }
    if !ends_plain {
        clean.push_str("\u{1b}[0m");
    }
    Cow::Owned(clean)
}

/// Makes JSON safe for a terminal without changing its meaning: escapes the characters that a terminal interprets and
/// that JSON does not escape.
pub fn json_on_terminal(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| c != '\n' && acts(c)) {
        return Cow::Borrowed(json);
    }
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && acts(c) {
            clean.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Whether a terminal interprets a character instead of showing it: control characters, including those above ASCII,
/// and Unicode's explicit bidirectional formatting.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a sequence only changes the look of text. Concealed text does not count.
fn is_colour(sequence: &str) -> bool {
    const CONCEAL: &str = "8";
    let Some(numbers) = sequence.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m')) else {
        return false;
    };
    if !numbers.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':') {
        return false;
    }
    let mut words = numbers.split(';');
    while let Some(word) = words.next() {
        match word.trim_start_matches('0') {
            // The parameters of the colour follow.
            "38" | "48" | "58" => match words.next() {
                Some("5") => drop(words.next()),
                Some("2") => drop(words.by_ref().take(3).count()),
                _ => {}
            },
            CONCEAL => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn no_color_wins_over_a_terminal_and_over_force() {
        assert_eq!(OutputStyle::detect(true, environment(&[])).colour, Colour::On);
        assert_eq!(OutputStyle::detect(false, environment(&[])).colour, Colour::Off);
        assert_eq!(OutputStyle::detect(true, environment(&[("NO_COLOR", "1")])).colour, Colour::Off);
        assert_eq!(OutputStyle::detect(true, environment(&[("NO_COLOR", "")])).colour, Colour::On);
        assert_eq!(
            OutputStyle::detect(false, environment(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")])).colour,
            Colour::Off
        );
    }

    #[test]
    fn a_dumb_terminal_gets_neither_colours_nor_unicode() {
        let look = OutputStyle::detect(true, environment(&[("TERM", "dumb")]));
        assert_eq!(look, OutputStyle { colour: Colour::Off, glyphs: Glyphs::Ascii });
    }

    #[test]
    fn a_log_line_cannot_move_the_cursor_or_clear_the_screen() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{1b}[31mred\u{7}", Colour::On), "ab\u{1b}[31mred\u{1b}[0m");
        assert_eq!(harmless("a\u{1b}[2Jb\u{1b}[31mred", Colour::Off), "abred");
        assert_eq!(harmless("10%\r20%\r", Colour::Off), "20%");
        assert_eq!(
            harmless("\u{1b}]0;title\u{7}x", Colour::Off).chars().filter(|c| c.is_control()).count(),
            0
        );
    }

    #[test]
    fn other_people_s_text_reaches_a_terminal_without_control_sequences() {
        for (text, shown) in [
            ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
            ("a\u{1b}[2Jb\u{1b}]0;title\u{7}c", "abc"),
            ("50%\r100%", "50%100%"),
            ("\u{9b}2Jx", "x"),
            ("user\u{202e}txt", "usertxt"),
            ("\u{1b}[31mred", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[8mhidden\u{1b}[38;5;8mgrey\u{1b}[0m", "hidden\u{1b}[38;5;8mgrey\u{1b}[0m"),
            ("\u{1b}[08mhidden", "hidden"),
            ("\u{1b}P+q544e\u{1b}\\x", "x"),
        ] {
            let clean = on_terminal(text);
            assert!(!clean.contains('\u{7}') && !clean.contains('\u{9b}'), "{clean:?}");
            assert_eq!(clean.matches('\u{1b}').count(), shown.matches('\u{1b}').count(), "{clean:?}");
            assert_eq!(clean, shown, "{text:?}");
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "note": "a\u{9b}b\u{202e}\u{1b}[2J" });
        let text = value.to_string();
        let clean = json_on_terminal(&text);
        assert!(clean.chars().all(|c| !acts(c)), "{clean:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), value);
    }
}
