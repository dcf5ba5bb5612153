//! Mount options: `name` or `name=value`, in order, duplicates kept, the last of a contradicting pair counts.
//!
//! The grammar is that of mount(8) `-o`: commas separate, except between double quotes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::mount_flags::{FLAGS, restrictions};

/// One option.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountOption {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands after it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl MountOption {
    /// Reads one `name` or `name=value`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self::flag(text),
        }
    }

    /// An option that is a plain word.
    pub fn flag(name: &str) -> Self {
        Self { name: name.to_owned(), value: None }
    }

    /// This option, with what is secret of its value masked.
    pub(crate) fn masked(&self) -> Self {
        let masked = |value: &String| without(value, self.secrets());
        Self { name: self.name.clone(), value: self.value.as_ref().map(masked) }
    }

    /// The parts of its value that must not be shown, in order.
    fn secrets(&self) -> Vec<&str> {
        let Some(value) = self.value.as_deref().filter(|value| !value.is_empty()) else { return Vec::new() };
        if is_secret(&self.name) {
            return vec![value];
        }
        // mount.cifs(8) takes a password behind the user.
        let is_user = matches!(self.name.to_ascii_lowercase().as_str(), "user" | "username");
        match value.split_once('%').filter(|(_, password)| is_user && !password.is_empty()) {
            Some((_, password)) => vec![password],
            None => secrets_of_url(value),
        }
    }
}

/// Whether what bears this name must not be shown.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 10] = ["credentials", "cred", "secret", "token", "pw", "pwd", "pin", "psk", "sig", "signature"];
    let name = name.to_ascii_lowercase();
    let is_word = |part: &str| WORDS.contains(&part) || is_password(part);
    is_word(&name) || name.split(['_', '-', '.']).any(is_word) || name.contains("password") || name.ends_with("key")
}

/// Whether a word is `pass`, `passwd` or `password`, with or without a number behind it.
fn is_password(word: &str) -> bool {
    matches!(word.trim_end_matches(|c: char| c.is_ascii_digit()), "pass" | "passwd" | "password" | "passphrase")
}

/// What must not be shown of a URL, in order: the password in `https://user:password@host/`, or in the words of cifs,
/// `//user:password@host/share` or `//user%password@host/share`; and what the query `?token=…&sig=…` calls a secret.
pub(crate) fn secrets_of_url(text: &str) -> Vec<&str> {
    let Some((_, rest)) = text.split_once("//") else { return Vec::new() };
    let user = rest.split('/').next().and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    let password = user.and_then(|user| user.split_once(':').or_else(|| user.split_once('%')));
    let behind_user = &rest[user.map_or(0, str::len)..];
    let query = behind_user.split_once('?').and_then(|(_, query)| query.split('#').next()).unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let secrets = password.into_iter().chain(pairs.filter(|(name, _)| is_secret(name))).map(|(_, secret)| secret);
    secrets.filter(|secret| !secret.is_empty()).collect()
}

/// A text with these parts of it masked, which come in order.
pub(crate) fn without(text: &str, secrets: Vec<&str>) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for secret in secrets {
        let start = secret.as_ptr().addr() - text.as_ptr().addr();
        shown.push_str(&text[from..start]);
        shown.push_str(MASK);
        from = start + secret.len();
    }
    shown + &text[from..]
}

impl fmt::Display for MountOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.value {
            Some(value) => write!(f, "={value}"),
            None => Ok(()),
        }
    }
}

/// What stands between two double quotes.
pub(crate) fn quoted_text(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"').filter(|inner| !inner.contains('"'))
}

/// What stands in for a secret.
pub(crate) const MASK: &str = "****";

/// The word that contradicts an option: of the two, the last one counts.
fn contrary(name: &str) -> Option<&'static str> {
    const MORE: [(&str, &str); 4] =
        [("noatime", "atime"), ("norelatime", "relatime"), ("async", "sync"), ("nolazytime", "lazytime")];
    let pairs = FLAGS.iter().map(|flag| (flag.sets, flag.clears)).chain(MORE);
    pairs.into_iter().find_map(|(one, other)| match name {
        name if name == one => Some(other),
        name if name == other => Some(one),
        _ => None,
    })
}

/// An ordered list of options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(Vec<MountOption>);

