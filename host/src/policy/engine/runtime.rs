//! wasmtime as plugins run in it: its settings, its memory, what it offers, and where compiled plugins come from.

use std::sync::OnceLock;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig};

use super::abandoned::Abandoned;
use super::bindings::Policy as Instance;
use super::bounds;
use super::compiler::{Compiler, Rewriting};
use super::contract_check::{check_header, check_outline};
use super::imports::HostState;
use super::kept::Rooms;
use super::messages::unavailable;
use super::wasi;
use super::wasmtime_config::{config, pool};
use crate::policy::cache::Cache;
use crate::policy::directory::entry::PolicyEntry;
use crate::policy::fault::Fault;

/// What runs plugins.
pub(super) struct Runtime {
    /// It can't compile: setting the compiler up takes as long as a decision.
    pub(super) engine: wasmtime::Engine,
    /// Compiles the plugins that aren't in the cache.
    compiler: Compiler,
    closed: Linker<HostState>,
    /// How plugins are changed before they are compiled, where they are.
    rewriting: Option<Rewriting>,
    /// For instances that are kept, where plugins are changed.
    pub(super) rooms: Option<Rooms>,
    /// For instances that aren't needed any more.
    pub(super) abandoned: Abandoned,
    /// For plugins that are granted WASI, where there are any.
    with_wasi: OnceLock<Linker<HostState>>,
}

impl Runtime {
    /// Sets the runtime up. A pool of memory takes longer to set up, and makes each instance cheaper.
    ///
    /// # Errors
    /// When the machine can't give what it needs, e.g. address space.
    pub(super) fn new(is_pooled: bool) -> wasmtime::Result<Self> {
        Self::with(is_pooled.then(|| pool(false)))
    }

    fn with(pool: Option<PoolingAllocationConfig>) -> wasmtime::Result<Self> {
        let mut config = config();
        if let Some(pool) = pool {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        let engine = wasmtime::Engine::new(config.enable_compiler(false))?;
        let closed = linker(&engine)?;
        Ok(Self {
            engine,
            compiler: Compiler::default(),
            closed,
            rewriting: None,
            rooms: None,
            abandoned: Abandoned::default(),
            with_wasi: OnceLock::new(),
        })
    }

    /// One without a pool, whose instances may stay until the process ends.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn of_the_last_request() -> wasmtime::Result<Self> {
        Ok(Self { abandoned: Abandoned::some(), ..Self::new(false)? })
    }

    /// One that changes plugins before it compiles them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn rewriting(rewriting: Rewriting) -> wasmtime::Result<Self> {
        Ok(Self { rewriting: Some(rewriting), rooms: Some(Rooms::default()), ..Self::with(Some(pool(true)))? })
    }

    /// What a policy's plugin may call.
    pub(super) fn linker(&self, entry: &PolicyEntry) -> Result<&Linker<HostState>, Fault> {
        if !entry.has_wasi() {
            return Ok(&self.closed);
        }
        if let Some(with_wasi) = self.with_wasi.get() {
            return Ok(with_wasi);
        }
        let add = || {
            let mut linker = linker(&self.engine)?;
            wasi::add_to(&mut linker)?;
            Ok(linker)
        };
        let with_wasi = add().map_err(|error| unavailable(&error))?;
        Ok(self.with_wasi.get_or_init(|| with_wasi))
    }

    /// Whether it changes plugins, so that they show what they note.
    pub(super) fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// A policy's plugin, from the cache or compiled for it.
    ///
    /// # Errors
    /// When it isn't a sound component.
    pub(super) fn component(&self, entry: &PolicyEntry, cache: &Cache) -> Result<Component, Fault> {
        let name = match &self.rewriting {
            Some(rewriting) => format!("{}-{}", entry.digest, rewriting.name),
            None => entry.digest.clone(),
        };
        if let Some(component) = cache.load(&self.engine, &name) {
            return Ok(component);
        }
        let bytes = entry.bytes()?;
        check_header(&bytes)?;
        check_outline(&bytes, entry)?;
        bounds::check(&bytes)?;
        let (code, component) = self.compiler.compile(&bytes, self.rewriting, &self.engine)?;
        cache.keep(&name, &code);
        Ok(component)
    }
}

/// The imports of the contract.
fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    Instance::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
}
