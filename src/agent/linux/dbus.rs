//! A minimal D-Bus client, just enough to ask systemd for a slice (D-Bus Specification, "Message Protocol").

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest accepted message, in bytes.
const LONGEST: usize = 1 << 20;

const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;

/// A connection to the system bus.
pub(crate) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

/// An argument of a call.
pub(crate) enum Value<'a> {
    Text(&'a str),
    Texts(&'a [&'a str]),
    Flag(bool),
    /// `a(sv)` of numbers of 64 bits.
    Properties(&'a [(&'a str, u64)]),
    /// An empty `a(sa(sv))`.
    NoUnits,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    Broken(io::Error),
    Refused { name: String, words: String },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "{error}"),
            Self::Refused { name, words } if words.is_empty() => f.write_str(name),
            Self::Refused { words, .. } => f.write_str(words),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Bus {
    /// Connects, authenticates, and registers on the bus.
    pub(crate) fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self { stream: BufReader::new(stream), serial: 0 };
        let own = hex::encode(rustix::process::getuid().as_raw().to_string());
        bus.stream.get_mut().write_all(format!("\0AUTH EXTERNAL {own}\r\n").as_bytes())?;
        let mut answer = String::new();
        bus.stream.read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the bus does not let us in: {}", answer.trim())).into());
        }
        bus.stream.get_mut().write_all(b"BEGIN\r\n")?;
        let at = Address {
            to: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
        };
        bus.call_at(&at, "Hello", &[])?;
        Ok(bus)
    }

    /// Calls a method of systemd's manager and waits for its reply.
    pub(crate) fn call(&mut self, method: &str, arguments: &[Value<'_>]) -> Result<(), Failure> {
        let at = Address {
            to: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
        };
        self.call_at(&at, method, arguments)
    }

    fn call_at(&mut self, at: &Address, method: &str, arguments: &[Value<'_>]) -> Result<(), Failure> {
        self.serial += 1;
        let message = message(self.serial, at, method, arguments);
        self.stream.get_mut().write_all(&message)?;
        loop {
            let answer = BusReply::read(&mut self.stream)?;
            if answer.to != Some(self.serial) {
                // A signal, such as the one with our own name.
                continue;
            }
            return match answer.kind {
                REPLY => Ok(()),
                ERROR => Err(Failure::Refused { name: answer.error, words: answer.words }),
                other => Err(io::Error::other(format!("an answer of kind {other}")).into()),
            };
        }
    }
}

struct Address {
    to: &'static str,
    path: &'static str,
    interface: &'static str,
}

/// A message body under construction; each value is aligned to its size (all little-endian).
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    signature: String,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// Writes an array; its length counts from the first element.
    fn list(&mut self, align: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.bytes.len() - 4;
        self.align(align);
        let begin = self.bytes.len();
        fill(self);
        let size = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        self.bytes[length..length + 4].copy_from_slice(&size.to_le_bytes());
    }

    fn value(&mut self, value: &Value<'_>) {
        let signature = match value {
            Value::Text(text) => {
                self.text(text);
                "s"
            }
            Value::Texts(texts) => {
                self.list(4, |list| texts.iter().for_each(|text| list.text(text)));
                "as"
            }
            Value::Flag(flag) => {
                self.number(u32::from(*flag));
                "b"
            }
            Value::Properties(properties) => {
                self.list(8, |list| {
                    for (name, value) in *properties {
                        list.align(8);
                        list.text(name);
                        list.signature("t");
                        list.align(8);
                        list.bytes.extend(value.to_le_bytes());
                    }
                });
                "a(sv)"
            }
            Value::NoUnits => {
                self.list(8, |_| ());
                "a(sa(sv))"
            }
        };
        self.signature.push_str(signature);
    }
}

