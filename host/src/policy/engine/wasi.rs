//! WASI 0.2 for plugins that can't do without: no files, no environment, no network, clocks that stand still, and
//! random numbers that are always the same, so that a verdict stays a function of what it was asked.

use std::time::Duration;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::imports::HostState;

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

/// A context that gives nothing away.
pub(super) fn closed() -> (WasiCtx, ResourceTable) {
    let bytes = || Deterministic::new((0..=255).collect());
    let mut builder = WasiCtx::builder();
    builder
        .secure_random(bytes())
        .insecure_random(bytes())
        .insecure_random_seed(0)
        .max_random_size(MAX_RANDOM)
        .wall_clock(Still)
        .monotonic_clock(Still)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    (builder.build(), ResourceTable::new())
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (ctx, table) = &mut **self.wasi.get_or_insert_with(|| Box::new(closed()));
        WasiCtxView { ctx, table }
    }
}

/// Adds WASI to a linker.
pub(super) fn add_to(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    // A plugin that waits would really wait, and neither fuel nor epochs end that. With clocks that stand still, waiting is
    // an error.
    linker.allow_shadowing(true);
    let mut clock = linker.instance(MONOTONIC_CLOCK)?;
    for call in ["subscribe-duration", "subscribe-instant"] {
        clock.func_new(call, |_, _, _, _| Err(wasmtime::Error::msg("a policy can't wait: its clocks stand still")))?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

const MONOTONIC_CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.12";
