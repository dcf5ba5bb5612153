use mountgate_sdk::testing::{bind, mount, on_host, place, with_option_paths};
use mountgate_sdk::{Device, Mount, MountList, UnmountMode};

use super::*;

fn judge(settings: &Settings, review: &Review) -> String {
    match PathGuard::evaluate(settings, review, &MountList::default()) {
        Ok(Verdict::Allow) => "allow".to_owned(),
        Ok(Verdict::Deny(denial)) => format!("{} {}", denial.code, denial.field.unwrap_or_default()),
        other => format!("{other:?}"),
    }
}

fn list(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn a_denied_target_is_denied_with_what_is_below_and_above_it() {
    let settings = Settings { deny_targets: list(&["/etc/ssl"]), ..Settings::default() };
    for (target, verdict) in [
        ("/etc/ssl", "target-denied target"),
        ("/etc/ssl/private", "target-denied target"),
        ("/etc", "target-denied target"),
        ("/", "target-denied target"),
        ("/etc/sslx", "allow"),
        ("/mnt", "allow"),
    ] {
        assert_eq!(judge(&settings, &mount("tmpfs", "tmpfs", target)), verdict, "{target}");
    }
}

#[test]
fn no_operation_reaches_a_denied_target_from_above() {
    let settings = Settings { deny_targets: list(&["/srv/db"]), ..Settings::default() };
    let mut review = mount("tmpfs", "tmpfs", "/srv");
    let plain = UnmountMode { lazy: false, force: false, recursive: false };
    for operation in [Operation::Mount, Operation::Remount(true), Operation::Remount(false), Operation::Unmount(plain)]
    {
        review.request.operation = operation;
        assert_eq!(judge(&settings, &review), "target-denied target");
    }
}

#[test]
fn what_a_move_takes_away_is_a_target_too() {
    let settings = Settings { deny_targets: list(&["/sys"]), ..Settings::default() };
    let mut review = bind("/sys", "/mnt");
    assert_eq!(judge(&settings, &review), "allow");
    review.request.operation = Operation::Move;
    review.places.push(place("/sys", Via::MovedFrom));
    assert_eq!(judge(&settings, &review), "target-denied source");
    let settings = Settings { allow_targets: list(&["/mnt"]), ..Settings::default() };
    assert_eq!(judge(&settings, &review), "target-not-allowed source");
}

#[test]
fn paths_in_options_are_sources() {
    let settings = Settings { deny_sources: list(&["/etc", "/dev/sda"]), ..Settings::default() };
    for (option, paths, verdict) in [
        ("lowerdir", &["/srv", "/etc/ssl"][..], "source-denied options.lowerdir"),
        ("upperdir", &["/"], "source-denied options.upperdir"),
        ("logdev", &["/dev/sda"], "source-denied options.logdev"),
        ("lowerdir", &["/srv", "/opt"], "allow"),
    ] {
        let review = with_option_paths(mount("overlay", "overlay", "/mnt"), option, paths);
        assert_eq!(judge(&settings, &review), verdict, "{option}={paths:?}");
    }
}

#[test]
fn the_resolved_path_counts_not_the_written_one() {
    let settings = Settings { allow_targets: list(&["/mnt"]), ..Settings::default() };
    let mut review = mount("tmpfs", "tmpfs", "/mnt/link");
    review.target.path = "/etc".to_owned();
    review.places = vec![place("/etc", Via::Target)];
    assert_eq!(judge(&settings, &review), "target-not-allowed target");
}

#[test]
fn sources_are_guarded_and_plain_names_are_not() {
    let settings = Settings { allow_sources: list(&["/srv", "server:/export"]), ..Settings::default() };
    assert_eq!(judge(&settings, &bind("/srv/a", "/mnt")), "allow");
    assert_eq!(judge(&settings, &bind("/var", "/mnt")), "source-not-allowed source");
    assert_eq!(judge(&settings, &mount("tmpfs", "tmpfs", "/mnt")), "allow");
    assert_eq!(judge(&settings, &mount("nfs", "server:/export/a", "/mnt")), "allow");
    assert_eq!(judge(&settings, &mount("nfs", "other:/export", "/mnt")), "source-not-allowed source");
}

#[test]
fn exports_of_servers_are_guarded_however_they_are_spelled() {
    let denied = Settings { deny_sources: list(&["//win/secret", "filer:/secret"]), ..Settings::default() };
    for source in ["//win/secret", "//WIN/./secret/a", "filer:/secret", "filer://secret", "FILER.:/secret/a"] {
        assert_eq!(judge(&denied, &mount("nfs", source, "/mnt")), "source-denied source", "{source}");
    }
    for source in ["//win/secrets", "filer:/secrets", "other:/secret"] {
        assert_eq!(judge(&denied, &mount("nfs", source, "/mnt")), "allow", "{source}");
    }
    let allowed = Settings { allow_sources: list(&["//win/share"]), ..Settings::default() };
    assert_eq!(judge(&allowed, &mount("cifs", "//win/share/a", "/mnt")), "allow");
    assert_eq!(judge(&allowed, &mount("cifs", "//win/other", "/mnt")), "source-not-allowed source");
}

#[test]
fn settings_that_could_never_match_are_refused() {
    let settings = Settings { deny_targets: list(&["etc", "/a/../b", ""]), ..Settings::default() };
    let paths: Vec<String> = PathGuard::problems(&settings).into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["deny-targets[0]", "deny-targets[1]", "deny-targets[2]"]);
}

