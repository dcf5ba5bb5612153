//! A caller that tries to reach what it's denied, by sequences of requests that are each allowed. What counts is not what
//! was answered, but what the kernel shows afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use mountgate::executor::host_executor::HostExecutor;
use mountgate::exit::ExitStatus;
use mountgate::gate::Gate;
use mountgate::host::root::HostRoot;
use mountgate::model::options::Options;
use mountgate::model::request::{MountRequest, Operation, Propagation, PropagationType, UnmountMode};
use mountgate::model::requester::Requester;
use mountgate::mount_table::mount::MountText;
use mountgate::mount_table::table::MountTable;
use mountgate::policy::cache::Cache;
use mountgate::policy::directory::open::PolicyDirectory;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};

/// How long a sequence is.
const LENGTH: usize = 5;
/// Kinds of violations that end a search by name.
const ENOUGH: usize = 3;

/// Runs so many sequences. Fails if something denied was reached.
pub(crate) fn attack(sequences: usize) -> Result<()> {
    let policies = std::env::var_os("W").context("W isn't set")?;
    let directory = PolicyDirectory::open(&Path::new(&policies).join("policies"), &Cache::none())?;
    let gate = Gate::new(directory, &Cache::none())?;
    let host = Arc::new(HostRoot::open(Path::new("/"))?);
    let executor = HostExecutor::new(&host);
    let mut random = fastrand::Rng::with_seed(11);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reached: BTreeMap<&str, String> = BTreeMap::new();
    let mut world = World::new()?;
    for _ in 0..sequences {
        let mut done = Vec::new();
        for _ in 0..LENGTH {
            let request = request(&mut random);
            let text = request.to_string();
            let status = match gate.carry_out(&host, request, Requester::default(), &executor) {
                Ok(ending) => ExitStatus::of_ending(&ending),
                Err(_) => ExitStatus::Usage,
            };
            let word = match status {
                ExitStatus::Done => "done",
                ExitStatus::Denied => "denied",
                ExitStatus::MountFailed => "failed",
                ExitStatus::Usage => "refused",
                other => bail!("{text}: {other:?}"),
            };
            *counts.entry(word).or_default() += 1;
            if status == ExitStatus::Done {
                done.push(text);
                for (kind, what) in world.violations()? {
                    reached.entry(kind).or_insert_with(|| format!("{what}: {}", done.join("; ")));
                }
            }
        }
        if !done.is_empty() {
            world = World::new()?;
        }
        if reached.len() >= ENOUGH {
            break;
        }
    }
    println!("{counts:?}");
    for (kind, what) in &reached {
        println!("{kind}: {what}");
    }
    ensure!(reached.is_empty(), "something denied was reached");
    ensure!(counts.get("done").is_some_and(|done| done * 10 > sequences), "too few requests were allowed to tell");
    println!("nothing denied was reached");
    Ok(())
}

const NAMES: [&str; 13] =
    ["a", "b", "c", "d", "evil", "evil/x", "secret", "secret/in", "vault", "vault/in", "hole", "hole/in", "linked"];
const TOPS: [&str; 6] = ["/mnt/w", "/mnt/w", "/mnt/w", "/mnt/peer", "/mnt/slave", "/mnt/free"];

fn path(random: &mut fastrand::Rng) -> String {
    let mut path = TOPS[random.usize(0..TOPS.len())].to_owned();
    for _ in 0..[0, 1, 1, 1, 1, 2, 2][random.usize(0..7)] {
        path = format!("{path}/{}", NAMES[random.usize(0..NAMES.len())]);
    }
    if random.u8(0..40) == 0 { "/mnt".to_owned() } else { path }
}

fn request(random: &mut fastrand::Rng) -> MountRequest {
    let propagation = |random: &mut fastrand::Rng| Propagation {
        kind: [PropagationType::Shared, PropagationType::Slave, PropagationType::Private][random.usize(0..3)],
        recursive: random.bool(),
    };
    let unmount =
        |random: &mut fastrand::Rng| UnmountMode { lazy: random.bool(), force: false, recursive: random.bool() };
    let operation = match random.u8(0..20) {
        0..=3 => Operation::Mount,
        4..=8 => Operation::Bind { recursive: random.bool() },
        9..=10 => Operation::Bind { recursive: true },
        11..=12 => Operation::Move,
        13..=14 => Operation::Unmount(unmount(random)),
        15..=16 => Operation::Remount { mount_point_only: random.bool() },
        _ => Operation::SetPropagation(propagation(random)),
    };
    let source = match operation {
        Operation::Mount => Some("tmpfs".to_owned()),
        Operation::Bind { .. } | Operation::Move => Some(path(random)),
        _ => None,
    };
    let options = match operation {
        Operation::Remount { .. } => "ro",
        Operation::Bind { .. } if random.bool() => "ro",
        _ => "",
    };
    MountRequest {
        operation,
        source,
        target: path(random),
        fstype: (operation == Operation::Mount).then(|| "tmpfs".to_owned()),
        options: Options::parse(options),
    }
}

