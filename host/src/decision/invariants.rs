//! Which requests the host refuses by itself, whatever any policy says.

use crate::host::resolve::descriptor;
use crate::host::root::HostRoot;
use crate::model::ends::{Ends, FileKind};
use crate::model::image::{Image, LOOP_WORDS, needs_loop_device};
use crate::model::mount_flags::restrictions;
use crate::model::option_names::{
    endangers_the_host, is_context, is_dropped, is_generic, is_operation, needs_mount_program, needs_permission,
    propagation_of_word, stands_for_the_source,
};
use crate::model::option_paths::paths_in;
use crate::model::options::{MountOption, Options, quoted_text};
use crate::model::own_options::{IDMAP, IdMap, directory_mode, is_own, is_x_mount};
use crate::model::paths::{components, is_source_path};
use crate::model::refusals::{Refusal, Refusals};
use crate::model::request::{MAX_OPTIONS, MountRequest, Operation};
use crate::model::rules::{HostRules, is_helper_type, is_type_name};
use crate::model::shared_types::is_the_only_one;
use crate::model::untrusted;

const SOURCE: &str = "SOURCE";
const TARGET: &str = "TARGET";

/// Judges a request by its text alone. The host is asked only for what it has installed. A replayed request has no host:
/// then a type that begins with `fuse` has a helper.
///
/// # Errors
/// Every reason to refuse it.
pub(crate) fn check_request(
    rules: &HostRules,
    host: Option<&HostRoot>,
    request: &MountRequest,
) -> Result<(), Refusals> {
    let mut check = Check { rules, refusals: Vec::new() };
    check.target(&request.target);
    check.shape(request);
    if let Some(source) = &request.source {
        check.source(source, request.operation);
    }
    if let Some(fstype) = &request.fstype {
        check.fstype(fstype, host);
        if check.refusals.is_empty() {
            check.source_of_type(request, fstype, host);
        }
    }
    let is_helped = rules.runs_helper(request);
    if request.options.len() > MAX_OPTIONS {
        check.refuse("-o", format!("there are more than {MAX_OPTIONS} options"), None);
        return check.done();
    }
    // mount(8) would change it in a second step that nobody looks at.
    let by_program = is_helped || request.options.iter().any(|option| needs_mount_program(&option.name));
    let takes_propagation = match request.operation {
        Operation::Bind { .. } => true,
        Operation::Mount => !by_program,
        _ => false,
    };
    if let (Some(fstype), false) = (request.fstype.as_deref().filter(|fstype| is_the_only_one(fstype)), is_helped) {
        check.options_of_the_host(fstype, &request.options);
    }
    for option in request.options.iter() {
        check.option(option, request.operation, (is_helped, takes_propagation));
        if !is_helped {
            check.paths_of(option);
        }
    }
    let values = [directory_mode(&request.options).err(), IdMap::of(&request.options).err()];
    for problem in values.into_iter().flatten() {
        check.refuse("-o", problem, None);
    }
    check.done()
}

/// Judges what the paths of a request turned out to be.
///
/// # Errors
/// Every reason to refuse it.
pub(super) fn check_resolved(rules: &HostRules, request: &MountRequest, ends: &Ends) -> Result<(), Refusals> {
    let (source, target) = (ends.found_source(), &ends.target.found);
    let mut check = Check { rules, refusals: Vec::new() };
    let is_image =
        request.operation == Operation::Mount && source.is_some_and(|source| source.kind == FileKind::Regular);
    if let Some(word) = request.options.iter().find(|option| LOOP_WORDS.contains(&option.name.as_str()) && !is_image) {
        check.refuse("-o", format!("{} is for a new mount of an image: a regular file as the source", word.name), None);
    } else if let Err(problem) = Image::of(&request.options) {
        check.refuse("-o", problem, None);
    }
    for path in &ends.option_paths {
        check.no_magic(&format!("-o {}", path.option), &path.found.found.path);
    }
    if let (Some(option), Some(path)) =
        (request.options.iter().find(|option| needs_mount_program(&option.name)), ends.option_paths.first())
    {
        let message =
            format!("{} is carried out by mount(8), which would look up {} again", option.name, path.found.found.path);
        check.refuse("-o", message, None);
    }
    let is_helped = rules.runs_helper(request);
    if request.operation == Operation::Mount && target.kind != FileKind::Directory && !is_helped {
        let message = "it isn't a directory: only a bind puts something on a file".to_owned();
        check.refusals.push(Refusal { code: "not-a-directory", ..Refusal::new(TARGET, message, None) });
    }
    if let Some(source) = source {
        check.no_magic(SOURCE, &source.path);
        let needs_device = !is_helped && needs_loop_device(request, source);
        if needs_device && !rules.options.iter().any(|name| name == "loop") {
            check.refuse(
                SOURCE,
                format!("{} is a regular file: it would need a loop device", source.path),
                Some("to allow that, add \"loop\" to [host] options in policies.toml"),
            );
        }
        if request.operation.source_is_path() {
            let (from, to) = (source.kind == FileKind::Directory, target.kind == FileKind::Directory);
            if from != to {
                let kind = |directory| if directory { "a directory" } else { "not a directory" };
                let message = format!("it's {}, and the source is {}", kind(to), kind(from));
                let hint = Some("bind a directory on a directory, a file on a file");
                let refusal = Refusal::new(TARGET, message, hint);
                let code = if to { refusal.code } else { "not-a-directory" };
                check.refusals.push(Refusal { code, ..refusal });
            }
        }
    }
    check.done()
}

