//! The mount tables that requests meet, with the paths of such a host that don't lead where their names say.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, OnceLock};

use fastrand::Rng;

use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::source::Paths;
use crate::mount_table::table::MountTable;

/// The bytes of a table that takes long.
const LARGE: usize = 8 << 10;
/// How far the ids of a table's twin are from its own.
pub(super) const SHIFT: u64 = 100_000;

/// A mount table.
pub struct Table {
    text: String,
    paths: Paths,
    snapshot: Arc<Snapshot>,
    /// The same with other mount ids.
    twin: OnceLock<Option<Arc<Table>>>,
}

impl Table {
    /// Reads a table in the format of mountinfo.
    ///
    /// # Errors
    /// For a text that isn't one.
    pub fn parse(text: String) -> io::Result<Arc<Self>> {
        Self::with_paths(text, Paths::new())
    }

    /// Reads a table of a host where some paths are links. `/` is none.
    ///
    /// # Errors
    /// For a text that isn't one.
    pub fn with_paths(text: String, mut paths: Paths) -> io::Result<Arc<Self>> {
        paths.remove("/");
        let table = MountTable::parse(text.clone().into_bytes())?;
        let snapshot = Arc::new(Snapshot::recorded(table, paths.clone()));
        Ok(Arc::new(Self { text, paths, snapshot, twin: OnceLock::new() }))
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The paths that don't lead where their names say.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    /// The same table with all mount ids shifted.
    pub(super) fn twin(self: &Arc<Self>) -> Arc<Self> {
        let twin = self.twin.get_or_init(|| Self::with_paths(shifted(&self.text), self.paths.clone()).ok());
        twin.clone().unwrap_or_else(|| self.clone())
    }

    /// Whether it's one that a host may have: there is no host without a `/`. Without any mount, nothing is known of the host.
    pub(super) fn is_of_a_host(&self) -> bool {
        self.text.is_empty() || matches!(self.snapshot.locate("/"), Ok(Some(_)))
    }

    pub(super) fn is_large(&self) -> bool {
        self.text.len() >= LARGE
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Table").field(&self.text).field(&self.paths).finish()
    }
}

/// The tables that a search begins with.
#[derive(Debug)]
pub struct Tables(Vec<Arc<Table>>);

impl Tables {
    /// Some made up, and the given ones.
    pub fn new(given: impl IntoIterator<Item = Arc<Table>>) -> Self {
        let mut many = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n".to_owned();
        for i in 0..500 {
            let _ = writeln!(many, "{} 20 0:{i} / /mnt/{i} rw - tmpfs tmpfs rw", 100 + i);
        }
        let made_up = [String::new(), SMALL.to_owned(), SHARED.to_owned(), many]
            .into_iter()
            .filter_map(|text| Table::parse(text).ok());
        Self(made_up.chain(given).collect())
    }

    /// One of them: the large ones, which take long, now and then.
    pub(super) fn pick(&self, random: &mut Rng) -> Arc<Table> {
        let with_large = random.u8(0..16) == 0;
        let choice: Vec<&Arc<Table>> = self.0.iter().filter(|table| with_large || !table.is_large()).collect();
        choice.get(random.usize(0..choice.len().max(1))).copied().unwrap_or(&self.0[0]).clone()
    }
}

/// A table of some mounts as hosts have them, and of some that are odd.
const SMALL: &str = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw,nosuid - proc proc rw
22 20 0:30 / /mnt rw - tmpfs tmpfs rw
23 22 8:17 / /mnt/a rw - ext4 /dev/sdb1 rw
24 22 0:32 / /mnt/a\\040b ro,nosuid - nfs4 server:/export ro
25 23 0:33 / /mnt/a rw - tmpfs  rw
26 20 8:1 /home//deleted /srv rw - ext4 /dev/sda1 rw
";

/// A table with peers, slaves, and file systems that are mounted more than once.
const SHARED: &str = "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
21 20 8:1 /srv /mnt/s rw shared:1 - ext4 /dev/sda1 rw
22 20 8:17 / /home rw shared:2 - btrfs /dev/sdb1 rw
23 20 8:17 /a /mnt/h ro master:2 - btrfs /dev/sdb1 rw
24 22 0:40 / /home/t rw shared:3 - tmpfs tmpfs rw
25 21 0:41 / /mnt/s/x rw shared:4 - tmpfs tmpfs rw
26 20 0:41 / /srv/x rw shared:4 - tmpfs tmpfs rw
";

/// A table with all mount ids shifted.
fn shifted(text: &str) -> String {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let mut id = || parts.next()?.parse::<u64>().ok();
        match (id(), id(), parts.next()) {
            (Some(id), Some(parent), Some(rest)) => {
                format!("{} {} {rest}\n", id.wrapping_add(SHIFT), parent.wrapping_add(SHIFT))
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_does_not_take_the_place_of_a_root() {
        let table = |text: &str, paths: &[(&str, &str)]| {
            let links = paths.iter().map(|(path, to)| ((*path).to_owned(), Some((*to).to_owned())));
            Table::with_paths(text.to_owned(), links.collect()).expect("a table")
        };
        let elsewhere = "21 20 0:51 / /x rw - tmpfs tmpfs rw\n";
        assert!(!table(elsewhere, &[]).is_of_a_host() && !table(elsewhere, &[("/", "/x")]).is_of_a_host());
        assert!(table(SMALL, &[("/", "/x"), ("/bin", "/usr/bin")]).is_of_a_host());
    }
}
