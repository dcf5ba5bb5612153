//! Instances that are left to the end of the process, which is near: to take one apart takes longer than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Resource, getrlimit};
use wasmtime::Store;

use super::imports::HostState;

/// So many instances are left at most: each keeps 4 GiB of addresses.
const MOST: u32 = 16;
/// An instance with more bytes of memory than this isn't left.
const MAX_BYTES: usize = 2 << 20;

/// How many more instances are left, if any.
#[derive(Debug, Clone, Default)]
pub(super) struct Abandoned(Option<Arc<AtomicU32>>);

impl Abandoned {
    /// Leaves some, where addresses aren't limited.
    pub(super) fn some() -> Self {
        Self(getrlimit(Resource::As).current.is_none().then(|| Arc::new(AtomicU32::new(MOST))))
    }

    /// Leaves an instance that isn't needed any more, or takes it apart.
    pub(super) fn leave(&self, store: Store<HostState>) {
        let one_less = |more: u32| more.checked_sub(1);
        if let Some(more) = self.0.as_ref().filter(|_| store.data().meter.used() <= MAX_BYTES)
            && more.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        {
            std::mem::forget(store);
        }
    }
}
