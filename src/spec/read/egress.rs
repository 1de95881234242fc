//! Reads `egress`.

use super::super::model::{EgressPolicy, EgressRule};
use super::super::node::{Node, Value};
use super::super::problem::ProblemKind;
use super::Reader;

impl Reader<'_> {
    pub(super) fn egress(&self, node: &Node) -> EgressPolicy {
        const HINT: &str = "`deny`, `allow`, or a list of names and addresses";
        match &node.value {
            Value::Str(word) if word == "deny" => EgressPolicy::Deny,
            Value::Str(word) if word == "allow" => EgressPolicy::Allow,
            Value::Seq(items) => EgressPolicy::List(
                items
                    .iter()
                    .filter_map(|item| {
                        let text = item.scalar().unwrap_or_default();
                        text.parse::<EgressRule>()
                            .map_err(|reason| {
                                let message = format!("`{text}` cannot be let out: {reason}");
                                let hint = "write `api.example.org`, `*.example.org`, `10.1.2.3:5432` or `10.0.0.0/8`";
                                self.log.hinted(ProblemKind::Value, item.span, message, hint);
                            })
                            .ok()
                    })
                    .collect(),
            ),
            Value::Str(word) => {
                let message = format!("`{word}` is not an egress policy");
                self.log.hinted(ProblemKind::Value, node.span, message, HINT);
                EgressPolicy::Deny
            }
            _ => {
                let message = format!("`egress` cannot be {}", node.kind());
                self.log.hinted(ProblemKind::Type, node.span, message, HINT);
                EgressPolicy::Deny
            }
        }
    }
}
