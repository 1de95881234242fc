//! Reads bytes that nobody vouches for as a snapshot file: whatever they are, the reader neither panics nor writes anywhere
//! but into the folders it was given, nor more than it was allowed.
#![no_main]

mod sound;

use std::collections::BTreeMap;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use sandbox::data::archive::{Import, Limits};
use sandbox::storage::tree::Counter;

const LIMITS: Limits = Limits { bytes: 4 << 20, entries: 2_000, ratio: 1_000, free: 64 << 20, images: 1 << 20 };

/// A block of a tar.
const BLOCK: usize = 512;

// A header whose sum is wrong is refused before anything in it is looked at, so sums are made right.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    for header in data[..size].chunks_exact_mut(BLOCK).filter(|block| &block[257..262] == b"ustar") {
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    size
});

fuzz_target!(init: sound::write_some(), |file: &[u8]| {
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
