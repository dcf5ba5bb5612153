//! The first instructions of the program that is shipped, before those of the C library.
//!
//! A program that can lie at any address puts the addresses in its data right before it does anything else. It writes to nearly
//! every page of them, and each first write to a page interrupts it. So the kernel is asked to make all of these pages ready at once; see
//! `MADV_POPULATE_WRITE` of madvise(2). Before Linux 5.14, which doesn't know that, nothing changes.

#![expect(unsafe_code, reason = "these instructions call the kernel, and nothing else")]

// SAFETY: it uses registers only that hold nothing when a program begins, but for %rdx, which is 0 for a program without a dynamic
// linker. The pages from the first initializer to the end belong to this program's data, and their content stays as it is.
std::arch::global_asm!(
    ".pushsection .text.mountgate_start, \"ax\", @progbits",
    ".globl mountgate_start",
    ".type mountgate_start, @function",
    "mountgate_start:",
    "    leaq __init_array_start(%rip), %rdi",
    "    andq $-{page}, %rdi",
    "    leaq _end(%rip), %rsi",
    "    subq %rdi, %rsi",
    "    movl ${populate}, %edx",
    "    movl ${madvise}, %eax",
    "    syscall",
    "    xorl %edx, %edx",
    "    jmp _start",
    ".size mountgate_start, . - mountgate_start",
    ".popsection",
    page = const 4096,
    populate = const nix::libc::MADV_POPULATE_WRITE,
    madvise = const nix::libc::SYS_madvise,
    options(att_syntax)
);
