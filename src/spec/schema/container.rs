//! JSON Schema of the nested parts of a service.

use serde_json::{Map, Value as Json, json};

use super::shape::{
    any, closed, duration, flag, int, keys, list, number, one_or_more, pairs, reference, short_or, size,
    text, texts, words,
};

pub(super) fn hook() -> Json {
    closed("A command at a turn of the container's life.", hook_keys())
}

pub(super) fn init_container() -> Json {
    let mut all = hook_keys();
    all.extend(keys(&[
        ("image", text("The image; the service's if none.")),
        ("per_replica", flag("Whether it runs before each replica, not once for all.")),
    ]));
    closed("A command that completes before the service starts.", all)
}

fn hook_keys() -> Map<String, Json> {
    keys(&[
        ("command", one_or_more("The command.")),
        ("user", text("The user.")),
        ("privileged", flag("Host access.")),
        ("working_dir", text("The folder it runs in.")),
        ("environment", pairs("More environment.")),
    ])
}

pub(super) fn ulimits() -> Json {
    let pair =
        closed("Both limits.", keys(&[("soft", int("The soft limit.")), ("hard", int("The hard limit."))]));
    json!({
        "type": ["object", "null"],
        "additionalProperties": short_or(&pair),
        "description": "Limits of processes, by name.",
    })
}

pub(super) fn grant(what: &str) -> Json {
    let long = closed(
        what,
        keys(&[
            ("source", text("Its name.")),
            ("target", text("Where it appears.")),
            ("uid", text("Its owner.")),
            ("gid", text("Its group.")),
            ("mode", int("Its mode.")),
        ]),
    );
    list(short_or(&long), what)
}

pub(super) fn build() -> Json {
    let long = closed(
        "How the image is built.",
        keys(&[
            ("context", text("The folder or URL to build from.")),
            ("dockerfile", text("The Dockerfile.")),
            ("dockerfile_inline", text("The Dockerfile's text.")),
            ("args", pairs("Build arguments.")),
            ("target", text("The stage.")),
            ("ssh", pairs("Agents or keys.")),
            ("labels", pairs("Labels of the image.")),
            ("cache_from", one_or_more("Where layers may be taken from.")),
            ("cache_to", one_or_more("Where layers are kept.")),
            ("no_cache", flag("Without cached layers.")),
            ("no_cache_filter", one_or_more("Stages without cached layers.")),
            ("additional_contexts", pairs("Further contexts.")),
            ("network", text("The network of its steps.")),
            ("provenance", any("Not applied.")),
            ("sbom", any("Not applied.")),
            ("pull", flag("Pull newer base images.")),
            ("shm_size", size("Its /dev/shm.")),
            ("extra_hosts", pairs("Entries for /etc/hosts.")),
            ("isolation", text("Windows only.")),
            ("privileged", flag("Host access.")),
            ("entitlements", texts("Host access.")),
            ("secrets", grant("Secrets it may read.")),
            ("tags", one_or_more("More names of the image.")),
            ("ulimits", reference("ulimits")),
            ("platforms", one_or_more("Platforms.")),
        ]),
    );
    short_or(&long)
}

pub(super) fn mount() -> Json {
    let long = closed(
        "A mount.",
        keys(&[
            ("type", words(&["volume", "bind", "tmpfs", "image", "npipe", "cluster"], "What is mounted.")),
            ("source", text("The volume, path or image.")),
            ("target", text("Where it appears.")),
            ("read_only", flag("Without writing.")),
            ("consistency", text("Without meaning here.")),
            (
                "bind",
                closed(
                    "Options of a bind mount.",
                    keys(&[
                        ("propagation", text("Propagation.")),
                        ("create_host_path", flag("Make the folder if it is missing.")),
                        (
                            "recursive",
                            words(&["enabled", "disabled", "writable", "readonly"], "Mounts below it."),
                        ),
                        ("selinux", words(&["z", "Z"], "Relabelling.")),
                    ]),
                ),
            ),
            (
                "volume",
                closed(
                    "Options of a volume.",
                    keys(&[
                        ("labels", pairs("Not applied.")),
                        ("nocopy", flag("Without the image's content.")),
                        ("subpath", text("A path in it.")),
                    ]),
                ),
            ),
            (
                "tmpfs",
                closed(
                    "Options of memory.",
                    keys(&[("size", size("Its size.")), ("mode", int("Its mode."))]),
                ),
            ),
            ("image", closed("Options of an image.", keys(&[("subpath", text("A path in it."))]))),
        ]),
    );
    short_or(&long)
}

pub(super) fn port() -> Json {
    let long = closed(
        "A published port.",
        keys(&[
            ("name", text("Its name.")),
            ("mode", text("Without meaning here.")),
            ("host_ip", text("Not applied: ports are published on 127.0.0.1.")),
            ("target", int("The container's port.")),
            ("published", text("The wish for a host port, or a range.")),
            ("protocol", words(&["tcp", "udp", "sctp"], "Its protocol.")),
            ("app_protocol", text("The application's protocol.")),
        ]),
    );
    short_or(&long)
}

pub(super) fn device_request(description: &str) -> Json {
    let one = closed(
        "A request for devices.",
        keys(&[
            ("capabilities", texts("What they can do.")),
            ("driver", text("The driver.")),
            ("count", int("How many, or `all`.")),
            ("device_ids", texts("Which.")),
            ("options", pairs("Options.")),
        ]),
    );
    json!({ "anyOf": [{ "const": "all" }, list(one, description)], "description": description })
}

pub(super) fn deploy() -> Json {
    let bounds = |description: &str| {
        closed(
            description,
            keys(&[
                ("cpus", number("Processors.")),
                ("memory", size("Memory.")),
                ("pids", int("Processes.")),
                ("devices", device_request("Devices (host access).")),
                ("generic_resources", any("Not applied.")),
            ]),
        )
    };
    closed(
        "How many containers, and what they may use.",
        keys(&[
            ("mode", text("`replicated`.")),
            ("replicas", int("How many containers.")),
            ("labels", pairs("Labels of the service.")),
            (
                "resources",
                closed(
                    "What it may use.",
                    keys(&[("limits", bounds("At most.")), ("reservations", bounds("At least."))]),
                ),
            ),
            (
                "restart_policy",
                closed(
                    "What happens when it exits.",
                    keys(&[
                        ("condition", words(&["none", "on-failure", "any"], "When it is started again.")),
                        ("delay", duration("Between two starts.")),
                        ("max_attempts", int("How often.")),
                        ("window", duration("How long it must run to count as started.")),
                    ]),
                ),
            ),
            ("endpoint_mode", text("Not applied.")),
            ("placement", any("Not applied.")),
            ("update_config", any("Not applied.")),
            ("rollback_config", any("Not applied.")),
        ]),
    )
}

pub(super) fn healthcheck() -> Json {
    closed(
        "When the container is healthy.",
        keys(&[
            ("test", one_or_more("The test: a line, or `[CMD, …]`.")),
            ("interval", duration("Between two tests.")),
            ("timeout", duration("The longest a test may take.")),
            ("retries", int("Failures that make it unhealthy.")),
            ("start_period", duration("Time in which failures do not count.")),
            ("start_interval", duration("Between two tests in that time.")),
            ("disable", flag("No test, whatever the image says.")),
        ]),
    )
}
