//! Who holds a lock that somebody waits for in vain. The kernel knows open file description locks by their file, see proc(5), `fdinfo`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat};

use super::open::{names_in, open_below};

/// Names the process that holds the lock of this byte, and says whether it was stopped.
pub(super) fn holder(root: BorrowedFd<'_>, file: &OwnedFd, at: i64) -> Option<String> {
    let inode = fstat(file).ok()?.st_ino;
    let processes = open_below(root, "proc", OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::empty()).ok()?;
    let pid = names_in(processes.as_fd()).into_iter().filter(|name| name.parse::<u32>().is_ok()).find(|pid| {
        let Ok(files) = open(&processes, &format!("{pid}/fdinfo"), OFlags::DIRECTORY) else { return false };
        let holds = |name: String| read(&files, &name).is_some_and(|text| is_locked(&text, inode, at));
        names_in(files.as_fd()).into_iter().any(holds)
    })?;
    let stat = read(&processes, &format!("{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned));
    let waits_in = read(&processes, &format!("{pid}/wchan")).unwrap_or_default();
    Some(match state.as_deref() {
        Some("T" | "t") => format!("process {pid} holds it, and was stopped: SIGCONT lets it go on"),
        _ if waits_in.contains("freez") => format!("process {pid} holds it, and its control group is frozen"),
        _ => format!("process {pid} holds it"),
    })
}

/// Whether `fdinfo` tells of a lock on the byte: `lock: 1: OFDLCK ADVISORY WRITE -1 00:1c:INODE FIRST LAST`.
fn is_locked(fdinfo: &str, inode: u64, at: i64) -> bool {
    fdinfo.lines().filter(|line| line.starts_with("lock:")).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_file = |word: &&str| word.rsplit(':').next() == Some(inode.to_string().as_str());
        words.contains(&"OFDLCK") && words.get(6).is_some_and(is_file) && words.get(7) == Some(&at.to_string().as_str())
    })
}

fn open(folder: &OwnedFd, path: &str, more: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC | more, Mode::empty())
}

fn read(folder: &OwnedFd, path: &str) -> Option<String> {
    let file = open(folder, path, OFlags::empty()).ok()?;
    std::io::read_to_string(std::fs::File::from(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::is_locked;

    #[test]
    fn a_lock_is_known_by_its_file_and_its_byte() {
        let text = "pos:\t0\nflags:\t02100002\nlock:\t1: OFDLCK ADVISORY  WRITE -1 00:1c:77 5 5\n";
        assert!(is_locked(text, 77, 5));
        assert!(!is_locked(text, 77, 6) && !is_locked(text, 7, 5) && !is_locked("lock:\t1: POSIX\n", 77, 5));
    }
}
