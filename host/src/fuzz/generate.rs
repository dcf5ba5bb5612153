//! Makes requests at random: mostly plausible ones, with the tricks that mounts are known for.

use std::fmt::Write as _;
use std::sync::Arc;

use fastrand::Rng;

use super::Input;
use crate::mount_table::{MountTable, Snapshot};
use crate::options::{MountOption, Options};
use crate::request::{Label, MountRequest, Operation, Propagation, PropagationType, Requester, UnmountMode};
use crate::resolve::{Device, FileKind, ResolvedPath};

/// How far the ids of a table's twin are from its own.
pub(super) const SHIFT: u64 = 100_000;

/// The tables that requests meet, each followed by a twin that differs in its mount ids alone.
#[derive(Debug)]
pub struct Tables(Vec<(String, Arc<Snapshot>)>);

impl Tables {
    /// Some made up, and the given ones, which should be real.
    pub fn new(real: &[String]) -> Self {
        let mut texts = vec![String::new()];
        texts.push(
            "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             21 20 0:5 / /proc rw,nosuid - proc proc rw\n\
             22 20 0:30 / /mnt rw - tmpfs tmpfs rw\n\
             23 22 8:17 / /mnt/a rw - ext4 /dev/sdb1 rw\n\
             24 22 0:32 / /mnt/a\\040b ro,nosuid - nfs4 server:/export ro\n\
             25 23 0:33 / /mnt/a rw - tmpfs  rw\n\
             26 20 8:1 /home//deleted /srv rw - ext4 /dev/sda1 rw\n"
                .to_owned(),
        );
        let mut many = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n".to_owned();
        for i in 0..2000 {
            let _ = writeln!(many, "{} 20 0:{i} / /mnt/{i} rw - tmpfs tmpfs rw", 100 + i);
        }
        texts.push(many);
        texts.extend(real.iter().cloned());
        let twins = texts.into_iter().flat_map(|text| [text.clone(), shifted(&text)]);
        let table = |text: &str| MountTable::parse(text.as_bytes().to_vec()).ok().map(Snapshot::of).map(Arc::new);
        Self(twins.filter_map(|text| Some((text.clone(), table(&text)?))).collect())
    }

    pub(super) fn snapshot(&self, table: usize) -> Arc<Snapshot> {
        self.0[table].1.clone()
    }

    /// The text of a table.
    pub fn text(&self, table: usize) -> &str {
        &self.0[table].0
    }
}

/// The same table with other mount ids.
fn shifted(text: &str) -> String {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let mut id = || parts.next()?.parse::<u64>().ok();
        match (id(), id(), parts.next()) {
            (Some(id), Some(parent), Some(rest)) => format!("{} {} {rest}\n", id + SHIFT, parent + SHIFT),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Words to make requests of: what mounts are known for, and what the policies' own settings name.
#[derive(Debug)]
pub struct Words {
    paths: Vec<String>,
    words: Vec<String>,
}

impl Words {
    /// With every text in these settings.
    pub fn of<'s>(settings: impl Iterator<Item = &'s str>) -> Self {
        let mut texts = Vec::new();
        for settings in settings {
            if let Ok(value) = serde_json::from_str(settings) {
                collect(&value, &mut texts);
            }
        }
        let (mut paths, mut words): (Vec<String>, Vec<String>) =
            texts.into_iter().partition(|text| text.starts_with('/'));
        let near: Vec<String> = paths.iter().flat_map(|path| [format!("{path}x"), format!("{path}/below")]).collect();
        paths.extend(near);
        paths.extend(PATHS.map(str::to_owned));
        words.extend(OPTIONS.map(str::to_owned));
        Self { paths, words }
    }
}

fn collect(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, texts)),
        serde_json::Value::Object(map) => map.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

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
const OPTIONS: [&str; 30] = [
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
const VALUES: [&str; 12] =
    ["1m", "0700", "0", "", "-1", "/etc", "/mnt:/etc/ssl", "a=b", "remount-ro", "ü", "99999999999999999999", " "];
const TYPES: [&str; 12] =
    ["tmpfs", "ext4", "xfs", "btrfs", "overlay", "nfs", "nfs4", "proc", "EXT4", "ext4.x", "squashfs", "vfat"];
const SOURCES: [&str; 10] =
    ["tmpfs", "/dev/sda1", "/dev/sdb1", "server:/export", "//server/share", "none", "overlay", "[::1]:/x", "ü", "a b"];

/// Makes inputs, the same ones for the same seed.
#[derive(Debug)]
pub struct Generator<'w> {
    random: Rng,
    words: &'w Words,
    tables: usize,
}

