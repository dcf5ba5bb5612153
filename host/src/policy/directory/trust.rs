//! Whose files and folders are believed: root's and the caller's.
//!
//! The walker here and the one in `host/resolve.rs` answer different questions. This one follows a path that the operator
//! gave, in this process's own view, and collects the folders whose owners could lead it elsewhere. The other one follows a
//! request's path below the host's root, on descriptors, and never trusts a folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::host::foreign::foreign;
use crate::host::links::follow;
use crate::host::owner::owner;
use crate::model::hint::Hint;

/// Why what lies at a path isn't believed.
pub(super) enum Untrusted {
    /// The path can't be followed.
    Missing(io::Error),
    /// Others than root and the caller could have put something else there.
    Others { message: String, hint: Hint },
}

/// The real path of a folder that nobody but root and the caller can put another in the place of.
///
/// # Errors
/// A folder on the way that others can write, or a file system that a request could have brought there.
pub(super) fn trusted_place(path: &Path) -> Result<PathBuf, Untrusted> {
    // On the way are the folders of the real path and those that hold links.
    let (real, links) = follow(path).map_err(Untrusted::Missing)?;
    for link in &links {
        let owner = rustix::fs::lstat(link).map_err(|errno| Untrusted::Missing(errno.into()))?.st_uid;
        // In a folder such as /tmp everybody can make one.
        if !is_trusted_owner(owner) {
            let message = format!("{} is a link of user {owner}, who can lead it elsewhere", link.display());
            return Err(Untrusted::Others { message, hint: "name the folder itself".into() });
        }
    }
    let above_links = links.iter().flat_map(|link| folders_above(link));
    for above in above_links.chain(folders_above(&real)) {
        let stat = rustix::fs::stat(&above).map_err(|errno| Untrusted::Missing(errno.into()))?;
        let sticky = stat.st_mode & 0o1000 != 0;
        if !is_trusted_owner(stat.st_uid) || (stat.st_mode & 0o022 != 0 && !sticky) {
            let message = format!("others can write {}, and so put another folder in its place", above.display());
            return Err(Untrusted::Others { message, hint: format!("chmod go-w {}", above.display()).into() });
        }
    }
    if let Some(fstype) = foreign(&real) {
        let message =
            format!("it lies on a file system that others vouch for ({fstype}): a request could have brought it there");
        return Err(Untrusted::Others { message, hint: "keep it on a file system of this machine's own".into() });
    }
    Ok(real)
}

/// Whether what belongs to this user is believed.
pub(super) fn is_trusted_owner(uid: u32) -> bool {
    uid == 0 || uid == owner() || (uid == OVERFLOW && is_in_user_namespace())
}

/// What the kernel shows for every owner who isn't mapped into a user namespace, the host's root among them; see
/// user_namespaces(7).
const OVERFLOW: u32 = 65534;

/// Whether this process is in a user namespace of its own. It then has no rights outside of it that could be misused.
fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// All folders above a path.
fn folders_above(path: &Path) -> Vec<PathBuf> {
    path.ancestors().skip(1).map(Path::to_owned).collect()
}
