//! What one evaluation may use: fuel, memory, CPU time, calls to the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The bounds of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Instructions, roughly; the same for the same input on every machine.
    pub fuel: u64,
    /// Bytes of linear memory.
    pub memory: usize,
    /// CPU time, for a plugin that its fuel doesn't end.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel: 10_000_000, memory: 16 << 20, deadline: Duration::from_millis(100) }
    }
}

impl Limits {
    /// What a policy has that is granted WASI, where it names nothing else: a language's runtime in the plugin takes a hundred times
    /// as much.
    pub(super) fn of_a_runtime() -> Self {
        Self { fuel: 300_000_000, memory: 64 << 20, deadline: Duration::from_secs(2) }
    }

    /// What a plugin may use to describe itself and to prepare its settings: that's done once, and the answer is kept.
    pub(super) fn for_preparation(self) -> Self {
        Self {
            fuel: self.fuel.max(PREPARATION_FUEL),
            memory: self.memory.max(PREPARATION_MEMORY),
            deadline: self.deadline.max(PREPARATION_TIME),
        }
    }

    /// What a plugin may use to judge a request with so many places: being handed each, and a look at each, is work that the
    /// request makes.
    pub(super) fn for_places(self, places: usize) -> Self {
        let more = u32::try_from(places.saturating_sub(FREE_PLACES)).unwrap_or(u32::MAX).min(COUNTED_PLACES);
        Self {
            fuel: self.fuel.saturating_add((self.fuel / u64::from(PLACES_OF_LIMITS)).saturating_mul(more.into())),
            deadline: self.deadline.saturating_add((self.deadline / PLACES_OF_LIMITS).saturating_mul(more)),
            ..self
        }
    }

    /// These limits where no clock runs. Fuel stands in for the deadline, a unit for a nanosecond, so that a plugin that the
    /// deadline would end ends as well, and at the same instruction on every machine.
    #[must_use]
    pub fn without_clock(self) -> Self {
        let nanoseconds = u64::try_from(self.deadline.as_nanos()).unwrap_or(u64::MAX);
        Self { fuel: self.fuel.min(nanoseconds), ..self }
    }
}

/// So many places add nothing.
const FREE_PLACES: usize = 100;
/// So many places beyond these add as much as the limits themselves: by default, each adds 4,000 units and 40 µs. A plugin in Rust takes 300
/// units to be handed one, and 2,000 to compare it with twenty folders.
const PLACES_OF_LIMITS: u32 = 2500;
/// So many places add something.
const COUNTED_PLACES: u32 = 20_000;

/// What a preparation may use at least: a parser of rules takes a hundred times as much as their evaluation.
const PREPARATION_FUEL: u64 = 1_000_000_000;
const PREPARATION_MEMORY: usize = 64 << 20;
const PREPARATION_TIME: Duration = Duration::from_secs(5);
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
/// Core instances in one component: a JavaScript engine with its adapters has about ten, a Python interpreter with its
/// libraries a hundred.
pub(super) const CORE_INSTANCES: u32 = 128;
/// Memories and tables in one component.
pub(super) const MEMORIES: u32 = 4;
pub(super) const TABLES: u32 = 16;
/// Memories that an instrumented plugin has in addition, one for the notes of each module, and their bytes.
pub(super) const NOTE_MEMORIES: u32 = 200;
pub(super) const NOTE_BYTES: usize = 256 << 20;
/// Memories of instrumented plugins whose instances are kept.
pub(super) const KEPT_MEMORIES: u32 = 400;
/// How many times the fuel of a plugin an instrumented one gets: notes take fuel too.
pub(super) const NOTE_FUEL: u64 = 4;
/// Bytes of a plugin: a Python interpreter has 20 million.
pub(super) const PLUGIN_BYTES: usize = 64 << 20;
/// Functions of a plugin, in all its modules.
pub(super) const FUNCTIONS: usize = 200_000;
/// Bytes of one function.
pub(super) const FUNCTION_BYTES: usize = 4 << 20;
/// CPU time, in seconds, and bytes of memory that compiling a plugin may take: a Python interpreter takes half a minute.
pub(super) const COMPILER_SECONDS: u64 = 120;
pub(super) const COMPILER_MEMORY: u64 = 4 << 30;
/// Blocks within each other, and loops among them. The compiler's time grows with a power of these.
pub(super) const NESTED_BLOCKS: usize = 4096;
pub(super) const NESTED_LOOPS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_add_to_fuel_and_time_up_to_a_bound() {
        let limits = Limits::default();
        assert_eq!(limits.for_places(100), limits);
        let more = limits.for_places(2600);
        assert_eq!((more.fuel, more.deadline, more.memory), (20_000_000, Duration::from_millis(200), limits.memory));
        assert_eq!(limits.for_places(usize::MAX), limits.for_places(20_100));
    }
}
