//! Converts errors of bollard and of the transport to [`EngineError`].

use bollard::errors::Error;

use super::wire::{WireError, with_sources};
use crate::engine::{EngineError, ErrorKind, ObjectKind};

/// The operation and object of a call, which become part of its error.
#[derive(Debug, Clone)]
pub(super) struct Call {
    operation: &'static str,
    object: ObjectKind,
    name: String,
}

/// A call described as "cannot `operation` `object` `name`".
pub(super) fn call(operation: &'static str, object: ObjectKind, name: impl Into<String>) -> Call {
    Call { operation, object, name: name.into() }
}

impl Call {
    /// Converts an error of bollard.
    pub(super) fn failed(&self, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                self.refused(Some(status_code), message)
            }
            Error::DockerStreamError { error } => self.refused(None, error),
            Error::RequestTimeoutError => self.of(ErrorKind::Timeout, "the engine did not answer in time"),
            Error::IOError { err } => self.unreachable(&err),
            Error::HyperResponseError { err } => self.of(ErrorKind::Unreachable, with_sources(&err)),
            other => self.refused(None, with_sources(&other)),
        }
    }

    /// Like `failed`, for `map_err`.
    pub(super) fn on_failed(self) -> impl FnOnce(Error) -> EngineError {
        move |error| self.failed(error)
    }

    /// Converts an error of the transport.
    pub(super) fn broke(&self, error: WireError) -> EngineError {
        match error {
            WireError::Dial(error) => self.unreachable(&error),
            WireError::Http(error) => self.of(ErrorKind::Unreachable, with_sources(&error)),
            WireError::Request(words) => self.of(ErrorKind::Invalid, words),
            WireError::Refused { status, message } => self.refused(Some(status), message),
        }
    }

    /// An error whose class is derived from the engine's message.
    pub(super) fn refused(&self, status: Option<u16>, words: impl Into<String>) -> EngineError {
        EngineError::classified(self.operation, self.object, &self.name, status, words)
    }

    /// An error of a known class.
    pub(super) fn of(&self, kind: ErrorKind, words: impl Into<String>) -> EngineError {
        EngineError::new(self.operation, self.object, &self.name, kind, words)
    }

    fn unreachable(&self, error: &std::io::Error) -> EngineError {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Unauthorized,
            _ => ErrorKind::Unreachable,
        };
        self.of(kind, with_sources(error))
    }
}

/// Converts a "not found" error to `None`.
pub(super) fn found<T>(outcome: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match outcome {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
