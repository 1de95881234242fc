//! Tests reading of several files, includes, selections and unusual values.

use super::*;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn files(files: &[(&str, &str)], change: impl FnOnce(&mut LoadRequest)) -> Result<Loaded, Problems> {
    let dir = folder(files);
    let mut request = request(dir.path());
    change(&mut request);
    load(&request)
}

fn context(loaded: &Loaded, service: &str) -> String {
    let context = &loaded.spec.services[service].build().unwrap().context;
    context.strip_prefix(loaded.spec.folder.to_str().unwrap()).unwrap().to_owned()
}

fn env(loaded: &Loaded, service: &str) -> BTreeMap<String, Option<String>> {
    loaded.spec.services[service].environment.clone()
}

#[test]
fn a_later_file_that_adds_build_arguments_leaves_the_context() {
    let loaded = files(
        &[
            (
                "compose.yaml",
                "services: { a: { build: ./app }, b: { extends: a, build: { args: { A: 1 } } } }",
            ),
            ("compose.override.yaml", "services: { a: { build: { args: { A: 1 } } } }"),
            ("app/Dockerfile", ""),
        ],
        |_| {},
    )
    .unwrap();

    assert_eq!(context(&loaded, "a"), "/app");
    assert_eq!(context(&loaded, "b"), "/app");
}

#[test]
fn a_build_without_a_context_begins_at_the_folder_of_the_spec() {
    let loaded = files(
        &[
            (
                "compose.yaml",
                "include: [sub/c.yaml]\nservices: { a: { build: { dockerfile_inline: FROM x } } }",
            ),
            ("sub/c.yaml", "services: { b: { build: { dockerfile_inline: FROM x } } }"),
        ],
        |_| {},
    )
    .unwrap();

    assert_eq!(context(&loaded, "a"), "");
    assert_eq!(context(&loaded, "b"), "/sub");
}

#[test]
fn an_include_s_variables_hold_for_bare_names_secrets_and_configs() {
    let loaded = files(
        &[
            ("compose.yaml", "include: [{ path: sub/c.yaml, env_file: sub/v.env }]\nservices: { b: { image: x, environment: [VAR] } }"),
            ("sub/v.env", "VAR=included"),
            (
                "sub/c.yaml",
                "services: { a: { image: x, environment: [VAR, UNSET], secrets: [s], configs: [c], post_start: [{ command: x, environment: [VAR] }] } }\n\
                 secrets: { s: { environment: VAR } }\nconfigs: { c: { environment: VAR } }",
            ),
        ],
        |_| {},
    )
    .unwrap();

    assert_eq!(env(&loaded, "a")["VAR"].as_deref(), Some("included"));
    assert_eq!(env(&loaded, "a")["UNSET"], None);
    assert_eq!(env(&loaded, "b")["VAR"], None);
    assert_eq!(service(&loaded, "a").post_start[0].environment["VAR"].as_deref(), Some("included"));
    let secret = SecretName::new("s").unwrap();
    assert_eq!(loaded.variables.of_secret(&secret, "VAR"), Some("included"));
    assert_eq!(loaded.variables.of_config(&ConfigName::new("c").unwrap(), "VAR"), Some("included"));
    assert!(loaded.secret_from_environment(&secret).is_some());
}

#[test]
fn top_level_keys_of_an_included_file_are_applied_warned_about_or_refused() {
    let with = |key: &str| {
        let included = format!("services: {{ b: {{ image: x }} }}\n{key}");
        files(
            &[
                ("compose.yaml", "include: [sub.yaml]\nservices: { a: { image: x } }"),
                ("sub.yaml", &included),
            ],
            |_| {},
        )
    };

    let unknown = with("volums: { v: {} }").unwrap_err().to_string();
    assert!(unknown.contains("volums") && unknown.contains("volumes"), "{unknown}");
    assert!(with("models: { m: { model: x } }").unwrap_err().to_string().contains("models"));
    for key in ["egress: allow", "lifetime: { ttl: 1h }", "durable: true", "limits: { pids: 9 }"] {
        let loaded = with(key).unwrap();
        let told = loaded.warnings.iter().any(|warning| warning.kind == WarningKind::NotApplied);
        assert!(told && loaded.spec.egress == EgressPolicy::Deny, "{key}: {:?}", loaded.warnings);
    }
    assert_eq!(with("artifacts: [\"b:/out\"]").unwrap().spec.artifacts.len(), 1);
    assert_eq!(with("tasks: { t: echo }").unwrap().spec.tasks.len(), 1);
    for key in ["name: other", "x-free: 1"] {
        assert_eq!(with(key).unwrap().warnings, [], "{key}");
    }
}

