//! A text with variables, as a value of a spec that is sound otherwise.
#![no_main]

mod reading;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let spec = serde_json::json!({ "services": { "a": { "image": "x", "labels": { "text": text } } } });
    reading::read(spec.to_string().as_bytes());
});
