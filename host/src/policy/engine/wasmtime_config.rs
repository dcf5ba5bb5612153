//! How wasmtime is set up. Compiled plugins depend on it.

use wasmtime::{Config, Enabled, OptLevel, PoolingAllocationConfig};

use crate::policy::limits::{CORE_INSTANCES, MAX_MEMORY, MEMORIES, STACK_BYTES, TABLE_ELEMENTS, TABLES};

pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        // A plugin that looks at the bits of a NaN has the same verdict on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false)
        .generate_address_map(false)
        .wasm_memory64(false)
        // What joins the components within a component copies from one memory to another.
        .wasm_multi_memory(true)
        .concurrency_support(false);
    config
}

/// The memory of an engine for many evaluations, with so many memories more.
pub(super) fn pool(more_memories: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(2)
        .total_core_instances(2 * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        // Stacks are for calls that suspend. There are none, and each stack costs two system calls at the start.
        .total_stacks(1)
        .total_memories(MEMORIES + more_memories)
        .max_memories_per_component(MEMORIES + more_memories)
        .total_tables(2 * TABLES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY)
        .max_memories_per_module(MEMORIES + more_memories.min(1))
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}
