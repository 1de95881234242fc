//! The messages between `lend` and its clients: one JSON object a line. `man/fresh-databases.md` describes them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a lent database among those of one client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoanId {
    /// A number, also those that `lend` gives.
    Number(u64),
    /// A text.
    Text(String),
}

impl fmt::Display for LoanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A database.
    Take(Take),
    /// To take a database back, or to forget a `take` that still waits.
    Give(Give),
}

/// The fields of a `take`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    /// The client's name for the database; a number by default.
    #[serde(default)]
    pub id: Option<LoanId>,
}

/// The fields of a `give`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Give {
    /// The name from `taken`.
    pub id: LoanId,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The first line: databases can be taken.
    Ready(Terms),
    /// A database that nobody else has.
    Taken {
        /// Its name.
        id: LoanId,
        /// Its connection string, if the protocol is known.
        url: Option<String>,
        /// Environment variables for programs that use it.
        env: BTreeMap<String, String>,
    },
    /// No database is ready for a `take`; `taken` follows.
    Waiting {
        /// The name of the `take`.
        id: LoanId,
        /// What it waits for.
        reason: String,
    },
    /// A database was taken back.
    Given {
        /// Its name.
        id: LoanId,
    },
    /// A request failed.
    Error {
        /// The name in the request, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<LoanId>,
        /// The cause.
        message: String,
        /// How to solve it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// What is lent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Terms {
    /// The service.
    pub service: String,
    /// What a lent database is.
    pub kind: SourceKind,
    /// How many are kept ready.
    pub ready: usize,
    /// The most that exist at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<usize>,
    /// How long it took to make the first.
    pub seconds_each: f64,
    /// What the databases share.
    pub notes: Vec<String>,
}

/// What a lent database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A copy of a template database on one server.
    Template,
    /// A numbered database of one server.
    Numbered,
    /// A server of its own on a clone of the data.
    Whole,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, String> {
        serde_json::from_str(line).map_err(|error| error.to_string())
    }

    #[test]
    fn requests_are_read_with_and_without_a_name() {
        assert_eq!(read(r#"{"take":{}}"#), Ok(Request::Take(Take { id: None })));
        assert_eq!(read(r#"{"take":{"id":7}}"#), Ok(Request::Take(Take { id: Some(LoanId::Number(7)) })));
        let id = LoanId::Text("test_a".to_owned());
        assert_eq!(read(r#"{"give":{"id":"test_a"}}"#), Ok(Request::Give(Give { id })));
        assert!(read(r#"{"give":{}}"#).is_err());
        assert!(read(r#"{"borrow":{}}"#).unwrap_err().contains("`take` or `give`"));
        assert!(read(r#"{"take":{"name":"x"}}"#).unwrap_err().contains("name"));
    }

    #[test]
    fn replies_are_objects_with_one_key() {
        let id = LoanId::Text("a".to_owned());
        let line = |reply: &Reply| serde_json::to_string(reply).unwrap();
        assert_eq!(line(&Reply::Given { id: id.clone() }), r#"{"given":{"id":"a"}}"#);
        let taken = Reply::Taken { id, url: None, env: [("A".to_owned(), "1".to_owned())].into() };
        assert_eq!(line(&taken), r#"{"taken":{"id":"a","url":null,"env":{"A":"1"}}}"#);
        let error = Reply::Error { id: None, message: "no".to_owned(), hint: None };
        assert_eq!(line(&error), r#"{"error":{"message":"no"}}"#);
    }
}
