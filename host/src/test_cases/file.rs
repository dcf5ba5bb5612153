//! A file of cases, in TOML: what is requested, by whom, on which mounts, and what is expected.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::model::ends::{FileKind, OptionPath, ResolvedPath};
use crate::model::location::Device;
use crate::model::option_paths::paths_in;
use crate::model::paths::{is_source_path, lexical};
use crate::model::request::{MountRequest, Operation};
use crate::model::requester::{Label, Requester};
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::source::Paths;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CaseFile {
    /// The host's mounts in all cases that have none of their own.
    #[serde(default)]
    mount_table: Option<Table>,
    #[serde(default, rename = "case")]
    pub(crate) cases: Vec<Spanned<TestCase>>,
}

/// Mounts, in the format of mountinfo: lines, or lines made of parts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Table {
    Lines(String),
    Parts(TableParts),
}

/// Mounts of a file beside the case file, and a line that is there many times.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableParts {
    pub(crate) file: Option<PathBuf>,
    /// `{n}` in it stands for the numbers from 1.
    #[serde(default)]
    repeat: String,
    #[serde(default)]
    times: u32,
}

/// More lines than this are no test.
const MAX_TIMES: u32 = 200_000;

impl TableParts {
    /// The lines that are repeated.
    pub(crate) fn repeated(&self) -> String {
        (1..=self.times.min(MAX_TIMES))
            .fold(String::new(), |lines, n| lines + &self.repeat.replace("{n}", &n.to_string()) + "\n")
    }
}

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TestCase {
    pub(crate) name: String,
    /// The arguments of `mountgate mount` or `mountgate umount`, with that word first.
    #[serde(default)]
    pub(crate) run: Option<Words>,
    /// The request in the form of a request file, in place of `run`.
    #[serde(default)]
    pub(crate) request: Option<MountRequest>,
    #[serde(default)]
    requester: Asker,
    /// What is at the source, where it isn't what one would expect.
    #[serde(default)]
    source: Option<Found>,
    #[serde(default)]
    target: Option<Found>,
    /// What is at the paths in the options, for each option in the order of its paths.
    #[serde(default)]
    option_paths: Vec<FoundInOption>,
    #[serde(default)]
    mount_table: Option<Table>,
    /// The host's paths that are links, each with where it leads; an empty text where it leads nowhere.
    #[serde(default)]
    paths: BTreeMap<String, String>,
    pub(crate) expect: Expectation,
}

/// Words of a command line: parted at spaces, or one by one.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Words {
    Line(String),
    List(Vec<String>),
}

impl Words {
    pub(crate) fn list(&self) -> Vec<String> {
        match self {
            Self::Line(line) => line.split_whitespace().map(str::to_owned).collect(),
            Self::List(list) => list.clone(),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asker {
    uid: u32,
    gid: u32,
    cgroup: Option<String>,
    labels: BTreeMap<String, String>,
}

/// What a path leads to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Found {
    /// The real path, where the written one goes through links.
    path: Option<String>,
    kind: Option<FileKind>,
    /// The number of a device, as `8:1`.
    device: Option<String>,
    /// The links on the way.
    symlinks: Vec<String>,
    /// The other paths of the bytes of a device or an image.
    storage: Vec<String>,
}

/// What a path in an option leads to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundInOption {
    option: String,
    found: Found,
}

/// What a case expects. What isn't named may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectation {
    pub(crate) verdict: Word,
    /// The policy that denied or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// The code of the denial, the failure or the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The edits of all policies, as a trace shows them: `+nosuid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) edits: Option<Vec<String>>,
    /// The final request in one line, as `mountgate check` prints it.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub(crate) final_request: Option<String>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    Allow,
    Deny,
    /// A policy failed, and so denied.
    Fail,
    /// The host refused it by itself.
    Refuse,
}

impl Word {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Fail => "fail",
            Self::Refuse => "refuse",
        }
    }
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The line, and what is wrong there.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("line {}: {}", line_of(text, at), error.message())
        })?;
        for case in &file.cases {
            let (at, case) = (line_of(text, case.span().start), case.get_ref());
            if case.run.is_some() == case.request.is_some() {
                return Err(format!("line {at}: case {:?} needs either `run` or `request`", case.name));
            }
        }
        Ok(file)
    }

    /// The mounts of a case.
    pub(crate) fn table<'c>(&'c self, case: &'c TestCase) -> Option<&'c Table> {
        case.mount_table.as_ref().or(self.mount_table.as_ref())
    }
}

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

impl TestCase {
    /// The host's paths that lead elsewhere than their names say, or nowhere.
    pub(crate) fn paths(&self) -> Paths {
        let leads = |to: &String| Some(to.clone()).filter(|to| !to.is_empty());
        self.paths.iter().map(|(path, to)| (path.clone(), leads(to))).collect()
    }

