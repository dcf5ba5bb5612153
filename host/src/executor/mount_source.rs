//! What a new file system is mounted from, as the kernel is told.

use std::os::fd::AsRawFd;

use super::execution::Execution;
use super::failure::StepError;
use super::loop_device::{self, LoopDevice};
use crate::model::ends::FileKind;
use crate::model::image::Image;
use crate::plan::attributes::Attributes;

/// What a new file system is mounted from.
pub(super) enum Source {
    /// The kernel gets this name.
    Name(String),
    /// A loop device that shows an image.
    Loop(LoopDevice),
}

impl Source {
    /// What is pinned. An image that needs no loop device is opened by its name: where others than root could put another file
    /// there, by the name of its descriptor.
    pub(super) fn of(
        execution: &Execution<'_>,
        source: &str,
        image: Option<Image>,
        attributes: Attributes,
    ) -> Result<Self, StepError> {
        if let Some(image) = image {
            return loop_device::attach(execution, image, attributes.is_read_only()).map(Self::Loop);
        }
        let is_file = execution.plan.found_source().is_some_and(|found| found.kind == FileKind::Regular);
        Ok(Self::Name(match is_file && !execution.host.only_root_can_replace(source) {
            true => format!("/proc/self/fd/{}", execution.source()?.as_raw_fd()),
            false => source.to_owned(),
        }))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Loop(device) => &device.path,
        }
    }
}