impl Options {
    /// Reads the argument of mount(8)'s `-o`. Empty options are left out.
    pub fn parse(text: &str) -> Self {
        let mut quoted = false;
        let parts = text.split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        Self(parts.filter(|part| !part.is_empty()).map(MountOption::parse).collect())
    }

    /// The options in order.
    pub fn iter(&self) -> std::slice::Iter<'_, MountOption> {
        self.0.iter()
    }

    /// Whether there is an option of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.iter().any(|option| option.name == name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts an option last, whatever stands before.
    pub fn push(&mut self, option: MountOption) {
        self.0.push(option);
    }

    /// Makes an option the one that counts: puts it last, unless it's that already.
    pub fn add(&mut self, option: MountOption) {
        let rival = contrary(&option.name);
        let counting = self.0.iter().rev().find(|o| o.name == option.name || Some(o.name.as_str()) == rival);
        if counting != Some(&option) {
            self.0.push(option);
        }
    }

    /// Takes away every option of this name.
    pub fn drop_all(&mut self, name: &str) {
        self.0.retain(|option| option.name != name);
    }

    /// Takes the option out and says whether it was there.
    pub fn take(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.drop_all(name);
        self.0.len() < before
    }

    /// The flags among `ro`, `nosuid`, `nodev`, `noexec` and `nosymfollow` that count.
    pub fn restrictions(&self) -> impl Iterator<Item = &'static str> + '_ {
        restrictions().filter(|flag| self.last_of(flag.sets, flag.clears) == Some(flag.sets)).map(|flag| flag.sets)
    }

    /// The flags among `rw`, `suid`, `dev`, `exec` and `symfollow` that count.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = &'static str> + '_ {
        restrictions().filter(|flag| self.last_of(flag.sets, flag.clears) == Some(flag.clears)).map(|flag| flag.clears)
    }

    /// Which of two contradicting words counts.
    fn last_of<'w>(&self, one: &'w str, other: &'w str) -> Option<&'w str> {
        self.0.iter().rev().find_map(|option| match option.name.as_str() {
            name if name == one => Some(one),
            name if name == other => Some(other),
            _ => None,
        })
    }

    /// These options with secret values masked.
    pub fn masked(&self) -> Self {
        Self(self.0.iter().map(MountOption::masked).collect())
    }

    /// The values that must not be shown.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(MountOption::secrets)
    }
}

impl FromIterator<MountOption> for Options {
    fn from_iter<I: IntoIterator<Item = MountOption>>(options: I) -> Self {
        Self(options.into_iter().collect())
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, option) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{option}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn adding_makes_an_option_count_even_behind_its_contrary() {
        let mut options = Options::parse("nosuid,suid");
        options.add(MountOption::flag("nosuid"));
        assert_eq!(options.to_string(), "nosuid,suid,nosuid");
        options.add(MountOption::flag("nosuid"));
        assert_eq!(options.to_string(), "nosuid,suid,nosuid");
    }

    #[test]
    fn a_quoted_comma_does_not_split() {
        let options = Options::parse("context=\"a:b,c\",ro");
        assert_eq!(options.len(), 2);
        assert_eq!(options.iter().next(), Some(&MountOption::parse("context=\"a:b,c\"")));
    }

    #[test]
    fn secrets_are_masked() {
        let options = Options::parse("user=a,password=b,credentials=/c,ro,ssh_key=x,monkey");
        assert_eq!(options.masked().to_string(), "user=a,password=****,credentials=****,ro,ssh_key=****,monkey");
        assert_eq!(options.secrets().collect::<Vec<_>>(), ["b", "/c", "x"]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(list in prop::collection::vec("[a-z_.]{1,8}(=[^,\"]{0,8})?", 0..8)) {
            let options: Options = list.iter().map(|text| MountOption::parse(text)).collect();
            prop_assert_eq!(Options::parse(&options.to_string()), options);
        }

        #[test]
        fn anything_is_read_without_a_panic_and_printed_stably(text in ".{0,64}") {
            let once = Options::parse(&text);
            prop_assert_eq!(Options::parse(&once.to_string()), once);
        }

        #[test]
        fn what_was_added_counts(list in prop::collection::vec("(no)?(suid|dev|exec)|r[ow]", 0..8), strict in 0usize..5) {
            let mut options: Options = list.iter().map(|text| MountOption::parse(text)).collect();
            let strict = FLAGS[strict].sets;
            options.add(MountOption::flag(strict));
            prop_assert!(options.restrictions().any(|flag| flag == strict));
        }
    }
}