    pub(crate) fn requester(&self) -> Requester {
        let label = |(key, value): (&String, &String)| Label { key: key.clone(), value: value.clone() };
        Requester {
            uid: self.requester.uid,
            gid: self.requester.gid,
            groups: Vec::new(),
            pid: 1,
            cgroup: self.requester.cgroup.clone(),
            labels: self.requester.labels.iter().map(label).collect(),
        }
    }

    /// What is at the source of a request. Without other words it's a directory, or for a new mount a block device.
    ///
    /// # Errors
    /// A device number that is none, or storage that leads nowhere.
    pub(crate) fn source(&self, request: &MountRequest, snapshot: &Snapshot) -> Result<Option<ResolvedPath>, String> {
        let Some(written) = request.source.as_deref() else { return Ok(None) };
        let kind = match request.operation {
            Operation::Mount => FileKind::BlockDevice,
            _ => FileKind::Directory,
        };
        match &self.source {
            Some(found) => found.resolved(written, kind, snapshot).map(Some),
            None if request.operation.source_is_path() || is_source_path(written) => {
                Found::default().resolved(written, kind, snapshot).map(Some)
            }
            None => Ok(None),
        }
    }

    /// What is at the target: a directory, without other words.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub(crate) fn target(&self, request: &MountRequest, snapshot: &Snapshot) -> Result<ResolvedPath, String> {
        self.target.clone().unwrap_or_default().resolved(&request.target, FileKind::Directory, snapshot)
    }

    /// What is at the paths in the options: directories, without other words.
    ///
    /// # Errors
    /// As [`Self::source`], or an option that names no path there.
    pub(crate) fn option_paths(&self, request: &MountRequest, snapshot: &Snapshot) -> Result<Vec<OptionPath>, String> {
        let mut resolved: Vec<OptionPath> = Vec::new();
        for (i, FoundInOption { option, found }) in self.option_paths.iter().enumerate() {
            let of_name = request.options.iter().filter(|written| written.name == *option);
            let before = resolved.iter().filter(|before| before.option == *option).count();
            let path = of_name.flat_map(paths_in).nth(before).map(|written| written.path);
            let path = path.ok_or_else(|| format!("option-paths[{i}]: {option} names no path there"))?;
            resolved.push(OptionPath {
                option: option.clone(),
                found: found.resolved(&path, FileKind::Directory, snapshot)?,
            });
        }
        Ok(resolved)
    }
}

impl Found {
    fn resolved(&self, written: &str, kind: FileKind, snapshot: &Snapshot) -> Result<ResolvedPath, String> {
        let device = |text: &String| {
            let (major, minor) = text.split_once(':')?;
            Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        let number = self
            .device
            .as_ref()
            .map(|text| device(text).ok_or_else(|| format!("{text:?} isn't the number of a device, such as 8:1")));
        let located = |path: &String| match snapshot.locate(path) {
            Ok(Some(location)) => Ok(location),
            Ok(None) => Err(format!("storage: {path} leads nowhere")),
            Err(error) => Err(error.to_string()),
        };
        Ok(ResolvedPath {
            path: self.path.clone().unwrap_or_else(|| lexical(written)),
            kind: self.kind.unwrap_or(kind),
            location: None,
            device: number.transpose()?,
            storage: self.storage.iter().map(located).collect::<Result<_, _>>()?,
            symlinks: self.symlinks.clone(),
            covering_mount: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::location::Location;
    use crate::mount_table::table::MountTable;

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let read = |text: &str| CaseFile::read(text).map(drop).expect_err("it's wrong");
        let case = "[[case]]\nname = \"a\"\nrun = \"umount /mnt\"\n";
        assert!(CaseFile::read(&format!("{case}expect = {{ verdict = \"allow\" }}\n")).is_ok());
        assert!(read(&format!("{case}expect = {{ verdict = \"no\" }}\n")).starts_with("line 4: unknown variant `no`"));
        assert!(read(&format!("{case}expct = 1\n")).contains("unknown field `expct`"));
        let neither = "\n[[case]]\nname = \"a\"\nexpect = { verdict = \"allow\" }\n";
        assert!(read(neither).starts_with("line 2: case \"a\" needs either"));
    }

    #[test]
    fn storage_is_where_the_mount_table_says() {
        let table = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 8:17 /sub /srv/images rw - ext4 /dev/sdb1 rw\n";
        let found = Found { storage: vec!["/srv/images/a.img".to_owned()], ..Found::default() };
        let resolved = |paths: &[(String, Option<String>)]| {
            let table = MountTable::parse(table.as_bytes().to_vec()).expect("a small one");
            let snapshot = Snapshot::recorded(table, paths.iter().cloned().collect());
            found.resolved("/dev/loop0", FileKind::BlockDevice, &snapshot)
        };
        let location = Location { device: Device { major: 8, minor: 17 }, path: "/sub/a.img".to_owned() };
        assert_eq!(resolved(&[]).expect("the table says it").storage, [location]);
        let error = resolved(&[("/srv/images/a.img".to_owned(), None)]).expect_err("it leads nowhere");
        assert_eq!(error, "storage: /srv/images/a.img leads nowhere");
    }
}
