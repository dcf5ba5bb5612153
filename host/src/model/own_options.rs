//! Options of mount(8) that the kernel doesn't know and that mountgate carries out itself.

use std::fmt;

use super::options::Options;

/// Makes the mount point where it's missing; the value is its mode, in octal.
pub(crate) const MKDIR: &str = "X-mount.mkdir";
/// Maps the owners of files, see `MOUNT_ATTR_IDMAP` in mount_setattr(2).
pub(crate) const IDMAP: &str = "X-mount.idmap";

/// Whether mountgate carries the option out itself.
pub(crate) fn is_own(name: &str) -> bool {
    matches!(name, MKDIR | IDMAP)
}

/// Whether it's an option of mount(8) itself.
pub(crate) fn is_x_mount(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("x-mount.")
}

/// The mode of the directories that the options ask for; nothing if they ask for none.
///
/// # Errors
/// What is wrong with the option.
pub(crate) fn directory_mode(options: &Options) -> Result<Option<u32>, String> {
    let Some(option) = options.iter().rfind(|option| option.name == MKDIR) else { return Ok(None) };
    let text = option.value.as_deref().unwrap_or("0755");
    match u32::from_str_radix(text, 8) {
        // They could put a link there in the place of a folder that a policy allows by name.
        Ok(mode) if mode <= 0o777 && mode & 0o022 != 0 => Err(format!("{option}: others could write in the folder")),
        Ok(mode) if mode <= 0o777 => Ok(Some(mode)),
        _ => Err(format!("{option}: its mode isn't an octal number up to 777")),
    }
}

/// Which owners files on the mount have, instead of those in the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMap {
    ranges: Vec<Range>,
}

/// Ids of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    kind: Kind,
    /// The first id in the file system.
    inside: u32,
    /// The id that it has on the mount.
    outside: u32,
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Both,
    Users,
    Groups,
}

/// user_namespaces(7) allows so many lines in a map.
const MAX_RANGES: usize = 340;

impl IdMap {
    /// The map that the options ask for: `X-mount.idmap=[u:|g:|b:]FIRST:FIRST-ON-MOUNT:COUNT`, with spaces between more of
    /// them, as in mount(8).
    ///
    /// # Errors
    /// What is wrong with the option.
    pub(crate) fn of(options: &Options) -> Result<Option<Self>, String> {
        let Some(option) = options.iter().rfind(|option| option.name == IDMAP) else { return Ok(None) };
        let text = option.value.as_deref().unwrap_or_default();
        let ranges: Option<Vec<Range>> = text.split(' ').filter(|part| !part.is_empty()).map(Range::parse).collect();
        match ranges {
            Some(ranges) if (1..=MAX_RANGES).contains(&ranges.len()) => Ok(Some(Self { ranges })),
            _ => Err(format!("{option}: it isn't a map such as b:0:100000:65536, a path is never followed")),
        }
    }

    /// The lines for `uid_map` of user_namespaces(7).
    pub(crate) fn users(&self) -> String {
        self.lines(Kind::Groups)
    }

    /// The lines for `gid_map`.
    pub(crate) fn groups(&self) -> String {
        self.lines(Kind::Users)
    }

    fn lines(&self, but: Kind) -> String {
        let ranges = self.ranges.iter().filter(|range| range.kind != but);
        ranges.map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Range { kind, inside, outside, count }) in self.ranges.iter().enumerate() {
            let kind = match kind {
                Kind::Both => 'b',
                Kind::Users => 'u',
                Kind::Groups => 'g',
            };
            write!(f, "{}{kind}:{inside}:{outside}:{count}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (kind, numbers) = match text.split_once(':')? {
            ("u", rest) => (Kind::Users, rest),
            ("g", rest) => (Kind::Groups, rest),
            ("b", rest) => (Kind::Both, rest),
            _ => (Kind::Both, text),
        };
        let numbers: Vec<u32> = numbers.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        match numbers.as_slice() {
            [inside, outside, count] if *count > 0 => {
                Some(Self { kind, inside: *inside, outside: *outside, count: *count })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_mount_reads_it() {
        let of = |text: &str| IdMap::of(&Options::parse(text));
        let map = of("X-mount.idmap=0:1000:1 g:0:2000:5").expect("it's a map").expect("there is one");
        assert_eq!((map.users().as_str(), map.groups().as_str()), ("0 1000 1\n", "0 1000 1\n0 2000 5\n"));
        assert_eq!(map.to_string(), "b:0:1000:1 g:0:2000:5");
        assert_eq!(of("ro"), Ok(None));
        for text in ["", "=", "=/proc/1/ns/user", "=0:1", "=x:0:1:1", "=0:0:0", "=0:0:4294967296"] {
            assert!(of(&format!("X-mount.idmap{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        let of = |text: &str| directory_mode(&Options::parse(text));
        assert_eq!(of("X-mount.mkdir"), Ok(Some(0o755)));
        assert_eq!(of("X-mount.mkdir=0700"), Ok(Some(0o700)));
        assert_eq!(of("ro"), Ok(None));
        assert!(of("X-mount.mkdir=4755").is_err());
        assert!(of("X-mount.mkdir=777").is_err() && of("X-mount.mkdir=0720").is_err());
        assert!(of("X-mount.mkdir=8").is_err());
    }
}
