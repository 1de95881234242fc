//! Loads the valid and invalid specs under `fixtures/specs/` with all steps of `load`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::guard::guard;
use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/specs")
}

fn request(folder: &Path) -> LoadRequest {
    let env = BTreeMap::from([("HOME".to_owned(), "/home/user".to_owned())]);
    LoadRequest { folder: folder.to_owned(), env, ..LoadRequest::default() }
}

/// Loads a text as `sandbox.yaml` of an empty folder.
fn text(yaml: &str) -> Result<Loaded, Problems> {
    text_with(yaml, |_| {})
}

fn text_with(yaml: &str, change: impl FnOnce(&mut LoadRequest)) -> Result<Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sandbox.yaml"), yaml).unwrap();
    let mut request = request(dir.path());
    request.name = Some("test".to_owned());
    change(&mut request);
    load(&request)
}

fn service(loaded: &Loaded, name: &str) -> Service {
    loaded.spec.services[name].clone()
}

#[test]
fn every_problem_of_a_bad_spec_is_told_with_its_place_and_the_way_out() {
    let folder = fixtures().join("invalid");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() > 20);
    for file in files {
        let mut request = request(&folder);
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        request.files = vec![file];
        let began = Instant::now();
        let problems = load(&request).expect_err(&name);
        assert!(began.elapsed() < Duration::from_secs(5), "{name} took {:?}", began.elapsed());
        // The path of the checkout differs per machine.
        let said = problems.to_string().replace(env!("CARGO_MANIFEST_DIR"), "REPO");
        insta::with_settings!({ snapshot_path => "../../fixtures/specs/invalid/snapshots", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, said);
        });
    }
}

/// All specs of `fixtures/compose`, as folders or files.
fn good() -> Vec<LoadRequest> {
    let folder = fixtures().join("../compose").canonicalize().unwrap();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|it| it == "yaml")
            || path.is_dir() && !["parts", "refused"].iter().any(|name| path.ends_with(name))
    });
    paths.sort();
    assert!(paths.len() > 60);
    paths.push(fixtures().join("ours"));
    let request_of = |path: &PathBuf| {
        let mut request = request(if path.is_dir() { path } else { &folder });
        if path.is_file() {
            let text = std::fs::read_to_string(path).unwrap();
            let words =
                text.lines().filter_map(|line| line.strip_prefix("# env: ")).flat_map(|it| it.split(' '));
            let pairs = words.filter_map(|pair| pair.split_once('='));
            request.env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            request.files.push(path.clone());
        }
        request
    };
    paths.iter().map(request_of).collect()
}

#[test]
fn every_good_spec_loads_and_survives_being_written_as_yaml_and_as_json() {
    for mut request in good() {
        let folder = request.files.first().unwrap_or(&request.folder).clone();
        request.allow_host_access = HostAccess::Allowed;
        request.refusals = Refusals::Warn;
        let loaded = load(&request).unwrap_or_else(|problems| panic!("{}:\n{problems}", folder.display()));
        let json = serde_json::to_string(&loaded.spec).unwrap();
        let back: Spec = serde_json::from_str(&json).unwrap();
        assert_eq!(back, loaded.spec, "{}", folder.display());

        let yaml = to_yaml(&loaded.spec);
        let again = tempfile::tempdir().unwrap();
        let file = again.path().join("sandbox.yaml");
        std::fs::write(&file, &yaml).unwrap();
        request.files = vec![file];
        request.env.clear();
        request.project_folder = Some(request.folder.clone());
        request.profiles.clone_from(&loaded.spec.profiles);
        let reloaded =
            load(&request).unwrap_or_else(|problems| panic!("{}:\n{problems}\n{yaml}", folder.display()));
        assert_eq!(
            to_compose_json(&reloaded.spec),
            to_compose_json(&loaded.spec),
            "{}:\n{yaml}",
            folder.display()
        );
    }
}

