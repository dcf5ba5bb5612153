//! The plan of an approved request: typed steps, with the descriptors of what was approved.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use super::attributes::Attributes;
use super::helper_mount::HelperMount;
use super::step::Step;
use crate::decision::answers::{Answers, Pins, Unconfirmed};
use crate::decision::approved::Approved;
use crate::host::locks::HostLock;
use crate::model::ends::{Ends, OptionPath, PinnedPath, ResolvedPath};
use crate::model::host_error::HostError;
use crate::model::image::{Image, LOOP_WORDS, needs_loop_device};
use crate::model::location::Location;
use crate::model::option_names::{is_context, is_dropped, is_per_mount, needs_mount_program, propagation_of_word};
use crate::model::option_paths::judged_paths;
use crate::model::options::{MountOption, Options, quoted_text};
use crate::model::own_options::{IdMap, directory_mode, is_own};
use crate::model::refusals::Refusals;
use crate::model::request::{MountRequest, Operation, Propagation, PropagationType};
use crate::model::rules::HostRules;

/// Steps for an executor. Only the chain can make one.
#[derive(Debug)]
pub struct MountPlan {
    steps: Vec<Step>,
    request: MountRequest,
    ends: Ends,
    timeout: Duration,
    notes: Vec<String>,
    answers: Option<Answers>,
}

/// A plan as a person reads it, secrets masked.
#[derive(Debug, Clone, Default)]
pub struct PlanText {
    /// What will be done, one line per call.
    pub lines: Vec<String>,
    /// Notes for the person who reads the output.
    pub notes: Vec<String>,
}

impl MountPlan {
    /// The steps for an approved request.
    ///
    /// # Errors
    /// When the host lacks what it would take.
    pub(crate) fn of(approved: Approved<'_>, rules: &HostRules) -> Result<Self, Refusals> {
        let mut notes = Vec::new();
        let steps = steps(&approved, rules, &mut notes)?;
        notes.extend(dropped(approved.request()));
        let (request, ends, answers) = approved.into_parts();
        Ok(Self { steps, request, ends, timeout: rules.timeout, notes, answers })
    }

    /// The request that it carries out, as approved.
    pub fn request(&self) -> &MountRequest {
        &self.request
    }

    /// The plan as a person reads it.
    pub fn text(&self) -> PlanText {
        let lines = self.steps.iter().flat_map(|step| step.lines(self.target())).collect();
        PlanText { lines, notes: self.notes.clone() }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The real path of the mount point.
    pub(crate) fn target(&self) -> &str {
        &self.ends.target.found.path
    }

    /// The same as the kernel has it.
    pub(crate) fn target_bytes(&self) -> &[u8] {
        self.ends.target.as_bytes()
    }

    /// The propagation that a bind or a new mount asks for in so many words.
    pub(crate) fn named_propagation(&self) -> Option<Propagation> {
        named_propagation(&self.request)
    }

    /// What the host found at the source.
    pub(crate) fn found_source(&self) -> Option<&ResolvedPath> {
        self.ends.found_source()
    }

    /// What the host found at the paths in the options.
    pub(crate) fn option_paths(&self) -> &[OptionPath<PinnedPath>] {
        &self.ends.option_paths
    }

    /// The descriptors of both ends. A replayed decision has none.
    pub(crate) fn take_pins(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        (self.ends.source.as_mut().and_then(|source| source.pin.take()), self.ends.target.pin.take())
    }

    /// Takes the lock of the host and asks again what the policies were told. A plan that wasn't made under locks has nothing to
    /// confirm.
    pub(crate) fn confirm(&self, pins: Pins<'_>) -> Result<Option<HostLock>, Unconfirmed> {
        self.answers.as_ref().map(|answers| answers.confirm(&self.request, &self.ends, pins)).transpose()
    }

    /// Compares where the mount was carried with what was judged, see [`Answers::confirm_carried`].
    pub(crate) fn confirm_carried(&self, own: u64, new: &HashSet<u64>, is_overtaken: bool) -> Result<(), Unconfirmed> {
        let Some(answers) = &self.answers else { return Ok(()) };
        answers.confirm_carried(&self.request, &self.ends, own, new, is_overtaken)
    }

    /// An overlay that writes where this one would write, see [`Answers::written_by_another_overlay`].
    pub(crate) fn written_by_another_overlay(&self) -> Result<Option<(String, String)>, HostError> {
        let answers = self.answers.as_ref();
        answers.map_or(Ok(None), |answers| answers.written_by_another_overlay(&self.ends))
    }

    /// What was judged to be brought along, where that is known.
    pub(crate) fn brought_along(&self) -> Option<HashSet<&Location>> {
        self.answers.as_ref().map(Answers::brought_along)
    }

    /// Takes the lock of the host, if a mount that comes back would be seen at judged places only.
    pub(crate) fn confirm_return(&self, path: &str, there: BorrowedFd<'_>) -> Result<Option<HostLock>, Unconfirmed> {
        self.answers.as_ref().map(|answers| answers.confirm_return(path, there)).transpose()
    }

    /// How long carrying it out may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Display for MountPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().lines.join("\n"))
    }
}

