//! What one evaluation may use: fuel, memory, time, and what goes over to the host.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// The bounds of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instructions, roughly; the same for the same input on every machine.
    pub fuel: u64,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Wall-clock time, the backstop behind the fuel.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel: 10_000_000, memory: 16 << 20, deadline: Duration::from_millis(100) }
    }
}

/// The most a policy directory may allow.
pub(super) const MAX_MEMORY: usize = 1 << 30;
/// Bytes that one call may carry from a plugin to the host.
pub(super) const HOST_CALL_BYTES: usize = 1 << 20;
/// Calls that one evaluation may make to the host.
pub(super) const HOST_CALLS: u32 = 10_000;
/// Bytes of a plugin's own stack.
pub(super) const STACK_BYTES: usize = 512 << 10;
/// Elements of one table.
pub(super) const TABLE_ELEMENTS: usize = 20_000;
/// Log lines that one call may write.
pub(super) const LOG_LINES: usize = 64;
/// Bytes of one log line with its fields.
pub(super) const LOG_LINE_BYTES: usize = 2048;
/// Core instances in one component: a JavaScript engine with its adapters has about ten.
pub(super) const CORE_INSTANCES: u32 = 32;
/// Memories and tables in one component.
pub(super) const MEMORIES: u32 = 4;
pub(super) const TABLES: u32 = 16;

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