/// The longest option, and the longest list of layers, which the kernel gets one by one.
const PAGE: usize = 4095;
const MAX_LAYERS: usize = 64 << 10;
/// File systems that the kernel mounts for itself (`SB_NOUSER`, see `fs/libfs.c`): mount(2) refuses them, and the mount API doesn't.
const KERNEL_TYPES: [&str; 4] = ["anon_inodefs", "bdev", "pipefs", "sockfs"];
const NAME_OPTION: &str = "to allow it, add the option to [host] options in policies.toml";

struct Check<'r> {
    rules: &'r HostRules,
    refusals: Vec<Refusal>,
}

impl Check<'_> {
    fn done(self) -> Result<(), Refusals> {
        Refusals::check(self.refusals)
    }

    fn refuse(&mut self, argument: &str, message: String, hint: Option<&'static str>) {
        self.refusals.push(Refusal::new(argument, message, hint));
    }

    /// Refuses text that no argument may hold. Returns false if it refused the text.
    fn text(&mut self, argument: &str, text: &str) -> bool {
        let problem = if text.is_empty() {
            "it's empty"
        } else if text.chars().any(char::is_control) {
            "it holds a control character"
        } else if text.starts_with('-') {
            "it begins with `-`, and could be taken for a flag"
        } else if text.len() > 4095 {
            "it's longer than a path can be"
        } else {
            return true;
        };
        self.refuse(argument, format!("{problem}: \"{}\"", shorten(text)), None);
        false
    }

    fn absolute(&mut self, argument: &str, path: &str) -> bool {
        if !self.text(argument, path) {
            return false;
        }
        if !path.starts_with('/') {
            self.refuse(argument, format!("{path:?} isn't an absolute path"), Some("write the whole path, from /"));
            return false;
        }
        if path.split('/').any(|name| name == "..") {
            self.refuse(argument, format!("{path:?} holds `..`"), Some("write the path that is meant"));
            return false;
        }
        self.no_magic(argument, path)
    }

    /// Refuses magic links such as `/proc/PID/root` and `/proc/PID/fd`, which can lead to any file.
    fn no_magic(&mut self, argument: &str, path: &str) -> bool {
        const MAGIC: [&str; 6] = ["root", "cwd", "exe", "fd", "ns", "map_files"];
        let mut names = components(path);
        let magic = names.next() == Some("proc") && names.next().is_some() && names.any(|name| MAGIC.contains(&name));
        if magic {
            self.refuse(argument, format!("{path:?} goes through a magic link of proc(5)"), None);
        }
        !magic
    }

    fn target(&mut self, target: &str) {
        self.absolute(TARGET, target);
    }

    fn source(&mut self, source: &str, operation: Operation) {
        const TAGS: [&str; 5] = ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=", "ID="];
        // What somebody holds is judged by its path.
        let is_held = matches!(operation, Operation::Bind { .. }) && descriptor(source).is_some();
        if is_held {
            return;
        }
        if operation.source_is_path() {
            self.absolute(SOURCE, source);
        } else if self.text(SOURCE, source) {
            if TAGS.iter().any(|tag| source.to_ascii_uppercase().starts_with(tag)) {
                self.refuse(
                    SOURCE,
                    format!("{source:?} can mean another device each time"),
                    Some("name the device itself, e.g. by /dev/disk/by-uuid/…"),
                );
            } else if is_source_path(source) {
                self.absolute(SOURCE, source);
            }
        }
    }

    /// A file system on a device must have the device's absolute path for its source. The kernel would look up any other
    /// name itself, from its own working directory.
    fn source_of_type(&mut self, request: &MountRequest, fstype: &str, host: Option<&HostRoot>) {
        let Some(source) = request.source.as_deref().filter(|source| !is_source_path(source)) else { return };
        if self.rules.helper(fstype).is_some() {
            return;
        }
        // Where the module isn't loaded yet, a source with a slash could be a path.
        let needs_device = host.map(|host| host.file_systems().needs_device(fstype));
        if needs_device == Some(None) && source.contains('/') {
            let message = format!("the host's kernel doesn't know the file system type {fstype}");
            let hint = "load its module with modprobe(8), or install its mount helper and name it in [host] helpers";
            self.refusals.push(Refusal { code: "unknown-type", ..Refusal::new("-t", message, Some(hint)) });
        } else if needs_device == Some(Some(true)) {
            self.refuse(
                SOURCE,
                format!("{fstype} is mounted from a device, and {source:?} isn't an absolute path"),
                Some("write the whole path, from /"),
            );
        }
    }

    fn fstype(&mut self, fstype: &str, host: Option<&HostRoot>) {
        if !is_type_name(fstype) {
            self.refuse("-t", format!("\"{}\" isn't the name of a file system type", shorten(fstype)), None);
            return;
        }
        if matches!(fstype, "auto" | "none") {
            self.refuse(
                "-t",
                format!("{fstype:?} doesn't say what is mounted"),
                Some("name the file system type: policies decide by it"),
            );
            return;
        }
        if self.rules.helper(fstype).is_some() {
            return;
        }
        if KERNEL_TYPES.contains(&fstype) {
            self.refuse("-t", format!("{fstype} is the kernel's own: there is nothing in it to be mounted"), None);
        }
        let has_helper = |host: &HostRoot| host.has_helper(fstype);
        // The one that shows FUSE connections is the kernel's own.
        if fstype.starts_with("fuse") && fstype != "fusectl" || host.is_some_and(has_helper) {
            let hint = match is_helper_type(fstype) {
                true => "to allow it, add the type to [host] helpers in policies.toml",
                false => {
                    "name the daemon with the type, as fuse.sshfs, and add that to [host] helpers in policies.toml"
                }
            };
            self.refuse("-t", format!("mounting {fstype} runs a helper program as root"), Some(hint));
        }
    }

    /// What is one for the whole host is nobody's to change by mounting it.
    fn options_of_the_host(&mut self, fstype: &str, options: &Options) {
        let is_named = |name: &String| self.rules.options.contains(name);
        let is_of_one_mount =
            |name: &str| is_generic(name) || is_dropped(name) || is_own(name) || matches!(name, "defaults" | "source");
        let changes: Vec<String> = options
            .iter()
            .filter(|option| !is_of_one_mount(&option.name) && propagation_of_word(&option.name).is_none())
            .filter(|option| !is_named(&option.name))
            .map(|option| shorten(&option.masked().to_string()))
            .collect();
        for change in changes {
            let message = format!("\"{change}\" would change the {fstype} of the whole host");
            self.refuse("-o", message, Some(NAME_OPTION));
        }
    }

    fn option(&mut self, option: &MountOption, operation: Operation, (is_helped, takes_propagation): (bool, bool)) {
        let name = option.name.as_str();
        let value = option.value.as_deref().unwrap_or_default();
        let has = |wanted: fn(char) -> bool| name.contains(wanted) || value.contains(wanted);
        let len = name.len() + option.value.as_ref().map_or(0, |value| 1 + value.len());
        // A refusal must not show a secret.
        let shown = || shorten(&option.masked().to_string());
        // A map of owners can be named with its ranges.
        let is_named =
            self.rules.options.iter().any(|named| named == name || name == IDMAP && *named == option.to_string());
        let argument = "-o";
        if name.is_empty() || name.starts_with('-') || name.contains('=') {
            self.refuse(argument, format!("\"{}\" isn't the name of an option", shorten(name)), None);
        } else if name == "source" {
            let hint = Some("give it before TARGET");
            self.refuse(argument, "the source is an argument of its own".to_owned(), hint);
        } else if has(char::is_control) {
            self.refuse(argument, format!("an option holds a control character: \"{}\"", shown()), None);
        } else if has(|c| matches!(c, ',' | '"')) && (is_helped || !is_quoted_context(option)) {
            self.refuse(
                argument,
                format!("an option holds a comma or a quote: \"{}\"", shown()),
                Some("use a value without commas and quotes: mount(8) and its helpers parse them differently"),
            );
        } else if len > (if name == "lowerdir" && !is_helped { MAX_LAYERS } else { PAGE }) {
            self.refuse(argument, format!("an option is longer than a page: \"{}\"", shown()), None);
        } else if option.value.is_some() && restrictions().any(|flag| name == flag.sets || name == flag.clears) {
            self.refuse(argument, format!("{name} takes no value"), None);
        } else if takes_propagation && propagation_of_word(name).is_some() {
            if option.value.is_some() {
                self.refuse(argument, format!("{name} takes no value"), None);
            }
        } else if is_operation(name) {
            self.refuse(
                argument,
                format!("{name} is an operation, not an option"),
                Some("use --bind, --move or --make-… in a request of its own"),
            );
        } else if is_own(name) && !matches!(operation, Operation::Mount | Operation::Bind { .. }) {
            self.refuse(argument, format!("{name} is for a new mount or a bind, and would be ignored"), None);
        } else if name == IDMAP && is_helped {
            self.refuse(argument, format!("{name} isn't for types with a helper"), None);
        } else if needs_mount_program(name) && operation != Operation::Mount {
            self.refuse(argument, format!("{name} is for a new mount, and would be ignored"), None);
        } else if needs_permission(name) && !is_named {
            let can_be_named = is_own(name) || !is_x_mount(name);
            let hint = if can_be_named {
                NAME_OPTION
            } else {
                "of X-mount.*, mountgate carries out X-mount.mkdir and X-mount.idmap alone"
            };
            self.refuse(argument, format!("{name} makes mount(8) do more than mount"), Some(hint));
        } else if stands_for_the_source(name) && !is_named {
            self.refuse(
                argument,
                format!("{} says what is mounted, in the place of the source", shown()),
                Some(NAME_OPTION),
            );
        } else if endangers_the_host(option) && !is_named {
            self.refuse(
                argument,
                format!("{} can stop the host, or all that uses the file system", shown()),
                Some(NAME_OPTION),
            );
        } else if is_helped && !is_named && !is_generic(name) {
            self.refuse(
                argument,
                format!("{name} would be read by a helper that runs as root, e.g. as a command"),
                Some(NAME_OPTION),
            );
        }
    }

    /// The kernel would look up a path that isn't whole from its own working directory.
    fn paths_of(&mut self, option: &MountOption) {
        for written in paths_in(option).iter().filter(|written| !written.option.is_empty()) {
            self.absolute(&format!("-o {}", option.name), &written.path);
        }
    }

    /// Which arguments an operation needs and which it can't have.
    fn shape(&mut self, request: &MountRequest) {
        let operation = request.operation;
        let needs_source = matches!(operation, Operation::Mount | Operation::Bind { .. } | Operation::Move);
        if needs_source != request.source.is_some() {
            let verb = if needs_source { "needs a" } else { "takes no" };
            self.refuse(SOURCE, format!("{} {verb} source", operation.name()), None);
        }
        let needs_fstype = operation == Operation::Mount;
        if needs_fstype && request.fstype.is_none() {
            self.refuse(
                "-t",
                "the file system type is missing".to_owned(),
                Some("name it with -t: policies decide by it, so it isn't guessed"),
            );
        } else if !needs_fstype && request.fstype.is_some() {
            self.refuse("-t", format!("{} takes no file system type", operation.name()), None);
        }
        let takes_options = matches!(operation, Operation::Mount | Operation::Bind { .. } | Operation::Remount { .. });
        if !takes_options && !request.options.is_empty() {
            self.refuse("-o", format!("{} takes no options", operation.name()), None);
        }
    }
}

