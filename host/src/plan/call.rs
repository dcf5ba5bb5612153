//! Calls and command lines as text, for plans and errors.

use std::fmt::Write as _;

use crate::model::options::MountOption;
use crate::model::untrusted::for_people;

/// A parameter of fsconfig(2), as `fsconfig(size, 1m)`, with a secret masked.
pub(crate) fn parameter(option: &MountOption) -> String {
    let masked = option.masked();
    match &masked.value {
        Some(value) => call("fsconfig", &[&masked.name, value]),
        None => call("fsconfig", &[&masked.name]),
    }
}

/// A call, as `name(argument, …)`. Empty arguments are left out.
pub(crate) fn call(name: &str, arguments: &[&str]) -> String {
    let mut text = format!("{name}(");
    for (i, argument) in arguments.iter().filter(|argument| !argument.is_empty()).enumerate() {
        let _ = write!(text, "{}{}", if i > 0 { ", " } else { "" }, for_people(argument));
    }
    text.push(')');
    text
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.,:=@%+-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/mnt/x"), "/mnt/x");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
