//! Lines of services' logs: coloured, aligned prefixes, the same everywhere that logs are shown.

use crate::engine::identity;
use crate::report::look::{Colour, Look, Tone, harmless};

/// Knows how wide the prefixes are and which service has which colour.
#[derive(Debug, Default)]
pub struct Prefixes {
    names: Vec<String>,
    width: usize,
}

/// Prefixes wider than this are cut, so that a long name does not push every log to the right.
const WIDEST: usize = 24;

impl Prefixes {
    /// Prefixes for these services, in this order.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut prefixes = Self::default();
        for name in names {
            prefixes.index(name);
        }
        prefixes
    }

    /// Which service this is, counted in the order in which they were first seen.
    pub fn index(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            return index;
        }
        self.names.push(name.to_owned());
        self.width = self.width.max(console::measure_text_width(name).min(WIDEST));
        self.names.len() - 1
    }

    /// A name as wide as the widest, in its colour.
    pub fn name(&mut self, look: Look, name: &str) -> String {
        let index = self.index(name);
        let padded = console::pad_str(name, self.width, console::Alignment::Left, Some("…"));
        look.paint(Tone::Name(index), &padded)
    }

    /// `name │ line`; what would disturb the terminal is taken out of the line.
    pub fn line(&mut self, look: Look, name: &str, line: &str) -> String {
        let prefix = self.name(look, name);
        let bar = look.paint(Tone::Faint, "|");
        let line = harmless(line, look.colour);
        if line.is_empty() { format!("{prefix} {bar}") } else { format!("{prefix} {bar} {line}") }
    }
}

/// A service's name in a prefix: replicas from the second on carry their number.
pub fn log_name(service: &str, replica: u32) -> String {
    identity::replica_name(service, replica)
}

/// A line on its way to a pipe or a file, without a prefix: as it is.
pub fn bare(look: Look, line: &str) -> String {
    if look.colour == Colour::On { harmless(line, Colour::On) } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_aligned_and_long_names_are_cut() {
        let mut prefixes = Prefixes::of(["db", "web-frontend"]);
        assert_eq!(prefixes.line(Look::BARE, "db", "ready"), "db           | ready");
        assert_eq!(prefixes.line(Look::BARE, "web-frontend", ""), "web-frontend |");
        let long = "a-service-with-a-very-long-name-indeed";
        assert_eq!(prefixes.line(Look::BARE, long, "x"), "a-service-with-a-very-l… | x");
    }

    #[test]
    fn a_service_keeps_its_colour() {
        let mut prefixes = Prefixes::of(["db", "web"]);
        assert_eq!(prefixes.index("web"), 1);
        assert_eq!(prefixes.index("cache"), 2);
        assert_eq!(prefixes.index("web"), 1);
    }
}
