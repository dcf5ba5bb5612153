//! The program under the names `mount` and `umount`: in place of mount(8) and umount(8), for callers that exec those. It takes
//! their flags, prints nothing where they print nothing, and says failures in their words and with their exit statuses.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::Builder;

use clap::Parser;

use super::carry_out::end;
use super::global::Global;
use super::inherited::hold_other_signals;
use super::log::start_log;
use super::mount::MountRequestArgs;
use super::output::arguments_for_people;
use super::timed::Afterwards;
use super::umount::{ModeArgs, unmount};
use crate::error::{Error, with_causes};
use crate::exit::ExitStatus;
use crate::gate::Ending;
use crate::host::root::HostRoot;
use crate::model::request::{MountRequest, Operation};
use crate::model::untrusted::for_people;
use crate::mount_table::tree::in_octal;
use crate::report::Report;
use crate::sys::is_interrupted;

/// The statuses of mount(8) and umount(8).
const DONE: i32 = 0;
const USAGE: i32 = 1;
const FAILED: i32 = 32;
const SOME_DONE: i32 = 64;

/// The stack of a thread that works on one of several requests: what RUST_MIN_STACK says isn't the caller's to choose.
const STACK: usize = 2 << 20;

/// What is taken from the environment.
#[derive(Debug, Parser)]
struct Surroundings {
    #[command(flatten)]
    global: Global,
}

/// Mount a file system, if the policies of mountgate agree. The flags are those of mount(8)
#[derive(Debug, Parser)]
#[command(name = "mount", version, disable_version_flag = true, args_override_self = true)]
struct MountFlags {
    #[command(flatten)]
    request: MountRequestArgs,
    #[command(flatten)]
    ignored: Ignored,
}

/// Unmount, if the policies of mountgate agree. The flags are those of umount(8)
#[derive(Debug, Parser)]
#[command(name = "umount", version, disable_version_flag = true, args_override_self = true)]
struct UmountFlags {
    #[command(flatten)]
    mode: ModeArgs,
    #[command(flatten)]
    ignored: Ignored,
    /// Don't say that something isn't mounted
    #[arg(short, long)]
    quiet: bool,
    /// A loop device that mountgate set up goes with its file system
    #[arg(short, long)]
    detach_loop: bool,
    /// The mount points
    #[arg(required = true)]
    targets: Vec<OsString>,
}

/// mount(8) without a source and a target: it lists what is mounted.
#[derive(Debug, Parser)]
#[command(name = "mount", disable_version_flag = true, disable_help_flag = true)]
struct ListFlags {
    #[arg(short, long)]
    types: Option<String>,
    #[arg(short = 'l', long)]
    show_labels: bool,
    #[arg(short, long)]
    verbose: bool,
}

