//! Checks that the reader never panics, hangs or overflows the stack, whatever the input. A short version of the fuzz
//! targets `spec` and `interpolation` that needs no other toolchain; `SANDBOX_FUZZ_SECONDS=600 cargo test --lib
//! robustness` runs it for that long.

use std::fmt::Write;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;

/// Maximum time for one input while many tests run in parallel.
const LONG: Duration = Duration::from_secs(20);

/// Loads bytes as a spec, renders it and loads the result again.
fn read(bytes: &[u8]) -> Result<Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(dir.path());
    request.files = vec!["-".into()];
    request.input = Some(bytes.to_vec());
    request.env.extend([("SET".to_owned(), "value".to_owned()), ("EMPTY".to_owned(), String::new())]);
    let began = Instant::now();
    let loaded = load(&request);
    match &loaded {
        Ok(loaded) => {
            let _ = (to_yaml(&loaded.spec), to_compose_json(&loaded.spec));
            let _ = readmitted(&loaded.spec, HostAccess::Allowed);
        }
        Err(problems) => drop(problems.to_string()),
    }
    assert!(
        began.elapsed() < LONG,
        "{:?}: {}",
        began.elapsed(),
        String::from_utf8_lossy(&bytes[..200.min(bytes.len())])
    );
    loaded
}

/// Loads on a thread with the smallest stack that any caller has.
fn read_on_a_small_stack(bytes: Vec<u8>) -> Result<Loaded, Problems> {
    std::thread::Builder::new().stack_size(2 << 20).spawn(move || read(&bytes)).unwrap().join().unwrap()
}

fn one_service(key: &str) -> Vec<u8> {
    format!("services: {{ a: {{ image: x, {key} }} }}").into_bytes()
}

#[test]
fn deep_nesting_is_an_error() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("!x [", "]")] {
        for depth in [90, 1_000, 100_000] {
            let text = format!("x-a: {}{}", open.repeat(depth), close.repeat(depth));
            let _ = read_on_a_small_stack(text.into_bytes());
        }
    }
    let blocks: String = (0..2_000).fold(String::new(), |mut text, depth| {
        let _ = writeln!(text, "{}a:", " ".repeat(depth));
        text
    });
    assert!(read_on_a_small_stack(blocks.into_bytes()).is_err());
    let aliases: String = (1..500).fold("x-0: &a0 [x]\n".to_owned(), |mut text, n| {
        let _ = writeln!(text, "x-{n}: &a{n} [*a{}]", n - 1);
        text
    });
    assert!(read_on_a_small_stack(aliases.into_bytes()).unwrap_err().to_string().contains("deep"));
}

#[test]
fn aliases_of_aliases_merges_and_huge_lists_have_bounds() {
    let bomb: String = (1..30).fold("x-0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |mut text, n| {
        let alias = format!("*a{}, ", n - 1).repeat(8);
        let _ = writeln!(text, "x-{n}: &a{n} [{alias}]");
        text
    });
    assert!(read(bomb.as_bytes()).is_err());
    let merges: String = (1..40).fold("x-0: &a0 {k: v}\n".to_owned(), |mut text, n| {
        let _ = writeln!(text, "x-{n}: &a{n} {{<<: [*a{0}, *a{0}], k{n}: *a{0}}}", n - 1);
        text
    });
    assert!(read(merges.as_bytes()).is_err());
    let keys = (0..200_000).map(|n| format!("k{n}: v\n")).collect::<Vec<_>>().concat();
    assert!(read(keys.as_bytes()).is_err());
    assert!(read(&one_service(&format!("command: [{}]", "x, ".repeat(200_000)))).is_err());
    let ports = "\"1-65535\", ".repeat(5_000);
    assert!(read(&one_service(&format!("ports: [{ports}]"))).is_err());
    let _ = read(&one_service("ports: [\"1-65535:1-65535\"]"));
    let exposed = (1..9_000).map(|n| format!("\"{n}-65535\", ")).collect::<Vec<_>>().concat();
    assert!(read(&one_service(&format!("expose: [{exposed}]"))).is_err());
    assert!(read(&vec![b'a'; 5 << 20]).is_err());
    assert!(read(&[vec![b' '; 4 << 20], vec![0xff]].concat()).is_err());
}

