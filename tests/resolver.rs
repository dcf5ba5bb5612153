//! Path resolution by table. Each expectation is compared with what openat2(2) does with the same path on the same tree.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use mountgate::host::resolve::{ResolveError, resolve};
use mountgate::host::root::HostRoot;
use mountgate::model::ends::FileKind;
use mountgate::model::rules::Symlinks;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::support::{folder, on_host_succeeds};

tests! {
    plain plain_paths_and_links_lead_where_the_kernel_says,
    plain forty_links_are_followed_and_no_more,
    plain links_are_refused_where_the_host_says_so,
    privileged rules_of_mounts_and_folders_hold_for_links,
}

/// What resolving a path comes to.
#[derive(Debug, Clone, PartialEq)]
enum Expected {
    /// A real path, through so many links.
    Found(&'static str, usize),
    Missing,
    NotADirectory,
    TooManyLinks,
    /// A magic link of proc(5). The kernel is asked with `RESOLVE_NO_MAGICLINKS`.
    MagicLink,
    /// The kernel refuses the path with this error, where the walk sees nothing wrong.
    Kernel(Errno),
}

use Expected::{Found, Kernel, MagicLink, Missing, NotADirectory, TooManyLinks};

/// A tree to resolve paths in.
struct Tree {
    host: HostRoot,
    root: OwnedFd,
}

impl Tree {
    fn open(path: &Path) -> Result<Self> {
        let root = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { host: HostRoot::open(path)?, root })
    }

