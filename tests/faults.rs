//! Faults of earlier programs that mounted with nsenter(1). Each test shows that mountgate doesn't have one of them.

use std::path::Path;

use anyhow::{Result, ensure};
use mountgate::mount_table::table::MountTable;
use serde_json::Value;

use crate::support::{mountgate, on_host, on_host_succeeds, on_host_with, status, text_of};

tests! {
    privileged a_failed_mount_tells_the_reason_and_not_only_its_exit_status,
    privileged systemd_run_is_not_used_where_systemd_does_not_run,
    privileged host_programs_are_looked_for_on_the_host,
    privileged a_bind_whose_flags_cannot_be_set_is_never_shown,
    plain a_source_that_looks_like_a_flag_is_refused,
    privileged bind_and_rbind_are_recognised_among_other_options,
    privileged a_remount_adds_no_second_mount,
    privileged unusual_names_do_not_break_the_list,
    privileged list_reads_the_table_once_and_mount_never,
    privileged mounts_are_found_by_path_and_by_source_and_can_be_unmounted,
    privileged what_cannot_be_mounted_says_why_and_what_to_do,
    privileged a_namespace_that_is_full_of_mounts_says_so,
}

fn a_failed_mount_tells_the_reason_and_not_only_its_exit_status() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        gate mount -t tmpfs -o mode=oops tmpfs /mnt/x || echo ended with $?
        gate mount -t fuse.bindfs /mnt/not-there /mnt/x || echo ended with $?
        gate mount -t fuse.bindfs -o nosuid /mnt/source/../source /mnt/x || echo ended with $?
        gate mount -t hang nothing /mnt/x || echo ended with $?
        "#,
    )?);
    ensure!(text.contains("tmpfs: Bad value for 'mode'"), "{text}");
    ensure!(text.contains("/mnt/not-there doesn't exist") && text.contains("holds `..`"), "{text}");
    // The words of mount(8) itself, and what its exit status means.
    ensure!(
        text.contains("unknown filesystem type 'hang'") && text.contains("exit status 32 (the mount failed)"),
        "{text}"
    );
    Ok(())
}

fn systemd_run_is_not_used_where_systemd_does_not_run() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        test -x /usr/bin/systemd-run; test ! -e /run/systemd/system
        gate check mount -t fuse.bindfs /mnt/source /mnt/x
        gate mount -t fuse.bindfs /mnt/source /mnt/x; at /mnt/x
        umount /mnt/x
        "#,
    )?;
    ensure!(!text.contains("--scope") && text.contains("/mnt/x rw"), "{text}");
    Ok(())
}

fn host_programs_are_looked_for_on_the_host() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        printf '#!/bin/sh\necho fake mount ran; exit 0\n' > $W/fake; chmod 755 $W/fake
        container "
            $M --policies $P --host-root $W/rootfs check mount -t fuse.bindfs /mnt/source /mnt/x
            mount --bind $W/fake /usr/bin/mount
            $M --policies $P --host-root $W/rootfs mount -t fuse.bindfs /mnt/source /mnt/x"
        at /mnt/x
        umount /mnt/x
        "#,
    )?;
    ensure!(text.contains("run: /usr/bin/mount --no-canonicalize"), "{text}");
    ensure!(text.contains("/mnt/x rw") && !text.contains("fake mount ran"), "{text}");
    // One that others can write isn't run at all.
    let text = text_of(&on_host(
        r#"
        cp /usr/bin/mount $W/mount; chmod 777 $W/mount; mount --bind $W/mount /usr/bin/mount
        gate mount -t fuse.bindfs /mnt/source /mnt/x || echo ended with $?
        absent /mnt/x
        "#,
    )?);
    ensure!(text.contains("ended with 2") && text.contains("none that can be trusted"), "{text}");
    Ok(())
}

fn a_bind_whose_flags_cannot_be_set_is_never_shown() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        mount -o remount,nosuid /mnt
        strace -f -o $W/trace $M --policies $P --sandbox mount --bind -o ro,suid /mnt/source /mnt/x || echo ended with $?
        grep -c move_mount $W/trace || true
        absent /mnt/x
        "#,
    )?);
    // It was never shown: the copy got its flags first, and couldn't.
    ensure!(text.contains("ended with 32") && text.contains("\n0\n"), "{text}");
    Ok(())
}

fn a_source_that_looks_like_a_flag_is_refused() -> Result<()> {
    for source in ["--version", "-V", "--fake", "-o"] {
        let mut check = mountgate(&["check", "--policies", "policies/baseline", "mount", "-t", "tmpfs", "--"]);
        let output = check.args([source, "/mnt"]).output()?;
        ensure!(status(&output) == 2 && text_of(&output).contains("SOURCE: "), "{}", text_of(&output));
    }
    Ok(())
}

fn bind_and_rbind_are_recognised_among_other_options() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mkdir /mnt/source/sub; mount -t tmpfs below /mnt/source/sub
        gate mount -o rbind,ro /mnt/source /mnt/x; at /mnt/x; at /mnt/x/sub below
        gate mount -o bind,nosuid /mnt/source /mnt/y; at /mnt/y; absent /mnt/y/sub
        "#,
    )?;
    ensure!(text.contains("/mnt/x ro") && text.contains("below: ") && text.contains("/mnt/x/sub ro"), "{text}");
    ensure!(text.contains("/mnt/y rw,nosuid"), "{text}");
    Ok(())
}

