//! Tells a new file system its parameters, and what the paths among them stand for: the kernel would look the names up again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{fsconfig_set_fd, fsconfig_set_string};

use super::execution::Execution;
use super::failure::StepError;
use super::mount_api::{self, with_context_log};
use crate::model::option_paths::paths_in;
use crate::model::options::MountOption;
use crate::model::untrusted::for_people;
use crate::plan::call::parameter;

/// Configures a new file system. The layers of an overlay are given as descriptors, Linux 6.13.
pub(super) fn configure(
    execution: &Execution<'_>,
    fstype: &str,
    context: &OwnedFd,
    parameters: &[MountOption],
) -> Result<(), StepError> {
    let mut by_name = Vec::new();
    for option in parameters {
        let pin = pin_of(execution, option);
        match (pin, option.value.as_deref()) {
            (Some(pin), Some(path)) if fstype == "overlay" => {
                set_layer(execution, context, option, path, pin, &mut by_name)?
            }
            _ => {
                check_names(execution, std::slice::from_ref(option))?;
                mount_api::configure(context, std::slice::from_ref(option))?;
            }
        }
    }
    match by_name.is_empty() {
        true => Ok(()),
        // Before Linux 6.7 all layers were one string.
        false => mount_api::configure(context, &[MountOption::parse(&format!("lowerdir={}", by_name.join(":")))]),
    }
}

/// What the kernel looks up by its name must be the same then as when it was approved.
pub(super) fn check_names(execution: &Execution<'_>, parameters: &[MountOption]) -> Result<(), StepError> {
    for option in parameters {
        if let (Some(_), Some(path)) = (pin_of(execution, option), option.value.as_deref()) {
            only_root_can_replace(execution, option, path)?;
        }
    }
    Ok(())
}

/// Refuses an overlay that would write to a folder to which another overlay writes, or to one above or below it: the kernel only warns
/// of it, see "Sharing and copying layers" in its documentation of overlayfs.
pub(super) fn check_alone(execution: &Execution<'_>, line: impl Fn() -> String) -> Result<(), StepError> {
    match execution.plan.written_by_another_overlay() {
        Ok(None) => Ok(()),
        Ok(Some((folder, target))) => {
            let (folder, target) = (for_people(&folder), for_people(&target));
            let reason = format!(
                "the overlay on {target} writes to {folder}, and both would lose files: use another folder, or unmount that one"
            );
            Err(StepError::new(line(), (reason, Errno::BUSY)).with_code("busy"))
        }
        Err(error) => Err(StepError::new(line(), io::Error::other(error))),
    }
}

/// What was approved, where the option names a path.
fn pin_of<'e>(execution: &'e Execution<'_>, option: &MountOption) -> Option<BorrowedFd<'e>> {
    if paths_in(option).is_empty() {
        return None;
    }
    let path = option.value.as_deref()?;
    let found = execution.plan.option_paths().iter().find(|found| found.found.found.path == path)?;
    found.found.pin.as_ref().map(AsFd::as_fd)
}

fn set_layer(
    execution: &Execution<'_>,
    context: &OwnedFd,
    option: &MountOption,
    path: &str,
    pin: BorrowedFd<'_>,
    by_name: &mut Vec<String>,
) -> Result<(), StepError> {
    let name = option.name.as_str();
    let is_unknown = |errno: Errno| errno == Errno::INVAL;
    let failed = |errno| with_context_log(context, parameter(option), errno);
    match fsconfig_set_fd(context, name, pin) {
        // An older kernel takes no descriptor, and a newer one may refuse the layer itself.
        Err(errno) if is_unknown(errno) => {
            let told = failed(errno);
            only_root_can_replace(execution, option, path)
                .map_err(|error| StepError { reason: format!("{}; {}", told.reason, error.reason), ..told })?;
        }
        result => return result.map_err(failed),
    }
    match fsconfig_set_string(context, name, path) {
        Err(errno) if is_unknown(errno) && name == "lowerdir+" => {
            by_name.push(path.replace('\\', "\\\\").replace(':', "\\:"));
            Ok(())
        }
        result => result.map_err(failed),
    }
}

fn only_root_can_replace(execution: &Execution<'_>, option: &MountOption, path: &str) -> Result<(), StepError> {
    match execution.host.only_root_can_replace(path) {
        true => Ok(()),
        false => {
            let reason = "the kernel finds it by its name, and others than root can put something else there by now";
            Err(StepError::new(parameter(option), reason))
        }
    }
}