fn named_propagation(request: &MountRequest) -> Option<Propagation> {
    request.options.iter().rev().find_map(|option| propagation_of_word(&option.name))
}

fn steps(approved: &Approved<'_>, rules: &HostRules, notes: &mut Vec<String>) -> Result<Vec<Step>, Refusals> {
    let request = approved.request();
    let source = || match approved.source() {
        Some(end) => end.found.path.clone(),
        None => request.source.clone().unwrap_or_default(),
    };
    let problem = |problem| Refusals::one("-o", problem, None);
    let id_map = || IdMap::of(&request.options).map_err(problem);
    let told = || {
        let (attributes, parameters) = split(&request.options);
        Ok((attributes, with_real_paths(parameters, approved.option_paths(), &rules.options)?))
    };
    let mut steps = Vec::new();
    if let (missing, Some(mode)) = (&approved.target().missing, directory_mode(&request.options).map_err(problem)?)
        && !missing.is_empty()
    {
        steps.push(Step::MakeDirectory { missing: missing.clone(), mode });
    }
    steps.extend(match request.operation {
        Operation::Mount => {
            let fstype = request.fstype.clone().unwrap_or_default();
            let helper = rules.helper(&fstype);
            let on_error = on_error(&fstype, &request.options);
            if helper.is_some() || request.options.iter().any(|option| needs_mount_program(&option.name)) {
                let mut mount = HelperMount::of(approved, rules, fstype, source(), helper, notes)?;
                on_error.into_iter().for_each(|option| mount.options.push(option));
                vec![Step::Helper(mount)]
            } else {
                let (mut attributes, mut parameters) = told()?;
                if READ_ONLY_TYPES.contains(&fstype.as_str())
                    && !request.options.has("rw")
                    && !attributes.is_read_only()
                {
                    attributes.take("ro");
                    parameters.push(MountOption::flag("ro"));
                }
                parameters.extend(on_error);
                let needs_device = approved.source().is_some_and(|end| needs_loop_device(request, &end.found));
                let image = needs_device.then(|| Image::of(&request.options)).transpose();
                let image = image.map_err(problem)?;
                let (source, id_map, propagation) = (source(), id_map()?, named_propagation(request));
                vec![Step::Mount { fstype, source, image, parameters, attributes, id_map, propagation }]
            }
        }
        Operation::Bind { recursive } => {
            // A copy hears what is mounted on its source and doesn't tell, unless the request says something else.
            let propagation =
                named_propagation(request).unwrap_or(Propagation { kind: PropagationType::Slave, recursive: true });
            let attributes = Attributes::of(&request.options);
            vec![Step::Bind { source: source(), recursive, propagation, attributes, id_map: id_map()? }]
        }
        Operation::Remount { mount_point_only: true } => vec![Step::SetAttributes(split(&request.options).0)],
        Operation::Remount { mount_point_only: false } => {
            let (attributes, parameters) = told()?;
            remount(attributes, parameters)
        }
        Operation::Move => vec![Step::Move { source: source() }],
        Operation::SetPropagation(propagation) => vec![Step::SetPropagation(propagation)],
        Operation::Unmount(mode) => vec![Step::Unmount(mode)],
    });
    Ok(steps)
}

/// What an ext2, ext3 or ext4 does on an error, if the request doesn't say so: an image may ask for a panic of the host by itself, and an
/// option overrides it.
fn on_error(fstype: &str, options: &Options) -> Option<MountOption> {
    let is_left_open = matches!(fstype, "ext2" | "ext3" | "ext4") && !options.has("errors");
    is_left_open.then(|| MountOption { name: "errors".to_owned(), value: Some("remount-ro".to_owned()) })
}

/// File systems that can only be read: a device that is write-protected is no obstacle.
const READ_ONLY_TYPES: [&str; 5] = ["cramfs", "erofs", "iso9660", "romfs", "squashfs"];

