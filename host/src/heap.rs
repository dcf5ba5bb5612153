//! The memory of a program that is linked with musl, whose own allocator asks the kernel for memory a hundred times in the
//! milliseconds of a request.
//!
//! Small blocks are cut from a region, and kept by their size when they are given back: each thread has such lists for itself, and takes no
//! lock. Whatever is larger comes from dlmalloc behind the standard library's lock. The crate's own lock is musl's, and to take that one
//! lasts longer than to allocate.

#![expect(unsafe_code, reason = "a global allocator can't be written without; each block says what it relies on")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;
use nix::libc;

#[cfg_attr(target_env = "musl", global_allocator)]
static HEAP: Heap = Heap(Mutex::new(Dlmalloc::new()));

/// Small blocks have a multiple of so many bytes, and their addresses too.
const UNIT: usize = 16;
/// The largest small block.
const MAX_SMALL: usize = 1024;
/// What small blocks are cut from.
const REGION: usize = 64 << 10;
/// The smallest page of memory. Where pages are larger, the kernel refuses to make a part of one ready.
const PAGE: usize = 4096;

/// The small blocks of one thread. What is left of them when the thread ends stays with the process.
struct Small {
    /// The blocks that were given back, by their size in units. Each begins with the address of the next.
    free: [Cell<*mut u8>; MAX_SMALL / UNIT + 1],
    /// What is left of the region.
    rest: Cell<*mut u8>,
    left: Cell<usize>,
}

thread_local! {
    static SMALL: Small = const {
        Small { free: [const { Cell::new(null_mut()) }; MAX_SMALL / UNIT + 1], rest: Cell::new(null_mut()), left: Cell::new(0) }
    };
}

struct Heap(Mutex<Dlmalloc>);

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A small block of so many units.
    fn small(&self, units: usize) -> *mut u8 {
        SMALL.with(|small| {
            let first = small.free[units].get();
            if !first.is_null() {
                // SAFETY: a block in the list begins with the address of the next one, which `give_back` wrote there.
                small.free[units].set(unsafe { first.cast::<*mut u8>().read() });
                return first;
            }
            let size = units * UNIT;
            if small.left.get() < size {
                // SAFETY: the size isn't 0, and the alignment is a power of two.
                let region = unsafe { self.lock().malloc(REGION, UNIT) };
                if region.is_null() {
                    return region;
                }
                make_ready(region);
                small.rest.set(region);
                small.left.set(REGION);
            }
            let block = small.rest.get();
            // SAFETY: at least `size` bytes of the region are left.
            small.rest.set(unsafe { block.add(size) });
            small.left.set(small.left.get() - size);
            block
        })
    }
}

/// Asks the kernel for the pages of a region at once, see `start.rs`: most are used soon.
fn make_ready(region: *mut u8) {
    let begin = region.map_addr(|address| address.next_multiple_of(PAGE));
    let len = (REGION - (begin.addr() - region.addr())) / PAGE * PAGE;
    // SAFETY: the pages lie in the region, which nobody uses yet, and stay as they are.
    let _ = unsafe { libc::madvise(begin.cast(), len, libc::MADV_POPULATE_WRITE) };
}

/// Of how many units a block is, if it's a small one.
fn units(layout: Layout) -> Option<usize> {
    (layout.size() <= MAX_SMALL && layout.align() <= UNIT).then(|| layout.size().div_ceil(UNIT).max(1))
}

fn give_back(memory: *mut u8, units: usize) {
    SMALL.with(|small| {
        // SAFETY: the block isn't used any more, and has room for an address, at which it's aligned.
        unsafe { memory.cast::<*mut u8>().write(small.free[units].get()) };
        small.free[units].set(memory);
    });
}

// SAFETY: a block is either small, which its layout tells, or left to dlmalloc, one call at a time; neither that nor the lock nor the
// lists, which have no destructor, allocate by themselves. dlmalloc panics only where the heap is damaged already.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match units(layout) {
            Some(units) => self.small(units),
            // SAFETY: the size isn't 0, as the caller promises.
            None => unsafe { self.lock().malloc(layout.size(), layout.align()) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(units) = units(layout) else {
            // SAFETY: the size isn't 0, as the caller promises.
            return unsafe { self.lock().calloc(layout.size(), layout.align()) };
        };
        let block = self.small(units);
        if !block.is_null() {
            // SAFETY: the block has at least this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match units(layout) {
            Some(units) => give_back(memory, units),
            // SAFETY: the caller promises that it's from here, with this layout.
            None => unsafe { self.lock().free(memory, layout.size(), layout.align()) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size makes a layout with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (units(layout), units(wanted)) {
            (Some(had), Some(wanted)) if had == wanted => memory,
            // SAFETY: the caller promises that the block is from here, with this layout, and that the new size isn't 0.
            (None, None) => unsafe { self.lock().realloc(memory, layout.size(), layout.align(), size) },
            _ => {
                // SAFETY: the new size isn't 0, as the caller promises.
                let block = unsafe { self.alloc(wanted) };
                if !block.is_null() {
                    // SAFETY: both blocks have at least so many bytes, and the new one is another.
                    unsafe { block.copy_from_nonoverlapping(memory, layout.size().min(size)) };
                    // SAFETY: the caller promises that the block is from here, with this layout.
                    unsafe { self.dealloc(memory, layout) };
                }
                block
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// A block, and the byte that it's full of.
    struct Block(*mut u8, Layout, u8);

    impl Block {
        fn is_whole(&self, size: usize) -> bool {
            // SAFETY: the block has its size.
            unsafe { std::slice::from_raw_parts(self.0, size.min(self.1.size())) }.iter().all(|byte| *byte == self.2)
        }
    }

    fn exercise(seed: u64) {
        let mut random = Rng::with_seed(seed);
        let mut blocks: Vec<Block> = Vec::new();
        for _ in 0..20_000 {
            let size = 1 + if random.bool() { random.usize(..64) } else { random.usize(..4 * MAX_SMALL) };
            let layout = Layout::from_size_align(size, 1 << random.u32(..7)).expect("a layout");
            let fill = random.u8(..);
            let at = random.usize(..=blocks.len());
            match blocks.get_mut(at) {
                Some(block) if random.bool() => {
                    // SAFETY: the block is from here, with its layout.
                    block.0 = unsafe { HEAP.realloc(block.0, block.1, size) };
                    assert!(block.is_whole(size) && block.0.addr().is_multiple_of(block.1.align()));
                    block.1 = Layout::from_size_align(size, block.1.align()).expect("a layout");
                    block.2 = fill;
                }
                Some(_) => {
                    let block = blocks.swap_remove(at);
                    assert!(block.is_whole(usize::MAX));
                    // SAFETY: the block is from here, with its layout.
                    unsafe { HEAP.dealloc(block.0, block.1) };
                    continue;
                }
                None => {
                    // SAFETY: the size isn't 0.
                    let zeroed = unsafe { HEAP.alloc_zeroed(layout) };
                    assert!(zeroed.addr().is_multiple_of(layout.align()));
                    blocks.push(Block(zeroed, layout, 0));
                    assert!(blocks.last().is_some_and(|block| block.is_whole(size)));
                }
            }
            let at = at.min(blocks.len() - 1);
            // SAFETY: the block has its size.
            unsafe { blocks[at].0.write_bytes(fill, blocks[at].1.size()) };
            blocks[at].2 = fill;
        }
        assert!(blocks.iter().all(|block| block.is_whole(usize::MAX)));
    }

    #[test]
    fn no_block_overlaps_another_in_any_thread() {
        exercise(4);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || exercise(seed));
                exercise(seed);
            }
        });
    }
}
