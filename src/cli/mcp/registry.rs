//! The sandboxes that the server owns. No tool reaches any other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::held::Held;
use super::reply::ErrorReply;
use crate::cli::{Exit, Failure};
use crate::spec::SandboxName;

/// The server's own sandboxes, by name.
pub(super) struct Registry {
    /// Ends every name.
    suffix: String,
    owned: Mutex<BTreeMap<SandboxName, Arc<Held>>>,
}

impl Registry {
    /// An empty registry with a suffix of its own.
    pub fn new() -> Self {
        let suffix = format!("mcp-{}", hex::encode(rand::random::<[u8; 3]>()));
        Self { suffix, owned: Mutex::default() }
    }

    fn owned(&self) -> MutexGuard<'_, BTreeMap<SandboxName, Arc<Held>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a sandbox of this server.
    pub fn name(&self, base: &str) -> SandboxName {
        SandboxName::derive(base, Some(&self.suffix))
    }

    /// The part of a name before the suffix.
    pub fn base<'a>(&self, name: &'a SandboxName) -> &'a str {
        let name = name.as_str();
        name.strip_suffix(&format!("-{}", self.suffix)).unwrap_or(name)
    }

    /// The name of a stored snapshot of this server.
    pub fn snapshot_name(&self, base: &str) -> String {
        format!("{base}.{}", self.suffix)
    }

    /// Adds a sandbox.
    pub fn add(&self, held: Arc<Held>) {
        self.owned().insert(held.name.clone(), held);
    }

    /// Removes a sandbox, unless another has taken its name.
    pub fn remove(&self, held: &Held) {
        let mut owned = self.owned();
        if owned.get(&held.name).is_some_and(|known| known.id == held.id) {
            owned.remove(&held.name);
        }
    }

    /// All sandboxes.
    pub fn all(&self) -> Vec<Arc<Held>> {
        self.owned().values().cloned().collect()
    }

    /// A sandbox that lives, by its name.
    pub fn find(&self, name: &SandboxName) -> Option<Arc<Held>> {
        self.owned().get(name).filter(|held| held.end_so_far().is_none()).cloned()
    }

    /// The sandbox that a tool means: by name, with or without the suffix, or the only one.
    ///
    /// # Errors
    /// Fails if there is none, or more than one, or if it has ended.
    pub fn pick(&self, asked: Option<&str>) -> Result<Arc<Held>, ErrorReply> {
        let owned = self.owned();
        let found = match asked {
            Some(asked) => {
                let whole = self.name(asked);
                owned.values().find(|held| held.name.as_str() == asked || held.name == whole)
            }
            None if owned.len() > 1 => {
                let names: Vec<&str> = owned.keys().map(SandboxName::as_str).collect();
                let hint = format!("name one with `sandbox`: {}", names.join(", "));
                return Err(Failure::usage("this server has several sandboxes", Some(hint)).into());
            }
            None => owned.values().next(),
        };
        let held = found.ok_or_else(|| missing(asked, owned.keys()))?;
        match held.end_so_far() {
            None => Ok(Arc::clone(held)),
            Some(error) => Err(error),
        }
    }
}

fn missing<'a>(asked: Option<&str>, known: impl Iterator<Item = &'a SandboxName>) -> ErrorReply {
    let known: Vec<&str> = known.map(SandboxName::as_str).collect();
    let hint = match known.as_slice() {
        [] => "call `up` first".to_owned(),
        known => format!("this server's sandboxes are {}", known.join(", ")),
    };
    let error = match asked {
        Some(asked) => format!("this server has no sandbox `{asked}`"),
        None => "this server has no sandbox".to_owned(),
    };
    let facts = serde_json::json!({ "error": error, "hint": hint, "exit_code": Exit::NoSandbox.code() });
    super::reply::Reply::new(facts).into_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_never_choose_the_same_name() {
        let (one, two) = (Registry::new(), Registry::new());
        assert_ne!(one.name("shop"), two.name("shop"));
        assert_ne!(one.name(&"long".repeat(20)), two.name(&"long".repeat(20)));
        assert_ne!(one.snapshot_name("before"), two.snapshot_name("before"));
    }

    #[test]
    fn without_a_sandbox_a_tool_says_what_to_do() {
        let registry = Registry::new();
        for asked in [None, Some("shop")] {
            let error = serde_json::to_string(
                &super::super::reply::Reply::from(registry.pick(asked).err().unwrap()).into_result(),
            );
            assert!(error.unwrap().contains("call `up` first"));
        }
    }
}
