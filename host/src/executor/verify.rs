//! Looks at the host's mount table after a step: an exit status of 0 proves nothing.

use crate::mount_table::{Mount, MountTable};
use crate::plan::{MountPlan, Step};
use crate::request::{Propagation, PropagationType};

/// Compares the table with what a plan should have led to.
///
/// # Errors
/// What differs.
pub(super) fn check(plan: &MountPlan, before: &MountTable, after: &MountTable) -> Result<(), String> {
    plan.steps().iter().try_for_each(|step| check_step(step, before, after))
}

/// Whether a step that can be taken back has left its mark.
pub(super) fn is_done(step: &Step, before: &MountTable, after: &MountTable) -> bool {
    match step {
        Step::Mount { target, .. } | Step::Bind { target, .. } => new_mount(target, before, after).is_ok(),
        Step::Move { .. } => check_step(step, before, after).is_ok(),
        _ => false,
    }
}

fn check_step(step: &Step, before: &MountTable, after: &MountTable) -> Result<(), String> {
    match step {
        Step::Mount { fstype, target, options, helper, .. } => {
            let mount = new_mount(target, before, after)?;
            let found = mount.to_text().fstype;
            // A helper may know better: mount.nfs makes nfs4.
            if found != *fstype && !helper {
                return Err(format!("{target} has the type {found} where {fstype} was approved"));
            }
            has_all(&mount, target, options.restrictions())
        }
        Step::Bind { target, .. } => new_mount(target, before, after).map(drop),
        Step::RemountBind { target, options } => has_all(&visible(target, after)?, target, options.restrictions()),
        Step::Remount { target, options, .. } => has_all(&visible(target, after)?, target, options.restrictions()),
        Step::Move { source, target } => {
            let moved = before.mount_point(source.as_bytes()).map(|mount| mount.id());
            match moved == Some(visible(target, after)?.id()) {
                true => Ok(()),
                false => Err(format!("the mount that was on {source} isn't on {target}")),
            }
        }
        Step::SetPropagation { target, propagation } => has_propagation(&visible(target, after)?, *propagation),
        Step::Unmount { target, .. } => {
            let gone = before.mount_point(target.as_bytes()).map(|mount| mount.id());
            match gone.is_some() && gone == after.mount_point(target.as_bytes()).map(|mount| mount.id()) {
                true => Err(format!("{target} is still mounted")),
                false => Ok(()),
            }
        }
    }
}

fn visible<'t>(target: &str, table: &'t MountTable) -> Result<Mount<'t>, String> {
    table.mount_point(target.as_bytes()).ok_or_else(|| format!("nothing is mounted on {target}"))
}

fn new_mount<'t>(target: &str, before: &MountTable, after: &'t MountTable) -> Result<Mount<'t>, String> {
    let mount = visible(target, after)?;
    match before.by_id(mount.id()) {
        Some(_) => Err(format!("nothing new is mounted on {target}")),
        None => Ok(mount),
    }
}

fn has_all<'f>(mount: &Mount<'_>, target: &str, mut flags: impl Iterator<Item = &'f str>) -> Result<(), String> {
    match flags.find(|flag| !mount.has_option(flag)) {
        Some(flag) => Err(format!("{target} is mounted without the approved {flag}")),
        None => Ok(()),
    }
}

fn has_propagation(mount: &Mount<'_>, propagation: Propagation) -> Result<(), String> {
    let has = |prefix: &[u8]| mount.optional_fields().any(|field| field.starts_with(prefix));
    let is_so = match propagation.kind {
        PropagationType::Shared => has(b"shared:"),
        // A mount without a master stays as it is.
        PropagationType::Slave => !has(b"shared:"),
        PropagationType::Private => !has(b"shared:") && !has(b"master:") && !has(b"unbindable"),
        PropagationType::Unbindable => has(b"unbindable"),
    };
    match is_so {
        true => Ok(()),
        false => Err(format!("{} isn't {}", mount.to_text().target, propagation.kind.name())),
    }
}
