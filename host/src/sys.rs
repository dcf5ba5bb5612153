//! The only unsafe code beside the allocator and what is written in assembly: system calls that no wrapper crate has, and
//! loading compiled plugins.

#![expect(unsafe_code, reason = "each block says what it relies on")]

use std::ffi::{CStr, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use wasmtime::component::Component;

/// Loads compiled code from a file. The caller has checked that only this user has access to it.
pub(crate) fn deserialize_file(engine: &wasmtime::Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was made by `precompile_component` of this program: only the cache calls this, for an open file
    // that belongs to this user, that no other user can reach, and that was renamed into place when complete.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Loads compiled code that was read from such a file, or that this program has made just now.
pub(crate) fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the code was read from a file that fulfils what `deserialize_file` needs, or comes from `precompile_component`
    // of this program.
    unsafe { Component::deserialize(engine, code) }
}

/// Whether a signal was noted.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether a signal that asks the process to end was noted.
pub(crate) fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

/// From now on the first SIGINT, SIGTERM and SIGHUP are only noted, and those that were ignored stay ignored. A second one of the same kind ends
/// the process, unless it `stays`: one of several may get a signal as all of them do, and once more from the first.
///
/// # Errors
/// What sigaction(2) returns.
pub(crate) fn note_interrupts(stays: bool) -> io::Result<&'static AtomicBool> {
    extern "C" fn note(_: libc::c_int) {
        IS_INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let flags = if stays { SaFlags::SA_RESTART } else { SaFlags::SA_RESETHAND | SaFlags::SA_RESTART };
    let action = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed in a signal handler.
        let before = unsafe { sigaction(signal, &action) }?;
        if let SigHandler::SigIgn = before.handler() {
            // SAFETY: no handler is set: the signal is ignored again.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(&IS_INTERRUPTED)
}

/// Has a program start without any signal blocked, whatever this thread blocks: std passes that on.
pub(crate) fn with_no_signal_blocked(command: &mut Command) -> &mut Command {
    let unblock = || Ok(SigSet::empty().thread_set_mask()?);
    // SAFETY: between fork(2) and execve(2), this calls pthread_sigmask(3) only, which is async-signal-safe.
    unsafe { command.pre_exec(unblock) }
}

/// From now on the end of a child is told, also if the caller ignored that.
///
/// # Errors
/// What sigaction(2) returns.
pub(crate) fn expect_children() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is set, only the default.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
    Ok(())
}

/// `struct mount_attr` of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// mount_setattr(2) on the mount that a descriptor stands for, and on all below it if `recursive`. Linux 5.12.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant C string; the kernel reads `size_of::<MountAttr>()` bytes of a live struct of
    // exactly that layout and keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    checked(result).map(drop)
}

/// `struct mnt_id_req` of statmount(2), as of Linux 6.11.
#[repr(C)]
struct MountIdRequest {
    size: u32,
    spare: u32,
    id: u64,
    param: u64,
    namespace: u64,
}

impl MountIdRequest {
    fn new(id: u64, param: u64, namespace: Option<u64>) -> Self {
        // Without a namespace the first version of the struct will do, which Linux 6.8 knows.
        let size = if namespace.is_some() { 32 } else { 24 };
        Self { size, spare: 0, id, param, namespace: namespace.unwrap_or(0) }
    }
}

/// The numbers are the same on every architecture that has the unified table, see `scripts/syscall.tbl`.
const SYS_STATMOUNT: libc::c_long = 457;
const SYS_LISTMOUNT: libc::c_long = 458;

/// statmount(2): fills a buffer with a `struct statmount` and the strings behind it. Linux 6.8; in another mount
/// namespace, by that one's 64-bit id, Linux 6.11.
pub(crate) fn statmount(id: u64, namespace: Option<u64>, mask: u64, buffer: &mut [u64]) -> io::Result<()> {
    let request = MountIdRequest::new(id, mask, namespace);
    // SAFETY: the kernel reads `request.size` bytes of a live struct that is at least as large, and writes at most
    // as many bytes as the buffer has, which is borrowed mutably and aligned for a `struct statmount`.
    let result = unsafe {
        libc::syscall(SYS_STATMOUNT, std::ptr::from_ref(&request), buffer.as_mut_ptr(), size_of_val(buffer), 0u32)
    };
    checked(result).map(drop)
}

