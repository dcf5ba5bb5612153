//! The mount table as one decision sees it: what is asked for is looked up once, and then always the same.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{MountTable, MountText};
use crate::error::{Error, HostError};

type Read = Box<dyn Fn() -> Result<MountTable, Error> + Send + Sync>;
type Covering = Box<dyn Fn(&str) -> Option<MountTable> + Send + Sync>;

/// A mount table that is read when somebody asks for more than one mount.
pub struct Snapshot {
    read: Read,
    covering: Covering,
    table: OnceLock<Result<MountTable, String>>,
    /// What covers the paths that somebody asked about before the table was read.
    covered: Mutex<HashMap<String, Option<MountText>>>,
}

impl Snapshot {
    /// A table that will be read in this way, and the mount that covers a path, which may be known without it.
    pub fn lazy(
        read: impl Fn() -> Result<MountTable, Error> + Send + Sync + 'static,
        covering: impl Fn(&str) -> Option<MountTable> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Box::new(read), covering: Box::new(covering), table: OnceLock::new(), covered: Mutex::default() }
    }

    /// A table that is already there.
    pub fn of(table: MountTable) -> Self {
        let unread = || Err(HostError::new("read", "a mount table", std::io::ErrorKind::NotFound.into()).into());
        Self { table: OnceLock::from(Ok(table)), ..Self::lazy(unread, |_| None) }
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

    /// The mount that a path lies on.
    ///
    /// # Errors
    /// Where it takes the table, and that couldn't be read.
    pub fn covering(&self, path: &str) -> Result<Option<MountText>, &str> {
        let in_table = |table: &MountTable| table.covering(path.as_bytes()).map(|mount| mount.to_text());
        if let Some(Ok(table)) = self.table.get() {
            return Ok(in_table(table));
        }
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = covered.get(path) {
            return Ok(known.clone());
        }
        let asked = (self.covering)(path).and_then(|found| found.iter().next().map(|mount| mount.to_text()));
        let found = match asked {
            Some(found) => Some(found),
            None => in_table(self.table()?),
        };
        covered.insert(path.to_owned(), found.clone());
        Ok(found)
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
