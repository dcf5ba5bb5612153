//! Carries a request out and prints what came of it, for `mount` and `umount`.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use super::device_target::named_by_mount_point;
use super::global::Global;
use super::inherited::{check_cpu_time, hold_other_signals};
use super::lent;
use super::output::{Cause, print_error, status_of_printed};
use super::timed::{self, Afterwards, report_late};
use crate::audit::entry::AuditEntry;
use crate::audit::log::AuditLog;
use crate::error::Error;
use crate::executor::failure::ApplyError;
use crate::executor::host_executor::HostExecutor;
use crate::exit::ExitStatus;
use crate::gate::Ending;
use crate::model::host_error::HostError;
use crate::model::request::MountRequest;
use crate::model::rules::HostRules;
use crate::model::secrets::Secrets;
use crate::mount_table::tree::print_tree;
use crate::report::Report;

/// Decides a request and carries it out. `late` is called as [`timed::run`] calls it.
pub(super) fn end(
    global: &Global,
    request: MountRequest,
    afterwards: Afterwards,
    late: impl FnOnce(Error) + Send + 'static,
) -> Result<Ending, Error> {
    request.check_size(&global.label)?;
    lent::check_source(&request)?;
    check_cpu_time()?;
    // Opened first: a sandbox may hide the directory.
    let (directory, cache) = global.open_policies()?;
    let requester = global.requester_for(&directory)?;
    lent::leave_caller()?;
    // Before the host is entered: the file is where this program is.
    let audit = open_audit(&directory.host)?.map(|log| Arc::new(Mutex::new(Some(log))));
    let host = global.open_host(&cache)?;
    let secrets = Secrets::of(&[&request]);
    hold_other_signals();
    let (audit_of_late, asked, asker) = (audit.clone(), request.clone(), requester.clone());
    let late = move |error: Error| {
        // Unless the other thread has written it.
        if let Some(audit) = audit_of_late {
            write_down(&audit, || AuditEntry::of_error(None, &asked, &asker, &error));
        }
        late(error);
    };
    let ended = timed::run(directory, &cache, afterwards, late, |gate, watch| {
        let executor = HostExecutor::on_this_thread(&host, watch);
        let named = named_by_mount_point(&host, request.clone());
        let result = named.and_then(|request| gate.carry_out(&host, request, requester.clone(), &executor));
        if let Some(audit) = &audit {
            write_down(audit, || match &result {
                Ok(ending) => AuditEntry::of_ending(gate, ending),
                Err(error) => AuditEntry::of_error(Some(gate), &request, &requester, error),
            });
        }
        result
    });
    ended.map_err(|error| error.masked(&secrets))
}

/// Writes the one line of a request, unless that was done.
fn write_down(audit: &Mutex<Option<AuditLog>>, entry: impl FnOnce() -> AuditEntry) {
    // Held until the line is there: the process ends when the other thread finds nothing left to write.
    let mut audit = audit.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(log) = audit.take() else { return };
    let path = log.path().to_owned();
    if let Err(error) = log.append(entry()) {
        // The host is changed, whether or not that is written down.
        tracing::error!("the request isn't in {}: {error}", path.display());
    }
}

/// Opens the audit file. If a request must be audited, there must be room for its line.
fn open_audit(rules: &HostRules) -> Result<Option<AuditLog>, Error> {
    let Some(path) = &rules.audit else { return Ok(None) };
    let opened = AuditLog::open(path).and_then(|log| match rules.audit_required {
        true => log.reserve().map(|()| log),
        false => Ok(log),
    });
    match opened {
        Ok(log) => Ok(Some(log)),
        Err(error) if rules.audit_required => {
            Err(Error::Unaudited(HostError::new("open", &path.display().to_string(), error)))
        }
        Err(error) => {
            tracing::warn!("the request won't be in {}: {error}", path.display());
            Ok(None)
        }
    }
}

/// Decides a request, carries it out, and prints the result.
pub(super) fn carry_out(global: &Global, request: MountRequest, shows_table: bool) -> anyhow::Result<ExitStatus> {
    let ending = end(global, request, Afterwards::Ends, report_late(global))?;
    let report = Report::of_ending(&ending);
    let printed = print(global, &ending, &report, shows_table);
    explain(&ending, &report, global.verbose);
    // The host is changed, whether or not the output can be printed.
    Ok(status_of_printed(printed, ExitStatus::of_ending(&ending)))
}

fn print(global: &Global, ending: &Ending, report: &Report, shows_table: bool) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if global.json {
        report.write_json(&mut out)?;
    } else if ExitStatus::of_ending(ending) == ExitStatus::Done {
        writeln!(out, "done: {}", report.final_request())?;
    }
    if global.verbose > 0 {
        report.write_places(&mut anstream::stderr().lock())?;
        report.write_trace(&mut anstream::stderr().lock())?;
    }
    if shows_table
        && !global.json
        && let Some(Ok(table)) = ending.table.as_ref().map(|table| table.table())
    {
        print_tree(table, None, &mut out)?;
    }
    Ok(())
}

/// Says on stderr why nothing was mounted, and what else there is to know.
fn explain(ending: &Ending, report: &Report, verbose: u8) {
    for note in report.notes() {
        tracing::warn!("{note}");
    }
    // With -v the trace has shown the lines.
    if verbose == 0 {
        report.log();
    }
    if let Some((denial, hint)) = report.denial_line() {
        print_error(&denial, &[], hint.map(Into::into).as_ref());
    }
    match &ending.applied {
        Some(Err(ApplyError::Mount(failure))) => {
            let undone: Vec<Cause> = failure.undone.iter().cloned().map(Into::into).collect();
            print_error(&failure.to_string(), &undone, None);
        }
        Some(Err(error @ ApplyError::Host(cause))) => {
            print_error(&error.to_string(), &[cause.to_string().into()], cause.hint());
        }
        Some(Err(error @ ApplyError::Changed(_))) => print_error(&error.to_string(), &[], None),
        Some(Ok(_)) | None => {}
    }
}