/// listmount(2): the 64-bit ids of the mounts below a mount, those after `last`. Says how many were written. In another
/// mount namespace as [`statmount`].
pub(crate) fn listmount(id: u64, namespace: Option<u64>, last: u64, ids: &mut [u64]) -> io::Result<usize> {
    listmount_with(MountIdRequest::new(id, last, namespace), ids, 0)
}

/// listmount(2) from the youngest mount to the oldest. `InvalidInput` before Linux 6.11.
pub(crate) fn listmount_reverse(id: u64, ids: &mut [u64]) -> io::Result<usize> {
    /// From `include/uapi/linux/mount.h`.
    const LISTMOUNT_REVERSE: u32 = 1;
    listmount_with(MountIdRequest::new(id, 0, None), ids, LISTMOUNT_REVERSE)
}

fn listmount_with(request: MountIdRequest, ids: &mut [u64], flags: u32) -> io::Result<usize> {
    // SAFETY: the kernel reads `request.size` bytes of a live struct, and writes at most `ids.len()` ids.
    let result =
        unsafe { libc::syscall(SYS_LISTMOUNT, std::ptr::from_ref(&request), ids.as_mut_ptr(), ids.len(), flags) };
    checked(result)
}

/// The 64-bit id of a mount namespace, see ioctl_nsfs(2). Linux 6.11.
pub(crate) fn mount_namespace_id(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    /// `_IOR(0xb7, 0x5, __u64)`
    const NS_GET_MNTNS_ID: libc::c_ulong = 0x8008_b705;
    let mut id: u64 = 0;
    // SAFETY: this ioctl writes eight bytes through the pointer, which is to a live u64.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_MNTNS_ID as _, std::ptr::from_mut(&mut id)) };
    checked(result.into()).map(|_| id)
}

/// The UUID of the btrfs that a file lies on, as `/sys/fs/btrfs` writes it.
pub(crate) fn btrfs_uuid(file: BorrowedFd<'_>) -> io::Result<String> {
    /// `_IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)`, see `include/uapi/linux/btrfs.h`.
    const BTRFS_IOC_FS_INFO: libc::c_ulong = 0x8400_941f;
    let mut info = [0u64; 128];
    // SAFETY: this ioctl writes 1024 bytes through the pointer, which is to a live array of that size.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_FS_INFO as _, info.as_mut_ptr()) };
    checked(result.into())?;
    // Behind two numbers of 64 bits.
    let [one, other] = [info[2], info[3]].map(|half| u64::from_be_bytes(half.to_ne_bytes()));
    let digits = format!("{one:016x}{other:016x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default().to_owned());
    Ok(parts.join("-"))
}

/// fsconfig(2) with `FSCONFIG_CMD_CREATE_EXCL`: makes a file system, and fails with `EBUSY` instead of sharing one that is
/// there with whatever options. Linux 6.6.
pub(crate) fn fsconfig_create_exclusive(context: BorrowedFd<'_>) -> io::Result<()> {
    const FSCONFIG_CMD_CREATE_EXCL: libc::c_int = 8;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key and no value, and the kernel reads none.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE_EXCL, none, none, 0 as libc::c_int)
    };
    checked(result).map(drop)
}

/// How a loop device shows a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopSetup<'n> {
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) read_only: bool,
    /// The file's name, for those who list the devices.
    pub(crate) name: &'n str,
}

