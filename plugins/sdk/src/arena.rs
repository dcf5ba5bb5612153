//! The memory of a plugin that lives for one call: it's handed out from front to back and never taken back.
//!
//! A fresh instance is made for every evaluation, so there is nothing to give back for. Most evaluations need less than
//! what the linker left free in the last page behind a plugin's statics: then the instance's memory never grows, and making
//! and clearing it costs the host no system call. What is handed out first shares its page with those statics, which
//! spares the host a page fault.

#![expect(unsafe_code, reason = "a global allocator can't be written without; each block says what it relies on")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;

#[cfg(all(target_family = "wasm", not(target_os = "unknown")))]
compile_error!("WASI's libc hands out the same memory: build the plugin for wasm32-unknown-unknown");

/// A page of WebAssembly's memory.
const PAGE: usize = 64 << 10;

/// Hands out what is free from the start, and grows the memory behind it.
pub struct Heap {
    /// The next free address and the end of what is free; both 0 before the first allocation.
    free: UnsafeCell<(usize, usize)>,
    #[cfg(not(target_family = "wasm"))]
    room: UnsafeCell<[u8; PAGE]>,
}

// SAFETY: a plugin is built for wasm32-unknown-unknown, which has one thread.
unsafe impl Sync for Heap {}

impl Heap {
    /// A heap with nothing handed out.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            free: UnsafeCell::new((0, 0)),
            #[cfg(not(target_family = "wasm"))]
            room: UnsafeCell::new([0; PAGE]),
        }
    }

    /// Where what is free from the start begins and ends.
    #[cfg(target_family = "wasm")]
    fn room(&self) -> (usize, usize) {
        unsafe extern "C" {
            /// Where the linker put nothing any more.
            static __heap_base: u8;
        }
        ((&raw const __heap_base).expose_provenance(), core::arch::wasm32::memory_size::<0>() * PAGE)
    }

    /// Where plugins are tested natively: a page, and no more.
    #[cfg(not(target_family = "wasm"))]
    fn room(&self) -> (usize, usize) {
        let start = self.room.get().expose_provenance();
        (start, start + PAGE)
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every block lies behind all statics or within pages that `memory.grow` gave to this heap alone, is aligned as
// asked, and is handed out once: `free` only moves forward, past the end of what was handed out.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and nothing in here allocates.
        let free = unsafe { &mut *self.free.get() };
        if free.1 == 0 {
            *free = self.room();
        }
        let fits = |start: usize, end: usize| {
            let aligned = start.checked_next_multiple_of(layout.align())?;
            aligned.checked_add(layout.size()).filter(|behind| *behind <= end).map(|behind| (aligned, behind))
        };
        let (block, behind) = match fits(free.0, free.1) {
            Some(found) => found,
            None => {
                let pages = (layout.size() + layout.align()).div_ceil(PAGE);
                let Some(start) = grow(pages) else { return std::ptr::null_mut() };
                let end = start + pages * PAGE;
                // Where the new pages follow the old ones, what was left of those isn't lost.
                if free.1 != start {
                    free.0 = start;
                }
                free.1 = end;
                let Some(found) = fits(free.0, end) else { return std::ptr::null_mut() };
                found
            }
        };
        free.0 = behind;
        std::ptr::with_exposed_provenance_mut(block)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: one thread.
        let free = unsafe { &mut *self.free.get() };
        let start = block as usize;
        // The last block can grow where it is, as a text that is being written does; any block can shrink.
        if size <= layout.size() {
            return block;
        }
        if start + layout.size() == free.0 && start.checked_add(size).is_some_and(|behind| behind <= free.1) {
            free.0 = start + size;
            return block;
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return std::ptr::null_mut() };
        // SAFETY: the caller's layout has a size above 0, and so has the new one, which is larger.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least as large as the old one, and the new one is nobody else's.
            unsafe { std::ptr::copy_nonoverlapping(block, moved, layout.size()) };
        }
        moved
    }
}

/// Adds pages to the memory, and says where they begin.
#[cfg(target_family = "wasm")]
fn grow(pages: usize) -> Option<usize> {
    match core::arch::wasm32::memory_grow::<0>(pages) {
        usize::MAX => None,
        before => Some(before * PAGE),
    }
}

/// Where plugins are tested natively.
#[cfg(not(target_family = "wasm"))]
fn grow(_: usize) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_apart() {
        let heap = Box::new(Heap::new());
        let mut end = 0;
        for (size, align) in [(1, 1), (3, 8), (100, 16), (8, 4)] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            // SAFETY: the size isn't 0.
            let block = unsafe { heap.alloc(layout) } as usize;
            assert!(block.is_multiple_of(align) && block >= end);
            end = block + size;
        }
    }

    #[test]
    fn the_last_block_grows_in_place_and_others_move_with_their_bytes() {
        let heap = Box::new(Heap::new());
        let layout = Layout::from_size_align(4, 4).expect("a layout");
        // SAFETY: the sizes aren't 0, and each block is used with the layout that it has.
        unsafe {
            let first = heap.alloc(layout);
            first.copy_from_nonoverlapping(b"abcd".as_ptr(), 4);
            assert_eq!(heap.realloc(first, layout, 64), first);
            let _other = heap.alloc(layout);
            let moved = heap.realloc(first, Layout::from_size_align(64, 4).expect("a layout"), 128);
            assert_ne!(moved, first);
            assert_eq!(std::slice::from_raw_parts(moved, 4), b"abcd");
            assert!(heap.alloc(Layout::from_size_align(PAGE, 1).expect("a layout")).is_null());
        }
    }
}