/// Whether it's a context whose commas stand between quotes, as mount(8) takes it.
fn is_quoted_context(option: &MountOption) -> bool {
    is_context(&option.name) && option.value.as_deref().and_then(quoted_text).is_some()
}

/// As much of an argument as a message shows.
fn shorten(text: &str) -> String {
    untrusted::shorten(text, 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Options;
    use crate::model::rules::Helper;

    fn refused(change: impl FnOnce(&mut MountRequest)) -> String {
        let mut request = MountRequest {
            operation: Operation::Mount,
            source: Some("tmpfs".to_owned()),
            target: "/mnt/x".to_owned(),
            fstype: Some("tmpfs".to_owned()),
            options: Options::default(),
        };
        change(&mut request);
        match check_request(&HostRules::default(), None, &request) {
            Ok(()) => String::new(),
            Err(refusals) => refusals.to_string(),
        }
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(refused(|_| {}), "");
        assert_eq!(refused(|r| r.options = Options::parse("size=1m,nosuid,mode=0700,user_xattr")), "");
        assert_eq!(refused(|r| r.options = Options::parse("errors=remount-ro,nofail,noowner,x-systemd.automount")), "");
    }

    #[test]
    fn each_refusal_names_its_argument() {
        for target in ["", "mnt", "/mnt/../etc", "/mnt/\n", "/mnt/\0", "-o", "/proc/1/root/etc"] {
            assert!(refused(|r| r.target = target.to_owned()).starts_with("TARGET: "), "{target:?}");
        }
        for source in ["--version", "LABEL=x", "uuid=1", "/dev/../etc", "/proc/self/fd/3", ""] {
            assert!(refused(|r| r.source = Some(source.to_owned())).starts_with("SOURCE: "), "{source:?}");
        }
        for options in [
            "a\"b",
            "X-mount.mkdir",
            "x-mount.subdir=a",
            "helper=x",
            "uhelper=x",
            "user",
            "users",
            "loop",
            "offset=1",
            "context=a",
            "=x",
            "bind",
            "rbind",
            "nosuid=1",
            "a\nb",
            "password=a\"b",
            "errors=panic",
            "abort",
            "fatal_errors=panic",
            "release_agent=/x",
            "journal_dev=0x700",
            "jdev=sda2",
            "addr=10.0.0.1",
            "unc=//server/share",
            "smackfsroot=floor",
            "source=/dev/sda1",
            "rfdno=3",
        ] {
            assert!(refused(|r| r.options = Options::parse(options)).starts_with("-o: "), "{options:?}");
        }
        for fstype in ["", "-x", "auto", "a,b", "fuse", "fuse.sshfs", "a b", "../x", "sockfs"] {
            assert!(refused(|r| r.fstype = Some(fstype.to_owned())).starts_with("-t: "), "{fstype:?}");
        }
        // A request file can hold a name that the command line can't.
        for name in ["a=b", "a,b", "-o", "", "a\u{7f}"] {
            let option = MountOption { name: name.to_owned(), value: None };
            assert!(refused(|r| r.options.push(option)).starts_with("-o: "), "{name:?}");
        }
        assert!(refused(|r| r.source = None).starts_with("SOURCE: "));
        assert!(refused(|r| r.fstype = None).starts_with("-t: "));
    }

    #[test]
    fn a_named_helper_is_given_generic_and_named_options_only() {
        let mut rules = HostRules { helpers: vec![Helper::parse("nfs")], ..HostRules::default() };
        let mut judged = |options: &str, named: &str| {
            rules.options = vec![named.to_owned()];
            let request = MountRequest {
                operation: Operation::Mount,
                source: Some("server:/export".to_owned()),
                target: "/mnt/x".to_owned(),
                fstype: Some("nfs".to_owned()),
                options: Options::parse(options),
            };
            check_request(&rules, None, &request).is_ok()
        };
        assert!(judged("ro,nosuid,noatime,sync", ""));
        for option in ["vers=4", "ssh_command=/bin/sh", "helper=x", "X-mount.mkdir", "uhelper=x"] {
            let name = option.split('=').next().unwrap_or_default();
            assert!(!judged(option, ""), "{option}");
            assert!(!judged(option, "other"), "{option}");
            assert!(judged(option, name), "{option}");
        }
    }

    #[test]
    fn a_type_with_a_helper_must_be_named() {
        for fstype in ["fuse", "fuse.sshfs", "fuseblk"] {
            assert!(
                refused(|r| r.fstype = Some(fstype.to_owned())).contains("runs a helper program as root"),
                "{fstype}"
            );
        }
    }
}