/// A host whose `/usr/share` is a file system of its own, with a bind of `/usr/local` and one of that file system.
fn host() -> MountList {
    let mounted = |id: u64, minor: u32, root: &str, target: &str| Mount {
        id,
        parent: if id == 1 { 0 } else { 1 },
        device: Device { major: 8, minor },
        root: root.to_owned(),
        target: target.to_owned(),
        options: Vec::new(),
        optional_fields: Vec::new(),
        fstype: "ext4".to_owned(),
        source: "/dev/sda".to_owned(),
        super_options: Vec::new(),
    };
    MountList(vec![
        mounted(1, 1, "/", "/"),
        mounted(2, 1, "/usr/local", "/mnt/u"),
        mounted(3, 2, "/", "/usr/share"),
        mounted(4, 2, "/doc", "/srv/doc"),
    ])
}

fn judge_on_host(settings: &Settings, review: &Review) -> String {
    let host = host();
    match PathGuard::evaluate(settings, &on_host(review.clone(), &host), &host) {
        Ok(Verdict::Allow) => "allow".to_owned(),
        Ok(Verdict::Deny(denial)) => format!("{} {}", denial.code, denial.field.unwrap_or_default()),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_denied_target_is_denied_under_every_name() {
    let settings = Settings { deny_targets: list(&["/usr"]), ..Settings::default() };
    for (target, verdict) in [
        ("/mnt/u/bin", "target-denied target"),
        // Below a mount point in a denied folder, through another mount.
        ("/srv/doc/x", "target-denied target"),
        ("/", "target-denied target"),
        ("/srv/other", "allow"),
        // The other names may be hidden. The denied one stays.
        ("/mnt", "allow"),
    ] {
        assert_eq!(judge_on_host(&settings, &mount("tmpfs", "tmpfs", target)), verdict, "{target}");
    }
}

#[test]
fn a_denied_source_is_denied_under_every_name() {
    let settings = Settings { deny_sources: list(&["/usr/local/etc", "/usr/share/doc"]), ..Settings::default() };
    for (source, verdict) in [
        ("/mnt/u/etc/x", "source-denied source"),
        ("/mnt/u", "source-denied source"),
        ("/mnt/u/bin", "allow"),
        ("/srv/doc/x", "source-denied source"),
        ("/usr/share/man", "allow"),
    ] {
        assert_eq!(judge_on_host(&settings, &bind(source, "/opt/x")), verdict, "{source}");
    }
    let mut device = mount("ext4", "/dev/sda1", "/opt/x");
    if let Some(source) = &mut device.source {
        source.device = Some(Device { major: 8, minor: 1 });
    }
    assert_eq!(judge_on_host(&settings, &device), "source-denied source");
    let settings = Settings { allow_sources: list(&["/dev"]), ..Settings::default() };
    assert_eq!(judge_on_host(&settings, &device), "source-not-allowed source");
    if let Some(source) = &mut device.source {
        source.device = Some(Device { major: 8, minor: 9 });
    }
    assert_eq!(judge_on_host(&settings, &device), "allow");
}

#[test]
fn a_copy_of_a_tree_shows_what_is_mounted_in_it() {
    let settings = Settings { deny_sources: list(&["/usr/share/doc/private"]), ..Settings::default() };
    let mut review = bind("/srv", "/opt/x");
    review.request.operation = Operation::Bind(true);
    let doc = Location { device: Device { major: 8, minor: 2 }, path: "/doc".to_owned() };
    review.places.push(Place { path: "/opt/x/doc".to_owned(), location: doc, via: Via::BroughtAlong });
    assert_eq!(judge_on_host(&settings, &review), "source-denied source");
}

#[test]
fn every_place_must_be_allowed() {
    let settings = Settings { allow_targets: list(&["/mnt"]), ..Settings::default() };
    let mut review = mount("tmpfs", "tmpfs", "/mnt/u/bin");
    assert_eq!(judge_on_host(&settings, &review), "allow");
    review.places.push(place("/usr/local/bin", Via::Peer));
    assert_eq!(judge_on_host(&settings, &review), "target-not-allowed target");
}

#[test]
fn a_device_node_is_bound_by_name_only() {
    let settings = Settings { allow_device_nodes: Some(list(&["/dev/null"])), ..Settings::default() };
    let node = |path: &str, kind| {
        let mut review = bind(path, "/mnt");
        if let Some(source) = &mut review.source {
            source.kind = kind;
        }
        judge(&settings, &review)
    };
    assert_eq!(node("/dev/null", FileKind::CharDevice), "allow");
    assert_eq!(node("/dev/mem", FileKind::CharDevice), "device-not-allowed source");
    assert_eq!(node("/dev/sda", FileKind::BlockDevice), "device-not-allowed source");
    assert_eq!(node("/srv", FileKind::Directory), "allow");
    assert_eq!(judge(&settings, &mount("ext4", "/dev/sda", "/mnt")), "allow");
}

#[test]
fn a_remount_that_gives_a_right_opens_what_it_shows() {
    let settings = Settings { deny_sources: list(&["/etc"]), ..Settings::default() };
    // `/srv/view` shows `/etc`, or what is above it.
    for (shown, option, verdict) in [
        ("/etc/ssl", "rw", "source-denied target"),
        ("/", "exec", "source-denied target"),
        ("/etc", "ro", "allow"),
        ("/home", "rw", "allow"),
        ("/etc", "rw,ro", "allow"),
        ("/etc", "ro,rw", "source-denied target"),
    ] {
        let mut review = mount("tmpfs", "tmpfs", "/srv/view");
        for option in option.split(',') {
            review = mountgate_sdk::testing::with_option(review, option, None);
        }
        review.request.operation = Operation::Remount(true);
        (review.request.source, review.source) = (None, None);
        if let Some(location) = &mut review.target.location {
            location.path = shown.to_owned();
        }
        assert_eq!(judge(&settings, &review), verdict, "{shown} {option}");
    }
}

#[test]
fn a_file_system_that_becomes_writable_opens_all_its_mounts() {
    let settings = Settings { deny_sources: list(&["/etc"]), ..Settings::default() };
    let mut review = mountgate_sdk::testing::with_option(mount("tmpfs", "tmpfs", "/srv/view"), "rw", None);
    review.request.operation = Operation::Remount(false);
    (review.request.source, review.source) = (None, None);
    assert_eq!(judge(&settings, &review), "allow");
    review.places.push(place("/etc", Via::SameFileSystem));
    assert_eq!(judge(&settings, &review), "source-denied target");
}

#[test]
fn what_is_unmounted_with_the_target_is_judged_by_where_it_is() {
    let settings = Settings { deny_targets: list(&["/usr"]), ..Settings::default() };
    let mut review = mount("tmpfs", "tmpfs", "/mnt");
    review.request.operation = Operation::Unmount(UnmountMode { lazy: false, force: false, recursive: true });
    assert_eq!(judge_on_host(&settings, &review), "allow");
    // `/mnt/u` shows `/usr/local`.
    review.places.push(place("/usr/local/bin", Via::Below));
    assert_eq!(judge(&settings, &review), "target-denied target");
}

#[test]
fn a_folder_of_device_nodes_is_denied_where_nodes_are_named() {
    let settings = Settings { allow_device_nodes: Some(list(&["/dev/null"])), ..Settings::default() };
    for (source, verdict) in
        [("/dev", "device-not-allowed source"), ("/dev/pts", "device-not-allowed source"), ("/srv", "allow")]
    {
        assert_eq!(judge(&settings, &bind(source, "/mnt")), verdict, "{source}");
    }
}
