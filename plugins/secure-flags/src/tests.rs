use mountgate_sdk::MountList;
use mountgate_sdk::testing::{bind, mount, place, with_option, with_option_paths};

use super::*;

fn added(settings: &str, review: &Review) -> Vec<String> {
    let settings = mountgate_sdk::parse(settings).expect("sound settings");
    match SecureFlags::evaluate(&settings, review, &MountList::default()) {
        Ok(Verdict::Rewrite(edits)) => edits
            .into_iter()
            .map(|edit| match edit {
                Edit::AddOption(option) => option.name,
                other => format!("{other:?}"),
            })
            .collect(),
        _ => Vec::new(),
    }
}

const EVERYWHERE: &str = r#"{"rules": [{"add": ["nosuid", "nodev"]}]}"#;

#[test]
fn missing_flags_are_added_and_only_those() {
    let review = mount("tmpfs", "tmpfs", "/mnt");
    assert_eq!(added(EVERYWHERE, &review), ["nosuid", "nodev"]);
    let review = with_option(review, "nosuid", None);
    assert_eq!(added(EVERYWHERE, &review), ["nodev"]);
}

#[test]
fn a_flag_that_is_taken_back_later_is_missing() {
    let review = with_option(with_option(bind("/a", "/mnt"), "nosuid", None), "suid", None);
    assert_eq!(added(EVERYWHERE, &review), ["nosuid", "nodev"]);
}

#[test]
fn a_device_node_stays_one_unless_the_bind_asks_for_more_than_its_source_has() {
    let mut review = bind("/dev/null", "/mnt/null");
    if let Some(source) = &mut review.source {
        source.kind = FileKind::CharDevice;
    }
    assert_eq!(added(EVERYWHERE, &review), ["nosuid"]);
    assert_eq!(added(EVERYWHERE, &with_option(review, "dev", None)), ["nosuid", "nodev"]);
}

#[test]
fn conditions_and_exemptions_hold() {
    let rules = r#"{"rules": [{"add": ["noexec"], "targets": ["/mnt"], "except-fstypes": ["ext4"]},
                              {"add": ["ro"], "sources": ["/srv"]}]}"#;
    assert_eq!(added(rules, &mount("tmpfs", "tmpfs", "/mnt/a")), ["noexec"]);
    assert_eq!(added(rules, &mount("ext4", "/dev/sda1", "/mnt/a")), [] as [&str; 0]);
    assert_eq!(added(rules, &bind("/srv/a", "/opt")), ["ro"]);
    assert_eq!(added(rules, &bind("/srvx", "/opt")), [] as [&str; 0]);
}