#[test]
fn a_spec_that_is_moved_with_its_project_keeps_no_path_of_its_old_folder() {
    for mut request in good() {
        request.allow_host_access = HostAccess::Allowed;
        request.refusals = Refusals::Warn;
        let mut spec = load(&request).unwrap().spec;
        let folder = format!("{}/", spec.folder.display());
        relocate(&mut spec, Path::new(ANYWHERE));
        spec.extensions.clear();
        let stored = serde_json::to_string_pretty(&spec).unwrap();
        let kept: Vec<&str> = stored.lines().filter(|line| line.contains(&folder)).collect();
        assert!(kept.is_empty(), "{folder}: {kept:#?}");
    }
}

#[test]
fn our_own_words_arrive_in_the_model() {
    let loaded = load(&request(&fixtures().join("ours"))).unwrap();
    let spec = &loaded.spec;
    assert_eq!(spec.lifetime.ttl, Some(Duration::from_secs(8 * 3600)));
    assert_eq!(spec.lifetime.grace(), Duration::from_secs(10));
    let EgressPolicy::List(rules) = &spec.egress else { panic!("{:?}", spec.egress) };
    assert_eq!(rules.len(), 3);
    assert_eq!(spec.limits.memory, Some(2 << 30));
    assert_eq!(spec.artifacts[0].path, "/app/coverage");
    assert_eq!(spec.tasks["test"].command, ["sh", "-c", "npm test"]);
    let db = service(&loaded, "db");
    assert_eq!(db.durable, Some(Durability::Durable));
    let ready = db.ready.as_ref().unwrap();
    assert_eq!(ready.probe, Probe::Exec(vec!["pg_isready".into(), "-U".into(), "postgres".into()]));
    let [Seed::Sql(SqlSeed { files, .. }), Seed::Exec(ExecSeed { stdin: Some(stdin), .. })] =
        db.seed.as_slice()
    else {
        panic!("{:?}", db.seed)
    };
    assert_eq!(files.len(), 2);
    assert!(stdin.is_absolute());
    assert_eq!(spec.secrets["db_password"].source, SecretSource::Generate(24));
    let Seed::Snapshot(SnapshotSeed { snapshot, .. }) = &spec.volumes["search"].seed[0] else { panic!() };
    assert_eq!(*snapshot, SnapshotRef::Stored("prod-2026-11-01".into()));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn our_words_may_stand_under_x_sandbox_as_well() {
    let loaded = load(&request(&fixtures().join("../compose/x-sandbox"))).unwrap();
    assert_eq!(loaded.spec.secrets["password"].source, SecretSource::Generate(24));
    assert_eq!(loaded.spec.volumes["data"].seed.len(), 1);
    assert!(service(&loaded, "db").ready.is_some());
    assert_eq!(loaded.spec.lifetime.ttl, Some(Duration::from_secs(8 * 3600)));
}

#[test]
fn unset_variables_are_warned_about_once_each() {
    let loaded =
        text("services: { a: { image: \"x:$TAG\", command: [$TAG, $OTHER, '${FINE:-}'] } }").unwrap();
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("sandbox.yaml:1:29: the variable `TAG` is not set"), "{said:?}");
}

#[test]
fn a_port_and_a_name_that_are_not_applied_are_warned_about() {
    let loaded = text(
        "services: { a: { image: x, container_name: c, ports: ['0.0.0.0:80:80'] } }\nvolumes: { v: { name: n } }",
    )
    .unwrap();
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().any(|one| one.contains("container_name")));
    assert!(said.iter().any(|one| one.contains("127.0.0.1")));
}

#[test]
fn files_of_50_mb_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("sandbox.yaml")).unwrap();
    file.set_len(50 << 20).unwrap();
    let began = Instant::now();
    let problems = load(&request(dir.path())).unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(100));
    assert!(problems.to_string().contains("50 MiB"), "{problems}");
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), format!("services: {}", "- ".repeat(100_000))] {
        assert!(text(&deep).is_err());
    }
}

