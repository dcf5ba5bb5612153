//! How wasmtime is set up. Compiled plugins depend on it.

use wasmtime::{Config, Enabled, OptLevel, PoolingAllocationConfig};

use crate::policy::limits::{
    CORE_INSTANCES, KEPT_MEMORIES, MAX_MEMORY, MEMORIES, NOTE_MEMORIES, STACK_BYTES, TABLE_ELEMENTS, TABLES,
};

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

/// The memory of an engine for many evaluations: of plugins as they are, or of instrumented ones, of which some instances are kept.
pub(super) fn pool(is_instrumented: bool) -> PoolingAllocationConfig {
    let (notes, kept) = if is_instrumented { (NOTE_MEMORIES, KEPT_MEMORIES) } else { (0, 0) };
    // An instance that is kept has a memory of its own at least, and one for notes.
    let instances = 2 + kept / 2;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        // Stacks are for calls that suspend. There are none, and each stack costs two system calls at the start.
        .total_stacks(1)
        .total_memories(MEMORIES + notes + kept)
        .max_memories_per_component(MEMORIES + notes)
        .total_tables(instances * TABLES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY)
        .max_memories_per_module(MEMORIES + notes.min(1))
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}
