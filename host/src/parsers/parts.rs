//! Inputs that consist of several texts.

/// The parts of an input. What separates them is a byte that no text in UTF-8 holds.
pub(super) fn parts(data: &[u8]) -> impl Iterator<Item = String> {
    data.split(|byte| *byte == 0xff).map(|part| String::from_utf8_lossy(part).into_owned())
}
