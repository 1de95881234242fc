//! Renders the top level.

use serde_json::{Value as Json, json};

use super::super::model::{ConfigSource, Network, SecretSource, Spec};
use super::{Form, Object, extended, free, sandbox_keys, service};

pub(super) fn spec(spec: &Spec, form: Form) -> Json {
    let mut root = Object::default();
    root.set("name", spec.name.as_str());
    let mut services = Object::default();
    for (name, one) in &spec.services {
        services.set(name.as_str(), service::service(one, form));
    }
    root.set("services", Json::Object(services.0));
    let named = |written: Option<&String>, key: &str| match (written, form) {
        (Some(name), _) => Some(name.clone()),
        (None, Form::Compose) => Some(format!("{}_{key}", spec.name)),
        (None, Form::Spec) => None,
    };
    let mut networks = Object::default();
    for (key, one) in &spec.networks {
        networks.set(key.as_str(), network(one, named(one.written_name.as_ref(), key.as_str()), form));
    }
    root.object("networks", networks);
    let mut volumes = Object::default();
    for (key, one) in &spec.volumes {
        let mut volume = Object::default();
        volume
            .some(
                "name",
                external_name(one.external, named(one.written_name.as_ref(), key.as_str()), key.as_str()),
            )
            .some("driver", one.driver.clone())
            .pairs("driver_opts", &one.driver_opts)
            .flag("external", one.external)
            .pairs("labels", &one.labels)
            .object("x-sandbox", sandbox_keys::volume(one));
        extended(&mut volume, &one.extensions, form);
        volumes.set(key.as_str(), volume);
    }
    root.object("volumes", volumes);
    let mut secrets = Object::default();
    for (key, one) in &spec.secrets {
        let mut secret = Object::default();
        let external = one.source == SecretSource::External;
        let name = external_name(external, named(one.written_name.as_ref(), key.as_str()), key.as_str());
        secret.some("name", name);
        match &one.source {
            SecretSource::File(file) => secret.set("file", file.to_string_lossy()),
            SecretSource::Environment(name) => secret.set("environment", name.as_str()),
            SecretSource::Generate(length) => secret.set("x-sandbox", json!({ "generate": length })),
            SecretSource::External => secret.set("external", true),
        };
        secret.pairs("labels", &one.labels);
        extended(&mut secret, &one.extensions, form);
        secrets.set(key.as_str(), secret);
    }
    root.object("secrets", secrets);
    let mut configs = Object::default();
    for (key, one) in &spec.configs {
        let mut config = Object::default();
        let external = one.source == ConfigSource::External;
        let name = external_name(external, named(one.written_name.as_ref(), key.as_str()), key.as_str());
        config.some("name", name);
        match &one.source {
            ConfigSource::File(file) => config.set("file", file.to_string_lossy()),
            ConfigSource::Environment(name) => config.set("environment", name.as_str()),
            ConfigSource::Content(content) => config.set("content", content.as_str()),
            ConfigSource::External => config.set("external", true),
        };
        config.pairs("labels", &one.labels);
        extended(&mut config, &one.extensions, form);
        configs.set(key.as_str(), config);
    }
    root.object("configs", configs);
    free(&mut root, &spec.extensions);
    root.object("x-sandbox", sandbox_keys::top(spec));
    root.into()
}

/// External objects keep their outside name, which defaults to the key.
fn external_name(external: bool, name: Option<String>, key: &str) -> Option<String> {
    match name {
        Some(name) if external && name.ends_with(&format!("_{key}")) => Some(key.to_owned()),
        None if external => Some(key.to_owned()),
        name => name,
    }
}

fn network(network: &Network, name: Option<String>, form: Form) -> Object {
    let mut object = Object::default();
    object
        .some("name", name)
        .some("driver", network.driver.clone())
        .pairs("driver_opts", &network.driver_opts);
    let mut ipam = Object::default();
    ipam.some("driver", network.ipam.driver.clone());
    let pools = network.ipam.config.iter().map(|pool| {
        let mut object = Object::default();
        object
            .some("subnet", pool.subnet.clone())
            .some("gateway", pool.gateway.clone())
            .some("ip_range", pool.ip_range.clone())
            .pairs("aux_addresses", &pool.aux_addresses);
        object.into()
    });
    ipam.list("config", pools.collect());
    if form == Form::Spec {
        ipam.pairs("options", &network.ipam.options);
        object.object("ipam", ipam);
    } else {
        object.set("ipam", ipam);
    }
    object
        .flag("external", network.external)
        .flag("internal", network.internal)
        .flag("attachable", network.attachable)
        .pairs("labels", &network.labels)
        .some("enable_ipv6", network.enable_ipv6);
    extended(&mut object, &network.extensions, form);
    object
}