/// Flags of mount(8) and umount(8) that change nothing here.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of mount(8)")]
struct Ignored {
    /// There is no mtab to be left alone
    #[arg(short = 'n', long)]
    no_mtab: bool,
    /// Unknown options are errors all the same
    #[arg(short = 's')]
    sloppy: bool,
    /// Paths are made real by the host alone
    #[arg(short = 'c', long)]
    no_canonicalize: bool,
    /// No helper runs that `[host] helpers` doesn't name
    #[arg(short = 'i', long)]
    internal_only: bool,
    #[arg(short, long)]
    verbose: bool,
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// Runs as mount(8) or umount(8) where the program was started by that name. Says with which status it ends.
pub(super) fn run_by_name(program: &OsStr) -> Option<i32> {
    let name = Path::new(program).file_name()?.to_str()?;
    let mut says_not_mounted = true;
    let requests = match name {
        "mount" => match ListFlags::try_parse() {
            Ok(flags) => return Some(list(&flags)),
            Err(_) => MountFlags::try_parse().map(|flags| vec![flags.request.request()]),
        },
        "umount" => UmountFlags::try_parse().map(|UmountFlags { mode, targets, quiet, .. }| {
            says_not_mounted = !quiet;
            targets.into_iter().map(|target| Ok(unmount(mode.mode(), &target))).collect()
        }),
        _ => return None,
    };
    let requests: Vec<Result<MountRequest, Error>> = match requests {
        Ok(requests) => requests,
        Err(error) => {
            let shown = match name {
                "mount" => MountFlags::try_parse_from(arguments_for_people()).err(),
                _ => UmountFlags::try_parse_from(arguments_for_people()).err(),
            };
            let error = shown.unwrap_or(error);
            let _ = error.print();
            return Some(if error.use_stderr() { USAGE } else { DONE });
        }
    };
    let Some(global) = surroundings(name) else { return Some(USAGE) };
    let statuses: Vec<i32> = if requests.len() == 1 {
        let end = |status| std::process::exit(status);
        let end_of = |request| one(name, &global, request, says_not_mounted, Afterwards::Ends, end);
        requests.into_iter().map(end_of).collect()
    } else {
        // Of this thread as well, which waits for the others: a timer or a terminal would end or stop the process through it.
        hold_other_signals();
        let global = Arc::new(global);
        requests.into_iter().map(|request| on_a_thread(name, &global, request, says_not_mounted)).collect()
    };
    let is_done = |status: &&i32| **status == DONE;
    Some(match statuses.iter().filter(is_done).count() {
        done if done == statuses.len() => DONE,
        0 => statuses.first().copied().unwrap_or(USAGE),
        _ => SOME_DONE,
    })
}

/// One of several requests, on a thread of its own: whoever works on a request may stay in the host's namespace, and what follows is read
/// where this program is. A thread that is late is left behind.
fn on_a_thread(name: &str, global: &Arc<Global>, request: Result<MountRequest, Error>, says_not_mounted: bool) -> i32 {
    if is_interrupted() {
        let target = request.map_or_else(|_| "mountgate".to_owned(), |request| request.target);
        say(name, &target, "it wasn't tried: a signal told mountgate to end");
        return FAILED;
    }
    let (done, status) = channel();
    let (late, named, global) = (done.clone(), name.to_owned(), global.clone());
    let work = move || {
        let late = move |status| {
            let _ = late.send(status);
        };
        let status = one(&named, &global, request, says_not_mounted, Afterwards::GoesOn, late);
        let _ = done.send(status);
    };
    match Builder::new().stack_size(STACK).spawn(work) {
        Ok(thread) => match status.recv() {
            Ok(status) => status,
            Err(_) => thread.join().map_or_else(|panic| resume_unwind(panic), |()| FAILED),
        },
        Err(error) => {
            say(name, "mountgate", &format!("no thread can be started: {error}"));
            FAILED
        }
    }
}

/// Relative paths are from the working directory, as with mount(8), where the host is the one that this process sees.
fn from_here(global: &Global, mut request: MountRequest) -> MountRequest {
    let host = global.host_root.clone().unwrap_or_else(HostRoot::default_folder);
    let here = std::env::current_dir().ok().and_then(|here| here.into_os_string().into_string().ok());
    let Some(here) = here.filter(|_| host == Path::new("/")) else { return request };
    let whole = |path: &mut String| {
        let plain = path.strip_prefix("./").unwrap_or(path);
        let plain = if plain == "." { "" } else { plain };
        if !path.is_empty() && !path.starts_with(['/', '-']) {
            *path = format!("{}/{plain}", here.trim_end_matches('/')).trim_end_matches('/').to_owned();
        }
    };
    whole(&mut request.target);
    if request.operation.source_is_path() {
        request.source.iter_mut().for_each(whole);
    }
    request
}

/// What the environment says, if that is the caller's to say.
fn surroundings(name: &str) -> Option<Global> {
    let global = match Surroundings::try_parse_from([name]) {
        Ok(surroundings) => surroundings.global,
        Err(error) => {
            let _ = error.print();
            return None;
        }
    };
    start_log(0);
    match global.choices().check() {
        Ok(()) => Some(global),
        Err(error) => {
            say(name, "mountgate", &with_causes(&error));
            None
        }
    }
}

/// Lists what is mounted, as mount(8) does.
fn list(flags: &ListFlags) -> i32 {
    let Some(global) = surroundings("mount") else { return USAGE };
    let table = match global.find_host().and_then(|host| Ok(host.mount_table()?)) {
        Ok(table) => table,
        Err(error) => {
            say("mount", "mountgate", &with_causes(&error));
            return FAILED;
        }
    };
    let types =
        flags.types.as_deref().map(|types| types.strip_prefix("no").map_or((types, true), |types| (types, false)));
    let is_listed =
        |fstype: &str| types.is_none_or(|(types, listed)| types.split(',').any(|one| one == fstype) == listed);
    let mut out = BufWriter::new(io::stdout().lock());
    for mount in table.iter().map(|mount| mount.to_text()).filter(|mount| is_listed(&mount.fstype)) {
        let both = || mount.options.iter().chain(&mount.super_options);
        let first = if both().any(|option| option == "ro") { "ro" } else { "rw" };
        let others = both().filter(|option| !matches!(option.as_str(), "ro" | "rw")).map(String::as_str);
        let options: Vec<&str> = std::iter::once(first).chain(others).collect();
        let (source, target) = (in_octal(&mount.source), in_octal(&mount.target));
        let written =
            writeln!(out, "{source} on {target} type {} ({})", in_octal(&mount.fstype), in_octal(&options.join(",")));
        if written.is_err() {
            break;
        }
    }
    if out.flush().is_ok() { DONE } else { FAILED }
}

/// Ends one request. Where it's late, its status is told to `late`, and this call never returns.
fn one(
    name: &str,
    global: &Global,
    request: Result<MountRequest, Error>,
    says_not_mounted: bool,
    afterwards: Afterwards,
    late: impl FnOnce(i32) + Send + 'static,
) -> i32 {
    let request = match request {
        Ok(request) => from_here(global, request),
        Err(error) => {
            say(name, "bad usage", &with_causes(&error));
            return USAGE;
        }
    };
    let (target, source, operation) = (request.target.clone(), request.source.clone(), request.operation);
    let device = source.as_deref().filter(|source| source.starts_with('/'));
    let mut about = target.as_str();
    let (name_of_late, target_of_late) = (name.to_owned(), target.clone());
    let late = move |error| {
        say(&name_of_late, &target_of_late, &with_causes(&error));
        late(FAILED);
    };
    let words = match end(global, request, afterwards, late) {
        Ok(ending) if ExitStatus::of_ending(&ending) == ExitStatus::Done => return DONE,
        Ok(ending) if !says_not_mounted && is_not_mounted(&ending) => return FAILED,
        Ok(ending) => {
            // The source of a move is what wasn't mounted.
            if let (Operation::Move, true, Some(source)) = (operation, is_not_mounted(&ending), device) {
                about = source;
            }
            of_ending(name, &ending)
        }
        Err(error) => match error.code() {
            "no-target" if name == "mount" => "mount point does not exist.".to_owned(),
            "no-target" => "no mount point specified: No such file or directory.".to_owned(),
            "no-source" if device.is_some() => {
                format!("special device {} does not exist.", device.unwrap_or_default())
            }
            "not-a-directory" if name == "mount" => "mount point is not a directory.".to_owned(),
            "no-source" => with_causes(&error),
            _ if matches!(error, Error::Refused(_)) => format!("permission denied: {}", with_causes(&error)),
            _ => with_causes(&error),
        },
    };
    say(name, about, &words);
    FAILED
}

fn is_not_mounted(ending: &Ending) -> bool {
    match &ending.applied {
        Some(applied) => matches!(applied, Err(error) if error.code() == "not-mounted"),
        // Where nothing is mounted, there is nothing to deny: callers ask for that.
        None => {
            let target = &ending.decision.target.path;
            matches!(ending.decision.request.operation, Operation::Unmount(_))
                && ending.decision.snapshot.table().is_ok_and(|table| table.mount_point(target.as_bytes()).is_none())
        }
    }
}

fn of_ending(name: &str, ending: &Ending) -> String {
    if is_not_mounted(ending) {
        return "not mounted.".to_owned();
    }
    match &ending.applied {
        Some(Err(error)) => match error.code() {
            "busy" if name == "mount" => format!("already mounted or mount point busy: {error}"),
            "busy" => format!("target is busy: {error}"),
            "invalid" if name == "mount" && ending.decision.request.operation == Operation::Mount => {
                format!("wrong fs type, bad option, bad superblock, or other error: {error}")
            }
            "invalid" => format!("invalid argument: {error}"),
            "unknown-type" if name == "mount" => format!("unknown filesystem type: {error}"),
            _ => error.to_string(),
        },
        _ => match Report::of_ending(ending).denial_line() {
            Some((denial, _)) => format!("permission denied: {denial}"),
            None => "it ended without a result".to_owned(),
        },
    }
}

fn say(name: &str, what: &str, words: &str) {
    let _ = writeln!(io::stderr(), "{name}: {}: {}", for_people(what), for_people(words));
}
