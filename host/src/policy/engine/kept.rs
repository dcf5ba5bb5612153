//! Instances of instrumented plugins that are asked more than once.
//!
//! A search wants to know what a plugin reaches. To make an instance takes longer than to ask one, and one that was asked before mostly
//! reaches the same. What such an instance says decides nothing: the plugin as it is, which is always asked in a fresh instance, makes
//! every finding, and what seems to be new is reached again in a fresh instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::Store;

use super::functions::Functions;
use super::imports::HostState;
use crate::policy::limits::KEPT_MEMORIES;

/// So many requests an instance is asked about: a plugin may free nothing.
const MAX_ASKED: u32 = 128;

/// An instance, and what its pool has lent it.
pub(super) struct Kept {
    pub(super) store: Store<HostState>,
    pub(super) functions: Functions,
    asked: u32,
    _room: Room,
}

impl Kept {
    /// An instance that was asked once, if there is room for one more with so many memories.
    pub(super) fn new(store: Store<HostState>, functions: Functions, rooms: &Rooms, memories: u32) -> Option<Self> {
        Some(Self { store, functions, asked: 1, _room: rooms.lend(memories)? })
    }

    /// This instance after it was asked once more, if it's asked again.
    pub(super) fn again(self) -> Option<Self> {
        let asked = self.asked + 1;
        (asked < MAX_ASKED).then_some(Self { asked, ..self })
    }
}

/// The memories of an engine that are left for instances to be kept.
#[derive(Debug, Clone)]
pub(super) struct Rooms(Arc<AtomicU32>);

impl Default for Rooms {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(KEPT_MEMORIES)))
    }
}

impl Rooms {
    fn lend(&self, memories: u32) -> Option<Room> {
        let lend = |left: u32| left.checked_sub(memories);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lend).ok()?;
        Some(Room { rooms: self.clone(), memories })
    }
}

/// Memories that an instance has for as long as it's kept.
struct Room {
    rooms: Rooms,
    memories: u32,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rooms.0.fetch_add(self.memories, Ordering::Relaxed);
    }
}
