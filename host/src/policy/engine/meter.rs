//! Counts the memory of one instance.

use wasmtime::ResourceLimiter;

use crate::policy::limits::{CORE_INSTANCES, MEMORIES, TABLE_ELEMENTS, TABLES};

/// Refuses growth and remembers that it did.
#[derive(Debug)]
pub(super) struct Meter {
    memory: usize,
    /// All memories of the component together.
    used: usize,
    pub(super) memory_refused: bool,
    pub(super) table_refused: bool,
}

impl Meter {
    pub(super) fn new(memory: usize) -> Self {
        Self { memory, used: 0, memory_refused: false, table_refused: false }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used + desired.saturating_sub(current);
        let granted = used <= self.memory;
        if granted {
            self.used = used;
        } else {
            self.memory_refused = true;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= TABLE_ELEMENTS;
        self.table_refused |= !granted;
        Ok(granted)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}
