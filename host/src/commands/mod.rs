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
use std::sync::Arc;

use crate::cli::{Global, is_broken_pipe, print_error};
use crate::error::Error;
use crate::executor::{ApplyError, HostExecutor, sandbox};
use crate::exit::ExitStatus;
use crate::gate::Ending;
use crate::host_root::HostRoot;
use crate::mount_table::print_tree;
use crate::request::{MountRequest, Requester};
use crate::worker;

/// The host that a command is about. A sandbox is entered here, while the process has one thread only: a user namespace
/// can't be entered by one of many.
fn open_host(global: &Global) -> Result<Arc<HostRoot>, Error> {
    let host = if global.sandbox {
        sandbox::enter()?
    } else {
        HostRoot::open(&global.host_root.clone().unwrap_or_else(HostRoot::default_folder))?
    };
    Ok(Arc::new(host))
}

/// Decides a request, carries it out, and says what came of it.
fn carry_out(global: &Global, request: MountRequest, shows_table: bool) -> anyhow::Result<ExitStatus> {
    let requester = Requester::current(global.label.clone());
    // Before a sandbox hides it.
    let (directory, cache) = global.open_policies()?;
    let host = open_host(global)?;
    let ending = worker::run(directory, cache, move |gate, watch| {
        gate.carry_out(&host, request, requester, &HostExecutor::here(&host, watch))
    })?;
    let printed = print(global, &ending, shows_table);
    explain(&ending, global.verbose);
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
fn explain(ending: &Ending, verbose: u8) {
    for note in ending.report.notes() {
        tracing::warn!("{note}");
    }
    // With -v the trace has shown them.
    if verbose == 0 {
        ending.report.log();
    }
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
