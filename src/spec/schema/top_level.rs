//! JSON Schema of the top-level sections: networks, volumes, secrets, configs, and `include`.

use serde_json::Value as Json;

use super::shape::{
    any, closed, flag, int, keys, list, mapping, one_or_more, pairs, reference, short_or, text,
};

pub(super) fn include() -> Json {
    let long = closed(
        "Another spec.",
        keys(&[
            ("path", one_or_more("Its files.")),
            ("env_file", one_or_more("Files of variables for it.")),
            ("project_directory", text("The folder its relative paths begin at.")),
        ]),
    );
    short_or(&long)
}

pub(super) fn external() -> [(&'static str, Json); 3] {
    [
        ("name", text("A name of its own. Not applied: things are named after their sandbox.")),
        ("external", any("Refused: a sandbox is alone.")),
        ("labels", pairs("Labels.")),
    ]
}

pub(super) fn network() -> Json {
    let pool = closed(
        "A pool of addresses.",
        keys(&[
            ("subnet", text("The subnet.")),
            ("gateway", text("The gateway.")),
            ("ip_range", text("The range.")),
            ("aux_addresses", mapping("Addresses kept for others.")),
        ]),
    );
    let ipam = closed(
        "Addresses. Not applied: each sandbox gets subnets of its own.",
        keys(&[
            ("driver", text("The driver.")),
            ("config", list(pool, "The pools.")),
            ("options", mapping("Options.")),
        ]),
    );
    let mut own = keys(&external());
    own.extend(keys(&[
        ("driver", text("`bridge`; others are refused.")),
        ("driver_opts", mapping("Options of the driver.")),
        ("internal", flag("Nothing leaves it.")),
        ("attachable", flag("Without meaning here.")),
        ("enable_ipv4", flag("IPv4 is always on.")),
        ("enable_ipv6", flag("IPv6, for its services among themselves.")),
        ("ipam", ipam),
    ]));
    closed("A network.", own)
}

pub(super) fn volume() -> Json {
    let seed = list(reference("seed"), "What it holds before anything starts: `copy`, `snapshot`.");
    let mut own = keys(&external());
    own.extend(keys(&[
        ("driver", text("`local`; others are refused.")),
        ("driver_opts", mapping("Options of the driver.")),
        ("seed", seed.clone()),
        ("x-sandbox", closed("Our words.", keys(&[("seed", seed)]))),
    ]));
    closed("A named volume.", own)
}

pub(super) fn secret() -> Json {
    let generate = int("So many random letters and digits.");
    let mut own = keys(&external());
    own.extend(keys(&[
        ("file", text("A file with its value.")),
        ("environment", text("A variable with its value.")),
        ("generate", generate.clone()),
        ("driver", text("Refused.")),
        ("driver_opts", mapping("Refused.")),
        ("template_driver", text("Refused.")),
        ("x-sandbox", closed("Our words.", keys(&[("generate", generate)]))),
    ]));
    closed("A secret.", own)
}

pub(super) fn config() -> Json {
    let mut own = keys(&external());
    own.extend(keys(&[
        ("file", text("A file with its bytes.")),
        ("environment", text("A variable with its bytes.")),
        ("content", text("The text itself.")),
        ("template_driver", text("Refused.")),
    ]));
    closed("A config.", own)
}
