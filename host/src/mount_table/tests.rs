//! Tests of the table and of the parser behind it.

use std::borrow::Cow;
use std::ffi::CString;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::escape::{ESCAPED_IN_NAMES, ESCAPED_IN_PATHS, escape, raw_to_text, to_text, unescape};
use super::mount::Mount;
use super::statmount;
use super::table::MountTable;

fn table(text: &str) -> MountTable {
    MountTable::parse(text.as_bytes().to_vec()).expect("small")
}

const HOST: &str = "\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw,nosuid - proc proc rw
22 20 0:30 / /mnt rw - tmpfs tmpfs rw
23 22 0:31 / /mnt/a rw - tmpfs one rw
24 22 0:32 / /mnt/a.b rw - tmpfs two rw
25 23 0:33 / /mnt/a rw - tmpfs three rw
26 20 0:34 / /srv/x rw - tmpfs one rw
27 20 0:35 / /srv rw - tmpfs over rw
";

#[test]
fn the_visible_mount_of_a_stack_comes_last() {
    let table = table(HOST);
    let ids: Vec<u64> = table.at(b"/mnt/a").map(|m| m.id()).collect();
    assert_eq!(ids, [23, 25]);
    assert_eq!(table.covering(b"/mnt/a/deep/er").map(|m| m.id()), Some(25));
    assert_eq!(table.covering(b"/mnt/ab").map(|m| m.id()), Some(22));
}

#[test]
fn a_hidden_mount_covers_nothing() {
    let table = table(HOST);
    assert_eq!(table.covering(b"/srv/x/y").map(|m| m.id()), Some(27));
    assert!(table.mount_point(b"/srv/x").is_none());
    assert_eq!(table.mount_point(b"/srv").map(|m| m.id()), Some(27));
}

#[test]
fn without_ids_the_longest_mount_point_covers() {
    let table = table("/dev/sda1 / ext4 rw 0 0\ntmpfs /mnt tmpfs rw 0 0\n");
    assert_eq!(table.covering(b"/mnt/a").map(|m| m.source().into_owned()), Some(b"tmpfs".to_vec()));
    assert!(table.mount_point(b"/mnt").is_some() && table.mount_point(b"/mnt/a").is_none());
}

#[test]
fn below_goes_by_path_component() {
    let table = table(HOST);
    let ids = |path: &[u8]| table.below(path).map(|m| m.id()).collect::<Vec<_>>();
    assert_eq!(ids(b"/mnt"), [23, 25, 24]);
    assert_eq!(ids(b"/mnt/a"), [] as [u64; 0]);
    assert_eq!(table.below(b"/").len(), 7);
}

#[test]
fn sources_devices_and_ids_are_found() {
    let table = table(HOST);
    assert_eq!(table.by_source(b"one").map(|m| m.id()).collect::<Vec<_>>(), [23, 26]);
    assert_eq!(table.by_device(0, 32).map(|m| m.id()).collect::<Vec<_>>(), [24]);
    assert!(table.by_id(99).is_none());
}

#[test]
fn descendants_are_found_by_their_parents() {
    let table = table(HOST);
    assert_eq!(table.descendants(22).map(|m| m.id()).collect::<Vec<_>>(), [23, 24, 25]);
    assert_eq!(table.descendants(25).count(), 0);
}

fn only(line: &[u8]) -> MountTable {
    let table = MountTable::parse(line.to_vec()).expect("small");
    assert_eq!(table.len(), 1, "{:?}", table.bad_lines());
    table
}

