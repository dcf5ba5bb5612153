//! `mountgate list`

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Serialize, Serializer};

use super::global::Global;
use super::input::read_plain;
use super::timed::{self, report_late};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::host::resolve::{ResolveError, resolve};
use crate::host::root::HostRoot;
use crate::json;
use crate::model::paths::{is_within, lexical};
use crate::model::refusals::Refusals;
use crate::model::rules::Symlinks;
use crate::mount_table::bad_line::BadLine;
use crate::mount_table::mount::Mount;
use crate::mount_table::table::MountTable;
use crate::mount_table::tree::print_tree;

/// List the host's mounts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate list
  mountgate list /var/lib --json
  mountgate list --mountpoint /mnt/data && echo mounted
  mountgate list --file saved-mountinfo")]
pub(super) struct ListArgs {
    /// Only the mounts at this path and below
    path: Option<String>,
    /// Print nothing, and say with the exit status whether this path is a mount point: 0, or 32 if it isn't
    #[arg(long, value_name = "PATH", conflicts_with = "path")]
    mountpoint: Option<String>,
    /// Read a file in the format of mountinfo or mounts instead of the host's own
    #[arg(long, value_name = "MOUNTINFO")]
    file: Option<PathBuf>,
}

impl ListArgs {
    /// Whether a file of the caller's choice is read.
    pub(super) fn reads_file(&self) -> bool {
        self.file.is_some()
    }
}

/// A table as JSON.
#[derive(Serialize)]
struct Listing<'t> {
    #[serde(serialize_with = "mounts_as_text")]
    mounts: Vec<Mount<'t>>,
    bad_lines: &'t [BadLine],
}

fn mounts_as_text<S: Serializer>(mounts: &[Mount<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(mounts.iter().map(Mount::to_text))
}

fn read_table(file: &Path) -> anyhow::Result<MountTable> {
    let table = MountTable::parse(read_plain(file)?)?;
    match table.bad_lines() {
        // A line of what is no table may look like one.
        [first, ..] if table.bad_lines().len() > table.len() => {
            let message = format!("{} holds no mount table; line {}: {}", file.display(), first.line, first.error);
            let hint = Some("name a file in the format of /proc/self/mountinfo or /proc/self/mounts");
            Err(Error::from(Refusals::one("--file", message, hint)).into())
        }
        _ => Ok(table),
    }
}

fn absolute(path: &str) -> Result<&str, Error> {
    match path.starts_with('/') {
        true => Ok(path),
        false => {
            let message = format!("{path:?} isn't an absolute path");
            Err(Refusals::one("PATH", message, Some("write the whole path, from the host's /")).into())
        }
    }
}

/// Where a path leads on the host, links followed, as `umount` finds it.
fn real_path(host: &HostRoot, path: &str) -> Result<String, Error> {
    let found = resolve(host, absolute(path)?, Symlinks::Resolve);
    let refused = |error: ResolveError| {
        let refusals = Refusals::one("PATH", error.to_string(), None);
        if let ResolveError::Missing(_) = error { refusals.with_code("no-target") } else { refusals }
    };
    Ok(found.map_err(refused)?.found.path)
}

/// The host's mounts, and where a path leads: that may ask a daemon or a server that doesn't answer.
fn look_at_host(host: &HostRoot, written: Option<&str>) -> Result<(MountTable, Option<String>), Error> {
    let path = written.map(|path| real_path(host, path)).transpose()?;
    Ok((host.mount_table()?, path))
}

pub(super) fn run(global: &Global, args: &ListArgs) -> anyhow::Result<ExitStatus> {
    let written = args.path.as_deref().or(args.mountpoint.as_deref());
    let (table, path) = match &args.file {
        Some(file) => (read_table(file)?, written.map(absolute).transpose()?.map(lexical)),
        None => {
            let (host, asked) = (global.find_host()?, written.map(str::to_owned));
            match timed::look(report_late(global), || look_at_host(&host, asked.as_deref())) {
                // What isn't there is no mount point.
                Err(error) if args.mountpoint.is_some() && error.code() == "no-target" => {
                    return Ok(ExitStatus::MountFailed);
                }
                found => found?,
            }
        }
    };
    if let (Some(_), Some(path)) = (&args.mountpoint, &path) {
        let is_mounted = table.mount_point(path.as_bytes()).is_some();
        return Ok(if is_mounted { ExitStatus::Done } else { ExitStatus::MountFailed });
    }
    let path = path.as_deref().map(str::as_bytes);
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    if global.json {
        let shown = |mount: &Mount<'_>| path.is_none_or(|path| is_within(mount.target(), path));
        let mounts = table.iter().filter(shown).collect();
        json::write_line(&mut out, &Listing { mounts, bad_lines: table.bad_lines() })?;
        out.flush()?;
        return Ok(ExitStatus::Done);
    }
    print_tree(&table, path, &mut out)?;
    out.flush()?;
    for bad in table.bad_lines() {
        tracing::warn!("line {} can't be read: {}: {:?}", bad.line, bad.error, bad.text);
    }
    Ok(ExitStatus::Done)
}
