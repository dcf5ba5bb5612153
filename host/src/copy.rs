//! memcpy(3) and memmove(3) for a program that is linked with musl. musl copies with `rep movsq`, which takes longer to begin than most copies
//! of a decision last.

#![expect(
    unsafe_code,
    reason = "the two are called by what the compiler makes of every copy, and are written in assembly"
)]

use std::arch::naked_asm;

/// Copies so many bytes. The two places may overlap: of what is copied in one piece, all is read before anything is written.
///
/// # Safety
/// As memmove(3).
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 20f",
        "cmp rdx, 32",
        "ja 30f",
        // 16 to 32 bytes: the first 16 and the last 16, which may be the same ones in part. The larger pieces below do likewise.
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        "20:",
        "cmp edx, 8",
        "jb 21f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "21:",
        "cmp edx, 4",
        "jb 22f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "22:",
        "test edx, edx",
        "je 23f",
        // One to three bytes: the first, the one in the middle, and the last.
        "mov r9, rdx",
        "shr r9, 1",
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + r9]",
        "movzx r10d, byte ptr [rsi + rdx - 1]",
        "mov [rdi], cl",
        "mov [rdi + r9], r8b",
        "mov [rdi + rdx - 1], r10b",
        "23:",
        "ret",
        "30:",
        "cmp rdx, 64",
        "ja 40f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "ret",
        // More than 64 bytes, 64 at a time.
        "40:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 50f",
        // From the first to the last. The last 64 are read before they could be written over, and written at the end.
        "movups xmm4, [rsi + rdx - 64]",
        "movups xmm5, [rsi + rdx - 48]",
        "movups xmm6, [rsi + rdx - 32]",
        "movups xmm7, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 64]",
        "41:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "cmp rdi, r8",
        "jb 41b",
        "movups [r8], xmm4",
        "movups [r8 + 16], xmm5",
        "movups [r8 + 32], xmm6",
        "movups [r8 + 48], xmm7",
        "ret",
        // The new place begins within the old one: from the last to the first.
        "50:",
        "movups xmm4, [rsi]",
        "movups xmm5, [rsi + 16]",
        "movups xmm6, [rsi + 32]",
        "movups xmm7, [rsi + 48]",
        "51:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups xmm1, [rsi + rdx - 32]",
        "movups xmm2, [rsi + rdx - 48]",
        "movups xmm3, [rsi + rdx - 64]",
        "movups [rdi + rdx - 16], xmm0",
        "movups [rdi + rdx - 32], xmm1",
        "movups [rdi + rdx - 48], xmm2",
        "movups [rdi + rdx - 64], xmm3",
        "sub rdx, 64",
        "cmp rdx, 64",
        "ja 51b",
        "movups [rdi], xmm4",
        "movups [rdi + 16], xmm5",
        "movups [rdi + 32], xmm6",
        "movups [rdi + 48], xmm7",
        "ret",
    )
}

/// Copies so many bytes.
///
/// # Safety
/// As memcpy(3).
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    naked_asm!("jmp {}", sym memmove)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_whatever_their_number_and_wherever_they_lie() {
        let original: Vec<u8> = (0..2048_u32).map(|i| (i * 7 % 251) as u8).collect();
        for bytes in (0..400).chain([511, 512, 513]) {
            for (from, to) in
                [(0, 512), (512, 0), (3, 3), (3, 4), (4, 3), (0, 15), (15, 0), (0, 64), (65, 0), (0, 300), (300, 1)]
            {
                let mut expected = original.clone();
                expected.copy_within(from..from + bytes, to);
                for copy in [memmove, memcpy] {
                    let mut copied = original.clone();
                    let start = copied.as_mut_ptr();
                    // SAFETY: both places lie within the block.
                    let end = unsafe { copy(start.add(to), start.add(from), bytes) };
                    assert_eq!(
                        (end, &copied),
                        (start.wrapping_add(to), &expected),
                        "{bytes} bytes from {from} to {to}"
                    );
                }
            }
        }
    }
}