impl<'w> Generator<'w> {
    /// For a seed.
    pub fn new(seed: u64, words: &'w Words, tables: &Tables) -> Self {
        Self { random: Rng::with_seed(seed), words, tables: tables.0.len() }
    }

    pub(super) fn input(&mut self) -> Input {
        let operation = self.operation();
        let has_source = matches!(operation, Operation::Mount | Operation::Bind { .. } | Operation::Move);
        let source = has_source.then(|| {
            if operation == Operation::Mount && self.random.u8(0..3) > 0 {
                self.pick(&SOURCES).to_owned()
            } else {
                self.path()
            }
        });
        let found = source.as_ref().filter(|source| crate::invariants::is_path(source)).map(|source| {
            let kind = if operation == Operation::Mount { FileKind::BlockDevice } else { FileKind::Directory };
            self.resolved(source, kind)
        });
        let written = self.path();
        let target = self.resolved(&written, FileKind::Directory);
        let fstype = (operation == Operation::Mount).then(|| self.fstype());
        let options = match operation {
            Operation::Mount | Operation::Remount { mount_point_only: false } => self.options(false),
            Operation::Bind { .. } | Operation::Remount { .. } => self.options(true),
            _ => Options::default(),
        };
        let requester = Requester {
            uid: self.random.u32(0..3) * 1000,
            gid: 0,
            pid: self.random.u32(1..100_000),
            labels: self.labels(),
        };
        let request = MountRequest { operation, source, target: written, fstype, options };
        Input { request, source: found, target, requester, table: self.random.usize(0..self.tables / 2) * 2 }
    }

    fn operation(&mut self) -> Operation {
        let kinds =
            [PropagationType::Shared, PropagationType::Slave, PropagationType::Private, PropagationType::Unbindable];
        let yes = |random: &mut Rng| random.bool();
        match self.random.u8(0..12) {
            0..=5 => Operation::Mount,
            6 | 7 => Operation::Bind { recursive: yes(&mut self.random) },
            8 => Operation::Remount { mount_point_only: yes(&mut self.random) },
            9 => Operation::Move,
            10 => Operation::SetPropagation(Propagation {
                kind: kinds[self.random.usize(0..4)],
                recursive: yes(&mut self.random),
            }),
            _ => Operation::Unmount(UnmountMode {
                lazy: yes(&mut self.random),
                force: yes(&mut self.random),
                recursive: yes(&mut self.random),
            }),
        }
    }

    fn path(&mut self) -> String {
        let words = self.words;
        let mut path = words.paths[self.random.usize(0..words.paths.len())].clone();
        if self.random.u8(0..6) == 0 {
            let more = words.paths[self.random.usize(0..words.paths.len())].clone();
            path = format!("{}{more}", path.trim_end_matches('/'));
        }
        path
    }

    fn resolved(&mut self, written: &str, kind: FileKind) -> ResolvedPath {
        let through_link = self.random.u8(0..8) == 0;
        let path = if through_link { self.path() } else { written.to_owned() };
        let path = crate::resolve::lexical(&path);
        let is_device = kind == FileKind::BlockDevice;
        ResolvedPath {
            path,
            kind,
            device: is_device.then(|| Device { major: 8, minor: self.random.u32(0..3) * 16 + 1 }),
            symlinks: if through_link { vec![written.to_owned()] } else { Vec::new() },
            covering_mount: self.random.bool().then(|| self.random.u64(20..27)),
        }
    }

    fn fstype(&mut self) -> String {
        let words = &self.words.words;
        let named: Vec<&String> = words.iter().filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric())).collect();
        if self.random.u8(0..4) == 0 && !named.is_empty() {
            return named[self.random.usize(0..named.len())].clone();
        }
        self.pick(&TYPES).to_owned()
    }

    fn options(&mut self, per_mount: bool) -> Options {
        let count = [0, 1, 1, 2, 3, 5, 12][self.random.usize(0..7)];
        let one = |generator: &mut Self| {
            let words = &generator.words.words;
            let name = words[generator.random.usize(0..words.len())].clone();
            let flag = OPTIONS[..16].contains(&name.as_str());
            let value = (!flag && generator.random.bool()).then(|| generator.pick(&VALUES).to_owned());
            MountOption { name, value }
        };
        let all: Vec<MountOption> = (0..count).map(|_| one(self)).collect();
        all.into_iter().filter(|option| !per_mount || crate::invariants::is_per_mount(&option.name)).collect()
    }

    fn labels(&mut self) -> Vec<Label> {
        let one = || Label { key: "team".to_owned(), value: "storage".to_owned() };
        (0..self.random.usize(0..3).saturating_sub(1)).map(|_| one()).collect()
    }

    fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list[self.random.usize(0..list.len())]
    }
}
