//! Reads a JUnit report as CI services do: any XML reader, no knowledge of the program that wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// A suite of a report.
#[derive(Debug, Default)]
pub struct Suite {
    pub attributes: BTreeMap<String, String>,
    pub properties: BTreeMap<String, String>,
    pub cases: Vec<Case>,
}

/// A test case of a suite.
#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    pub class: String,
    pub seconds: Option<f64>,
    /// `failure`, `error` or `skipped`, with its message.
    pub problem: Option<(String, String)>,
    pub stdout: String,
    pub stderr: String,
}

impl Suite {
    #[track_caller]
    pub fn case(&self, name: &str) -> &Case {
        self.cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no `{name}` in {self:#?}"))
    }

    /// A number of the suite's attributes.
    #[track_caller]
    pub fn count(&self, name: &str) -> usize {
        self.attributes[name].parse().unwrap()
    }
}

impl Case {
    /// `passed`, `failure`, `error` or `skipped`.
    pub fn status(&self) -> &str {
        self.problem.as_ref().map_or("passed", |(kind, _)| kind)
    }

    pub fn message(&self) -> &str {
        self.problem.as_ref().map_or("", |(_, message)| message)
    }
}

/// Reads a report; fails the test if it is not well-formed.
#[track_caller]
pub fn read(path: &Path) -> Vec<Suite> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Reader::from_str(&text);
    let (mut suites, mut inside) = (Vec::<Suite>::new(), Vec::new());
    loop {
        let event = reader.read_event().unwrap_or_else(|error| panic!("not XML: {error}\n{text}"));
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                begin(&mut suites, element);
                if matches!(event, Event::Start(_)) {
                    inside.push(String::from_utf8_lossy(element.name().as_ref()).into_owned());
                }
            }
            Event::End(_) => drop(inside.pop()),
            Event::Text(part) => add(&mut suites, &inside, &part.decode().unwrap()),
            Event::GeneralRef(reference) => {
                let name = reference.decode().unwrap();
                let known = reference.resolve_char_ref().unwrap().map(String::from);
                let text =
                    known.or_else(|| quick_xml::escape::resolve_predefined_entity(&name).map(Into::into));
                add(&mut suites, &inside, &text.unwrap());
            }
            Event::Eof => return suites,
            _ => {}
        }
    }
}

fn begin(suites: &mut Vec<Suite>, element: &BytesStart<'_>) {
    let attributes: BTreeMap<String, String> = element
        .attributes()
        .map(Result::unwrap)
        .map(|one| {
            let name = String::from_utf8_lossy(one.key.as_ref()).into_owned();
            (name, quick_xml::escape::unescape(&String::from_utf8_lossy(&one.value)).unwrap().into_owned())
        })
        .collect();
    let get = |name: &str| attributes.get(name).cloned().unwrap_or_default();
    let kind = String::from_utf8_lossy(element.name().as_ref()).into_owned();
    match kind.as_str() {
        "testsuite" => suites.push(Suite { attributes, ..Suite::default() }),
        "property" => drop(suites.last_mut().unwrap().properties.insert(get("name"), get("value"))),
        "testcase" => suites.last_mut().unwrap().cases.push(Case {
            name: get("name"),
            class: get("classname"),
            seconds: attributes.get("time").map(|time| time.parse().unwrap()),
            ..Case::default()
        }),
        "failure" | "error" | "skipped" => {
            let case = suites.last_mut().unwrap().cases.last_mut().unwrap();
            case.problem = Some((kind, get("message")));
        }
        _ => {}
    }
}

fn add(suites: &mut [Suite], inside: &[String], text: &str) {
    let Some(case) = suites.last_mut().and_then(|suite| suite.cases.last_mut()) else { return };
    match inside.last().map(String::as_str) {
        Some("system-out") => case.stdout.push_str(text),
        Some("system-err") => case.stderr.push_str(text),
        _ => {}
    }
}
