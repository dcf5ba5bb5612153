//! The default allocator of a plugin. It hands memory out from front to back, and never frees it.
//!
//! An instance lives for one call, so nothing needs to be given back. The last page with a plugin's statics has some free
//! space, and most calls need no more than that. Then the instance's memory never grows, and the host makes and clears it
//! without a system call. The first blocks share a page with the statics, which saves the host a page fault.
//!
//! The cargo feature `arena` turns the allocator on. For another allocator, turn the feature off with
//! `default-features = false`.

#![expect(unsafe_code, reason = "a global allocator can't be written without; each block says what it relies on")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ARENA: Arena = Arena::new();

#[cfg(all(target_family = "wasm", not(target_os = "unknown")))]
compile_error!(
    "WASI's libc hands out the same memory: build for wasm32-unknown-unknown, or use mountgate-sdk with default-features = false"
);

/// A page of WebAssembly's memory.
const PAGE: usize = 64 << 10;

/// Hands out the memory that is free at the start, and then grows the memory.
struct Arena {
    /// The start and the end of the free memory. Both are 0 before the first allocation.
    free: UnsafeCell<(usize, usize)>,
    #[cfg(not(target_family = "wasm"))]
    room: UnsafeCell<[u8; PAGE]>,
}

// SAFETY: a plugin is built for wasm32-unknown-unknown, which has one thread.
unsafe impl Sync for Arena {}

impl Arena {
    const fn new() -> Self {
        Self {
            free: UnsafeCell::new((0, 0)),
            #[cfg(not(target_family = "wasm"))]
            room: UnsafeCell::new([0; PAGE]),
        }
    }

    /// The start and the end of the memory that is free at the start.
    #[cfg(target_family = "wasm")]
    fn room(&self) -> (usize, usize) {
        unsafe extern "C" {
            /// The first address behind everything that the linker placed.
            static __heap_base: u8;
        }
        ((&raw const __heap_base).expose_provenance(), core::arch::wasm32::memory_size::<0>() * PAGE)
    }

    /// In native tests: one page.
    #[cfg(not(target_family = "wasm"))]
    fn room(&self) -> (usize, usize) {
        let start = self.room.get().expose_provenance();
        (start, start + PAGE)
    }
}

// SAFETY: every block lies behind all statics, or in pages that `memory.grow` gave to this arena alone. Every block has the
// requested alignment. Every block is handed out once, because `free` only moves forward, past the end of each block.
unsafe impl GlobalAlloc for Arena {
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
                // If the new pages follow the old ones, the rest of the old ones is still used.
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
        // Any block can shrink. The last block can grow in place, for example a text that is being written.
        if size <= layout.size() {
            return block;
        }
        if start + layout.size() == free.0 && start.checked_add(size).is_some_and(|behind| behind <= free.1) {
            free.0 = start + size;
            return block;
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return std::ptr::null_mut() };
        // SAFETY: the caller's layout has a size above 0, and the new layout is larger.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least as large as the old layout, and they don't overlap.
            unsafe { std::ptr::copy_nonoverlapping(block, moved, layout.size()) };
        }
        moved
    }
}

/// Adds pages to the memory, and returns their address.
#[cfg(target_family = "wasm")]
fn grow(pages: usize) -> Option<usize> {
    match core::arch::wasm32::memory_grow::<0>(pages) {
        usize::MAX => None,
        before => Some(before * PAGE),
    }
}

/// In native tests, the memory can't grow.
#[cfg(not(target_family = "wasm"))]
fn grow(_: usize) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_apart() {
        let arena = Box::new(Arena::new());
        let mut end = 0;
        for (size, align) in [(1, 1), (3, 8), (100, 16), (8, 4)] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            // SAFETY: the size isn't 0.
            let block = unsafe { arena.alloc(layout) } as usize;
            assert!(block.is_multiple_of(align) && block >= end);
            end = block + size;
        }
    }

    #[test]
    fn the_last_block_grows_in_place_and_others_move_with_their_bytes() {
        let arena = Box::new(Arena::new());
        let layout = Layout::from_size_align(4, 4).expect("a layout");
        // SAFETY: the sizes aren't 0, and each block is used with its own layout.
        unsafe {
            let first = arena.alloc(layout);
            first.copy_from_nonoverlapping(b"abcd".as_ptr(), 4);
            assert_eq!(arena.realloc(first, layout, 64), first);
            let _other = arena.alloc(layout);
            let moved = arena.realloc(first, Layout::from_size_align(64, 4).expect("a layout"), 128);
            assert_ne!(moved, first);
            assert_eq!(std::slice::from_raw_parts(moved, 4), b"abcd");
            assert!(arena.alloc(Layout::from_size_align(PAGE, 1).expect("a layout")).is_null());
        }
    }
}
