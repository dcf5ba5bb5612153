//! The mount table as one decision sees it: each question is looked up once, and its answer stays the same.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::mount::MountText;
use super::table::MountTable;
use crate::model::host_error::HostError;

type ReadTable = Box<dyn Fn() -> Result<MountTable, HostError> + Send + Sync>;
type AskCovering = Box<dyn Fn(&str) -> Option<MountText> + Send + Sync>;

/// A mount table that is read when a question needs more than one mount.
pub struct Snapshot {
    read: ReadTable,
    covering: AskCovering,
    table: OnceLock<Result<MountTable, HostError>>,
    /// Which mounts cover the paths that were asked about before the table was read.
    covered: Mutex<HashMap<String, Option<MountText>>>,
}

impl Snapshot {
    /// A table that `read` will read. `covering` finds the mount that covers a path without the table, where it can.
    pub fn lazy(
        read: impl Fn() -> Result<MountTable, HostError> + Send + Sync + 'static,
        covering: impl Fn(&str) -> Option<MountText> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Box::new(read), covering: Box::new(covering), table: OnceLock::new(), covered: Mutex::default() }
    }

    /// A table that is already there.
    pub fn of(table: MountTable) -> Self {
        let unread = || Err(HostError::new("read", "a mount table", std::io::ErrorKind::NotFound.into()));
        Self { table: OnceLock::from(Ok(table)), ..Self::lazy(unread, |_| None) }
    }

    /// The table.
    ///
    /// # Errors
    /// When the table can't be read; each call has the same error.
    pub fn table(&self) -> Result<&MountTable, &HostError> {
        self.table.get_or_init(|| (self.read)()).as_ref()
    }

    /// The mount that a path lies on.
    ///
    /// # Errors
    /// When only the table could tell and it can't be read.
    pub fn covering(&self, path: &str) -> Result<Option<MountText>, &HostError> {
        let in_table = |table: &MountTable| table.covering(path.as_bytes()).map(|mount| mount.to_text());
        if let Some(Ok(table)) = self.table.get() {
            return Ok(in_table(table));
        }
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = covered.get(path) {
            return Ok(known.clone());
        }
        let found = match (self.covering)(path) {
            Some(found) => Some(found),
            None => in_table(self.table()?),
        };
        covered.insert(path.to_owned(), found.clone());
        Ok(found)
    }

    /// Why the table can't be read, where it was needed.
    pub(crate) fn failure(&self) -> Option<&HostError> {
        self.table.get().and_then(|table| table.as_ref().err())
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("read", &self.table.get().is_some()).finish()
    }
}