    /// What the kernel makes of a path below the root.
    fn kernel(&self, path: &str) -> Result<OwnedFd, Errno> {
        let relative = path.trim_start_matches('/');
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let relative = if relative.is_empty() { "." } else { relative };
        // Where anything on the machine is renamed meanwhile, the kernel may not know where a `..` leads.
        loop {
            match openat2(&self.root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
    }

    fn check(&self, path: &str, expected: &Expected) -> Result<()> {
        let kernel = self.kernel(path);
        let ours = resolve(&self.host, path, Symlinks::Resolve);
        let is_expected = match (&ours, expected) {
            (Ok(pinned), Found(real, links)) => pinned.found.path == *real && pinned.found.symlinks.len() == *links,
            (Err(ResolveError::Missing(_)), Missing)
            | (Err(ResolveError::NotADirectory(_)), NotADirectory)
            | (Err(ResolveError::TooManyLinks(_)), TooManyLinks)
            | (Err(ResolveError::MagicLink(_)), MagicLink) => true,
            (Err(ResolveError::LinkRefused { errno, .. }), Kernel(expected)) => errno == expected,
            _ => false,
        };
        ensure!(is_expected, "{path}: {ours:?} where {expected:?} was expected");
        let agrees = match (&kernel, expected) {
            (Ok(theirs), Found(..)) => {
                let pin = ours.ok().and_then(|pinned| pinned.pin).context("nothing is pinned")?;
                let (one, other) = (fstat(theirs.as_fd())?, fstat(pin.as_fd())?);
                (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
            }
            (Err(Errno::NOENT), Missing)
            | (Err(Errno::NOTDIR), NotADirectory)
            | (Err(Errno::LOOP), TooManyLinks | MagicLink) => true,
            (Err(errno), Kernel(expected)) => errno == expected,
            _ => false,
        };
        ensure!(agrees, "{path}: openat2(2) says {kernel:?} where {expected:?} was expected");
        Ok(())
    }
}

/// `a/b/file`, `a/fifo`, and links of every kind.
fn plant(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("a/b"))?;
    fs::create_dir(root.join("etc"))?;
    fs::write(root.join("a/b/file"), "")?;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("a/fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)?;
    for (link, text) in [
        ("to-a", "a"),
        ("to-b", "/a/b"),
        ("a/up", "../etc"),
        ("a/b/down", "./file"),
        ("above", "../../../etc"),
        ("dangling", "nowhere"),
        ("dangling-below", "/a/nowhere/x"),
        ("self", "self"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("through-file", "/a/b/file/x"),
        ("file-parent", "/a/b/file/.."),
        ("file-slash", "/a/b/file/"),
        ("file-dot", "/a/b/file/."),
        ("b-slash", "a/b/"),
        ("chain", "to-b/down"),
        ("dots", "./a/.././to-b/./"),
        ("slashes", "//a///b"),
    ] {
        symlink(text, root.join(link))?;
    }
    Ok(())
}

fn plain_paths_and_links_lead_where_the_kernel_says() -> Result<()> {
    let folder = folder()?;
    plant(folder.path())?;
    let tree = Tree::open(folder.path())?;
    for (path, expected) in [
        ("/", Found("/", 0)),
        ("/a", Found("/a", 0)),
        ("/a/", Found("/a", 0)),
        ("/a/./b//file", Found("/a/b/file", 0)),
        ("/a/fifo", Found("/a/fifo", 0)),
        ("/nowhere", Missing),
        ("/a/nowhere/x", Missing),
        ("/a/b/file/x", NotADirectory),
        ("/a/b/file/", NotADirectory),
        ("/a/b/file/.", NotADirectory),
        ("/to-a", Found("/a", 1)),
        ("/to-a/b/file", Found("/a/b/file", 1)),
        ("/to-b", Found("/a/b", 1)),
        ("/to-b/", Found("/a/b", 1)),
        ("/to-b/file/", NotADirectory),
        ("/a/up", Found("/etc", 1)),
        ("/to-a/up", Found("/etc", 2)),
        ("/a/b/down", Found("/a/b/file", 1)),
        ("/above", Found("/etc", 1)),
        ("/dangling", Missing),
        ("/dangling/x", Missing),
        ("/dangling-below", Missing),
        ("/self", TooManyLinks),
        ("/self/x", TooManyLinks),
        ("/ping", TooManyLinks),
        ("/through-file", NotADirectory),
        ("/file-parent", NotADirectory),
        ("/file-slash", NotADirectory),
        ("/file-dot", NotADirectory),
        ("/b-slash", Found("/a/b", 1)),
        ("/b-slash/file", Found("/a/b/file", 1)),
        ("/chain", Found("/a/b/file", 3)),
        ("/chain/", NotADirectory),
        ("/dots", Found("/a/b", 2)),
        ("/slashes/file", Found("/a/b/file", 1)),
    ] {
        tree.check(path, &expected)?;
    }
    let fifo = resolve(&tree.host, "/a/fifo", Symlinks::Resolve)?;
    ensure!(fifo.found.kind == FileKind::Fifo && fifo.found.symlinks.is_empty(), "{fifo:?}");
    let links = resolve(&tree.host, "/chain", Symlinks::Resolve)?.found.symlinks;
    ensure!(links == ["/chain", "/to-b", "/a/b/down"], "{links:?}");
    Ok(())
}

fn forty_links_are_followed_and_no_more() -> Result<()> {
    let folder = folder()?;
    fs::create_dir(folder.path().join("0"))?;
    for i in 1..=41 {
        symlink((i - 1).to_string(), folder.path().join(i.to_string()))?;
    }
    let tree = Tree::open(folder.path())?;
    tree.check("/1", &Found("/0", 1))?;
    tree.check("/40", &Found("/0", 40))?;
    tree.check("/41", &TooManyLinks)?;
    // Links count over the whole path.
    tree.check("/40/../1", &TooManyLinks)?;
    tree.check("/39/../1", &Found("/0", 40))
}

fn links_are_refused_where_the_host_says_so() -> Result<()> {
    let folder = folder()?;
    plant(folder.path())?;
    let tree = Tree::open(folder.path())?;
    for (path, link) in [
        ("/to-a", "/to-a"),
        ("/to-a/b/file", "/to-a"),
        ("/a/up", "/a/up"),
        ("/a/b/down", "/a/b/down"),
        ("/dangling", "/dangling"),
        ("/self", "/self"),
    ] {
        match resolve(&tree.host, path, Symlinks::Refuse) {
            Err(ResolveError::SymlinkRefused(refused)) => ensure!(refused == link, "{path}: {refused}"),
            other => bail!("{path}: {other:?}"),
        }
        // The kernel sees a link there too.
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let kernel = openat2(&tree.root, &path[1..], OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how);
        ensure!(kernel.as_ref().err() == Some(&Errno::LOOP), "{path}: openat2(2) says {kernel:?}");
    }
    for (path, real) in [("/a/b/file", "/a/b/file"), ("/a/./b/", "/a/b"), ("/", "/")] {
        ensure!(resolve(&tree.host, path, Symlinks::Refuse)?.found.path == real, "{path}");
    }
    Ok(())
}

fn rules_of_mounts_and_folders_hold_for_links() -> Result<()> {
    let text = on_host_succeeds("chmod 755 $W; $T inside resolver")?;
    ensure!(text.contains("the kernel agrees"), "{text}");
    Ok(())
}

/// In a mount namespace of its own: `nosymfollow`, mounts on the way, sticky folders, magic links.
pub(crate) fn with_mounts() -> Result<()> {
    let shell = |script: &str| -> Result<()> {
        let status = std::process::Command::new("/bin/sh").args(["-euc", script]).status()?;
        ensure!(status.success(), "{script}: {status}");
        Ok(())
    };
    shell(
        "mkdir -p /mnt/t/nosym /mnt/t/over /mnt/t/target /mnt/t/p /mnt/t/sticky/dir
         mount -t tmpfs -o nosymfollow tmpfs /mnt/t/nosym; mkdir /mnt/t/nosym/dir
         mkdir /mnt/t/over/hidden; mount -t tmpfs tmpfs /mnt/t/over; mkdir /mnt/t/over/seen
         mount --rbind /proc /mnt/t/p",
    )?;
    let root = Path::new("/mnt/t");
    symlink("dir", root.join("nosym/link"))?;
    symlink("/target", root.join("nosym/out"))?;
    symlink("nosym/dir", root.join("into"))?;
    symlink("over/hidden", root.join("to-hidden"))?;
    symlink("over/seen", root.join("to-seen"))?;
    fs::set_permissions(root.join("sticky"), fs::Permissions::from_mode(0o1777))?;
    chown(root.join("sticky"), Some(1000), Some(1000))?;
    for (link, owner) in [("roots", 0), ("folders", 1000), ("others", 1001)] {
        symlink("/target", root.join("sticky").join(link))?;
        lchown(root.join("sticky").join(link), Some(owner), None)?;
    }
    let tree = Tree::open(root)?;
    let protected = fs::read_to_string("/proc/sys/fs/protected_symlinks")?.trim() == "1";
    let others = if protected { Kernel(Errno::ACCESS) } else { Found("/target", 1) };
    let own = format!("/p/{}", std::process::id());
    for (path, real, links) in [("/p/self", own.clone(), 1), ("/p/mounts", format!("{own}/mounts"), 2)] {
        let found = resolve(&tree.host, path, Symlinks::Resolve)?.found;
        ensure!(found.path == real && found.symlinks.len() == links, "{path}: {found:?}");
        ensure!(tree.kernel(path).is_ok(), "{path}: the kernel doesn't follow it");
    }
    for (path, expected) in [
        ("/nosym/dir", Found("/nosym/dir", 0)),
        ("/nosym/link", Kernel(Errno::LOOP)),
        ("/nosym/out", Kernel(Errno::LOOP)),
        ("/into", Found("/nosym/dir", 1)),
        ("/over/hidden", Missing),
        ("/to-hidden", Missing),
        ("/to-seen", Found("/over/seen", 1)),
        ("/sticky/dir", Found("/sticky/dir", 0)),
        ("/sticky/roots", Found("/target", 1)),
        ("/sticky/folders", Found("/target", 1)),
        ("/sticky/others", others),
        ("/p/self/exe", MagicLink),
        ("/p/self/root/target", MagicLink),
        ("/p/self/cwd", MagicLink),
        ("/p/self/fd/0", MagicLink),
        ("/p/1/ns/mnt", MagicLink),
    ] {
        tree.check(path, &expected)?;
    }
    println!("the kernel agrees, protected_symlinks is {}", if protected { "on" } else { "off" });
    Ok(())
}