#[test]
fn reset_and_override_hold_in_files_that_are_extended_from_and_for_earlier_files() {
    let base = "services:\n  a: { image: x, ports: [\"80:80\"], environment: { A: 1 } }\n  \
                b: { extends: a, ports: !reset [], environment: !override { B: 2 } }";
    let over = "services: { c: { extends: { file: base.yaml, service: a }, ports: !reset [], environment: !override { C: 3 } } }";
    let loaded = files(
        &[
            ("base.yaml", base),
            ("one.yaml", "services:\n  b: { extends: { file: base.yaml, service: b } }\n  c: { image: y, ports: [\"90:90\"], environment: { Z: 0 } }"),
            ("two.yaml", over),
        ],
        |request| request.files = vec!["one.yaml".into(), "two.yaml".into()],
    )
    .unwrap();

    assert!(service(&loaded, "b").ports.is_empty() && service(&loaded, "c").ports.is_empty());
    assert_eq!(env(&loaded, "b").keys().collect::<Vec<_>>(), ["B"]);
    assert_eq!(env(&loaded, "c").keys().collect::<Vec<_>>(), ["C"]);
}

#[test]
fn names_may_begin_with_x() {
    let loaded = text(
        "services: { x-b: { image: x, volumes: [\"x-v:/v\"], networks: [x-n], secrets: [x-s] } }\n\
         volumes: { x-v: {} }\nnetworks: { x-n: {} }\nsecrets: { x-s: { generate: 8 } }\nx-free: { any: thing }",
    )
    .unwrap();

    assert!(loaded.spec.services.contains_key("x-b"));
    assert!(loaded.spec.volumes.contains_key("x-v") && loaded.spec.networks.contains_key("x-n"));
}

#[test]
fn the_working_folder_s_dotenv_holds_beside_that_of_the_spec_it_names() {
    let loaded = files(
        &[
            (".env", "COMPOSE_FILE=dir/c.yaml\nCOMPOSE_PROFILES=p\nV=working"),
            ("dir/.env", "V=inner\nW=inner"),
            ("dir/c.yaml", "services: { a: { image: \"x:$V$W\", profiles: [p] } }"),
        ],
        |_| {},
    )
    .unwrap();

    assert_eq!(service(&loaded, "a").image(), Some("x:workinginner"));
}

#[test]
fn empty_values_are_none() {
    let loaded = text(
        "services:\n  a:\n    image: x\n    restart: ${U:-}\n    network_mode: ${U:-}\n    cgroup_parent: ${U:-}\n    pid: ${U:-}\n    dns: ${U:-}\n",
    )
    .unwrap();
    let service = service(&loaded, "a");

    assert_eq!((service.restart, service.network_mode, service.settings.cgroup_parent), (None, None, None));
    assert!(service.pid.is_none() && service.dns.is_empty() && service.networks.contains_key("default"));
}

#[test]
fn a_command_has_no_comments_and_a_host_may_have_several_addresses() {
    let loaded = text(
        "services: { a: { image: x, command: \"echo a # b '#c' d#e \\\\# f\", extra_hosts: [\"h=10.0.0.1,10.0.0.2\"], pull_policy: refresh } }",
    )
    .unwrap();
    let service = service(&loaded, "a");

    assert_eq!(service.command.unwrap(), ["echo", "a", "#", "b", "#c", "d#e", "#", "f"]);
    assert_eq!(service.extra_hosts["h"], ["10.0.0.1", "10.0.0.2"]);
    assert!(loaded.warnings.iter().any(|warning| warning.message.contains("pull_policy: refresh")));
}

#[test]
fn names_of_an_env_file_may_begin_with_a_digit() {
    let loaded = files(
        &[("compose.yaml", "services: { a: { image: x, env_file: e.env } }"), ("e.env", "1A=x\nB=2")],
        |_| {},
    )
    .unwrap();

    assert_eq!(env(&loaded, "a")["1A"].as_deref(), Some("x"));
}

