//! Selects the objects of a listing by label and name.

use std::collections::BTreeMap;

/// Selects objects: every label must match and, if any names are given, one of them must be the object's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Label keys, each with the value it must have (`None`: any).
    pub labels: Vec<(String, Option<String>)>,
    /// Whole names (not patterns); empty for any name.
    pub names: Vec<String>,
    /// Containers only: exclude stopped ones.
    pub only_running: bool,
}

impl Filter {
    /// Selects all objects.
    pub fn all() -> Self {
        Self::default()
    }

    /// Also requires that the label `key` has this value.
    #[must_use]
    pub fn label(mut self, key: &str, value: impl Into<String>) -> Self {
        self.labels.push((key.to_owned(), Some(value.into())));
        self
    }

    /// Also requires that the label `key` exists.
    #[must_use]
    pub fn has_label(mut self, key: &str) -> Self {
        self.labels.push((key.to_owned(), None));
        self
    }

    /// Also accepts this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Excludes containers that are not running.
    #[must_use]
    pub fn running(mut self) -> Self {
        self.only_running = true;
        self
    }

    /// Whether the filter selects an object with this name and these labels.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.matches_name(name) && self.matches_labels(labels)
    }

    /// Whether the name is one of the accepted names.
    pub fn matches_name(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }

    /// Whether all required labels match.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| match (labels.get(key), value) {
            (Some(_), None) => true,
            (Some(have), Some(want)) => have == want,
            (None, _) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_label_must_match_and_one_name() {
        let filter = Filter::all().label("a", "1").has_label("b").name("x").name("y");
        assert!(filter.matches("y", &labels(&[("a", "1"), ("b", "")])));
        assert!(!filter.matches("z", &labels(&[("a", "1"), ("b", "")])));
        assert!(!filter.matches("x", &labels(&[("a", "2"), ("b", "")])));
        assert!(!filter.matches("x", &labels(&[("a", "1")])));
        assert!(Filter::all().matches("anything", &labels(&[])));
    }
}