#[test]
fn profiles_and_named_services_decide_what_is_active() {
    let yaml =
        "services:\n  a: { image: x }\n  b: { image: x, profiles: [p] }\n  c: { image: x, profiles: [q] }\n";
    let names = |loaded: Loaded| loaded.spec.services.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(text(yaml).unwrap()), ["a"]);
    assert_eq!(names(text_with(yaml, |r| r.profiles = vec!["p".into()]).unwrap()), ["a", "b"]);
    assert_eq!(names(text_with(yaml, |r| r.profiles = vec!["*".into()]).unwrap()), ["a", "b", "c"]);
    assert_eq!(names(text_with(yaml, |r| r.services = vec!["c".into()]).unwrap()), ["a", "c"]);
    let by_env = |r: &mut LoadRequest| {
        r.env.insert("COMPOSE_PROFILES".into(), "p,q".into());
    };
    assert_eq!(names(text_with(yaml, by_env).unwrap()), ["a", "b", "c"]);
    assert!(text_with(yaml, |r| r.services = vec!["d".into()]).is_err());
}

#[test]
fn a_foreign_spec_may_not_touch_any_file_of_the_host() {
    let yaml = "services: { a: { image: x, volumes: ['./here:/here'] } }";
    assert!(text(yaml).is_ok());
    let foreign = |r: &mut LoadRequest| r.origin = SpecOrigin::SnapshotFile;
    let problems = text_with(yaml, foreign).unwrap_err();
    assert_eq!(problems.iter().next().unwrap().kind, ProblemKind::HostAccess);
    let mut loaded = text(yaml).unwrap();
    loaded.spec.origin = SpecOrigin::SnapshotFile;
    assert!(guard(&loaded.spec, HostAccess::Refused).is_err());
    assert!(guard(&loaded.spec, HostAccess::Allowed).is_ok());
}

