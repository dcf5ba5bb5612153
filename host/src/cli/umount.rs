//! `mountgate umount`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::carry_out::carry_out;
use super::global::Global;
use crate::exit::ExitStatus;
use crate::model::options::Options;
use crate::model::request::{MountRequest, Operation, UnmountMode};
use crate::mount_table::escape::path_to_text;

/// Unmount on the host, if the policies agree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate umount /mnt/scratch
  mountgate umount -R /mnt

Exit status: 0 unmounted, 2 refused by the host itself, 3 denied, 4 a policy failed, 32 the umount failed")]
pub(super) struct UmountArgs {
    #[command(flatten)]
    pub(super) request: UmountRequestArgs,
}

/// A request in the words of umount(8)
#[derive(Debug, Args)]
pub(super) struct UmountRequestArgs {
    #[command(flatten)]
    mode: ModeArgs,
    /// The mount point; one that isn't UTF-8 as it is, or in the octal escapes that `mountgate list` prints
    target: OsString,
}

impl UmountRequestArgs {
    /// The request that the flags stand for.
    pub(super) fn request(&self) -> MountRequest {
        unmount(self.mode.mode(), &self.target)
    }
}

/// How to unmount, as the flags of umount(8)
#[derive(Debug, Args)]
pub(super) struct ModeArgs {
    /// Detach now, clean up when it's no longer busy
    #[arg(short, long)]
    lazy: bool,
    /// Give up on an unreachable server
    #[arg(short, long)]
    force: bool,
    /// The mounts below as well
    #[arg(short = 'R', long)]
    recursive: bool,
}

impl ModeArgs {
    pub(super) fn mode(&self) -> UnmountMode {
        UnmountMode { lazy: self.lazy, force: self.force, recursive: self.recursive }
    }
}

/// A request to unmount.
pub(super) fn unmount(mode: UnmountMode, target: &OsStr) -> MountRequest {
    let target = path_to_text(target.as_bytes());
    let (operation, options) = (Operation::Unmount(mode), Options::default());
    MountRequest { operation, source: None, target, fstype: None, options }
}

pub(super) fn run(global: &Global, args: &UmountArgs) -> anyhow::Result<ExitStatus> {
    carry_out(global, args.request.request(), false)
}