#[test]
fn escapes_are_undone_once() {
    assert_eq!(*unescape(br"a\040b\134040\011\012"), *b"a b\\040\t\n");
    assert_eq!(*unescape(br"\134043"), *br"\043");
    assert_eq!(*unescape(br"\9\08\400\"), *br"\9\08\400\");
}

#[test]
fn an_empty_source_is_two_spaces() {
    let table = only(b"1 0 0:1 / /a rw - tmpfs  rw\n");
    let mount = table.iter().next().expect("one");
    assert_eq!(*mount.source(), *b"");
    assert_eq!(mount.super_options().collect::<Vec<_>>(), [&b"rw"[..]]);
}

#[test]
fn optional_fields_are_kept_in_order() {
    let table = only(b"1 0 0:1 / /a rw shared:1 master:2 propagate_from:3 - tmpfs t rw\n");
    let fields: Vec<_> = table.iter().next().expect("one").optional_fields().map(Cow::into_owned).collect();
    assert_eq!(fields, [&b"shared:1"[..], b"master:2", b"propagate_from:3"]);
}

#[test]
fn an_escaped_comma_belongs_to_its_option() {
    let table = only(br"1 0 0:1 / /a rw - overlay o rw,lowerdir=/a\054b:/c\134d,index=off");
    let options: Vec<_> = table.iter().next().expect("one").super_options().map(Cow::into_owned).collect();
    assert_eq!(options, [&b"rw"[..], b"lowerdir=/a,b:/c\\d", b"index=off"]);
}

#[test]
fn bytes_that_only_look_like_separators_are_names() {
    let table = only(b"1 0 0:1 / /a\r\x0b\x0c\xc2\xa0\xff rw - tmpfs t\r rw\n");
    let mount = table.iter().next().expect("one");
    assert_eq!(*mount.target(), *b"/a\r\x0b\x0c\xc2\xa0\xff");
    assert_eq!(mount.to_text().target, "/a\r\u{b}\u{c}\u{a0}\\377");
}

#[test]
fn one_bad_line_hides_no_other_line() {
    let table = MountTable::parse(
        b"1 0 0:1 / /a rw - tmpfs t rw\n2 x 0:1 / /b rw - tmpfs t rw\n3 0 0:1 / /c rw - tmpfs t rw".to_vec(),
    )
    .expect("small");
    assert_eq!(table.len(), 2);
    assert_eq!(table.bad_lines()[0].line, 2);
}

#[test]
fn a_mount_point_is_an_absolute_path() {
    for line in [&b"1 0 0:1 /  rw - tmpfs t rw\n"[..], b"1 0 0:1 / a rw - tmpfs t rw\n", b"tmpfs a tmpfs rw 0 0\n"] {
        let table = MountTable::parse(line.to_vec()).expect("small");
        assert_eq!(table.len(), 0);
        assert_eq!(table.bad_lines().len(), 1);
    }
}

#[test]
fn the_format_of_mounts_is_read_too() {
    let table = only(br"/dev/sda1 /a\040b ext4 rw,noatime 0 0");
    let mount = table.iter().next().expect("one");
    assert_eq!(*mount.target(), *b"/a b");
    assert_eq!(*mount.source(), *b"/dev/sda1");
}

proptest! {
    #[test]
    fn any_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..256)) {
        let table = MountTable::parse(text).expect("small");
        for mount in table.iter() {
            let _ = mount.to_text();
            let _ = table.covering(&mount.target());
            let _ = table.at(&mount.target()).count();
        }
    }

    #[test]
    fn what_the_kernel_escapes_is_read_back(
        target in prop::collection::vec(1u8..=255, 1..24),
        source in prop::collection::vec(1u8..=255, 0..24),
    ) {
        let mut line = b"1 0 0:1 / /".to_vec();
        line.extend(escape(&target, ESCAPED_IN_PATHS));
        line.extend(b" rw - tmpfs ");
        line.extend(escape(&source, ESCAPED_IN_NAMES));
        line.extend(b" rw\n");
        let table = only(&line);
        let mount = table.iter().next().expect("one");
        prop_assert_eq!(&mount.target()[1..], &target[..]);
        prop_assert_eq!(&*mount.source(), &source[..]);
    }

    #[test]
    fn unescaped_bytes_become_the_same_text_as_escaped_ones(bytes in prop::collection::vec(1u8..=255, 0..24)) {
        for set in [ESCAPED_IN_PATHS, ESCAPED_IN_NAMES] {
            prop_assert_eq!(raw_to_text(&bytes, set), to_text(&escape(&bytes, set)));
        }
    }
}

#[test]
fn statmount_says_of_a_mount_what_mountinfo_says() {
    let table = MountTable::read(std::path::Path::new("/proc/self/mountinfo")).expect("a table");
    let visible = |mount: &Mount<'_>| table.mount_point(&mount.target()).is_some_and(|top| top.id() == mount.id());
    for listed in table.iter().filter(visible) {
        let path = CString::new(listed.target().into_owned()).expect("no NUL");
        let mask = StatxFlags::from_bits_retain(0x4000);
        let Ok(stat) = statx(CWD, &path, AtFlags::STATX_DONT_SYNC, mask) else { continue };
        if stat.stx_mask & mask.bits() == 0 {
            continue;
        }
        match statmount::mount(stat.stx_mnt_id, None) {
            Ok(record) => assert_eq!(record.to_text(), listed.to_text()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
        }
    }
}
