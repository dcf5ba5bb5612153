//! WASI 0.2 for plugins that can't do without, see `closed_wasi.rs`.

use wasmtime::component::Linker;
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::closed_wasi::Closed;
use super::imports::HostState;

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.get_or_insert_with(|| Box::new(Closed::new())).view()
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
