//! A change of the flags of a single mount point, as the bits of mount_setattr(2).

use std::fmt;

use crate::model::mount_flags::{ATIME, FLAGS, KINDS_OF_ATIME, READ_ONLY, RESTRICTION_BITS, kind_of_atime};
use crate::model::options::Options;
use crate::sys::MountAttr;

/// Bits to set and bits to clear. The others stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Attributes {
    /// What a list of options says of the mount point: of two that contradict each other the last one counts.
    pub(crate) fn of(options: &Options) -> Self {
        let mut attributes = Self::default();
        for option in options.iter() {
            attributes.take(&option.name);
        }
        attributes
    }

    /// Takes in an option. Says whether it's one of a mount point.
    pub(crate) fn take(&mut self, name: &str) -> bool {
        if let Some(kind) = kind_of_atime(name) {
            self.set = self.set & !ATIME | kind;
            self.clear |= ATIME;
            return true;
        }
        let Some(flag) = FLAGS.iter().find(|flag| name == flag.sets || name == flag.clears) else { return false };
        let (on, off) = match name == flag.sets {
            true => (&mut self.set, &mut self.clear),
            false => (&mut self.clear, &mut self.set),
        };
        *on |= flag.bit;
        *off &= !flag.bit;
        true
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The part that takes rights away.
    pub(crate) fn tightening(self) -> Self {
        Self { set: self.set & RESTRICTION_BITS, clear: 0 }
    }

    /// The part that doesn't take rights away.
    pub(crate) fn loosening(self) -> Self {
        Self { set: self.set & !RESTRICTION_BITS, clear: self.clear }
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
    pub(crate) fn bits_of(options: &[String]) -> u64 {
        // Without a word for it, the kind of atime is strict.
        let mut read = Self { set: kind_of_atime("strictatime").unwrap_or_default(), clear: 0 };
        for option in options {
            read.take(option);
        }
        read.set
    }
}

impl From<Attributes> for MountAttr {
    fn from(attributes: Attributes) -> Self {
        Self { set: attributes.set, clear: attributes.clear, ..Self::default() }
    }
}

impl fmt::Display for Attributes {
    /// In the words of mount(8), e.g. `nosuid,nodev`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<&str> = Vec::new();
        for flag in &FLAGS {
            if self.set & flag.bit != 0 {
                words.push(flag.sets);
            } else if self.clear & flag.bit != 0 {
                words.push(flag.clears);
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
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let before = Attributes::bits_of(&words("rw,nosuid,relatime"));
        let change = of("ro,suid,noatime");
        assert_eq!(change.back_to(before).to_string(), "rw,nosuid,relatime");
        assert!(!change.hold_for(before));
        assert!(change.hold_for(Attributes::bits_of(&words("ro,noatime"))));
        assert!(of("strictatime").hold_for(Attributes::bits_of(&words("rw"))));
    }
}
