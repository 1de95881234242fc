//! JSON Schema of our own keys.

use serde_json::{Map, Value as Json, json};

use super::super::seed::SYNTAX;
use super::shape::{
    closed, duration, flag, int, keys, list, number, one_or_more, pairs, reference, scalar, short_or, size,
    text, texts, words,
};

pub(super) fn top_words() -> Map<String, Json> {
    let lifetime = closed(
        "How long a sandbox lives.",
        keys(&[
            ("ttl", duration("Its longest life.")),
            ("idle", duration("How long it may be unused.")),
            ("grace", duration("How long a lost session may stay lost; 10s if none is written.")),
        ]),
    );
    let limits = closed(
        "Limits shared by all services.",
        keys(&[("memory", size("Memory.")), ("cpus", number("Processors.")), ("pids", int("Processes."))]),
    );
    let task = closed(
        "A named command.",
        keys(&[
            ("run", one_or_more("The command: a line for a shell, or a list of words.")),
            ("in", text("The service it runs in; the host if none.")),
            ("description", text("What it is for.")),
            ("environment", pairs("More environment.")),
            ("working_dir", text("The folder it runs in.")),
        ]),
    );
    let requires = closed(
        "What the machine must have; checked before `up` and by `doctor`.",
        keys(&[
            ("memory", size("Memory of the engine's machine.")),
            ("disk", size("Free disk space of the engine.")),
            ("engine", text("The engine's version: `>=24`.")),
            ("commands", texts("Programs on this machine's PATH.")),
        ]),
    );
    let task = json!({ "anyOf": [{ "type": ["string", "array"], "items": scalar() }, task] });
    keys(&[
        ("lifetime", lifetime),
        (
            "egress",
            json!({
                "description": "What may leave the sandbox: nothing (the default), everything but the host, or what is listed.",
                "anyOf": [{ "enum": ["deny", "allow"] }, { "type": "array", "items": { "type": "string" } }],
            }),
        ),
        ("limits", limits),
        ("durable", flag("Whether fsync means fsync. Throwaway data needs none.")),
        ("artifacts", texts("What is brought out before anything is destroyed: `SERVICE:/path`.")),
        (
            "tasks",
            json!({ "type": ["object", "null"], "additionalProperties": task, "description": "Named commands." }),
        ),
        ("welcome", text("Shown when the sandbox is ready, and by `sandbox welcome`.")),
        ("open", one_or_more("Pages that `sandbox open` opens; a service's name stands for its address.")),
        ("requires", requires),
        (
            "env",
            pairs(
                "More variables for commands on this machine, with `${secret:NAME}`, `${host:SERVICE}` and \
                 `${port:SERVICE:PORT}`.",
            ),
        ),
    ])
}

pub(super) fn service_words() -> Map<String, Json> {
    let http = closed(
        "A request that must be answered.",
        keys(&[
            ("path", text("The path.")),
            ("port", int("The container's port; its first exposed one if none.")),
            ("status", int("The status asked for; 200 to 399 if none.")),
            ("headers", pairs("Headers to send.")),
        ]),
    );
    let ready = closed(
        "How the service is seen to be ready.",
        keys(&[
            ("exec", one_or_more("A command in the container that must succeed.")),
            ("tcp", int("A port that must accept.")),
            ("http", short_or(&http)),
            ("log", text("A regular expression that a line of the log must match.")),
            ("timeout", duration("How long it may take.")),
        ]),
    );
    keys(&[
        ("ready", json!({ "anyOf": [words(&["none"], "The service is ready once it runs."), ready] })),
        ("seed", list(reference("seed"), "What runs once the service is ready, in order: `sql`, `exec`.")),
        ("durable", flag("Whether fsync means fsync in this service.")),
    ])
}

pub(super) fn seed() -> Json {
    closed("One step of seeding.", keys(&SYNTAX.iter().flat_map(|kind| (kind.schema)()).collect::<Vec<_>>()))
}
