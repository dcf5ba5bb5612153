//! `mountgate list`

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::global::Global;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::model::paths::is_within;
use crate::mount_table::mount::Mount;
use crate::mount_table::table::MountTable;
use crate::mount_table::tree::print_tree;

/// List the host's mounts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mountgate list
  mountgate list /var/lib --json
  mountgate list --file saved-mountinfo")]
pub(crate) struct ListArgs {
    /// Only the mounts at this path and below
    path: Option<String>,
    /// Read a file in the format of mountinfo or mounts instead of the host's own
    #[arg(long, value_name = "MOUNTINFO")]
    file: Option<PathBuf>,
}

/// A table as JSON, the mounts one after the other.
struct Listing<'t> {
    table: &'t MountTable,
    path: Option<&'t [u8]>,
}

impl Listing<'_> {
    fn shows(&self, mount: &Mount<'_>) -> bool {
        self.path.is_none_or(|path| is_within(mount.target(), path))
    }
}

impl Serialize for Listing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Mounts<'l>(&'l Listing<'l>);
        impl Serialize for Mounts<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let shown = self.0.table.iter().filter(|mount| self.0.shows(mount));
                serializer.collect_seq(shown.map(|mount| mount.to_text()))
            }
        }
        let mut object = serializer.serialize_struct("listing", 2)?;
        object.serialize_field("mounts", &Mounts(self))?;
        object.serialize_field("bad_lines", self.table.bad_lines())?;
        object.end()
    }
}

pub(crate) fn run(global: &Global, args: &ListArgs) -> anyhow::Result<ExitStatus> {
    let table = match &args.file {
        Some(file) => MountTable::read(file).with_context(|| format!("{} can't be read", file.display()))?,
        None => global.find_host()?.mount_table().map_err(Error::from)?,
    };
    let path = args.path.as_deref().map(|path| match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    });
    let path = path.map(str::as_bytes);
    if global.json {
        let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
        serde_json::to_writer(&mut out, &Listing { table: &table, path })?;
        writeln!(out)?;
        out.flush()?;
        return Ok(ExitStatus::Done);
    }
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    print_tree(&table, path, &mut out)?;
    out.flush()?;
    for bad in table.bad_lines() {
        tracing::warn!("line {} can't be read: {}: {:?}", bad.line, bad.error, bad.text);
    }
    Ok(ExitStatus::Done)
}
