//! Words to make requests of.

/// Words to make requests of: known tricks with mounts, and the words of the policies' own settings.
#[derive(Debug)]
pub struct Dictionary {
    pub(super) paths: Vec<String>,
    pub(super) words: Vec<String>,
    /// Those that stand in the policies' settings.
    pub(super) of_settings: Vec<String>,
}

impl Dictionary {
    /// A dictionary with every text in these settings.
    pub fn of<'s>(settings: impl Iterator<Item = &'s str>) -> Self {
        let mut texts = Vec::new();
        for settings in settings {
            if let Ok(value) = serde_json::from_str(settings) {
                collect(&value, &mut texts);
            }
        }
        let parts: Vec<String> = texts.iter().flat_map(|text| parts(text)).collect();
        texts.extend(parts);
        texts.sort();
        texts.dedup();
        let of_settings = texts.iter().filter(|text| text.len() <= MAX_WORD).cloned().collect();
        let (mut paths, mut words): (Vec<String>, Vec<String>) =
            texts.into_iter().partition(|text| text.starts_with('/'));
        let near: Vec<String> = paths.iter().flat_map(|path| [format!("{path}x"), format!("{path}/below")]).collect();
        paths.extend(near);
        paths.extend(PATHS.map(str::to_owned));
        words.extend(OPTIONS.map(str::to_owned));
        Self { paths, words, of_settings }
    }
}

impl Dictionary {
    /// Adds words that somebody has chosen.
    pub fn add(&mut self, words: impl IntoIterator<Item = String>) {
        let (paths, words): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| word.starts_with('/'));
        self.paths.extend(paths);
        self.words.extend(words);
    }
}

/// The words of a text that is more than one, such as an expression.
fn parts(text: &str) -> Vec<String> {
    let is_of_word = |c: char| c.is_alphanumeric() || "_-./:".contains(c);
    let parts = text.split(|c: char| !is_of_word(c)).filter(|part| part.len() > 1 && *part != text);
    parts.map(str::to_owned).collect()
}

fn collect(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, texts)),
        serde_json::Value::Object(map) => map.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

/// A longer text of the settings, such as an expression, is no word.
const MAX_WORD: usize = 64;

const PATHS: [&str; 22] = [
    "/",
    "/mnt",
    "/mnt/a",
    "/mnt/a b",
    "/mnt/a/deep/er",
    "/srv",
    "/etc",
    "/etc/passwd",
    "/usr/lib",
    "/home/user",
    "/var/lib",
    "/mnt//a",
    "/mnt/./a",
    "/mnt/a/",
    "/mnt/#",
    "/mnt/a\\040b",
    "/mnt/ü",
    "/mnt/\u{a0}",
    "/mnt/\u{202e}x",
    "/opt/...",
    "/mnt/*",
    "/run/x",
];

/// Names of options. The first [`FLAGS`] take no value.
pub(super) const OPTIONS: [&str; 30] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "nosymfollow",
    "symfollow",
    "noatime",
    "relatime",
    "atime",
    "strictatime",
    "sync",
    "async",
    "size",
    "mode",
    "uid",
    "subvol",
    "errors",
    "lowerdir",
    "upperdir",
    "workdir",
    "user_xattr",
    "_netdev",
    "RO",
    "no-suid",
    "ü",
    "defaults",
];

/// See [`OPTIONS`].
pub(super) const FLAGS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_expressions_are_words() {
        let settings = r#"{ "rules": [{ "match": "requester.labels['tier'] == 'gold' || target.path == '/srv/x'" }] }"#;
        let dictionary = Dictionary::of([settings].into_iter());
        for word in ["tier", "gold"] {
            assert!(dictionary.words.iter().any(|known| known == word), "{word}");
        }
        assert!(dictionary.paths.iter().any(|path| path == "/srv/x"));
    }
}
