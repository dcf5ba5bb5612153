//! What a new file system is mounted from, as the kernel is told.

use std::os::fd::BorrowedFd;

use super::execution::Execution;
use super::failure::StepError;
use super::loop_device::{self, LoopDevice};
use crate::model::ends::FileKind;
use crate::model::image::Image;
use crate::plan::attributes::Attributes;

/// The type whose further devices are known from a scan of all, see btrfs(5).
const SCANNED: &str = "btrfs";

/// What a new file system is mounted from.
pub(super) enum Source {
    /// The kernel gets this name.
    Name(String),
    /// A loop device that shows an image.
    Loop(LoopDevice),
}

impl Source {
    /// What is pinned, or a loop device that shows it.
    pub(super) fn of(
        execution: &Execution<'_>,
        source: &str,
        image: Option<Image>,
        attributes: Attributes,
    ) -> Result<Self, StepError> {
        if let Some(image) = image {
            return loop_device::attach(execution, image, attributes.is_read_only()).map(Self::Loop);
        }
        Ok(Self::Name(source.to_owned()))
    }

    /// The device or the image, open; nothing where the source is neither, or where the kernel looks up by name what it has scanned before,
    /// which no image says.
    pub(super) fn pinned<'e>(&'e self, execution: &'e Execution<'_>) -> Result<Option<BorrowedFd<'e>>, StepError> {
        if execution.plan.request().fstype.as_deref() == Some(SCANNED) {
            return Ok(None);
        }
        if let Self::Loop(device) = self {
            return Ok(Some(device.opened()));
        }
        let is_made_of = |kind: FileKind| matches!(kind, FileKind::BlockDevice | FileKind::Regular);
        let is_pinned = execution.plan.found_source().is_some_and(|found| is_made_of(found.kind));
        is_pinned.then(|| execution.source()).transpose()
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Loop(device) => &device.path,
        }
    }
}
