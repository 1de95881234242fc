//! The text of a log line: any bytes, converted to UTF-8 where that is needed.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A log line without its line ending. JSON replaces bytes that are not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogText(Vec<u8>);

impl LogText {
    /// The bytes as they were written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The line as text; bytes that are not UTF-8 are replaced.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<Vec<u8>> for LogText {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for LogText {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for LogText {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Serialize for LogText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for LogText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into_bytes()))
    }
}
