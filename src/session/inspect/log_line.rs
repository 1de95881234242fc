//! A line of a service's log, and the container that it comes from.

use jiff::Timestamp;

use super::{replica_of, service_of};
use crate::engine::ContainerSummary;
use crate::session::event::{LogText, Stream};

/// A line of a service's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The service.
    pub service: String,
    /// The replica's number, from 1.
    pub replica: u32,
    /// The stream that it was written to.
    pub stream: Stream,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// The line, without its line ending.
    pub text: LogText,
}

/// A container whose log is read, and the name it is shown under.
#[derive(Debug, Clone)]
pub struct Source {
    /// The container's id, since another container may take its name.
    pub container: String,
    /// The service's name.
    pub service: String,
    /// The replica's number.
    pub replica: u32,
}

impl From<&ContainerSummary> for Source {
    fn from(summary: &ContainerSummary) -> Self {
        Self {
            container: summary.id.clone(),
            service: service_of(summary).to_owned(),
            replica: replica_of(summary),
        }
    }
}
