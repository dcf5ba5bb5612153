//! The options of a single mount point as the bits of mount_setattr(2).

use std::fmt;

use crate::options::{MountOption, Options};

/// Bits to set and bits to clear; the others stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

/// `MOUNT_ATTR_…` of `include/uapi/linux/mount.h`, each with the word that sets it and the one that clears it.
const BITS: [(u64, &str, &str); 6] = [
    (READ_ONLY, "ro", "rw"),
    (0x2, "nosuid", "suid"),
    (0x4, "nodev", "dev"),
    (0x8, "noexec", "exec"),
    (0x20_0000, "nosymfollow", "symfollow"),
    (0x80, "nodiratime", "diratime"),
];
const READ_ONLY: u64 = 0x1;
/// The three kinds of atime share a field, which is set as a whole.
const ATIME: u64 = 0x70;
const KINDS_OF_ATIME: [(u64, &str); 3] = [(0x0, "relatime"), (0x10, "noatime"), (0x20, "strictatime")];
/// The bits that only ever take rights away.
const RESTRICTIONS: u64 = 0x20_000f;

impl Attributes {
    /// What a list of options says of the mount point: of two that contradict each other the last one counts.
    pub(crate) fn of(options: &Options) -> Self {
        let mut attributes = Self::default();
        for option in options.iter() {
            attributes.take(option);
        }
        attributes
    }

    /// Takes in an option; says whether it's one of a mount point.
    pub(crate) fn take(&mut self, option: &MountOption) -> bool {
        let name = match option.name.as_str() {
            // The kernel's own default.
            "atime" | "nostrictatime" => "relatime",
            "norelatime" => "strictatime",
            name => name,
        };
        for (bit, sets, clears) in BITS {
            if name == sets {
                self.set |= bit;
                self.clear &= !bit;
                return true;
            }
            if name == clears {
                self.clear |= bit;
                self.set &= !bit;
                return true;
            }
        }
        let Some((kind, _)) = KINDS_OF_ATIME.iter().find(|(_, word)| *word == name) else { return false };
        self.set = self.set & !ATIME | kind;
        self.clear |= ATIME;
        true
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The part that takes rights away.
    pub(crate) fn tightening(self) -> Self {
        Self { set: self.set & RESTRICTIONS, clear: 0 }
    }

    /// The part that doesn't.
    pub(crate) fn loosening(self) -> Self {
        Self { set: self.set & !RESTRICTIONS, clear: self.clear }
    }

    /// Whether the mount point becomes read-only.
    pub(crate) fn is_read_only(self) -> bool {
        self.set & READ_ONLY != 0
    }

    /// Whether the mount point becomes writable.
    pub(crate) fn is_writable(self) -> bool {
        self.clear & READ_ONLY != 0
    }

    /// The change that leads back from here to how a mount was.
    pub(crate) fn back_to(self, before: u64) -> Self {
        let touched = self.set | self.clear;
        Self { set: touched & before, clear: touched & !before | if touched & ATIME == 0 { 0 } else { ATIME } }
    }

    /// Whether a mount with these bits is as it should be.
    pub(crate) fn hold_for(self, bits: u64) -> bool {
        bits & (self.set | self.clear) == self.set
    }

    /// The bits that the per-mount options of mountinfo stand for.
    pub(crate) fn bits_of<'w>(words: impl Iterator<Item = std::borrow::Cow<'w, [u8]>>) -> u64 {
        let mut read = Self { set: 0x20, clear: 0 };
        for word in words {
            read.take(&MountOption::flag(&String::from_utf8_lossy(&word)));
        }
        read.set
    }
}

impl fmt::Display for Attributes {
    /// In the words of mount(8), e.g. `nosuid,nodev`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<&str> = Vec::new();
        for (bit, sets, clears) in BITS {
            if self.set & bit != 0 {
                words.push(sets);
            } else if self.clear & bit != 0 {
                words.push(clears);
            }
        }
        if self.clear & ATIME != 0 {
            words.extend(KINDS_OF_ATIME.iter().filter(|(kind, _)| self.set & ATIME == *kind).map(|(_, word)| *word));
        }
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Attributes {
        Attributes::of(&Options::parse(text))
    }

    #[test]
    fn the_last_of_two_words_counts() {
        assert_eq!(of("nosuid,suid").to_string(), "suid");
        assert_eq!(of("suid,nosuid,ro,size=1m").to_string(), "ro,nosuid");
        assert_eq!(of("noatime,strictatime").to_string(), "strictatime");
        assert_eq!(of("noatime,relatime").to_string(), "relatime");
    }

    #[test]
    fn a_change_has_a_strict_and_a_lax_part() {
        let change = of("ro,suid,noatime");
        assert_eq!(change.tightening().to_string(), "ro");
        assert_eq!(change.loosening().to_string(), "suid,noatime");
    }

    #[test]
    fn a_change_can_be_taken_back() {
        let words = |text: &'static str| text.split(',').map(|word| std::borrow::Cow::Borrowed(word.as_bytes()));
        let before = Attributes::bits_of(words("rw,nosuid,relatime"));
        let change = of("ro,suid,noatime");
        assert_eq!(change.back_to(before).to_string(), "rw,nosuid,relatime");
        assert!(!change.hold_for(before));
        assert!(change.hold_for(Attributes::bits_of(words("ro,noatime"))));
        assert!(of("strictatime").hold_for(Attributes::bits_of(words("rw"))));
    }
}
