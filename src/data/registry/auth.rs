//! What a registry asks for, and the header that answers it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::engine::RegistryCredentials;

/// A challenge of the header `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and a password.
    Basic,
    /// A token of another service.
    Bearer {
        /// Where to get it.
        realm: String,
        /// What to say there.
        service: Option<String>,
    },
}

impl Challenge {
    /// Parses the header.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let value = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        Some(Self::Bearer { realm: value("realm")?, service: value("service") })
    }
}

/// Splits `key="value",key=value`; commas may be inside of quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let (mut found, mut is_quoted, mut start) = (Vec::new(), false, 0);
    let mut take = |part: &str| {
        if let Some((key, value)) = part.split_once('=') {
            found.push((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
        }
    };
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                take(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    take(&text[start..]);
    found
}

/// The header for a user name and a password.
pub fn basic(credentials: &RegistryCredentials) -> Option<String> {
    let RegistryCredentials { username: Some(user), password: Some(password), .. } = credentials else {
        return None;
    };
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// The answer of a token service.
#[derive(Deserialize)]
pub struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl TokenAnswer {
    /// The header with the token.
    pub fn header(&self) -> Option<String> {
        let token = if self.token.is_empty() { &self.access_token } else { &self.token };
        (!token.is_empty()).then(|| format!("Bearer {token}"))
    }
}

/// Encodes a value of a query.
pub fn query_value(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_parsed() {
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        let header =
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull,push""#;
        let (realm, service) = ("https://auth.example/token".to_owned(), Some("r.example".to_owned()));
        assert_eq!(Challenge::parse(header), Some(Challenge::Bearer { realm, service }));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
    }

    #[test]
    fn values_of_queries_are_encoded() {
        assert_eq!(query_value("repository:a/b:pull,push"), "repository%3Aa%2Fb%3Apull%2Cpush");
    }
}
