//! One file for each subcommand: its flags, and a `run`.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod fuzz;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod mount;
pub(crate) mod policy;
pub(crate) mod umount;

use std::io::Write;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use crate::cli::{Global, is_broken_pipe, print_error};
use crate::error::Error;
use crate::executor::{ApplyError, HostExecutor, sandbox};
use crate::exit::ExitStatus;
use crate::gate::{Ending, Gate};
use crate::host_root::HostRoot;
use crate::mount_table::print_tree;
use crate::policy::{Cache, PolicyDirectory};
use crate::request::{MountRequest, Requester};

/// A gate and the host it stands before. The policy directory is read before a sandbox is entered, and plugins are
/// compiled after: then the process has more than one thread.
fn open(global: &Global) -> Result<(ManuallyDrop<Gate>, Arc<HostRoot>), Error> {
    let cache = global.cache();
    let directory = PolicyDirectory::open(&global.policies, &cache)?;
    let host = if global.sandbox {
        sandbox::enter()?
    } else {
        HostRoot::open(&global.host_root.clone().unwrap_or_else(HostRoot::default_folder))?
    };
    Ok((ready(directory, cache)?, Arc::new(host)))
}

/// A gate that is left to the kernel to clear away: the process ends soon, and its pools are large.
fn ready(directory: PolicyDirectory, cache: Cache) -> Result<ManuallyDrop<Gate>, Error> {
    Gate::new(directory, cache).map(ManuallyDrop::new)
}

/// Decides a request, carries it out, and says what came of it.
fn carry_out(global: &Global, request: MountRequest, shows_table: bool) -> anyhow::Result<ExitStatus> {
    let requester = Requester::current(global.label.clone());
    let (gate, host) = open(global)?;
    let ending = gate.carry_out(&host, request, requester, &HostExecutor::new(&host))?;
    let printed = print(global, &ending, shows_table);
    explain(&ending);
    // What was done is done, whether or not somebody reads it.
    Ok(said(printed, ending.status))
}

fn print(global: &Global, ending: &Ending, shows_table: bool) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if global.json {
        ending.report.write_json(&mut out)?;
    } else if ending.status == ExitStatus::Done {
        writeln!(out, "done: {}", ending.report.final_request())?;
    }
    if global.verbose > 0 {
        ending.report.write_trace(&mut anstream::stderr().lock())?;
    }
    if shows_table
        && !global.json
        && let Some(Ok(table)) = ending.table.as_ref().map(|table| table.table())
    {
        print_tree(table, None, &mut out)?;
    }
    Ok(())
}

/// The status of an answer, which stays what it is where the answer can't be printed.
fn said(printed: anyhow::Result<()>, status: ExitStatus) -> ExitStatus {
    if let Err(error) = printed
        && !is_broken_pipe(&error)
    {
        tracing::error!("the answer can't be printed: {error:#}");
    }
    status
}

/// Says on stderr why nothing was mounted, and what else there is to know.
fn explain(ending: &Ending) {
    for note in ending.report.notes() {
        tracing::warn!("{note}");
    }
    ending.report.log();
    if let Some((denial, hint)) = ending.report.denial_line() {
        print_error(&denial, &[], hint.as_deref());
    }
    match &ending.failure {
        Some(ApplyError::Mount(failure)) => print_error(&failure.to_string(), &failure.undone, None),
        Some(ApplyError::Host(cause)) => {
            let error = Error::Host(cause.again());
            print_error("the host's mount namespace can't be entered", &[cause.to_string()], error.hint().as_deref());
        }
        None => {}
    }
}
