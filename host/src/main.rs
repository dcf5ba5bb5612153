//! The program; everything is in the library.

/// musl's own allocator asks the kernel for memory a hundred times in the two milliseconds of a request.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ! {
    mountgate::cli::main()
}
