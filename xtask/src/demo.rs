//! The main job, for real, in a sandbox: nothing reaches the host, and it needs no root.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{mountgate, plugins, step};

/// Builds everything and runs a gated mount, a denied one, and shows the table.
pub(crate) fn run() -> Result<()> {
    plugins::build()?;
    let mountgate = mountgate()?;
    let gated = || {
        let mut command = Command::new(&mountgate);
        command.args(["--sandbox", "--policies", "policies/baseline"]);
        command
    };
    step("mountgate mount -t tmpfs -o size=1m tmpfs /mnt -v   (in a sandbox)");
    crate::run(gated().args(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt", "-v", "--show-table"]))?;
    step("mountgate mount -t tmpfs tmpfs /etc   (a policy denies it)");
    let status = gated().args(["mount", "-t", "tmpfs", "tmpfs", "/etc", "-v"]).status()?;
    ensure!(status.code() == Some(3), "the denial ended with {status} where exit status 3 was expected");
    Ok(())
}