/// The problems for which a stored spec of these services is rejected.
fn kept_refused(services: &str, change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = text(&format!("{{ services: {{ {services} }} }}")).unwrap().spec;
    spec.origin = SpecOrigin::SnapshotFile;
    assert!(readmitted(&spec, HostAccess::Refused).is_ok(), "{services}");
    change(&mut spec);
    let refused = readmitted(&spec, HostAccess::Refused).expect_err(services);
    refused.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_kept_spec_comes_back_as_it_was() {
    for mut request in good() {
        request.allow_host_access = HostAccess::Allowed;
        let Ok(loaded) = load(&request) else { continue };
        let again =
            readmitted(&loaded.spec, HostAccess::Allowed).unwrap_or_else(|p| panic!("{request:?}: {p}"));
        assert_eq!(to_compose_json(&again), to_compose_json(&loaded.spec), "{}", request.folder.display());
        assert_eq!(to_yaml(&again), to_yaml(&loaded.spec), "{}", request.folder.display());
    }
}

#[test]
fn a_kept_spec_joins_nothing_that_is_not_its_own() {
    let with = |change: fn(&mut Service)| {
        kept_refused("a: { image: x }", |spec| spec.services.values_mut().for_each(change))
    };
    let foreign = "containers that are not its own";
    assert!(with(|a| a.pid = Some("container:sandbox-keeper".to_owned())).contains(foreign));
    assert!(with(|a| a.pid = Some("ns:/proc/1/ns/pid".to_owned())).contains(foreign));
    assert!(with(|a| a.pid = Some("service:../x".to_owned())).contains(foreign));
    assert!(with(|a| a.pid = Some("service:b".to_owned())).contains("`b`, which is not a service"));
    assert!(with(|a| a.ipc = Some("container:sandbox-keeper".to_owned())).contains(foreign));
    assert!(with(|a| a.settings.uts = Some("container:sandbox-keeper".to_owned())).contains(foreign));
    assert!(with(|a| a.settings.userns_mode = Some("container:sandbox-keeper".to_owned())).contains(foreign));
    assert!(
        with(|a| a.cgroup = Some("container:sandbox-keeper".to_owned())).contains("not a value of `cgroup`")
    );
    let joined = |mode| {
        kept_refused("a: { image: x }", |spec| {
            let a = spec.services.values_mut().next().unwrap();
            a.networks.clear();
            a.network_mode = Some(mode);
        })
    };
    assert!(joined(NetworkMode::Container("sandbox-keeper".to_owned())).contains(foreign));
    assert!(joined(NetworkMode::Other("sandbox-edge".to_owned())).contains("alone on its networks"));
    assert!(joined(NetworkMode::Bridge("bridge".to_owned())).contains("shared"));
    for from in ["/sandbox-keeper", "sandbox-keeper", "container:sandbox-keeper", "sandbox-keeper:rw"] {
        let said = kept_refused("a: { image: x }", |spec| {
            let a = spec.services.values_mut().next().unwrap();
            a.volumes_from.push(from.to_owned());
            // A joined service is required, whatever the spec says.
            a.depends_on.insert(
                ServiceName::new("sandbox-keeper").unwrap(),
                Dependency { required: false, ..Dependency::default() },
            );
        });
        assert!(said.contains("sandbox"), "{said}");
    }
}

#[test]
fn a_kept_spec_says_no_more_than_a_file_may() {
    let said = kept_refused("a: { image: x, secrets: [s] } }, secrets: { s: { generate: 9 }", |spec| {
        spec.secrets.values_mut().next().unwrap().source = SecretSource::Generate(u32::MAX);
    });
    assert!(said.contains("cannot have 4294967295 characters"), "{said}");
    let said = kept_refused("a: { image: x }, b: { image: x }", |spec| {
        spec.services.values_mut().for_each(|service| service.scale = Some(300));
    });
    assert!(said.contains("600 containers"), "{said}");
    let said = kept_refused("a: { image: x, expose: ['1-65535', '1-65535/udp'] }", |spec| {
        let expose = &mut spec.services.values_mut().next().unwrap().expose;
        expose.extend(std::iter::repeat_n("1-65535".to_owned(), 10_000));
    });
    assert!(said.contains("more ports than there are"), "{said}");
    let said = kept_refused("a: { image: x, networks: [n] } }, networks: { n: {}", |spec| {
        spec.networks.values_mut().next().unwrap().external = true;
    });
    assert!(said.contains("external"), "{said}");
    let mut spec = text("services: { a: { image: x } }").unwrap().spec;
    // An extension key must not act as a real key.
    let words = ["include", "x-sandbox"].map(|key| (key.to_owned(), serde_json::json!(["/etc/passwd"])));
    spec.extensions.extend(words.clone());
    spec.services.values_mut().for_each(|a| {
        a.extensions.extend(words.clone());
        a.extensions.insert("env_file".to_owned(), serde_json::json!([{ "path": "/etc/passwd" }]));
    });
    let again = readmitted(&spec, HostAccess::Refused).unwrap();
    assert!(again.services["a"].environment.is_empty() && again.extensions.is_empty());
}

#[test]
fn a_seccomp_profile_that_lets_everything_through_is_a_wall_less() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = |option: &str, origin| {
        let option = serde_json::json!(option);
        let yaml = format!("services: {{ a: {{ image: x, security_opt: [{option}] }} }}");
        std::fs::write(dir.path().join("sandbox.yaml"), yaml).unwrap();
        load(&LoadRequest { origin, ..request(dir.path()) })
    };
    let profile = |action: &str| format!(r#"{{"defaultAction":"{action}","syscalls":[]}}"#);
    std::fs::write(dir.path().join("open.json"), profile("SCMP_ACT_LOG")).unwrap();
    std::fs::write(dir.path().join("own.json"), profile("SCMP_ACT_ERRNO")).unwrap();
    let (open, own) = (profile("SCMP_ACT_ALLOW"), profile("SCMP_ACT_ERRNO"));
    let (open, own) = (format!("seccomp={open}").replace('$', "$$"), format!("seccomp={own}"));
    let nameless =
        r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]}"#;
    for option in [
        "seccomp=unconfined",
        "seccomp:unconfined",
        "seccomp=open.json",
        open.as_str(),
        nameless,
        "apparmor=unconfined",
        "unmask=ALL",
        "label=disable",
        "label:type:spc_t",
        "no-new-privileges=0",
        "no-new-privileges:False",
    ] {
        let said = loaded(option, SpecOrigin::Local).expect_err(option).to_string();
        assert!(said.contains("takes a wall away"), "{said}");
        loaded(option, SpecOrigin::SnapshotFile).expect_err(option);
    }
    for option in ["seccomp=own.json", own.as_str(), "apparmor=docker-default"] {
        loaded(option, SpecOrigin::Local).unwrap_or_else(|problems| panic!("{option}: {problems}"));
        let said = loaded(option, SpecOrigin::SnapshotFile).expect_err(option).to_string();
        assert!(said.contains("out of a snapshot file"), "{said}");
    }
    for option in ["no-new-privileges", "no-new-privileges:true", "seccomp=builtin"] {
        loaded(option, SpecOrigin::SnapshotFile).unwrap_or_else(|problems| panic!("{option}: {problems}"));
    }
}

