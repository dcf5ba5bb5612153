//! Counts the memory of one instance.

use wasmtime::ResourceLimiter;

use crate::policy::limits::{CORE_INSTANCES, MEMORIES, NOTE_BYTES, NOTE_MEMORIES, TABLE_ELEMENTS, TABLES};

/// Refuses growth and remembers that it did.
#[derive(Debug)]
pub(super) struct Meter {
    memory_limit: usize,
    /// All memories of the component together.
    used: usize,
    memories: u32,
    pub(super) refused: bool,
}

impl Meter {
    pub(super) fn new(memory_limit: usize) -> Self {
        Self { memory_limit, used: 0, memories: MEMORIES, refused: false }
    }

    /// That of an instrumented plugin.
    pub(super) fn with_notes(memory_limit: usize) -> Self {
        let memories = MEMORIES + NOTE_MEMORIES;
        Self { memories, ..Self::new(memory_limit.saturating_add(NOTE_BYTES)) }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used + desired.saturating_sub(current);
        let granted = used <= self.memory_limit;
        if granted {
            self.used = used;
        } else {
            self.refused = true;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= TABLE_ELEMENTS;
        self.refused |= !granted;
        Ok(granted)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        self.memories as usize
    }
}