/// Serializes a call.
fn message(serial: u32, at: &Address, method: &str, arguments: &[Value<'_>]) -> Vec<u8> {
    let mut body = Body::default();
    arguments.iter().for_each(|argument| body.value(argument));
    let mut head = Body { bytes: vec![b'l', CALL, 0, 1], ..Body::default() };
    head.number(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
    head.number(serial);
    let fields = [(1, "o", at.path), (2, "s", at.interface), (3, "s", method), (6, "s", at.to)];
    head.list(8, |head| {
        for (code, signature, text) in fields {
            head.align(8);
            head.bytes.push(code);
            head.signature(signature);
            head.text(text);
        }
        if !body.signature.is_empty() {
            head.align(8);
            head.bytes.push(8);
            head.signature("g");
            head.signature(&body.signature);
        }
    });
    head.align(8);
    head.bytes.extend(body.bytes);
    head.bytes
}

/// The parts of a received message that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct BusReply {
    kind: u8,
    /// The serial of the call that it replies to.
    to: Option<u32>,
    error: String,
    /// The text of an error.
    words: String,
}

impl BusReply {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut start = [0; 16];
        from.read_exact(&mut start)?;
        let size =
            |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
        let (body, fields) = (size(4), size(12));
        if start[0] != b'l' || body.max(fields) > LONGEST {
            return Err(io::Error::other("the bus speaks another way"));
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        from.read_exact(&mut rest)?;
        let mut answer = Self { kind: start[1], ..Self::default() };
        let mut reader = Reader { bytes: &rest[..fields], at: 0 };
        let mut signature = String::new();
        while let Some(code) = reader.field() {
            match (code, reader.short().as_deref()) {
                (5, Some("u")) => answer.to = reader.number(),
                (4, Some("s")) => answer.error = reader.text().unwrap_or_default(),
                (8, Some("g")) => signature = reader.short().unwrap_or_default(),
                (_, Some("s" | "o")) => drop(reader.text()),
                (_, Some("u")) => drop(reader.number()),
                (_, Some("g")) => drop(reader.short()),
                _ => break,
            }
        }
        if answer.kind == ERROR && signature.starts_with('s') {
            let mut words = Reader { bytes: &rest[fields.next_multiple_of(8)..], at: 0 };
            answer.words = words.text().unwrap_or_default();
        }
        Ok(answer)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    /// Reads the code of the next header field, if there is one.
    fn field(&mut self) -> Option<u8> {
        self.at = self.at.next_multiple_of(8);
        self.take(1).map(|code| code[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    /// Reads a signature.
    fn short(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANAGER: Address =
        Address { to: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", interface: "a.b" };

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let bytes = message(7, &MANAGER, "StopUnit", &[Value::Text("a.slice"), Value::Flag(true)]);
        assert_eq!(&bytes[..4], b"l\x01\x00\x01");
        // The text's length, the text and its final NUL; then the flag.
        let body = b"\x07\0\0\0a.slice\0\x01\0\0\0";
        assert_eq!(bytes[4..8], u32::try_from(body.len()).unwrap().to_le_bytes());
        assert_eq!(bytes[8..12], 7_u32.to_le_bytes());
        assert!(bytes.ends_with(body));
        assert_eq!((bytes.len() - body.len()) % 8, 0);
    }

    #[test]
    fn properties_are_pairs_of_a_name_and_a_number() {
        let mut body = Body::default();
        body.value(&Value::Properties(&[("TasksMax", 5)]));
        assert_eq!(body.signature, "a(sv)");
        let expected = b"\x18\0\0\0\0\0\0\0\x08\0\0\0TasksMax\0\x01t\0\x05\0\0\0\0\0\0\0";
        assert_eq!(body.bytes.len(), expected.len());
        assert_eq!(body.bytes, expected);
    }

    #[test]
    fn an_error_tells_its_name_and_its_words() {
        let mut fields = Body::default();
        fields.bytes.push(4);
        fields.signature("s");
        fields.text("org.freedesktop.systemd1.UnitExists");
        fields.align(8);
        fields.bytes.push(5);
        fields.signature("u");
        fields.number(9);
        let mut words = Body::default();
        words.text("it is there");
        let mut bytes = vec![b'l', ERROR, 0, 1];
        bytes.extend(u32::try_from(words.bytes.len()).unwrap().to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(u32::try_from(fields.bytes.len()).unwrap().to_le_bytes());
        // This test leaves out the signature of the error text, and so the text.
        bytes.extend(&fields.bytes);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(words.bytes);
        let answer = BusReply::read(&mut bytes.as_slice()).unwrap();
        assert_eq!((answer.kind, answer.to), (ERROR, Some(9)));
        assert!(answer.error.ends_with("UnitExists"));
    }
}
