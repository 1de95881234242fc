//! The user's settings for all sandboxes on a machine: `config.yaml` in the user's configuration folder.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use super::units;

/// The user's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Maximum number of sandboxes at the same time.
    pub max_sandboxes: Option<usize>,
    /// Maximum memory of all sandboxes together in bytes, by their limits.
    #[serde(deserialize_with = "size")]
    pub max_memory: Option<u64>,
    /// The ranges that subnets are allocated from, in order of preference.
    pub subnets: Option<Vec<String>>,
}

impl Settings {
    /// Parses the file's text; an empty file sets nothing.
    ///
    /// # Errors
    /// Returns the cause and its location.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if !text.lines().any(is_content) {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }
}

/// Parses a size of a spec: `16g`, or bytes.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Size;
    impl de::Visitor<'_> for Size {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as 16g")
        }

        fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Self::Value, E> {
            Ok(Some(bytes))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            units::size(text).map(Some).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_sizes_as_a_spec_writes_them() {
        let text = "max_sandboxes: 4\nmax_memory: 16g\nsubnets: [10.50.0.0/16]\n";
        let expected = Settings {
            max_sandboxes: Some(4),
            max_memory: Some(16 << 30),
            subnets: Some(vec!["10.50.0.0/16".to_owned()]),
        };
        assert_eq!(Settings::parse(text), Ok(expected));
        assert_eq!(Settings::parse("# nothing yet\n"), Ok(Settings::default()));
    }

    #[test]
    fn a_key_that_is_none_of_ours_is_named() {
        let error = Settings::parse("max_sandboxs: 4\n").unwrap_err();
        assert!(error.contains("max_sandboxs"), "{error}");
        assert!(Settings::parse("max_memory: lots\n").is_err());
    }
}
