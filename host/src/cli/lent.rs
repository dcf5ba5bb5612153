//! Rights that the caller was lent, by sudo(8), a set-user-ID bit or file capabilities. The caller may then choose the
//! arguments of a request, and nothing that decides about it.

use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};

use super::users::Users;
use crate::error::Error;
use crate::host::resolve::descriptor;
use crate::model::host_error::HostError;
use crate::model::refusals::{Refusal, Refusals};
use crate::model::request::MountRequest;
use crate::sys;

/// How the rights of this process were lent to its caller.
pub(super) fn how() -> Option<&'static str> {
    let by = |name: &str| std::env::var_os(name).is_some_and(|uid| uid != "0");
    if by("SUDO_UID") || by("DOAS_USER") || by("PKEXEC_UID") {
        Some("this program was started by sudo(8) or its like")
    } else if getuid() != geteuid() || getgid() != getegid() {
        Some("this program has a set-user-ID or set-group-ID bit")
    } else if sys::is_secure_execution() {
        Some("this program has file capabilities, or a set-user-ID bit")
    } else {
        None
    }
}

/// A user and his groups.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Who calls: the user of this process, or the one whom sudo(8) or its like made root.
///
/// # Errors
/// When nothing tells who that is.
pub(super) fn caller() -> Result<Caller, Error> {
    // Found once: after `leave_caller`, the user of this process is root.
    static CALLER: OnceLock<Caller> = OnceLock::new();
    match CALLER.get() {
        Some(known) => Ok(known.clone()),
        None => find_caller().map(|found| CALLER.get_or_init(|| found).clone()),
    }
}

fn find_caller() -> Result<Caller, Error> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let set = ["SUDO_UID", "PKEXEC_UID", "DOAS_USER"].into_iter().filter_map(|name| Some((name, variable(name)?)));
    // Nobody else can have root's user id with these variables.
    let set: Vec<(&str, String)> = set.filter(|_| getuid().is_root()).collect();
    let refused = |message: String| {
        Error::from(Refusals::one(
            "requester",
            message,
            Some("call it as a user of this machine, through one of sudo, pkexec and doas"),
        ))
    };
    let (name, value) = match set.as_slice() {
        [] => {
            // A policy may be for one of them.
            let groups = getgroups().map_err(|error| refused(format!("the caller's groups can't be read: {error}")))?;
            let groups = groups.into_iter().map(|group| group.as_raw()).collect();
            return Ok(Caller { uid: getuid().as_raw(), gid: getgid().as_raw(), groups });
        }
        [(name, value)] => (*name, value),
        [(one, _), (other, _), ..] => return Err(refused(format!("both {one} and {other} say who calls"))),
    };
    let number = |text: &str| text.parse::<u32>().ok();
    let users = Users::read().map_err(|error| refused(format!("the users and groups can't be read: {error}")))?;
    let user = match name {
        "DOAS_USER" => users.find(|user| user.name == *value),
        _ => number(value).and_then(|uid| users.find(|user| user.uid == uid)),
    };
    // A user of another machine has no groups here but the one that sudo(8) tells.
    let told = (name == "SUDO_UID").then(|| Some((number(value)?, number(&variable("SUDO_GID")?)?))).flatten();
    let known = user.as_ref().map(|user| (user.uid, user.gid));
    let (uid, gid) =
        told.or(known).ok_or_else(|| refused(format!("{name} is {value:?}, and no user is known for it")))?;
    let groups = user.map(|user| users.groups_of(&user)).unwrap_or_default();
    Ok(Caller { uid, gid, groups })
}

/// From now on the caller can't signal this process, see kill(2): what was done must be written down. A set-user-ID bit leaves the real user
/// id to the caller.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn leave_caller() -> Result<(), Error> {
    let root = nix::unistd::Uid::from_raw(0);
    if geteuid().is_root() && !getuid().is_root() {
        nix::unistd::setresuid(root, root, root)
            .map_err(|errno| HostError::new("setresuid", "0", std::io::Error::from(errno)))?;
    }
    Ok(())
}

/// Refuses a source that is named by a descriptor of some process: what is said of it would tell what root has open.
pub(super) fn check_source(request: &MountRequest) -> Result<(), Error> {
    let is_descriptor = request.source.as_deref().is_some_and(|source| descriptor(source).is_some());
    let Some(how) = how().filter(|_| is_descriptor) else { return Ok(()) };
    let hint = Some("name the path itself");
    Ok(Refusals::check(vec![Refusal::new("SOURCE", format!("a descriptor isn't taken: {how}"), hint)])?)
}

/// What decides about a request, and isn't the caller's to choose.
#[derive(Debug, Default)]
pub(super) struct Choices(Vec<&'static str>);

impl Choices {
    pub(super) fn note(&mut self, name: &'static str, is_made: bool) {
        self.0.extend(is_made.then_some(name));
    }

    pub(super) fn note_path(&mut self, flag: &'static str, variable: &'static str, given: Option<&PathBuf>) {
        let set = std::env::var_os(variable);
        let is_variable = set.is_some() && given.map(|path| path.as_os_str()) == set.as_deref();
        self.note(if is_variable { variable } else { flag }, given.is_some() || set.is_some());
    }

    /// Refuses what was chosen with lent rights.
    pub(super) fn check(self) -> Result<(), Error> {
        let Some(how) = how().filter(|_| !self.0.is_empty()) else { return Ok(()) };
        let hint = "lent rights are for the arguments of a request; log in as root for everything else";
        let refusal = |name: &&str| Refusal::new(name, format!("it isn't the caller's to choose: {how}"), Some(hint));
        Ok(Refusals::check(self.0.iter().map(refusal).collect())?)
    }
}