/// What is there before a sequence, and what of it must stay.
struct World {
    mounts: BTreeSet<(u64, String, String)>,
    /// The denied paths and what they are.
    files: Vec<(&'static str, u64, u64)>,
    /// The mounts that the denied paths lie on.
    kept: Vec<MountText>,
    /// The file systems of those.
    world: (u32, u32),
    vault: (u32, u32),
}

const GUARDED: [&str; 6] =
    ["/mnt/w/secret", "/mnt/w/secret/in", "/mnt/w/vault", "/mnt/w/vault/in", "/mnt/w/linked", "/mnt/link"];

impl World {
    /// Takes everything away and makes it anew.
    fn new() -> Result<Self> {
        unmount("/mnt", UnmountFlags::DETACH)?;
        tmpfs("/mnt")?;
        mount_change("/mnt", MountPropagationFlags::SHARED)?;
        for folder in ["w", "peer", "slave", "free"] {
            fs::create_dir(Path::new("/mnt").join(folder))?;
        }
        tmpfs("/mnt/w")?;
        mount_change("/mnt/w", MountPropagationFlags::SHARED)?;
        for folder in ["a", "b", "c", "d", "evil/x", "secret/in", "vault", "hole", "linked/in"] {
            fs::create_dir_all(Path::new("/mnt/w").join(folder))?;
        }
        std::os::unix::fs::symlink("w/linked", "/mnt/link")?;
        // What others made: a peer, a slave, and a second name within the denied file system.
        mount_bind("/mnt/w", "/mnt/peer")?;
        mount_bind("/mnt/w", "/mnt/slave")?;
        mount_change("/mnt/slave", MountPropagationFlags::DOWNSTREAM)?;
        tmpfs("/mnt/w/vault")?;
        fs::create_dir("/mnt/w/vault/in")?;
        mount_bind("/mnt/w/secret", "/mnt/w/hole")?;
        let table = table()?;
        let at =
            |target: &str| table.iter().find(|mount| mount.target == target).context("a mount is missing").cloned();
        let (w, vault) = (at("/mnt/w")?, at("/mnt/w/vault")?);
        let file = |path: &'static str| {
            let file = fs::metadata(path)?;
            Ok((path, file.dev(), file.ino()))
        };
        Ok(Self {
            mounts: table.iter().map(key).collect(),
            files: GUARDED.into_iter().map(file).collect::<std::io::Result<_>>()?,
            world: (w.major, w.minor),
            vault: (vault.major, vault.minor),
            kept: vec![at("/mnt")?, w, vault],
        })
    }

    /// What was reached, and how.
    fn violations(&self) -> Result<Vec<(&'static str, String)>> {
        let table = table()?;
        let mut found = Vec::new();
        for (path, device, inode) in &self.files {
            let is_there = fs::metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == (*device, *inode));
            if !is_there {
                found.push(("is covered", (*path).to_owned()));
            }
        }
        for kept in &self.kept {
            if !table.contains(kept) {
                found.push(("has changed", kept.target.clone()));
            }
        }
        for mount in table.iter().filter(|mount| !self.mounts.contains(&key(mount))) {
            let device = (mount.major, mount.minor);
            let shows = |denied: &str| is_in(&mount.root, denied) || is_in(denied, &mount.root);
            if device == self.vault || device == self.world && ["/secret", "/linked"].into_iter().any(shows) {
                found.push(("is shown at", mount.target.clone()));
            }
            let parent = table.iter().find(|parent| parent.id == mount.parent).context("a parent is missing")?;
            let rest = mount.target.strip_prefix(parent.target.trim_end_matches('/')).unwrap_or_default();
            let on = format!("{}{rest}", parent.root.trim_end_matches('/'));
            let device = (parent.major, parent.minor);
            let in_denied = ["/secret", "/linked"].into_iter().any(|denied| is_in(&on, denied));
            if device == self.vault || device == self.world && in_denied {
                found.push(("is covered", mount.target.clone()));
            }
        }
        Ok(found)
    }
}

fn is_in(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a mount is known by. Ids alone are used again.
fn key(mount: &MountText) -> (u64, String, String) {
    (mount.id, mount.root.clone(), mount.target.clone())
}

fn table() -> Result<Vec<MountText>> {
    let table = MountTable::read(Path::new("/proc/self/mountinfo"))?;
    Ok(table.iter().map(|mount| mount.to_text()).filter(|mount| mount.target.starts_with("/mnt")).collect())
}

fn tmpfs(path: &str) -> Result<()> {
    Ok(mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=1m")?)
}
