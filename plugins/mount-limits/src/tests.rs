use mountgate_sdk::testing::{bind, mount, with_option};
use mountgate_sdk::{Device, Mount, MountList, check_schema};

use super::*;

fn mounted(id: u64, source: &str, target: &str, options: &str) -> Mount {
    Mount {
        id,
        parent: 1,
        device: Device { major: 8, minor: 1 },
        root: "/".to_owned(),
        target: target.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
        optional_fields: Vec::new(),
        fstype: "ext4".to_owned(),
        source: source.to_owned(),
        super_options: vec!["rw".to_owned()],
    }
}

fn judge(settings: &str, review: &Review, mounts: Vec<Mount>) -> String {
    let settings = mountgate_sdk::parse(settings).expect("sound settings");
    match MountLimits::evaluate(&settings, review, &MountList(mounts)) {
        Ok(Verdict::Allow) => "allow".to_owned(),
        Ok(Verdict::Deny(denial)) => denial.code,
        other => format!("{other:?}"),
    }
}

#[test]
fn the_schema_names_the_settings() {
    check_schema::<MountLimits>();
}

#[test]
fn a_mount_point_is_not_mounted_over() {
    let table = vec![mounted(2, "x", "/mnt/a", "rw")];
    assert_eq!(judge("{}", &mount("tmpfs", "tmpfs", "/mnt/a"), table.clone()), "target-is-mount-point");
    assert_eq!(judge("{}", &bind("/srv", "/mnt/a"), table.clone()), "target-is-mount-point");
    assert_eq!(judge("{}", &mount("tmpfs", "tmpfs", "/mnt/ab"), table.clone()), "allow");
    assert_eq!(judge(r#"{"allow-stacking": true}"#, &mount("tmpfs", "tmpfs", "/mnt/a"), table), "allow");
}

#[test]
fn mounts_below_a_path_are_counted() {
    let limit = r#"{"below": [{"path": "/mnt", "max": 2}]}"#;
    let one = vec![mounted(2, "x", "/mnt/a", "rw"), mounted(3, "x", "/mntb", "rw")];
    let mut two = one.clone();
    two.push(mounted(4, "x", "/mnt/c/d", "rw"));
    let review = mount("tmpfs", "tmpfs", "/mnt/new");
    assert_eq!(judge(limit, &review, one), "allow");
    assert_eq!(judge(limit, &review, two.clone()), "too-many-below");
    assert_eq!(judge(limit, &mount("tmpfs", "tmpfs", "/srv"), two), "allow");
}

#[test]
fn a_source_is_mounted_so_often_and_no_more() {
    let limit = r#"{"max-per-source": 1}"#;
    let table = vec![mounted(2, "server:/a", "/mnt/a", "rw"), mounted(3, "tmpfs", "/mnt/b", "rw")];
    assert_eq!(judge(limit, &mount("nfs", "server:/a", "/srv"), table.clone()), "too-many-of-source");
    assert_eq!(judge(limit, &mount("tmpfs", "tmpfs", "/srv"), table), "allow");
}

#[test]
fn a_block_device_has_one_writer() {
    let mut review = mount("ext4", "/dev/sda1", "/srv");
    if let Some(source) = &mut review.source {
        source.device = Some(Device { major: 8, minor: 1 });
    }
    let writer = vec![mounted(2, "/dev/sda1", "/mnt", "rw")];
    assert_eq!(judge("{}", &review, writer.clone()), "second-writer");
    assert_eq!(judge("{}", &review, vec![mounted(2, "/dev/sda1", "/mnt", "ro")]), "allow");
    assert_eq!(judge("{}", &with_option(review, "ro", None), writer), "allow");
}

#[test]
fn a_second_writer_is_seen_by_name_where_the_mount_has_no_number_of_its_device() {
    let mut review = mount("btrfs", "/dev/sdb", "/mnt/b");
    if let Some(found) = &mut review.source {
        found.device = Some(Device { major: 8, minor: 16 });
    }
    let mut first = mounted(2, "/dev/sdb", "/mnt/a", "rw");
    first.device = Device { major: 0, minor: 40 };
    assert_eq!(judge("{}", &review, vec![first]), "second-writer");
}

#[test]
fn a_tree_counts_with_all_that_it_brings_along() {
    let table = vec![mounted(2, "x", "/srv/a", "rw"), mounted(3, "x", "/srv/b", "rw")];
    let settings = r#"{"below": [{"path": "/mnt", "max": 2}]}"#;
    let mut review = bind("/srv", "/mnt/x");
    assert_eq!(judge(settings, &review, table.clone()), "allow");
    review.request.operation = Operation::Bind(true);
    assert_eq!(judge(settings, &review, table), "too-many-below");
}
