//! The program under the names `mount` and `umount`: in place of mount(8) and umount(8), for callers that exec those. It takes
//! their flags, prints nothing where they print nothing, and says failures in their words and with their exit statuses.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use clap::Parser;

use super::carry_out::end;
use super::global::Global;
use super::mount::MountRequestArgs;
use super::output::start_log;
use super::umount::{ModeArgs, unmount};
use crate::error::{Error, with_causes};
use crate::exit::ExitStatus;
use crate::gate::Ending;
use crate::model::request::MountRequest;
use crate::model::untrusted::for_people;
use crate::report::Report;

/// The statuses of mount(8) and umount(8).
const DONE: i32 = 0;
const USAGE: i32 = 1;
const FAILED: i32 = 32;
const SOME_DONE: i32 = 64;

/// What is taken from the environment.
#[derive(Debug, Parser)]
struct Surroundings {
    #[command(flatten)]
    global: Global,
}

/// Mount a file system, if the policies of mountgate agree. The flags are those of mount(8)
#[derive(Debug, Parser)]
#[command(name = "mount", version, disable_version_flag = true)]
struct MountFlags {
    #[command(flatten)]
    request: MountRequestArgs,
    #[command(flatten)]
    ignored: Ignored,
}

/// Unmount, if the policies of mountgate agree. The flags are those of umount(8)
#[derive(Debug, Parser)]
#[command(name = "umount", version, disable_version_flag = true)]
struct UmountFlags {
    #[command(flatten)]
    mode: ModeArgs,
    #[command(flatten)]
    ignored: Ignored,
    /// The mount points
    #[arg(required = true)]
    targets: Vec<OsString>,
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
    let requests = match name {
        "mount" => MountFlags::try_parse().map(|flags| vec![flags.request.request()]),
        "umount" => UmountFlags::try_parse().map(|UmountFlags { mode, targets, .. }| {
            targets.into_iter().map(|target| Ok(unmount(mode.mode(), &target))).collect()
        }),
        _ => return None,
    };
    let requests: Vec<Result<MountRequest, Error>> = match requests {
        Ok(requests) => requests,
        Err(error) => {
            let _ = error.print();
            return Some(if error.use_stderr() { USAGE } else { DONE });
        }
    };
    let global = match Surroundings::try_parse_from([name]) {
        Ok(surroundings) => surroundings.global,
        Err(error) => {
            let _ = error.print();
            return Some(USAGE);
        }
    };
    start_log(0);
    if let Err(error) = global.choices().check() {
        say(name, "mountgate", &with_causes(&error));
        return Some(USAGE);
    }
    let statuses: Vec<i32> = requests.into_iter().map(|request| one(name, &global, request)).collect();
    let is_done = |status: &&i32| **status == DONE;
    Some(match statuses.iter().filter(is_done).count() {
        done if done == statuses.len() => DONE,
        0 => statuses.first().copied().unwrap_or(USAGE),
        _ => SOME_DONE,
    })
}

fn one(name: &str, global: &Global, request: Result<MountRequest, Error>) -> i32 {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            say(name, "bad usage", &with_causes(&error));
            return USAGE;
        }
    };
    let target = request.target.clone();
    let words = match end(global, request) {
        Ok(ending) if ExitStatus::of_ending(&ending) == ExitStatus::Done => return DONE,
        Ok(ending) => of_ending(&ending),
        Err(error) => match error.code() {
            "no-target" if name == "mount" => "mount point does not exist.".to_owned(),
            "no-target" => "no mount point specified: No such file or directory.".to_owned(),
            "no-source" => "special device does not exist.".to_owned(),
            _ if matches!(error, Error::Refused(_)) => format!("permission denied: {}", with_causes(&error)),
            _ => with_causes(&error),
        },
    };
    say(name, &target, &words);
    FAILED
}

fn of_ending(ending: &Ending) -> String {
    match &ending.applied {
        Some(Err(error)) => match error.code() {
            "not-mounted" => "not mounted.".to_owned(),
            "busy" => format!("target is busy: {error}"),
            "invalid" => format!("invalid argument: {error}"),
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
