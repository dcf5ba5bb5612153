//! An attacker who swaps directories for symbolic links as fast as it can, while mounts are made below them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use mountgate::executor::host_executor::HostExecutor;
use mountgate::exit::ExitStatus;
use mountgate::gate::Gate;
use mountgate::host::root::HostRoot;
use mountgate::model::options::Options;
use mountgate::model::request::{MountRequest, Operation};
use mountgate::model::requester::Requester;
use mountgate::mount_table::table::MountTable;
use mountgate::policy::cache::Cache;
use mountgate::policy::directory::open::PolicyDirectory;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{UnmountFlags, unmount};

/// How many mounts are asked for at least.
const MOUNTS: u64 = 20_000;
/// How many are asked for at most. On a busy machine the attacker needs longer for its part of the race.
const MOST_MOUNTS: u64 = 20 * MOUNTS;
/// What the attacker swaps: two names of which one is a directory and the other a link to a forbidden one.
const SWAPPED: [(&str, &str); 3] = [
    ("/mnt/race/target", "/mnt/race/target-link"),
    ("/mnt/race/parent", "/mnt/race/parent-link"),
    ("/mnt/race/source", "/mnt/race/source-link"),
];

/// Attacks the gate (`gate`), or mount(8) behind a check of the path, as naive programs do it (`mount`).
pub(crate) fn attack(what: &str) -> Result<()> {
    for directory in ["race/target", "race/parent/target", "race/source", "bad/target", "bad/source"] {
        std::fs::create_dir_all(Path::new("/mnt").join(directory))?;
    }
    for (link, to) in [("target-link", "../bad/target"), ("parent-link", "../bad"), ("source-link", "../bad/source")] {
        std::os::unix::fs::symlink(to, Path::new("/mnt/race").join(link))?;
    }
    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, counted) = (stop.clone(), swaps.clone());
    let attacker = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            for (one, other) in SWAPPED {
                if renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    let result = match what {
        "gate" => gate(&swaps),
        "mount" => naive(),
        other => bail!("nothing named {other} is attacked"),
    };
    stop.store(true, Ordering::Relaxed);
    attacker.join().map_err(|_| anyhow::anyhow!("the attacker panicked"))?;
    result
}

/// The mounts that lie in a forbidden place, or come from one.
fn landed() -> Result<Vec<String>> {
    let table = MountTable::read(Path::new("/proc/self/mountinfo"))?;
    let is_bad = |path: &[u8]| path.starts_with(b"/mnt/bad") || path.starts_with(b"/bad");
    let bad = table.iter().filter(|mount| is_bad(&mount.target()) || is_bad(&mount.root()));
    Ok(bad.map(|mount| format!("{:?}", mount.to_text())).collect())
}

fn gate(swaps: &AtomicU64) -> Result<()> {
    let policies = std::env::var_os("W").context("W isn't set")?;
    let directory = PolicyDirectory::open(&Path::new(&policies).join("policies"), &Cache::none())?;
    let gate = Gate::new(directory, &Cache::none())?;
    let host = Arc::new(HostRoot::open(Path::new("/"))?);
    let executor = HostExecutor::new(&host);
    let (mut done, mut denied, mut refused, mut failed) = (0, 0, 0, 0);
    for i in 0..MOST_MOUNTS {
        let is_race = done > 100 && denied > 100 && swaps.load(Ordering::Relaxed) > MOUNTS / 10;
        if i >= MOUNTS && is_race {
            break;
        }
        let bind = i % 2 == 1;
        let target = ["/mnt/race/target", "/mnt/race/parent/target"][(i / 2 % 2) as usize];
        let request = MountRequest {
            operation: if bind { Operation::Bind { recursive: false } } else { Operation::Mount },
            source: Some(if bind { "/mnt/race/source" } else { "tmpfs" }.to_owned()),
            target: target.to_owned(),
            fstype: (!bind).then(|| "tmpfs".to_owned()),
            options: Options::parse("nosuid"),
        };
        match gate.carry_out(&host, request, Requester::default(), &executor) {
            Ok(ending) => match ExitStatus::of_ending(&ending) {
                ExitStatus::Done => done += 1,
                ExitStatus::Denied => denied += 1,
                ExitStatus::MountFailed => failed += 1,
                other => bail!("{other:?}: {:?}", ending.applied),
            },
            // The path was gone, or a file where a directory was, at the moment of looking.
            Err(_) => refused += 1,
        }
        let landed = landed()?;
        ensure!(landed.is_empty(), "after {i} mounts and {} swaps: {landed:?}", swaps.load(Ordering::Relaxed));
        sweep()?;
    }
    println!(
        "{} requests, {} swaps: {done} mounted, {denied} denied, {refused} refused, {failed} undone; none landed",
        done + denied + refused + failed,
        swaps.load(Ordering::Relaxed)
    );
    ensure!(done > 100 && denied > 100 && swaps.load(Ordering::Relaxed) > MOUNTS / 10, "it wasn't a race");
    Ok(())
}

/// Takes away all that was mounted below the attacked folder, wherever it was moved.
fn sweep() -> Result<()> {
    let table = MountTable::read(Path::new("/proc/self/mountinfo"))?;
    for mount in table.iter().filter(|mount| mount.target().starts_with(b"/mnt/race/")) {
        // Its name may have been swapped since: then it's found the next time.
        let _ = unmount(&*mount.target(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    Ok(())
}

/// Looks where the path leads, and then has mount(8) mount on it.
fn naive() -> Result<()> {
    let mut mounts = 0;
    while mounts < MOUNTS {
        let target = "/mnt/race/target";
        if !Path::new(target).canonicalize().is_ok_and(|real| real.starts_with("/mnt/race")) {
            // The attacker goes on.
            std::thread::yield_now();
            continue;
        }
        mounts += 1;
        let mut mount = Command::new("/bin/mount");
        mount.args(["-t", "tmpfs", "tmpfs", target]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        mount.status()?;
        if let Some(landed) = landed()?.first() {
            println!("after {mounts} mounts by mount(8), one landed: {landed}");
            return Ok(());
        }
        sweep()?;
    }
    bail!("the attack doesn't even work against mount(8)");
}
