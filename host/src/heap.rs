//! The memory of a program that is linked with musl, whose own allocator asks the kernel for memory a hundred times in the
//! milliseconds of a request.
//!
//! The allocator is dlmalloc behind the standard library's lock. The crate's own lock is musl's, and to take that one lasts
//! longer than to allocate.

#![expect(unsafe_code, reason = "a global allocator can't be written without; each block says what it relies on")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Dlmalloc::new()));

struct Heap(Mutex<Dlmalloc>);

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: everything is left to dlmalloc, one call at a time; neither it nor the lock allocates by itself. It panics only where
// the heap is damaged already.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size isn't 0, as the caller promises.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size isn't 0, as the caller promises.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that it's from here, with this layout.
        unsafe { self.lock().free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the block is from here, with this layout, and that the new size isn't 0.
        unsafe { self.lock().realloc(memory, layout.size(), layout.align(), size) }
    }
}