fn a_remount_adds_no_second_mount() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        gate mount --bind /mnt/source /mnt/x
        gate mount -o bind,remount,ro /mnt/x; at /mnt/x
        gate mount -o remount,bind,nosuid /mnt/x; at /mnt/x again
        "#,
    )?;
    ensure!(text.matches("at: ").count() == 1 && text.matches("again: ").count() == 1, "{text}");
    ensure!(text.contains("/mnt/x ro,nosuid"), "{text}");
    Ok(())
}

fn unusual_names_do_not_break_the_list() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        cd /mnt; mkdir "$(printf 'a\rb')" "$(printf 'a\302\240b')" "$(printf 'a\013\014b')" 'a b' 'a\040b'
        for name in a*; do mount -i -t tmpfs "$name" "$name"; done
        gate list --json --file /proc/1/mountinfo
        "#,
    )?;
    let line = text.lines().find(|line| line.starts_with("{\"mounts\"")).unwrap_or_default();
    let json: Value = serde_json::from_str(line)?;
    ensure!(json["bad_lines"] == Value::Array(Vec::new()), "{json}");
    for name in ["a\rb", "a\u{a0}b", "a\u{b}\u{c}b", "a b", "a\\040b"] {
        let is_it = |mount: &&Value| mount["target"] == format!("/mnt/{name}") && mount["source"] == name;
        let found = json["mounts"].as_array().into_iter().flatten().filter(is_it).count();
        ensure!(found == 1, "{name:?}: {found} in {json}");
    }
    Ok(())
}

fn list_reads_the_table_once_and_mount_never() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        strace -f -e trace=open,openat -o $W/trace $M list > /dev/null
        echo "opened $(grep -c mountinfo $W/trace) times"
        strace -f -e trace=open,openat,read,poll -o $W/trace $M --policies $P mount -t tmpfs tmpfs /mnt/x
        # It's only watched for changes.
        echo "for a mount $(grep -c 'read.* - .* rw' $W/trace || true) times"
        "#,
    )?;
    ensure!(text.contains("opened 1 times") && text.contains("for a mount 0 times"), "{text}");
    Ok(())
}

fn mounts_are_found_by_path_and_by_source_and_can_be_unmounted() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mount -t tmpfs one /mnt/x; mount -t tmpfs one /mnt/y
        cp /proc/1/mountinfo $W/table; cat $W/table | sed 's/^/table: /'
        gate umount /mnt/x; absent /mnt/x
        "#,
    )?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("table: "));
    let table = MountTable::parse(lines.collect::<Vec<_>>().join("\n").into_bytes())?;
    ensure!(table.mount_point(b"/mnt/x").is_some() && table.mount_point(b"/mnt/x/below").is_none());
    ensure!(table.by_source(b"one").count() == 2, "{text}");
    ensure!(MountTable::read(Path::new("/proc/self/mountinfo"))?.covering(b"/").is_some());
    Ok(())
}

fn what_cannot_be_mounted_says_why_and_what_to_do() -> Result<()> {
    let types = "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\n\
        settings = { allow = [\"ext4\", \"xfs\", \"tmpfs\", \"no-such-type\"] }\n";
    let output = on_host_with(
        types,
        &["fstype-allow"],
        r#"
        truncate -s 16M $W/image; mkfs.ext4 -q $W/image; protected=$(losetup --find --show --read-only $W/image)
        truncate -s 320M $W/xfs; mkfs.xfs -q $W/xfs; cp --sparse=always $W/xfs $W/copy
        one=$(losetup --find --show $W/xfs); copy=$(losetup --find --show $W/copy)
        trap 'umount -l /mnt; losetup -d $protected $one $copy' EXIT
        says() { gate mount "$@" 2>&1 || echo "ended with $?"; }
        says -t no-such-type x /mnt/x
        says -t ext4 $protected /mnt/x
        says -t ext4 -o ro $protected /mnt/x; says -o remount,rw $protected
        says -t tmpfs -o uid=root tmpfs /mnt/y
        says -t xfs $one /mnt/y
        says -t xfs $copy /mnt/target
        says -t xfs -o nouuid $copy /mnt/target
        "#,
    )?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.matches("ended with 32").count() == 5, "{text}");
    let parts = [
        "modprobe no-such-type",
        "write-protected: ask for ro",
        "write-protected: it can't be made writable",
        "write the number of the user or group",
        "mounted with nouuid",
    ];
    for part in parts {
        ensure!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

fn a_namespace_that_is_full_of_mounts_says_so() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        mount --make-rprivate /; mkdir /mnt/many; mount -t tmpfs many /mnt/many; mkdir /mnt/many/0
        # Each copy of the tree has as many mounts as all before it. Then ever smaller copies, until not one fits.
        i=1; while mkdir /mnt/many/$i && mount -n -i --rbind /mnt/many /mnt/many/$i 2>/dev/null; do i=$((i + 1)); done
        mkdir /mnt/rest; n=0
        while test $i -gt 0; do
            i=$((i - 1)); mkdir -p /mnt/rest/$n
            while mount -n -i --rbind /mnt/many/$i /mnt/rest/$n 2>/dev/null; do n=$((n + 1)); mkdir /mnt/rest/$n; done
        done
        gate mount -t tmpfs tmpfs /mnt/x || echo "ended with $?"
        absent /mnt/x
        "#,
    )?);
    ensure!(
        text.contains("ended with 32") && text.contains("as many mounts as fs.mount-max of proc(5) allows"),
        "{text}"
    );
    Ok(())
}
