//! Where a volume's initial content comes from.

use std::fmt;

use crate::storage::VolumePath;

/// The source of a volume's initial content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// It starts empty (and is filled from the image when a container is created on it).
    Empty,
    /// It starts as a clone of this path.
    Clone(VolumePath),
    /// It exists already; the path is the origin of its data, if known.
    Given(Option<VolumePath>),
}

impl VolumeSource {
    /// The origin that a reset restores the volume from; `None` if that is the image's content, or unknown.
    pub fn origin(&self) -> Option<&VolumePath> {
        match self {
            Self::Empty => None,
            Self::Clone(from) => Some(from),
            Self::Given(origin) => origin.as_ref(),
        }
    }
}

impl fmt::Display for VolumeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Given(_) => f.write_str("as it is"),
            Self::Clone(path) => write!(f, "as a clone of `{path}`"),
        }
    }
}