#[test]
fn only_what_is_selected_must_be_there() {
    let spec = "services:\n  test: { image: x, depends_on: [db], links: [cache] }\n  db: { image: x }\n  cache: { image: x }\n  \
                other: { image: x, env_file: none.env, build: ./none, label_file: none.labels, volumes: [{ type: bind, source: ./none, target: /x }] }\n  \
                later: { image: x, profiles: [p], env_file: none.env }";
    let asked = |services: &[&str]| {
        let services = services.iter().map(|name| (*name).to_owned()).collect();
        text_with(spec, |request| request.services = services)
    };

    let loaded = asked(&["test"]).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.message.contains("none.env")));
    assert!(loaded.spec.services.contains_key("other"));
    assert_eq!(asked(&["other"]).unwrap_err().iter().count(), 4);
    assert!(asked(&[]).is_err());
    let needed = spec.replace("links: [cache]", "links: [other]");
    assert!(text_with(&needed, |request| request.services = vec!["test".to_owned()]).is_err());
}

#[test]
fn a_service_that_is_asked_for_activates_its_profiles() {
    let spec = "services:\n  t: { image: x, profiles: [p], depends_on: [d] }\n  d: { image: x, profiles: [p] }\n  o: { image: x, profiles: [q] }";
    let loaded = text_with(spec, |request| request.services = vec!["t".to_owned()]).unwrap();

    assert_eq!(loaded.spec.services.len(), 2);
    assert_eq!(loaded.spec.profiles, ["p"]);
}

#[test]
fn a_written_name_is_cleaned_and_an_asked_for_one_is_not() {
    let named = |name: &str, asked: Option<&str>| {
        let dir = folder(&[(
            "compose.yaml",
            &format!("name: {name}\nservices: {{ a: {{ image: \"x:$COMPOSE_PROJECT_NAME\" }} }}"),
        )]);
        load(&LoadRequest { name: asked.map(str::to_owned), ..request(dir.path()) })
    };

    let loaded = named("Shop.One", None).unwrap();
    assert_eq!(loaded.spec.name.as_str(), "shopone");
    assert_eq!(service(&loaded, "a").image(), Some("x:shopone"));
    assert!(named("...", None).is_err());
    assert!(named("shop", Some("Shop")).is_err());
}

#[test]
fn interpolation_that_nests_or_grows_without_end_is_an_error() {
    let deep = format!("services: {{ a: {{ image: '{}x{}' }} }}", "${A:-".repeat(20_000), "}".repeat(20_000));
    assert!(text(&deep).unwrap_err().to_string().contains("deep"));
    let many = format!("services: {{ a: {{ image: x, command: [{}] }} }}", "'$L', ".repeat(2_000));
    let grown = text_with(&many, |request| {
        request.env.insert("L".to_owned(), "x".repeat(100_000));
    });
    assert!(grown.unwrap_err().to_string().contains("MiB"));
}

#[test]
fn a_volume_that_is_a_folder_or_memory_is_mounted_as_such() {
    let spec = "services:\n  a: { image: x, volumes: [\"f:/f\", \"m:/m:ro\", \"f:/g:ro\", \"d:/d\"] }\n\
                volumes:\n  f: { driver_opts: { type: none, o: bind, device: ./data } }\n  \
                m: { driver: local, driver_opts: { type: tmpfs, device: tmpfs, o: \"size=9m,uid=1000\" } }\n  d:\n";
    let loaded = files(&[("compose.yaml", spec), ("data/file", "")], |_| {}).unwrap();
    let service = service(&loaded, "a");

    let data = loaded.spec.folder.join("data");
    let bound = |mount: &&Mount| matches!(&mount.kind, MountKind::Bind { source, .. } if *source == data);
    let binds: Vec<_> = service.mounts.iter().filter(bound).map(|it| (&*it.target, it.read_only)).collect();
    assert_eq!(binds, [("/f", false), ("/g", true)]);
    assert_eq!(service.tmpfs, ["/m:size=9m,uid=1000,ro"]);
    assert_eq!(
        loaded.spec.volumes.len(),
        1,
        "what the engine's storage does not hold is none of the volumes"
    );
}

#[test]
fn a_volume_that_cannot_be_made_is_refused_with_the_reason() {
    let refused = |options: &str, rest: &str| {
        let spec = format!(
            "services:\n  a: {{ image: x, volumes: [\"v:/v\"] }}\n{rest}volumes:\n  v: {{ driver_opts: {options} }}"
        );
        text(&spec).unwrap_err().to_string()
    };

    for (options, reason) in [
        ("{ type: nfs, o: \"addr=10.0.0.1,rw\", device: \":/x\" }", "past `egress`"),
        ("{ type: ext4, device: /dev/sdb }", "past `egress`"),
        ("{ size: 10G }", "`size`"),
        ("{ type: none, o: bind, device: /etc }", "outside"),
        ("{ type: none, o: bind, device: ./none }", "none"),
        ("{ type: none, o: \"bind,uid=9\", device: . }", "uid=9"),
    ] {
        let said = refused(options, "");
        assert!(said.contains(reason), "{options}: {said}");
    }
    let shared = "  b: { image: x, volumes: [\"v:/v\"] }\n";
    assert!(refused("{ type: tmpfs, device: tmpfs }", shared).contains("share"));
    assert!(refused("{ type: tmpfs }, seed: [{ copy: . }]", "").contains("seed"));
}

