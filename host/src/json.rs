//! JSON for scripts, which a person may look at in a terminal: hidden characters are escaped.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::model::untrusted::is_hidden;

/// Writes a value as one line.
///
/// # Errors
/// When the output can't be written.
pub(crate) fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Escaping))?;
    writeln!(out)
}

/// The compact form, with every hidden character as `\uXXXX`.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hidden) {
            let (plain, hidden) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let Some(c) = hidden.chars().next() else { break };
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &hidden[c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_read_back() {
        let text = "a\u{202e}b\u{9b}\u{1b}\"\u{e0001}ä";
        let mut line = Vec::new();
        write_line(&mut line, &text).expect("memory takes it");
        assert_eq!(String::from_utf8_lossy(&line), "\"a\\u202eb\\u009b\\u001b\\\"\\udb40\\udc01ä\"\n");
        assert_eq!(serde_json::from_slice::<String>(&line).expect("JSON"), text);
    }
}
