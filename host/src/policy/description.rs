//! What a plugin says of itself.

use serde::{Deserialize, Serialize};

use crate::model::edit::Field;

/// Whether a plugin may answer with a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It may rewrite, and runs before the validating plugins.
    Mutating,
    /// It judges the final request and may not rewrite.
    Validating,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of the WIT record")]
pub struct Description {
    pub name: String,
    pub version: String,
    pub kind: Kind,
    pub help: String,
    pub settings_schema: String,
}

/// What a plugin has said of itself and made of its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::policy) struct Introduction {
    pub(in crate::policy) description: Description,
    /// What it's given for each request.
    #[serde(with = "as_text")]
    pub(in crate::policy) prepared: Vec<u8>,
    /// The codes of all denials that it may answer.
    pub(in crate::policy) denial_codes: Vec<String>,
    /// The fields that its rewrites may change.
    pub(in crate::policy) changes: Vec<Field>,
    /// Whether it's to be told how requests end.
    pub(in crate::policy) observes: bool,
}

/// Bytes in a record: as they are where they are text, else in hexadecimal.
mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Bytes {
        Text(String),
        Hex(String),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text.to_owned()),
            Err(_) => Bytes::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        };
        bytes.serialize(serializer)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let digits = match Bytes::deserialize(deserializer)? {
            Bytes::Text(text) => return Ok(text.into_bytes()),
            Bytes::Hex(digits) => digits,
        };
        let pair = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
        bytes.ok_or_else(|| D::Error::custom("it isn't hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_kept_as_they_are() {
        for prepared in [b"{\"a\":1}".to_vec(), vec![0, 255, 16], Vec::new()] {
            let description = Description {
                name: String::new(),
                version: String::new(),
                kind: Kind::Validating,
                help: String::new(),
                settings_schema: String::new(),
            };
            let kept = Introduction {
                description,
                prepared: prepared.clone(),
                denial_codes: Vec::new(),
                changes: Vec::new(),
                observes: false,
            };
            let text = serde_json::to_string(&kept).expect("it can be written");
            let read: Introduction = serde_json::from_str(&text).expect("it can be read");
            assert_eq!(read.prepared, prepared);
        }
    }
}
