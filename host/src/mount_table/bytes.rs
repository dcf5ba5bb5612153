//! Search in bytes.

/// The first place of a byte, eight bytes at a time.
pub(super) fn find(text: &[u8], byte: u8) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let pattern = LOW * u64::from(byte);
    let (words, tail) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ pattern;
        let zeros = differs.wrapping_sub(LOW) & !differs & HIGH;
        if zeros != 0 {
            return Some(i * 8 + (zeros.trailing_zeros() / 8) as usize);
        }
    }
    let done = words.len() * 8;
    tail.iter().position(|b| *b == byte).map(|i| done + i)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::find;

    proptest! {
        #[test]
        fn the_wide_search_agrees_with_the_plain_one(text in prop::collection::vec(0u8..4, 0..40), byte in 0u8..4) {
            prop_assert_eq!(find(&text, byte), text.iter().position(|b| *b == byte));
        }
    }
}
