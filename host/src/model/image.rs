//! A regular file that holds a file system. Most types are mounted from a device, so the file gets a loop device, see loop(4);
//! erofs is mounted from the file itself, Linux 6.12.

use super::ends::{FileKind, ResolvedPath};
use super::options::{MountOption, Options};
use super::request::{MountRequest, Operation};

/// The options that are about the loop device of an image.
pub(crate) const LOOP_WORDS: [&str; 3] = ["loop", "offset", "sizelimit"];

/// The part of an image that a loop device shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// How many bytes it has; 0 for all to the end of the file.
    pub(crate) size_limit: u64,
}

impl Image {
    /// What the options say of it: of two, the last one counts.
    ///
    /// # Errors
    /// What is wrong with an option.
    pub(crate) fn of(options: &Options) -> Result<Self, String> {
        let mut image = Self::default();
        for option in options.iter() {
            match option.name.as_str() {
                "offset" => image.offset = bytes(option)?,
                "sizelimit" => image.size_limit = bytes(option)?,
                "loop" if option.value.is_some() => {
                    return Err("loop takes no value: a device that is free is taken".to_owned());
                }
                _ => {}
            }
        }
        Ok(image)
    }
}

/// A number of bytes, as mount(8) reads it: with `K`, `M`, `G` or `T` behind it for powers of 1024.
fn bytes(option: &MountOption) -> Result<u64, String> {
    let text = option.value.as_deref().unwrap_or_default();
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let power = match unit.trim_end_matches("iB") {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(format!("{option} isn't a number of bytes")),
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1024u64.pow(power)));
    bytes.ok_or_else(|| format!("{option} isn't a number of bytes"))
}

/// Whether a loop device stands between the file and the file system.
pub(crate) fn needs_loop_device(request: &MountRequest, source: &ResolvedPath) -> bool {
    let is_image = request.operation == Operation::Mount && source.kind == FileKind::Regular;
    let asks_for_one = || request.options.iter().any(|option| LOOP_WORDS.contains(&option.name.as_str()));
    is_image && (request.fstype.as_deref() != Some("erofs") || asks_for_one())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_are_those_of_mount() {
        let of = |text: &str| Image::of(&Options::parse(text));
        assert_eq!(of("loop,offset=512,sizelimit=1MiB"), Ok(Image { offset: 512, size_limit: 1 << 20 }));
        assert_eq!(of("offset=4K,offset=0"), Ok(Image::default()));
        for text in
            ["offset=x", "offset", "offset=-1", "sizelimit=1X", "offset=99999999999999999999", "offset=9999999999T"]
        {
            assert!(of(text).is_err(), "{text}");
        }
        assert!(of("loop=/dev/loop0").is_err());
    }
}