#[test]
fn long_chains_of_services_are_read_or_refused() {
    let chain = |of: &dyn Fn(usize) -> String| -> String {
        (0..3_000).fold("services:\n".to_owned(), |mut text, n| {
            let _ = writeln!(text, "  s{n}: {{ image: x, {} }}", of(n + 1));
            text
        }) + "  s3000: { image: x }\n"
    };
    for key in ["depends_on: [s", "scale: 0, depends_on: [s", "links: [s", "network_mode: [s"] {
        let _ = read_on_a_small_stack(chain(&|n| format!("{key}{n}]")).into_bytes());
    }
    let _ = read_on_a_small_stack(chain(&|n| format!("network_mode: \"service:s{n}\"")).into_bytes());
    let extends = read_on_a_small_stack(chain(&|n| format!("extends: s{n}")).into_bytes());
    assert!(extends.unwrap_err().to_string().contains("deep"));
}

#[test]
fn files_that_include_one_another_twice_have_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..30 {
        let text = format!("include: [f{0}.yaml, f{0}.yaml]\nservices: {{ s{n}: {{ image: x }} }}\n", n + 1);
        std::fs::write(dir.path().join(format!("f{n}.yaml")), text).unwrap();
    }
    std::fs::write(dir.path().join("f30.yaml"), "services: { a: { image: x } }").unwrap();
    let request = LoadRequest { files: vec!["f0.yaml".into()], ..request(dir.path()) };
    assert!(load(&request).unwrap_err().to_string().contains("included"));
}

/// Fragments that are significant to the reader.
const PIECES: [&str; 64] = [
    "services:",
    "\n",
    "  ",
    "    ",
    "a: ",
    "image: x",
    "build: ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: *a",
    "!reset ",
    "!override ",
    "!!str ",
    "---\n",
    "...",
    "\"",
    "'",
    "#",
    "|",
    ">-",
    "$",
    "${",
    "${SET",
    ":-",
    "}",
    ":?",
    "$$",
    "ports: ",
    "\"80:80\"",
    "1-65535",
    "volumes: ",
    "x:/x",
    "environment: ",
    "A=1",
    "extends: a",
    "depends_on: ",
    "include: ",
    "networks: ",
    "secrets: ",
    "egress: ",
    "10.0.0.0/8",
    "*.a.b:1",
    "seed: ",
    "ready: ",
    "null",
    "true",
    "0x1",
    "1e99",
    "-1",
    "9223372036854775808",
    "x-sandbox: ",
    "deploy: ",
    "healthcheck: ",
    "command: a 'b",
    "\u{feff}",
    "\u{0}",
    "é",
];

fn search(seconds: u64, make: impl Fn(&mut StdRng) -> Vec<u8>) {
    let seconds =
        std::env::var("SANDBOX_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(seconds);
    let seed: u64 = if seconds > 60 { rand::random() } else { 1 };
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut count = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) {
        let bytes = make(&mut rng);
        let held = bytes.clone();
        let outcome = std::panic::catch_unwind(move || drop(read(&bytes)));
        assert!(outcome.is_ok(), "{}", String::from_utf8_lossy(&held));
        count += 1;
    }
    println!("{count} inputs");
}

fn pieces(rng: &mut StdRng, most: usize) -> String {
    (0..rng.random_range(1..most)).filter_map(|_| PIECES.choose(rng)).copied().collect()
}

#[test]
fn no_mutation_of_a_good_spec_is_too_much() {
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for request in good() {
        corpus.extend(request.files.first().map(|file| std::fs::read(file).unwrap()));
        corpus.extend(std::fs::read(request.folder.join("compose.yaml")).ok());
    }
    search(3, |rng| {
        let mut bytes = corpus.choose(rng).unwrap().clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..=bytes.len());
            let end = (at + rng.random_range(0..12)).min(bytes.len());
            let piece = match rng.random_range(0..4) {
                0 => Vec::new(),
                1 => vec![rng.random()],
                2 => pieces(rng, 4).into_bytes(),
                _ => {
                    let other = corpus.choose(rng).unwrap();
                    let from = rng.random_range(0..other.len());
                    other[from..(from + 40).min(other.len())].to_vec()
                }
            };
            bytes.splice(at..end, piece);
        }
        bytes
    });
}

#[test]
fn no_row_of_pieces_is_too_much() {
    search(2, |rng| pieces(rng, 60).into_bytes());
}

#[test]
fn no_text_to_interpolate_is_too_much() {
    const WORDS: [&str; 16] =
        ["$", "${", "}", "{", "SET", "EMPTY", "NOPE", ":-", "-", ":+", "+", ":?", "?", "$$", " ", "é"];
    search(2, |rng| {
        let text: String = (0..rng.random_range(1..40)).filter_map(|_| WORDS.choose(rng)).copied().collect();
        one_service(&format!("user: {}", serde_json::json!(text)))
    });
}
