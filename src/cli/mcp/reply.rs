//! Replies of tools: our own words as JSON, then what programs in the sandbox wrote, marked.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::untrusted;
use crate::cli::Failure;
use crate::cli::support::failure::of_session;
use crate::engine::EngineError;
use crate::report::error::chain;
use crate::session::error::SessionError;
use crate::session::exec::copy::CopyError;
use crate::spec::{Problem, ProblemKind, Problems};

/// How many characters of an error message are sent.
const LONGEST: usize = 4000;
/// How many problems of a spec are sent.
const MOST_PROBLEMS: usize = 20;

/// What a tool returns.
#[derive(Debug)]
pub(super) struct Reply {
    facts: Value,
    untrusted: Option<String>,
    failed: bool,
}

/// A reply that reports a failure.
#[derive(Debug)]
pub(super) struct ErrorReply(Reply);

/// The outcome of a tool.
pub(super) type ToolResult = Result<Reply, ErrorReply>;

impl Reply {
    /// A reply in our own words.
    pub fn new(facts: Value) -> Self {
        Self { facts, untrusted: None, failed: false }
    }

    /// Our own words.
    pub fn facts(&self) -> &Value {
        &self.facts
    }

    /// Adds text that `source` wrote. Empty text is left out.
    #[must_use]
    pub fn with_untrusted(self, source: &str, text: &str) -> Self {
        let untrusted = (!text.is_empty()).then(|| untrusted::fenced(source, text));
        Self { untrusted, ..self }
    }

    /// The same reply, as a failure.
    pub fn into_error(self) -> ErrorReply {
        ErrorReply(Self { failed: true, ..self })
    }

    /// The reply in the protocol's form.
    pub fn into_result(self) -> CallToolResult {
        let facts = ContentBlock::text(self.facts.to_string());
        let content = std::iter::once(facts).chain(self.untrusted.map(ContentBlock::text)).collect();
        if self.failed { CallToolResult::error(content) } else { CallToolResult::success(content) }
    }
}

impl From<ErrorReply> for Reply {
    fn from(error: ErrorReply) -> Self {
        error.0
    }
}

impl From<Failure> for ErrorReply {
    fn from(failure: Failure) -> Self {
        let exit = failure.exit().code();
        match &failure {
            Failure::Spec(problems) => of_problems(problems, exit),
            Failure::Session(error) => Self::from(error),
            other => of_error(other, other.hint(), exit).into_error(),
        }
    }
}

impl From<&SessionError> for ErrorReply {
    fn from(error: &SessionError) -> Self {
        let log: Vec<String> = error.log().iter().map(|line| untrusted::plain(line)).collect();
        let reply = of_error(error, error.hint(), of_session(error).code());
        reply.with_untrusted("log", &log.join("\n")).into_error()
    }
}

impl From<SessionError> for ErrorReply {
    fn from(error: SessionError) -> Self {
        Self::from(&error)
    }
}

impl From<CopyError> for ErrorReply {
    fn from(error: CopyError) -> Self {
        Failure::from(error).into()
    }
}

impl From<EngineError> for ErrorReply {
    fn from(error: EngineError) -> Self {
        Failure::from(error).into()
    }
}

fn of_error(error: &dyn std::error::Error, hint: Option<String>, exit: u8) -> Reply {
    let text = shortened(&untrusted::plain(&chain(error).join(": ")));
    let mut facts = json!({ "error": text, "exit_code": exit });
    if let Some(hint) = hint {
        facts["hint"] = shortened(&untrusted::plain(&hint)).into();
    }
    Reply::new(facts)
}

fn of_problems(problems: &Problems, exit: u8) -> ErrorReply {
    let list: Vec<Value> = problems.into_iter().take(MOST_PROBLEMS).map(problem).collect();
    Reply::new(json!({ "error": "the spec has problems", "problems": list, "exit_code": exit })).into_error()
}

fn problem(problem: &Problem) -> Value {
    let mut shown = json!({ "message": shortened(&problem.message) });
    if let Some(place) = &problem.place {
        shown["at"] = format!("{}:{}:{}", place.file.display(), place.line, place.column).into();
    }
    // The user's own way out is an option of other verbs.
    let hint = match problem.kind {
        ProblemKind::HostAccess => {
            Some("this server gives no access to the host; take it out of the spec".to_owned())
        }
        _ => problem.hint.clone(),
    };
    if let Some(hint) = hint {
        shown["hint"] = hint.into();
    }
    shown
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_its_hint_and_exit_code_and_no_control_characters() {
        let failure = Failure::usage("no \u{1b}[2Jsuch thing", Some("try another".to_owned()));
        let result = serde_json::to_value(Reply::from(ErrorReply::from(failure)).into_result()).unwrap();
        assert_eq!(result["isError"], true);
        let facts: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(facts, json!({ "error": "no such thing", "hint": "try another", "exit_code": 2 }));
    }
}
