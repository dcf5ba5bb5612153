//! The flags of libFuzzer, as engines such as ClusterFuzzLite give them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::input::read_plain;

/// What an engine asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EngineFlags {
    pub(super) runs: Option<u64>,
    pub(super) time: Option<Duration>,
    pub(super) seed: Option<u64>,
    pub(super) jobs: Option<u64>,
    pub(super) merges: bool,
    pub(super) minimizes: bool,
    /// What the names of files with findings begin with.
    pub(super) artifact_prefix: Option<String>,
    /// The one file that a finding goes to.
    pub(super) exact_artifact_path: Option<PathBuf>,
    pub(super) dictionaries: Vec<PathBuf>,
    /// Folders of a corpus.
    pub(super) folders: Vec<PathBuf>,
    /// Requests that are run, and nothing else.
    pub(super) files: Vec<PathBuf>,
}

impl EngineFlags {
    /// Reads what stands after `--`. Flags without a meaning here are left out, as libFuzzer does with those that it doesn't know.
    pub(super) fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut flags = Self::default();
        for argument in arguments {
            let flag = argument.to_str().and_then(|text| text.strip_prefix('-'));
            let Some((name, value)) = flag.map(|flag| flag.split_once('=').unwrap_or((flag, ""))) else {
                let path = PathBuf::from(argument);
                let list = if path.is_file() { &mut flags.files } else { &mut flags.folders };
                list.push(path);
                continue;
            };
            let number = || -> Result<u64, String> {
                value.parse().map_err(|_| format!("-{name}={value}: write a number, e.g. -{name}=1"))
            };
            match name {
                // -1 stands for no bound.
                "runs" => flags.runs = Some(if value.starts_with('-') { u64::MAX } else { number()? }),
                "max_total_time" => flags.time = Some(number()?).filter(|time| *time > 0).map(Duration::from_secs),
                // 0 stands for one of its own choice.
                "seed" => flags.seed = Some(number()?).filter(|seed| *seed > 0),
                "jobs" | "fork" => flags.jobs = Some(number()?).filter(|jobs| *jobs > 0),
                "merge" => flags.merges = number()? > 0,
                "minimize_crash" => flags.minimizes = number()? > 0,
                "artifact_prefix" => flags.artifact_prefix = Some(value.to_owned()),
                "exact_artifact_path" => flags.exact_artifact_path = Some(value.into()),
                "dict" => flags.dictionaries.push(value.into()),
                _ => tracing::debug!("the flag -{name} of libFuzzer means nothing here"),
            }
        }
        if flags.minimizes && flags.files.is_empty() {
            return Err("-minimize_crash=1: it needs a request file that is there".to_owned());
        }
        Ok(flags)
    }

    /// The words of the dictionaries.
    pub(super) fn words(&self) -> anyhow::Result<Vec<String>> {
        let mut words = Vec::new();
        for path in &self.dictionaries {
            let text = String::from_utf8_lossy(&read_plain(path)?).into_owned();
            words.extend(text.lines().filter_map(word));
        }
        Ok(words)
    }
}

/// The word of a line of a dictionary: `name="word"`, where the name may be missing.
fn word(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let quoted = line.get(line.find('"')? + 1..line.rfind('"')?)?;
    let mut bytes = Vec::new();
    let mut rest = quoted.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => match rest.next()? {
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                }
                other => bytes.push(other),
            },
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok().filter(|word| !word.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Result<EngineFlags, String> {
        EngineFlags::parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_of_libfuzzer_are_understood() {
        let flags = of(&["-runs=5", "-max_total_time=60", "-seed=7", "-merge=1", "-rss_limit_mb=2560", "corpus"]);
        let expected = EngineFlags {
            runs: Some(5),
            time: Some(Duration::from_secs(60)),
            seed: Some(7),
            merges: true,
            folders: vec!["corpus".into()],
            ..EngineFlags::default()
        };
        assert_eq!(flags, Ok(expected));
        let unbounded = EngineFlags { runs: Some(u64::MAX), ..EngineFlags::default() };
        assert_eq!(of(&["-runs=-1", "-seed=0", "-max_total_time=0"]), Ok(unbounded));
        assert!(of(&["-minimize_crash=1", "not-there"]).is_err());
        assert!(of(&["-runs=x"]).is_err());
    }

    #[test]
    fn dictionaries_are_those_of_libfuzzer() {
        let words: Vec<_> = ["# a comment", "\"/mnt\"", "kw=\"a\\\\b\\\"\\x41\"", "", "\"\\x00\""].map(word).into();
        assert_eq!(words, [None, Some("/mnt".to_owned()), Some("a\\b\"A".to_owned()), None, None]);
    }
}
