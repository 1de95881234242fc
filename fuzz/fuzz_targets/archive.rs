//! Reads bytes that nobody vouches for as a snapshot file: whatever they are, the reader neither panics nor writes anywhere
//! but into the folders it was given, nor more than it was allowed.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sandbox::data::archive::{Import, Limits};
use sandbox::pool::tree::Counter;

const LIMITS: Limits = Limits { bytes: 4 << 20, entries: 2_000, ratio: 1_000, images: 1 << 20 };

fuzz_target!(|file: &[u8]| {
    let Ok(import) = Import::open(file, LIMITS) else { return };
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("volumes");
    std::fs::create_dir(&inner).unwrap();
    let names: Vec<_> = import.head().volumes.keys().cloned().collect();
    let places: BTreeMap<_, _> = names.into_iter().map(|name| (name.clone(), inner.join(name.as_str()))).collect();
    for place in places.values() {
        std::fs::create_dir_all(place).unwrap();
    }
    let mut images = Vec::new();
    let read = import.unpack(&places, Some(&mut images), &Counter::default());
    if let Ok(read) = read {
        assert!(read.bytes <= LIMITS.bytes && read.entries <= LIMITS.entries);
    }
    assert!(images.len() as u64 <= LIMITS.images);
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1, "something was written beside the volumes");
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), places.len());
});
