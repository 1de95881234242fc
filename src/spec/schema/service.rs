//! JSON Schema of a service: all keys with their descriptions.

use serde_json::Value as Json;

use super::super::container_settings::ContainerSettings;
use super::container::{build, deploy, device_request, grant, healthcheck, mount, port};
use super::sandbox_keys::service_words;
use super::shape::{
    any, closed, flag, int, keys, list, mapping, number, one_or_more, pairs, reference, size, text, texts,
    words,
};

fn develop() -> Json {
    let rule = closed(
        "What a changed file does.",
        keys(&[
            ("path", text("The file or folder that is watched.")),
            (
                "action",
                words(&["rebuild", "restart", "sync", "sync+restart", "sync+exec"], "What is done about it."),
            ),
            ("target", text("Where in the container it is copied to.")),
            ("ignore", one_or_more("What is left out, relative to the path.")),
            ("include", one_or_more("What alone is looked at, relative to the path.")),
            ("initial_sync", flag("Copy everything before watching begins.")),
            ("exec", reference("hook")),
        ]),
    );
    closed(
        "What `up --watch` does when files change.",
        keys(&[("watch", list(rule, "The rules, in order."))]),
    )
}

#[expect(clippy::too_many_lines, reason = "one line a key")]
pub(super) fn service() -> Json {
    let mut all = keys(&[
        ("image", text("The image.")),
        ("build", build()),
        ("platform", text("The platform.")),
        (
            "pull_policy",
            text("`always`, `never`, `missing`, `build`, `daily`, `weekly`, `every_12h`, `refresh`."),
        ),
        (
            "pull_refresh_after",
            text("With `pull_policy: refresh`: the age after which the image is pulled again, as `12h`."),
        ),
        ("command", one_or_more("The command.")),
        ("entrypoint", one_or_more("The entrypoint.")),
        ("environment", pairs("The environment.")),
        ("env_file", any("Files of variables: paths, or mappings of `path`, `required`, `format`.")),
        ("mac_address", text("The hardware address.")),
        (
            "container_name",
            text("One more host name inside the sandbox; the container itself has another name."),
        ),
        ("labels", pairs("Labels.")),
        ("label_file", one_or_more("Files of labels.")),
        ("profiles", texts("Active only with one of these profiles.")),
        ("attach", flag("Whether `up` shows its log.")),
        ("devices", any("Devices (host access).")),
        ("cgroup", words(&["host", "private"], "The control groups it sees.")),
        ("pid", text("`service:NAME`, or `host` (host access).")),
        ("ipc", text("`shareable`, `private`, `none`, `service:NAME`, or `host` (host access).")),
        ("storage_opt", mapping("Options of the storage.")),
        ("network_mode", text("`none`, `service:NAME`, or `host` (host access).")),
        ("networks", any("Its networks: a list of names, or a mapping with aliases and the like.")),
        ("ports", list(port(), "Published ports, on 127.0.0.1.")),
        ("expose", texts("Ports for other services.")),
        ("links", texts("Services under further names.")),
        ("external_links", texts("Refused.")),
        ("extra_hosts", any("Entries for /etc/hosts.")),
        ("dns", one_or_more("Resolvers.")),
        ("dns_search", one_or_more("Domains to search.")),
        ("dns_opt", texts("Options of the resolver.")),
        ("volumes", list(mount(), "Mounts.")),
        ("volumes_from", texts("Services whose mounts it shares.")),
        ("tmpfs", one_or_more("Memory mounted at these paths.")),
        ("secrets", grant("Secrets it is given.")),
        ("configs", grant("Configs it is given.")),
        (
            "depends_on",
            any("Services it waits for: a list, or a mapping of `condition`, `required`, `restart`."),
        ),
        ("healthcheck", healthcheck()),
        ("restart", any("`no`, `always`, `on-failure[:N]`, `unless-stopped`.")),
        (
            "logging",
            closed(
                "The log.",
                keys(&[("driver", text("The driver.")), ("options", mapping("Its options."))]),
            ),
        ),
        (
            "pre_start",
            list(
                reference("init_container"),
                "Commands that complete, each in a container of its own, before it starts.",
            ),
        ),
        ("post_start", list(reference("hook"), "Commands after it started.")),
        ("pre_stop", list(reference("hook"), "Commands before it is stopped.")),
        ("extends", any("A service to build on: its name, or `service` and `file`.")),
        ("develop", develop()),
        ("scale", int("How many containers.")),
        ("deploy", deploy()),
        ("mem_limit", size("The most memory.")),
        ("mem_reservation", size("The memory it is promised.")),
        ("mem_swappiness", int("From 0 to 100.")),
        ("memswap_limit", size("Memory and swap; -1 is unlimited.")),
        ("cpus", number("Processors.")),
        ("cpu_percent", number("Windows only.")),
        ("cpu_period", int("Microseconds.")),
        ("cpu_quota", int("Microseconds.")),
        ("cpu_rt_period", int("Microseconds.")),
        ("cpu_rt_runtime", int("Microseconds.")),
        ("pids_limit", int("Processes.")),
        ("blkio_config", mapping("Limits of I/O.")),
        ("ulimits", reference("ulimits")),
        ("gpus", device_request("GPUs (host access).")),
        ("credential_spec", any("Refused: Windows only.")),
        ("provider", any("Refused.")),
        ("models", any("Refused.")),
        ("use_api_socket", flag("Refused.")),
    ]);
    all.extend(keys(&ContainerSettings::schema()));
    let ours = service_words();
    all.insert("x-sandbox".to_owned(), closed("Our words.", ours.clone()));
    all.extend(ours);
    closed("A service.", all)
}
