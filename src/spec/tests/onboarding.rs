//! `welcome`, `open`, `requires` and `env`: in place and under `x-sandbox`, and what is wrong with them.

use super::*;

const KEYS: &str = r#"
welcome: |
  Log in as demo.
open: [http://web/login, "https://docs.example.com/"]
requires: { memory: 4g, disk: 10g, engine: ">=24", commands: [node] }
env:
  URL: pg://app:${secret:pw}@${host:web}:${port:web:80}/$$x?${NO:-y}
"#;

const SERVICES: &str = r#"
services: { web: { image: x, ports: ["80"], secrets: [pw] } }
secrets: { pw: { generate: 8 } }
"#;

#[test]
fn they_are_the_same_in_place_and_under_x_sandbox() {
    let indented = KEYS.replace('\n', "\n  ");
    let one = text(&format!("{KEYS}{SERVICES}")).unwrap().spec;
    let other = text(&format!("x-sandbox:{indented}\n{SERVICES}")).unwrap().spec;

    assert_eq!(one.welcome.as_deref(), Some("Log in as demo."));
    assert_eq!(one.open[0].host, "web");
    assert_eq!(one.requires.memory, Some(4 << 30));
    assert_eq!(one.env["URL"].parts.last(), Some(&HostValue::Text("/$x?y".to_owned())));
    assert_eq!(
        (one.welcome, one.open, one.requires, one.env),
        (other.welcome, other.open, other.requires, other.env)
    );
}

#[test]
fn a_spec_that_was_printed_or_kept_has_them_as_before() {
    let spec = text(&format!("{KEYS}{SERVICES}")).unwrap().spec;

    let printed =
        text(&to_yaml(&spec)).unwrap_or_else(|problems| panic!("{problems}\n{}", to_yaml(&spec))).spec;
    let kept = readmitted(&spec, HostAccess::Refused).unwrap();
    let stored: Spec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();

    for other in [printed, kept, stored] {
        assert_eq!(other.env, spec.env);
        assert_eq!(
            (other.welcome, other.open, other.requires),
            (spec.welcome.clone(), spec.open.clone(), spec.requires.clone())
        );
    }
}

#[test]
fn a_doubled_dollar_sign_makes_a_placeholder_for_us_and_text_for_compose() {
    let spec =
        text(&format!("x-sandbox: {{ env: {{ A: 'x$${{secret:pw}}$${{y' }} }}\n{SERVICES}")).unwrap().spec;

    let [HostValue::Text(x), HostValue::Secret(_), HostValue::Text(rest)] = spec.env["A"].parts.as_slice()
    else {
        panic!("{:?}", spec.env);
    };
    assert_eq!((x.as_str(), rest.as_str()), ("x", "${y"));
    assert!(to_yaml(&spec).contains("x$${secret:pw}$${y"), "{}", to_yaml(&spec));
}

#[test]
fn what_they_name_must_be_there() {
    for (more, says) in [
        ("open: [http://wbe/]", "did you mean `web`?"),
        ("open: ['file:///etc/passwd']", "is not a page to open"),
        ("env: { A: '${host:wbe}' }", "`A` in `env` names `wbe`"),
        ("env: { A: '${port:web:81}' }", "add `ports: [\"81\"]`"),
        ("env: { A: '${secret:no}' }", "names the secret `no`, which is not in the spec"),
        ("env: { A: '${sercet:pw}' }", "is not a variable"),
        ("env: { A-B: x }", "cannot be the name of a variable"),
        ("requires: { engine: soon }", "write `>=24`"),
        ("requires: { commands: [/bin/sh] }", "is not the name of a program"),
        ("requires: { cpus: 4 }", "`cpus` is not a key"),
        ("welcome: { a: b }", "must be text"),
    ] {
        let problems = text(&format!("{more}\n{SERVICES}")).expect_err(more);
        assert!(problems.to_string().contains(says), "{more}: {problems}");
    }
    let unused =
        "services: { web: { image: x } }\nsecrets: { pw: { generate: 8 } }\nenv: { A: '${secret:pw}' }";
    assert!(text(unused).unwrap_err().to_string().contains("which no service has"));
}

#[test]
fn a_placeholder_means_nothing_elsewhere() {
    let problems = text("services: { web: { image: x, environment: { A: '${secret:pw}' } } }").unwrap_err();
    assert!(problems.to_string().contains("is not a variable"), "{problems}");
}