/// `struct loop_info64` of `include/uapi/linux/loop.h`.
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const READ_ONLY: u32 = 1;
    /// The device is given up with its last user.
    const AUTOCLEAR: u32 = 4;

    const fn empty() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encryption: [0; 2],
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config` of `include/uapi/linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The number of a loop device that shows nothing, see loop(4).
pub(crate) fn loop_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
    // SAFETY: this ioctl takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Shows a file as a block device until nobody uses it any more, see loop(4). Linux 5.8.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, setup: &LoopSetup<'_>) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
    let flags = LoopInfo::AUTOCLEAR | if setup.read_only { LoopInfo::READ_ONLY } else { 0 };
    let mut info = LoopInfo { offset: setup.offset, size_limit: setup.size_limit, flags, ..LoopInfo::empty() };
    // The last byte stays zero.
    for (to, from) in info.file_name.iter_mut().take(63).zip(setup.name.bytes()) {
        *to = from;
    }
    let fd = u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: this ioctl reads a `struct loop_config` through the pointer, which is to a live one of that layout.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, std::ptr::from_ref(&config)) };
    checked(result.into()).map(drop)
}

/// The file behind a loop device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopBacking {
    /// As stat(2) has it.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// The number of what is shown, if that is a block device.
    pub(crate) block_device: u64,
    /// Where in it the shown part begins, in bytes.
    pub(crate) offset: u64,
}

/// What a loop device shows; nothing if it shows nothing.
pub(crate) fn loop_backing(device: BorrowedFd<'_>) -> io::Result<Option<LoopBacking>> {
    const LOOP_GET_STATUS64: libc::c_ulong = 0x4c05;
    let mut info = LoopInfo::empty();
    // SAFETY: this ioctl writes a `struct loop_info64` through the pointer, which is to a live one of that layout.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, std::ptr::from_mut(&mut info)) };
    match checked(result.into()) {
        Ok(_) => Ok(Some(LoopBacking {
            device: info.device,
            inode: info.inode,
            block_device: info.rdevice,
            offset: info.offset,
        })),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A child in a user namespace of its own. It does nothing, and ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pid: libc::pid_t,
    /// Its folder in `/proc`.
    pub(crate) process: OwnedFd,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        end_child(self.pid);
    }
}

fn end_child(pid: libc::pid_t) {
    // SAFETY: these calls act on a child of this process that nobody else waits for, and write nowhere.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
}

/// Starts a child in a user namespace of its own, see user_namespaces(7). It opens its folder in `/proc` itself: there its
/// number may be another one than here.
pub(crate) fn child_in_user_namespace() -> io::Result<Sleeper> {
    let (mut reader, writer) = io::pipe()?;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: without a stack of its own the child has a copy of this process's memory, as after fork(2). It makes
    // async-signal-safe calls only, allocates nothing, and never returns from here. Its descriptors are this process's.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: as above; the buffer is four bytes of a live number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            let process = libc::open(c"/proc/self".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
            libc::write(writer.as_raw_fd(), std::ptr::from_ref(&process).cast(), size_of::<libc::c_int>());
            loop {
                libc::pause();
            }
        }
    }
    let pid = libc::pid_t::try_from(checked(pid)?).map_err(io::Error::other)?;
    let mut number = [0; size_of::<libc::c_int>()];
    match reader.read_exact(&mut number).map(|()| libc::c_int::from_ne_bytes(number)) {
        // SAFETY: the child has opened this descriptor in the table that both share, and never uses it.
        Ok(process @ 0..) => Ok(Sleeper { pid, process: unsafe { OwnedFd::from_raw_fd(process) } }),
        result => {
            end_child(pid);
            Err(result.err().unwrap_or_else(|| io::Error::other("the child can't open /proc/self")))
        }
    }
}

/// Whether this program was started with more rights than its caller has: `AT_SECURE` of getauxval(3).
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: this call only reads what the kernel gave the process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The path by which this program was started: `AT_EXECFN` of getauxval(3).
pub(crate) fn started_as() -> Option<PathBuf> {
    // SAFETY: this call only reads what the kernel gave the process at its start.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let name = std::ptr::with_exposed_provenance::<libc::c_char>(usize::try_from(name).ok()?);
    if name.is_null() {
        return None;
    }
    // SAFETY: the kernel puts a string there, which stays as long as the process.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// Sets close-on-exec on every descriptor except the three standard ones, so that no program that is started inherits
/// them. That includes the descriptors that this process inherited. Linux 5.11.
pub(crate) fn keep_descriptors_from_programs() -> io::Result<()> {
    // SAFETY: this call only sets a flag of descriptors; none is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    checked(result).map(drop)
}

fn checked(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
