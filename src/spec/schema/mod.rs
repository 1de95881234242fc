//! Generates the JSON Schema of a spec for editors, with a description of each key.

mod container;
mod sandbox_keys;
mod service;
pub(super) mod shape;
mod top_level;

use serde_json::{Map, Value as Json, json};

use container::{hook, init_container, ulimits};
use sandbox_keys::{seed, top_words};
use service::service;
use shape::{any, closed, keys, list, named, reference, text};
use top_level::{config, include, network, secret, volume};

/// Returns the JSON Schema (2020-12) of a spec.
pub fn schema() -> Json {
    let mut all = keys(&[
        ("version", text("Obsolete; ignored.")),
        ("name", text("The spec's name; the folder's if none. A sandbox's own name adds the git branch.")),
        (
            "include",
            list(reference("include"), "Other specs whose services, volumes and networks are brought in."),
        ),
        ("services", named("service", "The containers.")),
        ("networks", named("network", "The networks; `default` if none.")),
        ("volumes", named("volume", "The named volumes.")),
        ("secrets", named("secret", "Secrets, given to services as files in memory.")),
        ("configs", named("config", "Configs, given to services as files.")),
        ("models", any("Refused: sandbox runs no language models.")),
    ]);
    all.extend(top_words());
    all.insert(
        "x-sandbox".to_owned(),
        closed("Our words, where another tool reads the file too.", top_words()),
    );
    let mut root = closed("An isolated, seeded, disposable environment.", all);
    let mut definitions = Map::new();
    definitions.insert("include".to_owned(), include());
    definitions.insert("service".to_owned(), service());
    definitions.insert("network".to_owned(), network());
    definitions.insert("volume".to_owned(), volume());
    definitions.insert("secret".to_owned(), secret());
    definitions.insert("config".to_owned(), config());
    definitions.insert("seed".to_owned(), seed());
    definitions.insert("hook".to_owned(), hook());
    definitions.insert("init_container".to_owned(), init_container());
    definitions.insert("ulimits".to_owned(), ulimits());
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("sandbox spec"));
        root.insert("$defs".to_owned(), Json::Object(definitions));
    }
    root
}
