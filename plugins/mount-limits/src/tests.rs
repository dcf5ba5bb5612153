use mountgate_sdk::testing::{bind, mount, on_host, place, with_option};
use mountgate_sdk::{Device, Mount, MountList};

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
    let mut table =
        vec![Mount { id: 1, parent: 0, device: Device { major: 9, minor: 0 }, ..mounted(1, "root", "/", "rw") }];
    table.extend(mounts);
    let mounts = MountList(table);
    match MountLimits::evaluate(&settings, &on_host(review.clone(), &mounts), &mounts) {
        Ok(Verdict::Allow) => "allow".to_owned(),
        Ok(Verdict::Deny(denial)) => denial.code,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_mount_point_is_not_mounted_over() {
    let table = vec![mounted(2, "x", "/mnt/a", "rw")];
    assert_eq!(judge("{}", &mount("tmpfs", "tmpfs", "/mnt/a"), table.clone()), "target-is-mount-point");
    assert_eq!(judge("{}", &bind("/srv", "/mnt/a"), table.clone()), "target-is-mount-point");
    assert_eq!(judge("{}", &mount("tmpfs", "tmpfs", "/mnt/ab"), table.clone()), "allow");
    // A folder above one is another matter.
    let above = mount("tmpfs", "tmpfs", "/mnt");
    assert_eq!(judge("{}", &above, table.clone()), "allow");
    assert_eq!(judge(r#"{"deny-hiding": true}"#, &above, table.clone()), "target-is-mount-point");
    let mut moves = bind("/mnt/a", "/mnt");
    moves.request.operation = Operation::Move;
    assert_eq!(judge(r#"{"deny-hiding": true}"#, &moves, table.clone()), "allow");
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
    let on = |target: &str, super_options: &str| Mount {
        super_options: vec![super_options.to_owned()],
        ..mounted(2, "whatever it's called", target, "ro")
    };
    assert_eq!(judge("{}", &review, vec![on("/mnt", "rw")]), "second-writer");
    assert_eq!(judge("{}", &review, vec![on("/mnt", "ro")]), "allow");
    // It could be made writable later, by its mount point alone.
    assert_eq!(judge("{}", &with_option(review.clone(), "ro", None), vec![on("/mnt", "rw")]), "second-writer");
    assert_eq!(judge("{}", &review, Vec::new()), "allow");
    assert_eq!(judge(r#"{"max-per-source": 1}"#, &review, vec![on("/mnt", "ro")]), "too-many-of-source");
}

#[test]
fn a_folder_that_a_helper_shows_counts_under_each_of_its_names() {
    // `/mnt/alias` shows `/srv/data`.
    let alias = Mount { root: "/srv/data".to_owned(), ..mounted(2, "/dev/sda1", "/mnt/alias", "rw") };
    let shown = Mount { device: Device { major: 0, minor: 9 }, ..mounted(3, "/mnt/alias/in", "/mnt/shown", "rw") };
    let mut review = mount("fuse.bindfs", "/srv/data/in", "/mnt/x");
    review.source = bind("/srv/data/in", "/mnt/x").source;
    let settings = r#"{"max-per-source": 1}"#;
    let table = vec![mounted(1, "/dev/sda1", "/", "rw"), alias.clone()];
    assert_eq!(judge(settings, &review, table.clone()), "allow");
    assert_eq!(judge(settings, &review, [table, vec![shown]].concat()), "too-many-of-source");
}

#[test]
fn a_remount_makes_no_second_writer() {
    let mut review = with_option(bind("/x", "/mnt/a"), "rw", None);
    review.request.operation = Operation::Remount(false);
    let mut other = mounted(3, "/dev/sda1", "/mnt/b", "ro");
    let one = vec![mounted(2, "/dev/sda1", "/mnt/a", "ro")];
    assert_eq!(judge("{}", &review, one.clone()), "allow");
    let two = vec![one[0].clone(), other.clone()];
    assert_eq!(judge("{}", &review, two), "second-writer");
    other.device = Device { major: 8, minor: 2 };
    assert_eq!(judge("{}", &review, vec![one[0].clone(), other]), "allow");
}

#[test]
fn a_tree_counts_with_all_that_it_brings_along() {
    let table = vec![mounted(2, "x", "/srv/a", "rw"), mounted(3, "x", "/srv/b", "rw")];
    let settings = r#"{"below": [{"path": "/mnt", "max": 2}]}"#;
    let mut review = bind("/srv", "/mnt/x");
    assert_eq!(judge(settings, &review, table.clone()), "allow");
    review.request.operation = Operation::Bind(true);
    review.places.extend(["/mnt/x/a", "/mnt/x/b"].map(|path| place(path, Via::BroughtAlong)));
    assert_eq!(judge(settings, &review, table), "too-many-below");
}
