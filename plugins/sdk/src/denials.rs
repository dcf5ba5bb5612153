//! Denials that the host takes: with a code in kebab case and a reason without control characters.

use std::borrow::Cow;
use std::fmt;

use crate::{Denial, Verdict};

/// The code of a denial: a short word in kebab case, which stays the same between versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code(Cow<'static, str>);

impl Code {
    /// A code that is known when the plugin is compiled. In a `const`, a wrong one doesn't compile.
    ///
    /// # Panics
    /// If it isn't in kebab case.
    pub const fn new(text: &'static str) -> Self {
        assert!(is_code(text.as_bytes()), "a code is a short word such as `target-denied`");
        Self(Cow::Borrowed(text))
    }

    /// A code from the settings. None if it isn't in kebab case.
    pub fn parse(text: &str) -> Option<Self> {
        is_code(text.as_bytes()).then(|| Self(Cow::Owned(text.to_owned())))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_code(text: &[u8]) -> bool {
    let mut i = 0;
    while i < text.len() {
        if !(text[i].is_ascii_lowercase() || text[i].is_ascii_digit() || text[i] == b'-') {
            return false;
        }
        i += 1;
    }
    !text.is_empty() && text.len() <= 64
}

/// Makes a denial. Control characters in the texts are escaped.
pub fn deny(code: &Code, field: &str, reason: impl AsRef<str>) -> Verdict {
    Verdict::Deny(Denial { code: code.to_string(), reason: said(reason), field: Some(plain(field)), hint: None })
}

/// Makes a denial with a hint.
pub fn deny_with_hint(code: &Code, field: &str, reason: impl AsRef<str>, hint: impl AsRef<str>) -> Verdict {
    let hint = Some(plain(hint.as_ref()));
    Verdict::Deny(Denial { code: code.to_string(), reason: said(reason), field: Some(plain(field)), hint })
}

fn said(reason: impl AsRef<str>) -> String {
    match plain(reason.as_ref()) {
        reason if reason.trim().is_empty() => "no reason was given".to_owned(),
        reason => reason,
    }
}

/// A text without control characters and those that change the direction of writing.
fn plain(text: &str) -> String {
    let hides = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hides) {
        return text.to_owned();
    }
    let mut plain = String::new();
    for c in text.chars() {
        match hides(c) {
            true => plain.extend(c.escape_unicode()),
            false => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_denial_is_malformed() {
        const CODE: Code = Code::new("too-many");
        let reason_of = |reason: &str| match deny(&CODE, "target", reason) {
            Verdict::Deny(denial) => denial.reason,
            _ => String::new(),
        };
        assert_eq!(reason_of("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
        assert_eq!(reason_of(" "), "no reason was given");
        for text in ["", "A", "a b", "a_b", "\u{e9}"] {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }
}
