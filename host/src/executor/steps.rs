//! Carries out the steps of a plan in order, and takes them back where one fails.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::AsFd;

use super::apply::Applied;
use super::execution::Execution;
use super::failure::{ApplyError, MountFailure, StepError};
use super::mount_source::Source;
use super::undo::Undo;
use super::watch::Watch;
use super::{directory, helper, kernel, verify};
use crate::decision::answers::Unconfirmed;
use crate::host::identity::Identity;
use crate::host::root::HostRoot;
use crate::model::host_error::HostError;
use crate::model::secrets::Secrets;
use crate::plan::mount_plan::MountPlan;
use crate::plan::step::Step;

/// Carries out the steps in order, and takes them back where one fails.
pub(super) fn run(host: &HostRoot, mut plan: MountPlan, watch: &Watch) -> Result<Applied, ApplyError> {
    let (source, mut target) = plan.take_pins();
    let mut to_unmount = None;
    if let [Step::Unmount(_)] = plan.steps() {
        // A descriptor would keep the mount busy; its id is never used again.
        let identity = target.take().map(|target| Identity::of(target.as_fd())).transpose();
        to_unmount = identity.map_err(|error| HostError::new("statx", plan.target(), error))?;
    }
    let execution = Execution {
        host,
        plan: &plan,
        source,
        target,
        to_unmount,
        watch,
        made: OnceCell::new(),
        confirmed: RefCell::default(),
        is_overtaken: Cell::new(false),
    };
    let secrets = Secrets::of(&[plan.request()]);
    let mut undos: Vec<Undo> = Vec::new();
    let mut applied = Applied::default();
    match steps(&execution, &mut undos, &mut applied) {
        Ok(()) => Ok(applied),
        Err(StepError { call, reason, code, errno, unconfirmed }) => {
            let back: Vec<Result<String, String>> =
                undos.into_iter().rev().map(|undo| undo.take_back(&execution)).collect();
            if let Some(unconfirmed) = unconfirmed.filter(|_| back.iter().all(Result::is_ok)) {
                return Err(match *unconfirmed {
                    Unconfirmed::Changed(what) => ApplyError::Changed(what),
                    Unconfirmed::Host(error) => ApplyError::Host(error),
                });
            }
            let undone = back.into_iter().map(|line| secrets.mask(&line.unwrap_or_else(|line| line))).collect();
            let (step, reason) = (secrets.mask(&call), secrets.mask(&reason));
            Err(MountFailure { step, reason, code, errno, undone }.into())
        }
    }
}

/// Carries out the steps. The way back from each is put into `undos`.
fn steps(execution: &Execution<'_>, undos: &mut Vec<Undo>, applied: &mut Applied) -> Result<(), StepError> {
    for step in execution.plan.steps() {
        match step {
            Step::MakeDirectory { missing, mode } => directory::make(execution, missing, *mode, undos)?,
            Step::Mount { fstype, source, image, parameters, attributes, id_map, propagation } => {
                let source = Source::of(execution, source, *image, *attributes)?;
                let extra = (id_map.as_ref(), *propagation);
                let mount = kernel::mount(execution, fstype, &source, parameters, *attributes, extra, undos)?;
                let (name, wanted) = (source.name(), (*attributes, id_map.is_some()));
                applied.mount_id = verify::mount(execution, fstype, name, wanted, undos, mount)?;
            }
            Step::Bind { recursive, propagation, attributes, id_map, .. } => {
                let mount = kernel::bind(execution, *recursive, *propagation, *attributes, id_map.as_ref(), undos)?;
                let wanted = (*attributes, id_map.is_some());
                applied.mount_id = verify::bind(execution, *recursive, *propagation, wanted, undos, mount)?;
            }
            Step::SetAttributes(attributes) => kernel::set_attributes(execution, *attributes, undos)?,
            Step::Reconfigure { parameters } => kernel::reconfigure(execution, parameters, undos)?,
            Step::Move { .. } => kernel::move_mount(execution, undos)?,
            Step::SetPropagation(propagation) => kernel::set_propagation(execution, *propagation, undos)?,
            Step::Unmount(mode) => kernel::unmount(execution, *mode, undos)?,
            Step::Helper(mount) => helper::mount(execution, mount, undos, applied)?,
        }
    }
    Ok(())
}