#[test]
fn a_link_out_of_the_folder_does_not_fool_the_guard() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("looks-local")).unwrap();
    let yaml = "services: { a: { image: x, volumes: ['./looks-local/passwd:/x'] } }";
    std::fs::write(dir.path().join("sandbox.yaml"), yaml).unwrap();
    let problems = load(&request(dir.path())).unwrap_err();
    assert!(problems.to_string().contains("outside of"), "{problems}");
}

#[test]
fn moving_a_line_does_not_change_a_spec() {
    let a = text("services:\n  a: { image: x, ports: ['80'] }").unwrap().spec;
    let b = text("# a remark\n\nservices:\n  a:\n    image: x\n    ports: ['80']").unwrap().spec;
    assert_eq!(a.services, b.services);
}

#[test]
fn secrets_values_are_in_neither_the_spec_nor_its_debug_text() {
    let yaml = "services: { a: { image: x, secrets: [s] } }\nsecrets: { s: { environment: TOKEN } }";
    let set = |r: &mut LoadRequest| {
        r.env.insert("TOKEN".into(), "hunter2".into());
    };
    let loaded = text_with(yaml, set).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&loaded.spec).unwrap().contains("hunter2"));
    let name = SecretName::new("s").unwrap();
    use secrecy::ExposeSecret;
    assert_eq!(loaded.secret_from_environment(&name).unwrap().expose_secret(), "hunter2");
}

#[test]
fn every_key_of_the_schema_is_known_to_the_reader() {
    let schema = schema();
    let keys = |pointer: &str| -> Vec<String> {
        schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let check = |yaml: String, key: &str| {
        if let Err(problems) = text_with(&yaml, |r| r.refusals = Refusals::Warn) {
            let unknown =
                problems.iter().find(|p| p.kind == ProblemKind::UnknownKey && p.message.contains(key));
            assert!(unknown.is_none(), "{}", unknown.unwrap());
        }
    };
    for key in keys("/properties") {
        check(format!("{key}:\n  - 1\n"), &key);
    }
    for key in keys("/$defs/service/properties") {
        check(format!("services: {{ a: {{ {key}: [1] }} }}"), &key);
    }
    for (section, definition) in
        [("networks", "network"), ("volumes", "volume"), ("secrets", "secret"), ("configs", "config")]
    {
        for key in keys(&format!("/$defs/{definition}/properties")) {
            check(format!("services: {{ a: {{ image: x }} }}\n{section}: {{ a: {{ {key}: [1] }} }}"), &key);
        }
    }
}

#[test]
fn problems_can_be_drawn_and_told_to_machines() {
    let problems = text("services: { web: { imgae: nginx } }").unwrap_err();
    let drawn = problems.draw(80, Colour::Never);
    assert!(drawn.contains("did you mean `image`?"), "{drawn}");
    assert!(drawn.contains("sandbox.yaml:1:20"), "{drawn}");
    let json = serde_json::to_value(&problems).unwrap();
    let unknown = json.as_array().unwrap().iter().find(|p| p["kind"] == "unknown_key").unwrap();
    assert_eq!(unknown["line"], 1);
    assert_eq!(unknown["column"], 20);
    assert_eq!(unknown["snippet"], "services: { web: { imgae: nginx } }");
}

#[test]
fn standard_input_is_a_spec_whose_paths_begin_at_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.env"), "A=1\n").unwrap();
    let mut request = request(dir.path());
    request.files = vec!["-".into()];
    request.input = Some(b"services: { a: { image: x, env_file: [a.env] } }".to_vec());
    let loaded = load(&request).unwrap();
    assert_eq!(service(&loaded, "a").environment["A"].as_deref(), Some("1"));
    request.input = Some(b"services: { a: { imgae: x } }".to_vec());
    let said = load(&request).unwrap_err().to_string();
    assert!(said.contains("-:1:"), "{said}");
}