/// A note on the options that the kernel isn't told, as mount(8) doesn't tell it either.
fn dropped(request: &MountRequest) -> Option<String> {
    let is_of_one_mount =
        matches!(request.operation, Operation::Bind { .. } | Operation::Remount { mount_point_only: true });
    let is_told = |option: &MountOption| {
        option.name == "defaults"
            || is_own(&option.name)
            || !(is_dropped(&option.name)
                || is_of_one_mount && !is_per_mount(&option.name) && propagation_of_word(&option.name).is_none())
    };
    let words: Vec<String> =
        request.options.iter().filter(|option| !is_told(option)).map(|option| option.masked().to_string()).collect();
    (!words.is_empty()).then(|| format!("{}: the kernel isn't told, as with mount(8)", words.join(", ")))
}

/// Options as what the mount point has and what the file system is told. `ro` is both, as with mount(2); words that
/// only mount(8) has a use for are neither.
fn split(options: &Options) -> (Attributes, Vec<MountOption>) {
    let mut attributes = Attributes::default();
    let mut parameters = Vec::new();
    for option in options.iter() {
        let is_ours = LOOP_WORDS.contains(&option.name.as_str()) || is_own(&option.name);
        let is_ours = is_ours || propagation_of_word(&option.name).is_some();
        if !attributes.take(&option.name) && !is_dropped(&option.name) && !is_ours {
            parameters.push(unquoted(option));
        }
    }
    if attributes.is_read_only() {
        parameters.push(MountOption::flag("ro"));
    }
    (attributes, parameters)
}

/// A context without the quotes that keep its commas together on a command line.
fn unquoted(option: &MountOption) -> MountOption {
    let inner = option.value.as_deref().filter(|_| is_context(&option.name)).and_then(quoted_text);
    match inner {
        Some(value) => MountOption { name: option.name.clone(), value: Some(value.to_owned()) },
        None => option.clone(),
    }
}

/// Parameters whose paths are the real ones. Each layer of an overlay is a parameter of its own.
///
/// # Errors
/// A path that nothing was found for: the kernel must not look up what nobody has judged.
fn with_real_paths(
    parameters: Vec<MountOption>,
    found: &[OptionPath<PinnedPath>],
    named: &[String],
) -> Result<Vec<MountOption>, Refusals> {
    let mut found = found.iter();
    let mut real = Vec::new();
    for parameter in parameters {
        let written = judged_paths(&parameter, named);
        if written.is_empty() {
            real.push(parameter);
            continue;
        }
        for written in written {
            let path = found.find(|path| path.option == parameter.name).ok_or_else(|| {
                Refusals::one(&format!("-o {}", parameter.name), format!("{} wasn't looked up", written.path), None)
            })?;
            let name = if written.option.is_empty() { parameter.name.as_str() } else { written.option };
            real.push(MountOption { name: name.to_owned(), value: Some(path.found.found.path.clone()) });
        }
    }
    Ok(real)
}

/// What takes rights away comes first and what gives them back last: a remount that ends in the middle leaves the mount
/// stricter than it was approved, never laxer. Only what is named changes.
fn remount(attributes: Attributes, mut parameters: Vec<MountOption>) -> Vec<Step> {
    if attributes.is_writable() {
        parameters.push(MountOption::flag("rw"));
    }
    if parameters.is_empty() {
        return vec![Step::SetAttributes(attributes)];
    }
    let change = |attributes: Attributes| (!attributes.is_empty()).then_some(Step::SetAttributes(attributes));
    [change(attributes.tightening()), Some(Step::Reconfigure { parameters }), change(attributes.loosening())]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_mount_points_or_the_file_systems() {
        let (attributes, parameters) = split(&Options::parse("ro,nosuid,size=1m,_netdev,sync,x-systemd.automount"));
        assert_eq!(attributes.to_string(), "ro,nosuid");
        let words: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["size=1m", "sync", "ro"]);
    }

    #[test]
    fn a_remount_tightens_first_and_loosens_last() {
        let lines = |options: &str| -> Vec<String> {
            let (attributes, parameters) = split(&Options::parse(options));
            remount(attributes, parameters).iter().flat_map(|step| step.lines("/m")).collect()
        };
        assert_eq!(lines("nosuid,dev"), ["mount_setattr(/m, nosuid,dev)"]);
        assert_eq!(
            lines("rw,nosuid,size=2m"),
            [
                "mount_setattr(/m, nosuid)",
                "fspick(/m)",
                "fsconfig(size, 2m)",
                "fsconfig(rw)",
                "fsconfig(FSCONFIG_CMD_RECONFIGURE)",
                "mount_setattr(/m, rw)",
            ]
        );
    }
}
