//! How the notes of a module lie in their memory, and how they are read.

/// Where the list begins. Before it are its address and its length, which the export returns.
pub(super) const LIST: u32 = 16;
/// At the start of the list: the number of edges and of comparisons of numbers.
pub(super) const HEADER: u32 = 8;
/// A comparison of numbers: its width, and both operands, 8 bytes each.
pub(super) const NUMBERS: u32 = 24;
/// The most bytes of a text that are noted.
pub(super) const TEXT: u32 = 32;
/// A comparison of texts: their length, and both.
pub(super) const TEXTS: u32 = 8 + 2 * TEXT;

/// How many of each a module has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Layout {
    pub(super) edges: u32,
    pub(super) numbers: u32,
    pub(super) texts: u32,
}

impl Layout {
    /// Where an edge is noted.
    pub(super) fn edge(edge: u32) -> u32 {
        LIST + HEADER + edge
    }

    /// Where the comparisons of numbers begin, aligned.
    fn numbers_at(edges: u32) -> u32 {
        (LIST + HEADER + edges).next_multiple_of(8)
    }

    pub(super) fn number(self, number: u32) -> u32 {
        Self::numbers_at(self.edges) + number * NUMBERS
    }

    pub(super) fn text(self, text: u32) -> u32 {
        self.number(self.numbers) + text * TEXTS
    }

    /// The end of the list.
    pub(super) fn end(self) -> u32 {
        self.text(self.texts)
    }
}

/// Two things that a plugin compared, and that weren't equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Comparison {
    /// Numbers.
    Numbers(u64, u64),
    /// Bytes.
    Texts(Vec<u8>, Vec<u8>),
}

/// The edges of a list: a byte each, 1 if it was taken.
pub(crate) fn edges(list: &[u8]) -> &[u8] {
    let count = word(list, 0);
    let start = HEADER as usize;
    list.get(start..start + count).unwrap_or_default()
}

/// The comparisons of a list.
pub(crate) fn comparisons(list: &[u8]) -> Vec<Comparison> {
    let (edges, numbers) = (word(list, 0), word(list, 4));
    let begin = usize::try_from(Layout::numbers_at(u32::try_from(edges).unwrap_or(0)) - LIST).unwrap_or(0);
    let Some(rest) = list.get(begin..) else { return Vec::new() };
    let (of_numbers, of_texts) = rest.split_at_checked(numbers * NUMBERS as usize).unwrap_or((rest, &[]));
    let mut found = Vec::new();
    for slot in of_numbers.chunks_exact(NUMBERS as usize) {
        let (width, one, other) = (long(slot, 0), long(slot, 8), long(slot, 16));
        if width > 0 && one != other {
            found.push(Comparison::Numbers(one, other));
        }
    }
    for slot in of_texts.chunks_exact(TEXTS as usize) {
        let len = usize::try_from(long(slot, 0)).unwrap_or(0).min(TEXT as usize);
        let (one, other) = slot[8..].split_at(TEXT as usize);
        let (one, other) = (&one[..len], &other[..len]);
        if one != other {
            found.push(Comparison::Texts(one.to_vec(), other.to_vec()));
        }
    }
    found
}

fn word(list: &[u8], at: usize) -> usize {
    let bytes = list.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0))
}

fn long(slot: &[u8], at: usize) -> u64 {
    slot.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