/// A folder with two specs and a `.env` that selects the second one and a profile.
fn chosen_by_env_file() -> (tempfile::TempDir, LoadRequest) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("compose.yaml"), "services: { first: { image: x } }").unwrap();
    let second =
        "services: { a: { image: x, profiles: [a] }, b: { image: x, profiles: [b] }, c: { image: x } }";
    std::fs::write(dir.path().join("second.yaml"), second).unwrap();
    let variables = "COMPOSE_FILE=second.yaml\nCOMPOSE_PROFILES=a\nCOMPOSE_PROJECT_NAME=named\n";
    std::fs::write(dir.path().join(".env"), variables).unwrap();
    let request = request(dir.path());
    (dir, request)
}

fn active(request: &LoadRequest) -> Vec<String> {
    load(request).unwrap().spec.services.keys().map(ToString::to_string).collect()
}

#[test]
fn env_names_files_profiles_and_the_project_as_for_compose() {
    let (_dir, request) = chosen_by_env_file();
    assert_eq!(active(&request), ["a", "c"]);
    assert_eq!(load(&request).unwrap().spec.name.as_str(), "named");
}

#[test]
fn the_environment_goes_before_env_and_the_command_line_before_both() {
    let (_dir, mut request) = chosen_by_env_file();
    request.env.insert("COMPOSE_PROFILES".to_owned(), "b".to_owned());
    request.env.insert("COMPOSE_PROJECT_NAME".to_owned(), "other".to_owned());
    assert_eq!(active(&request), ["b", "c"]);
    assert_eq!(load(&request).unwrap().spec.name.as_str(), "other");
    request.profiles = vec!["a".to_owned()];
    assert_eq!(active(&request), ["a", "c"]);
    request.env.insert("COMPOSE_FILE".to_owned(), "compose.yaml".to_owned());
    assert_eq!(active(&request), ["first"]);
    request.files = vec!["second.yaml".into()];
    assert_eq!(active(&request), ["a", "c"]);
}

#[test]
fn ways_past_the_gateway_are_host_access() {
    for (yaml, words) in [
        (
            "logging: { driver: gelf, options: { gelf-address: \"udp://10.0.0.1:12201\" } }",
            "log driver `gelf`",
        ),
        ("sysctls: { net.ipv6.conf.all.disable_ipv6: 0 }", "IPv6"),
        (
            "networks: { default: { driver_opts: { com.docker.network.endpoint.sysctls: net.ipv4.conf.IFNAME.rp_filter=0 } } }",
            "endpoint.sysctls",
        ),
        ("networks: { default: { link_local_ips: [169.254.8.8] } }", "link_local_ips"),
    ] {
        let problems = text(&format!("services:\n  web:\n    image: i\n    {yaml}\n")).expect_err(yaml);
        let problem = problems.iter().next().unwrap();
        assert_eq!(problem.kind, ProblemKind::HostAccess, "{problems}");
        assert!(problem.message.contains(words), "{problems}");
        assert_eq!(problem.place.as_ref().unwrap().line, 4, "{problems}");
    }
    let harmless = "services: { web: { image: i, logging: { driver: local }, sysctls: { net.ipv6.conf.all.disable_ipv6: 1 } } }\n\
                    networks: { default: { driver_opts: { com.docker.network.driver.mtu: 1400 } } }\n";
    assert!(text(harmless).is_ok());
}

