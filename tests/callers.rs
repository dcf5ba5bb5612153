//! Many callers at once, each a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};

/// How many want a tmpfs below `/mnt/w`, of which 64 may have one, and how many want to mount the one device.
const SMALL: usize = 80;
const DEVICE: usize = 20;
const MAX_BELOW: usize = 64;

/// Starts them all at once, round after round, and counts who got what.
pub(crate) fn at_once(rounds: usize, device: &str) -> Result<()> {
    let start = Instant::now();
    for round in 0..rounds {
        let small = (1..=SMALL).map(|i| caller(&["mount", "-t", "tmpfs", "small"], &format!("/mnt/w/{i}")));
        let big = (1..=DEVICE).map(|i| caller(&["mount", "-t", "ext4", device], &format!("/mnt/d/{i}")));
        let small: Vec<(Child, PathBuf)> = small.collect::<Result<_>>()?;
        let big: Vec<(Child, PathBuf)> = big.collect::<Result<_>>()?;
        let (small, big) = (mounted(small)?, mounted(big)?);
        ensure!(small.len() == MAX_BELOW, "round {round}: {} of {SMALL} have a tmpfs", small.len());
        ensure!(big.len() == 1, "round {round}: {} of {DEVICE} have the device: {big:?}", big.len());
        for place in small.iter().chain(&big) {
            unmount(place, UnmountFlags::empty()).with_context(|| place.display().to_string())?;
        }
    }
    let requests = rounds * (SMALL + DEVICE);
    println!("{requests} requests, {:.0} a second", requests as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn caller(words: &[&str], target: &str) -> Result<(Child, PathBuf)> {
    let variable = |name: &str| std::env::var_os(name).with_context(|| format!("{name} isn't set"));
    let mut command = Command::new(variable("M")?);
    command.arg("--policies").arg(variable("P")?).args(words).arg(target);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    Ok((child, target.into()))
}

/// The targets of those that were mounted. The others were denied, and for no other reason.
fn mounted(callers: Vec<(Child, PathBuf)>) -> Result<Vec<PathBuf>> {
    let mut mounted = Vec::new();
    for (child, target) in callers {
        let output = child.wait_with_output()?;
        match output.status.code() {
            Some(0) => mounted.push(target),
            Some(3) => {}
            _ => anyhow::bail!("{}: {}{}", target.display(), output.status, String::from_utf8_lossy(&output.stderr)),
        }
    }
    let is_there = |target: &Path| {
        rustix::fs::statx(rustix::fs::CWD, target, rustix::fs::AtFlags::empty(), rustix::fs::StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
    };
    ensure!(mounted.iter().all(|target| is_there(target)), "a mount that was reported isn't there");
    Ok(mounted)
}
