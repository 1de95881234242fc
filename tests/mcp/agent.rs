//! A client of the protocol, message by message.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Session, World};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// A client and its server.
pub struct Agent {
    session: Session,
    next: u64,
    inline: bool,
}

/// The text between the markers.
pub fn inner(marked: &str) -> &str {
    let (_, rest) = marked.split_once('\n').expect("an opening marker");
    &rest[..rest.rfind("</untrusted").expect("a closing marker")]
}

impl Agent {
    /// Starts a server and initializes the connection, as clients of the older protocol do.
    pub fn start(world: &World, options: &[&str]) -> Self {
        let mut agent = Self::begin(world, options, false);
        let client = json!({ "name": "test", "version": "1" });
        let answer = agent.ask(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client }),
        );
        assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{answer}");
        agent.notify("notifications/initialized", json!({}));
        agent
    }

    /// Starts a server for requests that describe themselves, as those of the newer protocol do.
    pub fn without_initialize(world: &World, options: &[&str]) -> Self {
        Self::begin(world, options, true)
    }

    fn begin(world: &World, options: &[&str], inline: bool) -> Self {
        let session = world.spawn(["mcp"].iter().chain(options));
        Self { session, next: 0, inline }
    }

    fn write(&mut self, message: &Value) {
        self.session.write(&format!("{message}\n"));
    }

    /// Sends a request and returns its id.
    pub fn send(&mut self, method: &str, mut params: Value) -> u64 {
        self.next += 1;
        if self.inline {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        self.write(&json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }));
        self.next
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: Value) {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Waits for a message.
    #[track_caller]
    pub fn hears(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let text = self.session.stdout();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let mut messages =
                whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"));
            if let Some(message) = messages.find(&mut wanted) {
                return message;
            }
            let running = self.session.is_running();
            assert!(running && start.elapsed() < PATIENCE, "no answer\n{text}\n{}", self.session.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.hears(|message| message["id"] == id)
    }

    /// Calls a tool and returns its result.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert!(answer.get("result").is_some(), "{tool}: {answer}");
        answer["result"].clone()
    }

    #[track_caller]
    fn facts(&mut self, tool: &str, arguments: Value, fails: bool) -> Value {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"].as_bool().unwrap_or_default(), fails, "{tool}: {result}");
        serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
    }

    /// Calls a tool that must succeed, and returns its facts.
    #[track_caller]
    pub fn succeeds(&mut self, tool: &str, arguments: Value) -> Value {
        self.facts(tool, arguments, false)
    }

    /// Calls a tool that must fail, and returns its error.
    #[track_caller]
    pub fn fails(&mut self, tool: &str, arguments: Value) -> Value {
        self.facts(tool, arguments, true)
    }

    /// Closes the connection.
    pub fn close(mut self) -> Session {
        self.session.close_stdin();
        self.session
    }

    /// Kills the server.
    pub fn kill(mut self) {
        self.session.kill();
    }
}
