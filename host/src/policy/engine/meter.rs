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
    /// What memories of a fixed size may take that aren't counted.
    notes: usize,
    pub(super) refused: bool,
}

impl Meter {
    pub(super) fn new(memory_limit: usize) -> Self {
        Self { memory_limit, used: 0, memories: MEMORIES, notes: 0, refused: false }
    }

    /// That of an instrumented plugin: the memories that hold what it notes have a fixed size, and aren't counted.
    pub(super) fn with_notes(memory_limit: usize) -> Self {
        Self { memories: MEMORIES + NOTE_MEMORIES, notes: NOTE_BYTES, ..Self::new(memory_limit) }
    }

    /// The bytes of all memories of the component together.
    pub(super) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        if current == 0 && most == Some(desired) && desired <= self.notes {
            self.notes -= desired;
            return Ok(true);
        }
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