#[test]
fn a_network_takes_no_bridge_of_the_host_s() {
    let with = |option: &str| {
        let yaml = format!(
            "services: {{ web: {{ image: i }} }}\nnetworks: {{ default: {{ driver_opts: {{ {option} }} }} }}\n"
        );
        text_with(&yaml, |request| request.allow_host_access = HostAccess::Allowed)
    };
    let problems = with("com.docker.network.bridge.name: br0").unwrap_err();
    assert!(problems.to_string().contains("bridge.name"), "{problems}");
    let allowed = with("com.docker.network.bridge.gateway_mode_ipv4: routed").unwrap();
    assert!(allowed.warnings.iter().any(|warning| warning.message.contains("gateway_mode_ipv4")));
}

mod onboarding;
mod reading;
mod robustness;

#[test]
fn labels_and_image_names_of_sandbox_itself_are_reserved() {
    for spec in [
        "services: { a: { image: x, labels: { dev.sandbox.scope: x } } }",
        "services: { a: { image: x, labels: ['dev.sandbox.from=a'] } }",
        "services: { a: { image: x, annotations: { dev.sandbox.id: x } } }",
        "services: { a: { image: x, deploy: { labels: { dev.sandbox.role: x } } } }",
        "services: { a: { build: { context: ., labels: { dev.sandbox.built: x } } } }",
        "services: { a: { build: { context: ., tags: ['sandbox-agent:0'] } } }",
        "services: { a: { build: ., image: 'docker.io/library/sandbox-agent:0' } }",
        "services: { a: { image: 'sandbox-agent:0' } }",
        "services: { a: { image: x, volumes: [{ type: image, source: 'sandbox-agent:0', target: /x }] } }",
        "services: { a: { image: x } }\nvolumes: { v: { labels: { dev.sandbox.from: x } } }",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { labels: { dev.sandbox.scope: x } } }",
        "services: { a: { image: x, secrets: [s] } }\nsecrets: { s: { environment: A, labels: { dev.sandbox.x: x } } }",
    ] {
        for access in [HostAccess::Refused, HostAccess::Allowed] {
            let said = text_with(spec, |r| r.allow_host_access = access).expect_err(spec).to_string();
            assert!(said.contains("are reserved"), "{spec}: {said}");
        }
    }
    let unnamed = "services: { agent: { build: . } }";
    let said = text_with(unnamed, |r| r.name = Some("sandbox".to_owned())).expect_err(unnamed).to_string();
    assert!(said.contains("are reserved"), "{said}");
    assert!(
        text("services: { a: { image: 'ghcr.io/me/sandbox-web', labels: { dev.sandboxes: x } } }").is_ok()
    );
}

#[test]
fn only_options_that_keep_logs_here_are_taken_whatever_the_driver() {
    let logging = |it: &str| format!("services: {{ a: {{ image: x, logging: {it} }} }}");
    for kept in ["{ options: { max-size: 1m, tag: t } }", "{ driver: local, options: { max-file: '2' } }"] {
        assert!(text(&logging(kept)).is_ok(), "{kept}");
    }
    for sent in [
        "{ options: { gelf-address: 'udp://192.0.2.1:1' } }",
        "{ options: { syslog-address: 'udp://192.0.2.1:1' } }",
        "{ driver: fluentd }",
    ] {
        let said = text(&logging(sent)).expect_err(sent).to_string();
        assert!(said.contains("past `egress`"), "{said}");
        assert!(text_with(&logging(sent), |r| r.allow_host_access = HostAccess::Allowed).is_ok());
    }
}
