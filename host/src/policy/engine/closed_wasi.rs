//! What WASI gives to one instance: no files, no environment, no network, clocks that stand still, and random numbers that are
//! always the same, so that a verdict stays a function of what it was asked.

use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView};

use crate::model::untrusted::one_line;

/// How much may be written to standard error, in bytes, and how much of its end is shown.
const MAX_STANDARD_ERROR: usize = 64 << 10;
const LAST_WORDS: usize = 1000;
/// The most random bytes that one call gives.
const MAX_RANDOM: u64 = 64 << 10;

struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

/// WASI for one instance. It gives nothing away.
pub(super) struct Closed {
    context: WasiCtx,
    table: ResourceTable,
    standard_error: MemoryOutputPipe,
}

impl Closed {
    pub(super) fn new() -> Self {
        let bytes = || Deterministic::new((0..=255).collect());
        let standard_error = MemoryOutputPipe::new(MAX_STANDARD_ERROR);
        let mut builder = WasiCtx::builder();
        builder
            .stderr(standard_error.clone())
            .secure_random(bytes())
            .insecure_random(bytes())
            .insecure_random_seed(0)
            .max_random_size(MAX_RANDOM)
            .wall_clock(Still)
            .monotonic_clock(Still)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        Self { context: builder.build(), table: ResourceTable::new(), standard_error }
    }

    /// The end of what was written to standard error, in one line.
    pub(super) fn standard_error(&self) -> String {
        let text = self.standard_error.contents();
        one_line(&text[text.len().saturating_sub(LAST_WORDS)..])
    }

    pub(super) fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}
