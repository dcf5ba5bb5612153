//! A mount table, in the format of mountinfo or of mounts.

use std::collections::BTreeSet;
use std::io;

use crate::model::paths::is_within;
use crate::model::untrusted::{for_people, is_hidden};
use crate::mount_table::mount::Mount;
use crate::mount_table::table::MountTable;
use crate::mount_table::tree::print_tree;

/// Of so many mounts is asked what is asked of one mount.
const ASKED: usize = 8;

/// A mount table: every line is a mount or is told about, an index finds what looking at each mount finds, and what an audit
/// file keeps of it is read as the same mounts.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn mountinfo(data: &[u8]) {
    let Ok(table) = MountTable::parse(data.to_vec()) else { return };
    let lines = data.split(|byte| *byte == b'\n').count();
    let written = data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(table.len() + table.bad_lines().len(), written, "a line is lost");
    for bad in table.bad_lines() {
        assert!((1..=lines).contains(&bad.line) && !bad.error.is_empty());
        assert!(!for_people(&bad.text).chars().any(is_hidden));
    }

    let kept = MountTable::parse(table.to_mountinfo().into_bytes()).expect("it isn't much longer");
    let texts = |table: &MountTable| table.iter().map(|mount| mount.to_text()).collect::<Vec<_>>();
    assert_eq!(texts(&kept), texts(&table), "what is kept of it are other mounts");
    assert_eq!(kept.bad_lines().len(), table.bad_lines().len());

    // The kernel prints no others, but for a mount point that was deleted.
    let is_plain = |path: &[u8]| path == b"/" || !path.ends_with(b"/") && !path.windows(2).any(|two| two == b"//");
    let are_plain = table.iter().all(|mount| is_plain(&mount.target()));
    for mount in table.iter().take(ASKED) {
        let target = mount.target();
        let all = |is_meant: &dyn Fn(&Mount<'_>) -> bool| lines_of(table.iter().filter(is_meant));
        assert_eq!(lines_of(table.at(&target)), all(&|other| other.target() == target));
        assert_eq!(lines_of(table.by_source(&mount.source())), all(&|other| other.source() == mount.source()));
        let device = (mount.major(), mount.minor());
        assert_eq!(
            lines_of(table.by_device(device.0, device.1)),
            all(&|other| (other.major(), other.minor()) == device)
        );
        let lies_below = |other: &Mount<'_>| other.target() != target && is_within(other.target(), &target);
        assert!(!are_plain || lines_of(table.below(&target)) == all(&lies_below), "mounts below one are missing");
        assert!(table.by_id(mount.id()).is_some_and(|found| found.id() == mount.id()));
        // A file in the format of mounts may have `none` here.
        if let Some(covering) = table.covering(&target).filter(|_| target.starts_with(b"/")) {
            assert!(is_within(&target, covering.target()), "a mount covers what doesn't lie on it");
        }
        assert!(table.descendants(mount.id()).count() <= table.len());
        print_tree(&table, Some(&target), &mut io::sink()).expect("a sink takes everything");
    }
}

/// Mounts as text, in no order.
fn lines_of<'t>(mounts: impl Iterator<Item = Mount<'t>>) -> BTreeSet<String> {
    mounts.map(|mount| format!("{:?}", mount.to_text())).collect()
}
