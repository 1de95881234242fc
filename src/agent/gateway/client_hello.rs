//! Reads the server name in a TLS ClientHello. It is strict: it rejects whatever two parsers could understand
//! differently.
//!
//! RFC 8446, sections 4.1.2 and 5.1 (a hello may span records); RFC 6066, section 3 (server name).

/// The longest accepted ClientHello, in bytes. No real client sends a longer one.
pub const MOST_BYTES: usize = 64 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const MOST_RECORD_BYTES: usize = 16 * 1024 + 256;

/// The result of reading the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// Not a ClientHello, or an ambiguous one.
    Unsound,
    /// A complete hello without a server name.
    Nameless,
    /// A complete hello for this name (lower case, no final dot).
    For(String),
}

/// Parses the beginning of a connection.
pub fn read(bytes: &[u8]) -> Hello {
    let mut handshake = Vec::new();
    let mut rest = bytes;
    loop {
        match message_length(&handshake) {
            Some(_) if handshake.first() != Some(&CLIENT_HELLO) => return Hello::Unsound,
            Some(length) if length > MOST_BYTES => return Hello::Unsound,
            Some(length) if handshake.len() >= 4 + length => {
                return body(&handshake[4..4 + length]).unwrap_or(Hello::Unsound);
            }
            _ => {}
        }
        let [kind, major, _minor, high, low, after @ ..] = rest else {
            return if rest.first().is_none_or(|kind| *kind == HANDSHAKE_RECORD) {
                Hello::Incomplete
            } else {
                Hello::Unsound
            };
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE_RECORD || *major != 3 || length == 0 || length > MOST_RECORD_BYTES {
            return Hello::Unsound;
        }
        let Some((fragment, after)) = after.split_at_checked(length) else { return Hello::Incomplete };
        handshake.extend_from_slice(fragment);
        rest = after;
    }
}

fn message_length(handshake: &[u8]) -> Option<usize> {
    match handshake {
        [_kind, high, middle, low, ..] => {
            Some(usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low))
        }
        _ => None,
    }
}

fn body(bytes: &[u8]) -> Option<Hello> {
    let mut hello = Cursor(bytes);
    hello.take(2 + 32)?;
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    if hello.0.is_empty() {
        return Some(Hello::Nameless);
    }
    let mut extensions = Cursor(hello.vector16()?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == SERVER_NAME && name.replace(server_name(content)?).is_some() {
            return None;
        }
    }
    Some(name.map_or(Hello::Nameless, Hello::For))
}

/// Returns the name if there is exactly one, of the only defined type.
fn server_name(content: &[u8]) -> Option<String> {
    let mut content = Cursor(content);
    let mut names = Cursor(content.vector16()?);
    let kind = names.take(1)?[0];
    let name = names.vector16()?;
    if kind != HOST_NAME || name.is_empty() || !names.0.is_empty() || !content.0.is_empty() {
        return None;
    }
    let name =
        std::str::from_utf8(name).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()))?;
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.number16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector16(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        let entry = [&[HOST_NAME][..], &vector16(name.as_bytes())].concat();
        [&SERVER_NAME.to_be_bytes()[..], &vector16(&vector16(&entry))].concat()
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector16(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(vector16(extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn record(fragment: &[u8]) -> Vec<u8> {
        [&[HANDSHAKE_RECORD, 3, 1][..], &vector16(fragment)].concat()
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        let message = message(&[&[0x0a, 0x0a, 0, 0][..], &sni("API.Example.com.")].concat());
        let expected = Hello::For("api.example.com".into());
        assert_eq!(read(&record(&message)), expected);
        for cut in 1..message.len() {
            let (one, other) = message.split_at(cut);
            let bytes = [record(one), record(other)].concat();
            assert_eq!(read(&bytes), expected, "two records, cut at {cut}");
            assert_eq!(read(&bytes[..cut]), Hello::Incomplete, "the first {cut} bytes");
        }
    }

    #[test]
    fn a_hello_without_a_name_is_nameless() {
        assert_eq!(read(&record(&message(&[]))), Hello::Nameless);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_unsound() {
        let twice = [sni("a.example"), sni("b.example")].concat();
        assert_eq!(read(&record(&message(&twice))), Hello::Unsound);
        assert_eq!(read(&record(&message(&[0, 0, 0, 9, 1]))), Hello::Unsound);
        assert_eq!(read(&record(&[2, 0, 0, 0])), Hello::Unsound);
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Hello::Unsound);
        assert_eq!(read(&record(&message(&sni("a b")))), Hello::Unsound);
        assert_eq!(read(&[HANDSHAKE_RECORD, 3, 1, 0xff, 0xff]), Hello::Unsound);
    }
}
