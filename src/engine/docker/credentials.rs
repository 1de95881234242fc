//! Reads registry credentials from the user's Docker configuration: `credHelpers`, `credsStore`, `auths`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use bollard::auth::DockerCredentials;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::engine::RegistryCredentials;

/// The key of Docker Hub's credentials.
const HUB: &str = "https://index.docker.io/v1/";
/// The user name that a helper returns if the secret is a token.
const TOKEN_USER: &str = "<token>";

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The registry of an image reference, as the Docker configuration names it.
pub(super) fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

/// Credentials for a registry; `None` if the configuration has none or cannot be read.
pub(super) async fn credentials(folder: Option<&Path>, registry: &str) -> Option<DockerCredentials> {
    let config = read(folder?)?;
    let helper =
        config.cred_helpers.get(registry).or(Some(&config.creds_store)).filter(|helper| !helper.is_empty());
    if let Some(helper) = helper
        && let Some(found) = ask_helper(helper, registry).await
    {
        return Some(found);
    }
    let (_, auth) = config.auths.iter().find(|(key, _)| host(key) == host(registry))?;
    decode(auth, registry)
}

/// The credentials that the user's Docker configuration has for the host of a registry.
pub async fn registry_credentials(config: Option<&Path>, host: &str) -> Option<RegistryCredentials> {
    // A name below the host selects the same registry as an image's name does.
    let registry = registry_of(&format!("{host}/any")).to_owned();
    let found = credentials(config, &registry).await?;
    Some(RegistryCredentials {
        username: found.username,
        password: found.password,
        identity_token: found.identitytoken,
        registry_token: found.registrytoken,
    })
}

/// The value of the header `X-Registry-Auth`. The engine cannot decode bollard's base64 alphabet and would silently work
/// without credentials.
pub(super) fn encoded(credentials: Option<&DockerCredentials>) -> String {
    let json = credentials.and_then(|credentials| serde_json::to_string(credentials).ok());
    URL_SAFE.encode(json.as_deref().unwrap_or("{}"))
}

/// All configured credentials by registry: a build may need any of them.
pub(super) async fn all_credentials(
    folder: Option<&Path>,
) -> std::collections::HashMap<String, DockerCredentials> {
    let Some(config) = folder.and_then(read) else { return std::collections::HashMap::new() };
    let mut all = std::collections::HashMap::new();
    for registry in config.auths.keys().chain(config.cred_helpers.keys()) {
        if let Some(found) = credentials(folder, registry).await {
            if registry == HUB {
                // BuildKit uses the name of the registry host.
                all.insert("registry-1.docker.io".to_owned(), found.clone());
                all.insert("docker.io".to_owned(), found.clone());
            }
            all.insert(registry.clone(), found.clone());
            all.insert(host(registry).to_owned(), found);
        }
    }
    all
}

fn read(folder: &Path) -> Option<Config> {
    let path = folder.join("config.json");
    let text = fs::read(&path).ok()?;
    match serde_json::from_slice(&text) {
        Ok(config) => Some(config),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the Docker configuration");
            None
        }
    }
}

/// The host of a key: old configurations use whole URLs as keys.
fn host(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or(key)
}

fn decode(auth: &Auth, registry: &str) -> Option<DockerCredentials> {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut credentials = DockerCredentials {
        username: filled(&auth.username),
        password: filled(&auth.password),
        identitytoken: filled(&auth.identitytoken),
        registrytoken: filled(&auth.registrytoken),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    if !auth.encoded.is_empty() {
        let text = auth.encoded.trim_end_matches(['=', '\0']);
        let bytes = STANDARD_NO_PAD.decode(text).or_else(|_| STANDARD.decode(&auth.encoded)).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        credentials.username = filled(user);
        credentials.password = filled(password.trim_end_matches('\0'));
    }
    let any = credentials.username.is_some()
        || credentials.identitytoken.is_some()
        || credentials.registrytoken.is_some();
    any.then_some(credentials)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

/// Runs `docker-credential-HELPER get` with the registry on its stdin.
async fn ask_helper(helper: &str, registry: &str) -> Option<DockerCredentials> {
    let program = format!("docker-credential-{helper}");
    let spawned = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(program, %error, "cannot run the credential helper of the Docker configuration");
            return None;
        }
    };
    let mut stdin = child.stdin.take()?;
    // If the helper does not read its stdin, its exit code reports the failure.
    let _ = stdin.write_all(registry.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait_with_output())
        .await
        .ok()?
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let answer: HelperOutput = serde_json::from_slice(&output.stdout).ok()?;
    let mut credentials =
        DockerCredentials { serveraddress: Some(registry.to_owned()), ..DockerCredentials::default() };
    if answer.username == TOKEN_USER {
        credentials.identitytoken = Some(answer.secret);
    } else {
        credentials.username = Some(answer.username);
        credentials.password = Some(answer.secret);
    }
    Some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_host_is_docker_hubs() {
        assert_eq!(registry_of("postgres:16"), HUB);
        assert_eq!(registry_of("library/postgres"), HUB);
        assert_eq!(registry_of("docker.io/library/postgres"), HUB);
        assert_eq!(registry_of("ghcr.io/a/b"), "ghcr.io");
        assert_eq!(registry_of("localhost:5000/a"), "localhost:5000");
    }

    #[tokio::test]
    async fn auths_are_found_by_host_and_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let auth = STANDARD.encode("me:pa:ss");
        let text = format!(r#"{{"auths":{{"https://r.example/v1/":{{"auth":"{auth}"}}}}}}"#);
        fs::write(folder.path().join("config.json"), text).unwrap();
        let found = credentials(Some(folder.path()), "r.example").await.unwrap();
        assert_eq!(found.username.as_deref(), Some("me"));
        assert_eq!(found.password.as_deref(), Some("pa:ss"));
        assert!(credentials(Some(folder.path()), "other.example").await.is_none());
        assert!(all_credentials(Some(folder.path())).await.contains_key("r.example"));
    }
}
