//! Makes requests at random: mostly plausible ones, with the tricks that mounts are known for.

use fastrand::Rng;

use super::dictionary::{Dictionary, FLAGS, OPTIONS};
use super::input::Input;
use super::tables::Tables;
use crate::model::ends::{FileKind, ResolvedPath};
use crate::model::location::Device;
use crate::model::option_names::is_per_mount;
use crate::model::options::{MountOption, Options};
use crate::model::paths::{is_source_path, lexical};
use crate::model::request::{MountRequest, Operation, Propagation, PropagationType, UnmountMode};
use crate::model::requester::{Label, Requester};

const VALUES: [&str; 12] =
    ["1m", "0700", "0", "", "-1", "/etc", "/mnt:/etc/ssl", "a=b", "remount-ro", "ü", "99999999999999999999", " "];
const TYPES: [&str; 12] =
    ["tmpfs", "ext4", "xfs", "btrfs", "overlay", "nfs", "nfs4", "proc", "EXT4", "ext4.x", "squashfs", "vfat"];
const SOURCES: [&str; 10] =
    ["tmpfs", "/dev/sda1", "/dev/sdb1", "server:/export", "//server/share", "none", "overlay", "[::1]:/x", "ü", "a b"];

/// What isn't a directory.
const FILES: [FileKind; 5] =
    [FileKind::Regular, FileKind::CharDevice, FileKind::BlockDevice, FileKind::Fifo, FileKind::Socket];

/// Makes inputs, the same ones for the same seed.
#[derive(Debug)]
pub struct Generator<'w> {
    random: Rng,
    dictionary: &'w Dictionary,
    tables: &'w Tables,
}

impl<'w> Generator<'w> {
    /// A generator for a seed.
    pub fn new(seed: u64, dictionary: &'w Dictionary, tables: &'w Tables) -> Self {
        Self { random: Rng::with_seed(seed), dictionary, tables }
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
        let found = source.as_ref().filter(|source| is_source_path(source)).map(|source| {
            let kind = match operation {
                Operation::Mount => FileKind::BlockDevice,
                _ if self.random.u8(0..4) == 0 => FILES[self.random.usize(0..FILES.len())],
                _ => FileKind::Directory,
            };
            self.resolved(source, kind)
        });
        let written = self.path();
        let is_file = found.as_ref().is_some_and(|found| found.kind != FileKind::Directory);
        let on_file = is_file && operation.source_is_path();
        let target = self.resolved(&written, if on_file { FileKind::Regular } else { FileKind::Directory });
        let fstype = (operation == Operation::Mount).then(|| self.fstype());
        let options = match operation {
            Operation::Mount | Operation::Remount { mount_point_only: false } => self.options(false),
            Operation::Bind { .. } | Operation::Remount { .. } => self.options(true),
            _ => Options::default(),
        };
        let requester = Requester {
            uid: self.random.u32(0..3) * 1000,
            gid: 0,
            groups: Vec::new(),
            pid: self.random.u32(1..100_000),
            cgroup: None,
            labels: self.labels(),
        };
        let request = MountRequest { operation, source, target: written, fstype, options };
        let table = self.tables.pick(&mut self.random);
        Input { request, source: found, target, option_paths: Vec::new(), requester, table }
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
        let paths = &self.dictionary.paths;
        let mut path = paths[self.random.usize(0..paths.len())].clone();
        if self.random.u8(0..6) == 0 {
            let more = paths[self.random.usize(0..paths.len())].clone();
            path = format!("{}{more}", path.trim_end_matches('/'));
        }
        path
    }

    fn resolved(&mut self, written: &str, kind: FileKind) -> ResolvedPath {
        let through_link = self.random.u8(0..8) == 0;
        let path = if through_link { self.path() } else { written.to_owned() };
        let path = lexical(&path);
        let is_device = kind == FileKind::BlockDevice;
        ResolvedPath {
            path,
            kind,
            location: None,
            device: is_device.then(|| Device { major: 8, minor: self.random.u32(0..3) * 16 + 1 }),
            storage: Vec::new(),
            symlinks: if through_link { vec![written.to_owned()] } else { Vec::new() },
            covering_mount: self.random.bool().then(|| self.random.u64(20..27)),
        }
    }

    fn fstype(&mut self) -> String {
        let words = &self.dictionary.words;
        let named: Vec<&String> = words.iter().filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric())).collect();
        if self.random.u8(0..4) == 0 && !named.is_empty() {
            return named[self.random.usize(0..named.len())].clone();
        }
        self.pick(&TYPES).to_owned()
    }

    fn options(&mut self, per_mount: bool) -> Options {
        let count = [0, 1, 1, 2, 3, 5, 12][self.random.usize(0..7)];
        let one = |generator: &mut Self| {
            let words = &generator.dictionary.words;
            let name = words[generator.random.usize(0..words.len())].clone();
            let flag = OPTIONS[..FLAGS].contains(&name.as_str());
            let value = (!flag && generator.random.bool()).then(|| generator.pick(&VALUES).to_owned());
            MountOption { name, value }
        };
        let all: Vec<MountOption> = (0..count).map(|_| one(self)).collect();
        all.into_iter().filter(|option| !per_mount || is_per_mount(&option.name)).collect()
    }

    fn labels(&mut self) -> Vec<Label> {
        let one = || Label { key: "team".to_owned(), value: "storage".to_owned() };
        (0..self.random.usize(0..3).saturating_sub(1)).map(|_| one()).collect()
    }

    fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list[self.random.usize(0..list.len())]
    }
}
