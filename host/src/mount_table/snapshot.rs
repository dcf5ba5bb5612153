//! The mount table as one decision sees it: read when first asked for, and then always the same.

use std::sync::OnceLock;

use super::MountTable;
use crate::error::{Error, HostError};

type Read = Box<dyn Fn() -> Result<MountTable, Error> + Send + Sync>;

/// A mount table that is read when somebody asks.
pub struct Snapshot {
    read: Read,
    table: OnceLock<Result<MountTable, String>>,
}

impl Snapshot {
    /// A table that will be read in this way.
    pub fn lazy(read: impl Fn() -> Result<MountTable, Error> + Send + Sync + 'static) -> Self {
        Self { read: Box::new(read), table: OnceLock::new() }
    }

    /// A table that is already there.
    pub fn of(table: MountTable) -> Self {
        let unread = || Err(HostError::new("read", "a mount table", std::io::ErrorKind::NotFound.into()).into());
        Self { read: Box::new(unread), table: OnceLock::from(Ok(table)) }
    }

    /// The table.
    ///
    /// # Errors
    /// Why it couldn't be read; the same each time.
    pub fn table(&self) -> Result<&MountTable, &str> {
        self.table
            .get_or_init(|| (self.read)().map_err(|error| format!("{:#}", anyhow::Error::from(error))))
            .as_ref()
            .map_err(String::as_str)
    }

    /// Why the table couldn't be read, where somebody asked and it couldn't.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.table.get().and_then(|table| table.as_ref().err()).map(String::as_str)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("read", &self.table.get().is_some()).finish()
    }
}
