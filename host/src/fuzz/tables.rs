//! The mount tables that requests meet.

use std::fmt::Write as _;
use std::sync::Arc;

use fastrand::Rng;

use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::table::MountTable;

/// The bytes of a table that takes long.
const LARGE: usize = 8 << 10;
/// How far the ids of a table's twin are from its own.
pub(super) const SHIFT: u64 = 100_000;

/// The tables that requests meet, each followed by a twin that differs in its mount ids alone.
#[derive(Debug)]
pub struct Tables(Vec<(String, Arc<Snapshot>)>);

impl Tables {
    /// Some made up, and the given ones, which should be real.
    pub fn new(real: &[String]) -> Self {
        let mut texts = vec![String::new()];
        texts.push(
            "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             21 20 0:5 / /proc rw,nosuid - proc proc rw\n\
             22 20 0:30 / /mnt rw - tmpfs tmpfs rw\n\
             23 22 8:17 / /mnt/a rw - ext4 /dev/sdb1 rw\n\
             24 22 0:32 / /mnt/a\\040b ro,nosuid - nfs4 server:/export ro\n\
             25 23 0:33 / /mnt/a rw - tmpfs  rw\n\
             26 20 8:1 /home//deleted /srv rw - ext4 /dev/sda1 rw\n"
                .to_owned(),
        );
        let mut many = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n".to_owned();
        for i in 0..500 {
            let _ = writeln!(many, "{} 20 0:{i} / /mnt/{i} rw - tmpfs tmpfs rw", 100 + i);
        }
        texts.push(many);
        texts.extend(real.iter().cloned());
        let twins = texts.into_iter().flat_map(|text| [text.clone(), shifted(&text)]);
        let table = |text: &str| MountTable::parse(text.as_bytes().to_vec()).ok().map(Snapshot::of).map(Arc::new);
        Self(twins.filter_map(|text| Some((text.clone(), table(&text)?))).collect())
    }

    /// One of them: the large ones, which take long, now and then.
    pub(super) fn pick(&self, random: &mut Rng) -> usize {
        let originals = (0..self.0.len()).step_by(2);
        let with_large = random.u8(0..16) == 0;
        let choice: Vec<usize> = originals.filter(|table| with_large || self.0[*table].0.len() < LARGE).collect();
        choice.get(random.usize(0..choice.len().max(1))).copied().unwrap_or(0)
    }

    pub(super) fn snapshot(&self, table: usize) -> Arc<Snapshot> {
        self.0[table].1.clone()
    }

    /// The text of a table.
    pub fn text(&self, table: usize) -> &str {
        &self.0[table].0
    }
}

/// A table with all mount ids shifted.
fn shifted(text: &str) -> String {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let mut id = || parts.next()?.parse::<u64>().ok();
        match (id(), id(), parts.next()) {
            (Some(id), Some(parent), Some(rest)) => format!("{} {} {rest}\n", id + SHIFT, parent + SHIFT),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}