#[test]
fn a_read_only_service_has_configs_as_mounts_or_says_why_not() {
    let spec = |grants: &str| {
        let spec = format!(
            "services:\n  a: {{ image: x, read_only: true, {grants} }}\nconfigs: {{ f: {{ file: ./f }}, c: {{ content: c }} }}\nsecrets: {{ s: {{ file: ./f }} }}"
        );
        files(&[("compose.yaml", &spec), ("f", "")], |_| {})
    };

    let loaded = spec("configs: [{ source: f, target: /etc/f }], secrets: [s]").unwrap();
    let service = service(&loaded, "a");
    assert!(service.configs.is_empty());
    assert!(service.mounts[0].read_only && service.mounts[0].target == "/etc/f");
    assert!(matches!(&service.mounts[0].kind, MountKind::Bind { source, .. } if source.ends_with("f")));
    assert!(spec("configs: [c]").unwrap_err().to_string().contains("read_only"));
    assert!(spec("secrets: [{ source: s, target: /etc/s }]").unwrap_err().to_string().contains("read_only"));
}

#[test]
fn a_spec_is_merged_with_its_variables_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "compose.yaml",
        "include: [sub.yaml]\nservices:\n  web:\n    extends: { file: base.yaml, service: base }\n    image: \
         'web:${TAG:?say which}'\n    ports: ['${PORT}:80']\n    volumes: ['${DATA:-./data}:/data', './src:/src']\n    \
         environment: { A: '${A}', B: '$${B}' }\n    deploy: { replicas: '${N}' }\n",
    );
    write("compose.override.yaml", "services: { web: { environment: { C: '${C-x}' } } }");
    write("base.yaml", "services: { base: { labels: { of: '${BASE}' }, mem_limit: '${MEM}' } }");
    write("sub.yaml", "services: { db: { image: 'db:${TAG}' } }");

    let (merged, warnings) = merged(&request(folder.path())).unwrap();

    let web = &merged["services"]["web"];
    assert_eq!(merged["services"]["db"]["image"], "db:${TAG}");
    assert_eq!(web["image"], "web:${TAG:?say which}");
    assert_eq!(web["environment"], serde_json::json!({ "A": "${A}", "B": "$${B}", "C": "${C-x}" }));
    assert_eq!((&web["labels"]["of"], &web["mem_limit"]), (&"${BASE}".into(), &"${MEM}".into()));
    let text = json_to_yaml(&merged);
    assert!(text.contains("${PORT}") && text.contains("${N}"), "{text}");
    assert!(text.contains("\"${DATA:-./data}") && !text.contains("/${DATA"), "{text}");
    assert_eq!(warnings, []);
}

#[test]
fn a_folder_where_a_secret_or_config_needs_a_file_is_called_a_folder() {
    let yaml = "
services: { a: { image: x, secrets: [s], configs: [c] } }
secrets: { s: { file: ./dir } }
configs: { c: { file: ./dir } }
";
    let said = files(&[("compose.yaml", yaml), ("dir/file", "")], |_| {}).unwrap_err().to_string();
    assert!(said.contains("`dir`, for secret `s`, is a folder"), "{said}");
    assert!(said.contains("`dir`, for config `c`, is a folder"), "{said}");
}

#[test]
fn refused_keys_without_a_value_are_no_reason_to_refuse() {
    for empty in ["", "[]", "{}", "''", "['']"] {
        for key in ["external_links", "credential_spec", "provider", "models"] {
            // Of another type than the key has.
            if key == "external_links" && matches!(empty, "{}" | "''") {
                continue;
            }
            let yaml = format!("services: {{ a: {{ image: x, {key}: {empty} }} }}\nmodels: {{}}\n");
            files(&[("compose.yaml", &yaml)], |_| {}).unwrap_or_else(|it| panic!("{key}: {empty}: {it}"));
        }
    }
    let yaml = "services: { a: { image: x, external_links: [other] } }";
    assert!(files(&[("compose.yaml", yaml)], |_| {}).is_err());
}