#[test]
fn a_move_needs_the_flags_that_it_cannot_take() {
    let settings =
        mountgate_sdk::parse(r#"{"rules": [{"add": ["nosuid"], "targets": ["/home"]}]}"#).expect("sound settings");
    let judge = |target: &str, options: &[&str]| {
        let mut review = bind("/a", target);
        review.request.operation = Operation::Move;
        let mounts = MountList(vec![Mount {
            id: 1,
            parent: 0,
            device: mountgate_sdk::Device { major: 0, minor: 0 },
            root: "/".to_owned(),
            target: "/".to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            optional_fields: Vec::new(),
            fstype: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            super_options: Vec::new(),
        }]);
        match SecureFlags::evaluate(&settings, &review, &mounts) {
            Ok(Verdict::Deny(denial)) => denial.code,
            other => format!("{other:?}"),
        }
    };
    assert_eq!(judge("/home/a", &["rw"]), "move-lacks-flags");
    assert_eq!(judge("/home/a", &["rw", "nosuid"]), "Ok(Verdict::Allow)");
    assert_eq!(judge("/srv", &["rw"]), "Ok(Verdict::Allow)");
}

#[test]
fn a_remount_is_judged_by_the_mount_it_changes() {
    let rules = r#"{"rules": [{"add": ["ro"], "sources": ["/srv"]}, {"add": ["noexec"], "fstypes": ["tmpfs"]}]}"#;
    let settings = mountgate_sdk::parse(rules).expect("sound settings");
    let mut review = mount("tmpfs", "tmpfs", "/mnt/a");
    review.request.operation = Operation::Remount(true);
    (review.request.source, review.request.fstype) = (None, None);
    let mounted = |source: &str, fstype: &str| {
        MountList(vec![Mount {
            id: 2,
            parent: 1,
            device: mountgate_sdk::Device { major: 0, minor: 1 },
            root: "/".to_owned(),
            target: "/mnt/a".to_owned(),
            options: Vec::new(),
            optional_fields: Vec::new(),
            fstype: fstype.to_owned(),
            source: source.to_owned(),
            super_options: Vec::new(),
        }])
    };
    for (source, fstype, flag) in [("/srv/disk", "ext4", "ro"), ("x", "tmpfs", "noexec")] {
        let Ok(Verdict::Rewrite(edits)) = SecureFlags::evaluate(&settings, &review, &mounted(source, fstype)) else {
            panic!("nothing is added for {source}");
        };
        assert!(matches!(&edits[..], [Edit::AddOption(option)] if option.name == flag), "{edits:?}");
    }
}

fn mounted(id: u64, target: &str, options: &[&str], fstype: &str) -> Mount {
    Mount {
        id,
        parent: id - 1,
        device: mountgate_sdk::Device { major: 0, minor: 7 },
        root: "/".to_owned(),
        target: target.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        optional_fields: Vec::new(),
        fstype: fstype.to_owned(),
        source: fstype.to_owned(),
        super_options: Vec::new(),
    }
}

#[test]
fn what_comes_along_with_a_move_needs_the_flags_too() {
    let settings = mountgate_sdk::parse(EVERYWHERE).expect("sound settings");
    let mut review = bind("/a", "/home/a");
    review.request.operation = Operation::Move;
    for (below, verdict) in [(&["nosuid", "nodev"][..], "Ok(Verdict::Allow)"), (&["nosuid"], "move-lacks-flags")] {
        let mounts =
            MountList(vec![mounted(1, "/a", &["nosuid", "nodev"], "tmpfs"), mounted(2, "/a/b", below, "tmpfs")]);
        let judged = match SecureFlags::evaluate(&settings, &review, &mounts) {
            Ok(Verdict::Deny(denial)) => denial.code,
            other => format!("{other:?}"),
        };
        assert_eq!(judged, verdict, "{below:?}");
    }
}

#[test]
fn a_bind_has_the_type_of_what_it_shows() {
    let rules = r#"{"rules": [{"add": ["nosuid"], "fstypes": ["tmpfs"]}]}"#;
    let settings = mountgate_sdk::parse(rules).expect("sound settings");
    for (fstype, adds) in [("tmpfs", true), ("ext4", false)] {
        let mounts = MountList(vec![mounted(1, "/a", &[], fstype)]);
        let verdict = SecureFlags::evaluate(&settings, &bind("/a/b", "/mnt"), &mounts);
        assert_eq!(matches!(verdict, Ok(Verdict::Rewrite(_))), adds, "{fstype}");
    }
}

#[test]
fn a_device_is_what_its_bytes_are() {
    let settings = r#"{"rules": [{"add": ["nosuid"], "sources": ["/images"]}]}"#;
    let mut review = mount("ext4", "/dev/loop0", "/mnt");
    assert!(added(settings, &review).is_empty());
    if let Some(source) = &mut review.source {
        source.storage = vec![place("/images/a", Via::Target).location];
    }
    assert_eq!(added(settings, &review), ["nosuid"]);
}

#[test]
fn layers_of_an_overlay_are_sources() {
    let rules = r#"{"rules": [{"add": ["nosuid"], "sources": ["/srv/u"]},
                              {"add": ["ro"], "except-sources": ["/srv/trusted"]}]}"#;
    let overlay = |paths: &[&str]| with_option_paths(mount("overlay", "overlay", "/mnt"), "lowerdir", paths);
    assert_eq!(added(rules, &overlay(&["/srv/a", "/srv/u/x"])), ["nosuid", "ro"]);
    // They exempt nothing, nor does a name that looks like a path.
    assert_eq!(added(rules, &overlay(&["/srv/trusted/a"])), ["ro"]);
    for fstype in ["overlay", "tmpfs"] {
        let mut review = mount(fstype, "/srv/trusted/a", "/mnt");
        review.source = None;
        assert_eq!(added(rules, &review), ["ro"], "{fstype}");
        review.source = bind("/srv/trusted/a", "/mnt").source;
        assert_eq!(added(rules, &review), ["ro"], "{fstype}");
        review.source.iter_mut().for_each(|source| source.kind = FileKind::CharDevice);
        assert_eq!(added(rules, &review), ["ro"], "{fstype}");
    }
    assert_eq!(added(rules, &mount("ext4", "/srv/trusted/disk", "/mnt")), [] as [&str; 0]);
    let mut fuse = bind("/srv/trusted/a", "/mnt");
    (fuse.request.operation, fuse.request.fstype) = (Operation::Mount, Some("fuse.bindfs".to_owned()));
    assert_eq!(added(rules, &fuse), [] as [&str; 0]);
}

#[test]
fn a_folder_of_a_rule_is_also_shown_and_covered_from_above() {
    let rules =
        r#"{"rules": [{"add": ["nosuid"], "sources": ["/srv/u"]}, {"add": ["noexec"], "targets": ["/media/in"]}]}"#;
    assert_eq!(added(rules, &bind("/srv", "/mnt")), ["nosuid"]);
    assert_eq!(added(rules, &bind("/opt", "/media")), ["noexec"]);
    assert_eq!(added(rules, &bind("/opt", "/mnt")), [] as [&str; 0]);
    // A remount shows and covers nothing new.
    let mut remount = mount("tmpfs", "tmpfs", "/media");
    remount.request.operation = Operation::Remount(false);
    assert_eq!(added(rules, &remount), [] as [&str; 0]);
}

#[test]
fn an_exemption_gives_nothing_back_that_a_mount_lacks() {
    let rules = r#"{"rules": [{"add": ["nosuid", "nodev"], "except-sources": ["/srv/trusted"]}]}"#;
    let settings = mountgate_sdk::parse(rules).expect("sound settings");
    for (options, adds) in [(&["rw", "nosuid"][..], true), (&["rw"], false)] {
        let mut mount = mounted(2, "/srv/trusted/x", options, "tmpfs");
        mount.device.minor = 8;
        let mounts = MountList(vec![mounted(1, "/", &[], "tmpfs"), mount]);
        let verdict = SecureFlags::evaluate(&settings, &bind("/srv/trusted/x", "/mnt"), &mounts);
        assert_eq!(matches!(&verdict, Ok(Verdict::Rewrite(edits)) if edits.len() == 1), adds, "{verdict:?}");
    }
}
