//! One thing under many names: binds, peers, slaves, links, remounts and devices. The host's `/` is shared, as on every
//! systemd host. Each test was an exploit of policies that judged names.

use anyhow::{Result, ensure};

use crate::support::{on_host_with, text_of};

tests! {
    privileged a_bind_of_a_denied_place_is_no_way_to_cover_it,
    privileged a_peer_that_others_made_is_judged_as_what_it_is,
    privileged a_slave_of_a_denied_place_is_judged_as_well,
    privileged a_device_node_is_not_replaced_through_a_bind_of_dev,
    privileged a_disk_that_is_a_target_is_a_place_like_others,
    privileged the_cache_is_neither_covered_nor_shown,
    privileged the_policy_directory_is_guarded_in_a_container_too,
    privileged a_remount_of_a_file_system_is_judged_at_all_its_mounts,
    privileged a_copy_of_sys_does_not_take_the_original_along,
    privileged a_denied_name_that_is_a_link_is_denied_where_it_leads,
    privileged a_denied_path_that_is_not_there_cannot_be_made_above,
    privileged a_rule_behind_a_magic_link_fails_and_so_denies,
    privileged a_device_shows_the_file_system_on_it_under_any_name,
    privileged a_btrfs_is_known_by_any_of_its_devices,
    privileged a_writable_file_system_has_one_writer_however_it_is_named,
    privileged a_copy_of_a_tree_shows_all_that_is_mounted_in_it,
    privileged a_file_system_that_is_mounted_is_not_shared_with_other_options,
    privileged a_bind_of_an_automount_point_is_refused,
    privileged a_denied_source_stays_what_it_is,
    privileged flags_that_are_added_are_lost_by_no_second_request,
    privileged what_is_put_back_is_seen_only_where_it_was,
    privileged what_is_put_back_does_not_follow_a_name,
    traced a_mount_that_is_carried_elsewhere_by_a_rename_is_taken_away,
    traced a_tree_that_brings_along_what_nobody_judged_is_taken_away,
    traced a_mount_that_somebody_else_makes_meanwhile_is_not_taken_for_a_carried_one,
    privileged umount_by_force_is_judged_at_all_mounts_of_the_file_system,
    privileged a_view_is_opened_only_where_what_it_shows_is_allowed,
    privileged a_remount_opens_no_view_of_a_denied_place,
    privileged a_folder_of_device_nodes_is_not_bound,
    privileged a_file_system_that_there_is_only_one_of_is_not_shown_anew,
    privileged a_hostile_caller_never_reaches_a_denied_location,
    privileged the_same_caller_gets_through_a_comparison_of_names,
    privileged limits_hold_among_a_hundred_callers,
    privileged limits_hold_among_helpers_too,
}

/// Nothing may happen to `/mnt/w/secret`, nor to what `/mnt/link` leads to.
const GUARDED: &str = "[host]
timeout = \"60s\"
[[policy]]
name = \"guard\"
plugin = \"path-guard.wasm\"
settings = { deny-targets = [\"/mnt/w/secret\", \"/mnt/link\", \"/mnt/w/dir/absent/deep\"], deny-sources = [\"/mnt/w/secret\", \"/mnt/link\"] }
[[policy]]
name = \"limits\"
plugin = \"mount-limits.wasm\"
settings = { allow-stacking = true }
";

/// Makes `/` shared.
const WORLD: &str = r#"
    mount --make-rshared /
    mkdir -p /mnt/w; mount -t tmpfs -o size=8m w /mnt/w; mount --make-shared /mnt/w
    mkdir -p /mnt/w/secret/in /mnt/w/evil /mnt/w/linked /mnt/w/dir /mnt/u /mnt/v
    ln -s w/linked /mnt/link
"#;

fn guarded(script: &str) -> Result<String> {
    guarded_by(GUARDED, script)
}

fn guarded_by(policies: &str, script: &str) -> Result<String> {
    let plugins = ["path-guard", "mount-limits", "secure-flags", "misbehaving-guest"];
    let used: Vec<&str> = plugins.into_iter().filter(|name| policies.contains(&format!("{name}.wasm"))).collect();
    let output = on_host_with(policies, &used, &format!("{WORLD}\n{script}"))?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(text_of(&output))
}

fn a_bind_of_a_denied_place_is_no_way_to_cover_it() -> Result<()> {
    let settings = GUARDED.replace(", deny-sources = [\"/mnt/w/secret\", \"/mnt/link\"]", "");
    guarded_by(
        &settings,
        "allowed mount --bind /mnt/w/secret /mnt/u
        denied mount --bind /mnt/w/evil /mnt/u/in
        denied mount -t tmpfs tmpfs /mnt/u/in
        allowed mount --bind /mnt/u /mnt/v
        denied mount -t tmpfs tmpfs /mnt/v/in
        # What it made itself, it can take away.
        allowed umount /mnt/v; allowed umount /mnt/u",
    )
    .map(drop)
}

fn a_peer_that_others_made_is_judged_as_what_it_is() -> Result<()> {
    guarded(
        "mount --bind /mnt/w /mnt/u
        denied mount -t tmpfs tmpfs /mnt/u/secret/in
        denied mount --bind /mnt/w/evil /mnt/u/secret
        denied mount --bind /mnt/u/secret /mnt/v
        # The other way: what is mounted beside it is seen at the peer.
        said=$(gate check mount -t tmpfs tmpfs /mnt/w/evil); echo \"$said\" | grep 'also at: /mnt/u/evil (peer)'
        gate check --json mount -t tmpfs tmpfs /mnt/w/evil | grep '\"via\":\"peer\"'
        allowed mount -t tmpfs tmpfs /mnt/w/evil",
    )
    .map(drop)
}

fn a_slave_of_a_denied_place_is_judged_as_well() -> Result<()> {
    guarded(
        "mount --bind /mnt/w /mnt/u; mount --make-slave /mnt/u
        denied mount -t tmpfs tmpfs /mnt/u/secret
        gate check mount -t tmpfs tmpfs /mnt/w/evil | grep 'also at: /mnt/u/evil (slave)'",
    )
    .map(drop)
}

fn a_device_node_is_not_replaced_through_a_bind_of_dev() -> Result<()> {
    guarded(
        "allowed mount --bind /dev /mnt/u
        touch /mnt/w/evil/null
        refused mount --bind /mnt/w/evil/null /mnt/u/null
        mount --bind /dev /mnt/v
        refused mount --bind /mnt/w/evil/null /mnt/v/null
        test -c /dev/null
        refused umount /dev; refused umount /proc; refused mount --move /sys /mnt/u",
    )
    .map(drop)
}

/// What lies on a disk doesn't matter where the disk's own file is covered.
fn a_disk_that_is_a_target_is_a_place_like_others() -> Result<()> {
    guarded(&format!(
        "{LOOP} mkfs.ext4 -q $W/image; touch /mnt/w/evil/file; number=$(stat -c '0x%t 0x%T' $device)
        mknod /mnt/w/secret/node b $number; mknod /mnt/w/evil/node b $number
        covers() {{
            refused mount --bind /mnt/w/evil/file $device
            denied mount --bind /mnt/w/evil/file /mnt/w/secret/node
            denied mount --bind /mnt/w/secret/node /mnt/w/evil/file
            allowed mount --bind /mnt/w/evil/file /mnt/w/evil/node; allowed umount /mnt/w/evil/node
        }}
        covers; mount $device /mnt/v; covers"
    ))
    .map(drop)
}

fn the_cache_is_neither_covered_nor_shown() -> Result<()> {
    guarded(
        "mkdir -m 700 /mnt/w/cache /mnt/w/cache/c; export MOUNTGATE_CACHE=/mnt/w/cache/c
        allowed check mount -t tmpfs tmpfs /mnt/u
        refused mount --bind /mnt/w/evil /mnt/w/cache/c
        refused mount -t tmpfs tmpfs /mnt/w/cache
        refused mount --bind /mnt/w/cache/c /mnt/u
        refused mount --bind -o ro /mnt/w/cache/c /mnt/u
        refused mount --bind /mnt/w/cache /mnt/u
        mount --bind /mnt/w/cache /mnt/u
        refused mount --bind /mnt/w/evil /mnt/u/c
        refused mount --bind /mnt/u/c /mnt/v
        # A folder above may be shown where nobody can write it, and stays so.
        allowed mount --bind -o ro /mnt/w/cache /mnt/v
        refused mount -o remount,bind,rw /mnt/v
        refused mount --bind /mnt/w/evil /mnt/v/c",
    )
    .map(drop)
}

fn the_policy_directory_is_guarded_in_a_container_too() -> Result<()> {
    guarded(
        "mkdir -p /mnt/w/etc/mountgate; cp $P/* /mnt/w/etc/mountgate
        container 'mount --bind /mnt/w/etc/mountgate /mnt/v
            status() { $M --policies /mnt/v --host-root $W/rootfs mount \"$@\" > /dev/null 2>&1 || echo ended with $?; }
            status --bind /mnt/w/evil /mnt/w/etc/mountgate
            status -t tmpfs tmpfs /mnt/w/etc
            status --bind /mnt/w/etc/mountgate /mnt/u
            status --bind /mnt/w/etc /mnt/u' > /mnt/w/said
        test \"$(cat /mnt/w/said)\" = \"$(printf 'ended with 2\\nended with 2\\nended with 2\\nended with 2')\" || { cat /mnt/w/said; exit 1; }",
    )
    .map(drop)
}

fn a_remount_of_a_file_system_is_judged_at_all_its_mounts() -> Result<()> {
    guarded(
        "allowed mount --bind /mnt/w/evil /mnt/u
        denied mount -o remount,ro /mnt/u
        denied mount -o remount,size=1m /mnt/u
        # The mount point alone is its own.
        allowed mount -o remount,bind,ro /mnt/u
        touch /mnt/w/secret/in/still-writable",
    )
    .map(drop)
}

fn a_copy_of_sys_does_not_take_the_original_along() -> Result<()> {
    let text = guarded(
        "before=$(grep -c ' /sys' /proc/1/mountinfo)
        allowed mount --rbind /sys /mnt/u
        allowed umount -R /mnt/u
        test $before = $(grep -c ' /sys' /proc/1/mountinfo)
        echo still $before mounts",
    )?;
    ensure!(text.contains("mounts") && !text.contains("still 0"), "{text}");
    Ok(())
}

fn a_denied_name_that_is_a_link_is_denied_where_it_leads() -> Result<()> {
    guarded(
        "denied mount -t tmpfs tmpfs /mnt/w/linked
        denied mount -t tmpfs tmpfs /mnt/link
        denied mount --bind /mnt/w/linked /mnt/u
        mkdir /mnt/w/linked/deep
        denied mount -t tmpfs tmpfs /mnt/w/linked/deep
        gate check -v mount -t tmpfs tmpfs /mnt/link | grep 'target: /mnt/w/linked, through /mnt/link'",
    )
    .map(drop)
}

fn a_denied_path_that_is_not_there_cannot_be_made_above() -> Result<()> {
    guarded(
        "denied mount -t tmpfs tmpfs /mnt/w/dir
        mkdir /mnt/w/dir/absent
        denied mount -t tmpfs tmpfs /mnt/w/dir/absent
        mkdir /mnt/w/dir/other; allowed mount -t tmpfs tmpfs /mnt/w/dir/other",
    )
    .map(drop)
}

fn a_rule_behind_a_magic_link_fails_and_so_denies() -> Result<()> {
    let settings = GUARDED.replace("\"/mnt/link\", \"/mnt/w/dir/absent/deep\"", "\"/proc/self/root/mnt/w/linked\"");
    let text = guarded_by(&settings, "says 4 gate mount -t tmpfs tmpfs /mnt/w/linked; echo \"$said\"")?;
    ensure!(text.contains("leads nowhere on this host"), "{text}");
    Ok(())
}

const LOOP: &str = r#"
    truncate -s 128M $W/image; device=$(losetup --find --show $W/image)
    trap 'umount -l /mnt; losetup -d $device' EXIT
"#;

fn a_device_shows_the_file_system_on_it_under_any_name() -> Result<()> {
    guarded(&format!(
        "{LOOP} mkfs.ext4 -q $W/image; mount $device /mnt/w/secret
        denied mount -t ext4 $device /mnt/u
        denied mount -t ext4 -o ro $device /mnt/u
        mknod /mnt/w/evil/node b $(stat -c '0x%t 0x%T' $device)
        denied mount -t ext4 /mnt/w/evil/node /mnt/u
        umount /mnt/w/secret
        allowed mount -t ext4 $device /mnt/u"
    ))
    .map(drop)
}

fn a_btrfs_is_known_by_any_of_its_devices() -> Result<()> {
    guarded(&format!(
        "{LOOP} truncate -s 128M $W/image-2; other=$(losetup --find --show $W/image-2)
        trap 'umount -l /mnt; losetup -d $device $other' EXIT
        mkfs.btrfs -q $device $other; mount -t btrfs -o device=$other $device /mnt/w/secret; mkdir /mnt/w/secret/in
        denied mount -t btrfs $other /mnt/u
        denied mount -t btrfs -o ro $device /mnt/u
        denied mount -t btrfs -o subvol=in $other /mnt/u
        umount /mnt/w/secret; mount -t btrfs $device /mnt/v; mount --bind /mnt/w/evil /mnt/v
        # Even where its only mount is hidden.
        denied mount -t btrfs -o ro $other /mnt/u"
    ))
    .map(drop)
}

fn a_writable_file_system_has_one_writer_however_it_is_named() -> Result<()> {
    guarded(&format!(
        "{LOOP} mkfs.ext4 -q $W/image
        mknod /mnt/w/evil/node b $(stat -c '0x%t 0x%T' $device)
        allowed mount -t ext4 /mnt/w/evil/node /mnt/u
        denied mount -t ext4 $device /mnt/v
        allowed mount -o remount,bind,ro /mnt/u
        denied mount -t ext4 $device /mnt/v
        allowed umount /mnt/u
        allowed mount -t ext4 -o ro $device /mnt/u; allowed mount -t ext4 -o ro $device /mnt/v
        denied mount -o remount,rw /mnt/v
        allowed umount /mnt/u; allowed mount -o remount,rw /mnt/v"
    ))
    .map(drop)
}

fn a_copy_of_a_tree_shows_all_that_is_mounted_in_it() -> Result<()> {
    guarded(
        "mkdir /mnt/w/evil/deep; mount --bind /mnt/w/secret/in /mnt/w/evil/deep
        denied mount --rbind /mnt/w/evil /mnt/u
        denied mount --rbind /mnt /mnt/u
        allowed mount --bind /mnt/w/evil /mnt/u",
    )
    .map(drop)
}

fn a_file_system_that_is_mounted_is_not_shared_with_other_options() -> Result<()> {
    let output = on_host_with(
        "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"ext4\", \"btrfs\"] }\n",
        &["fstype-allow"],
        &format!(
            "{LOOP} mkfs.ext4 -q $W/image
            gate mount -t ext4 -o errors=remount-ro $device /mnt/x
            gate mount -t ext4 $device /mnt/y; gate mount -t ext4 -o errors=remount-ro $device /mnt/source
            gate mount -t ext4 -o commit=7 $device /mnt/target || echo ended with $?
            absent /mnt/target
            # The device stands for its mount point, if there is one.
            refused umount $device; umount /mnt/x; umount /mnt/y; allowed umount $device; absent /mnt/source
            mkfs.btrfs -qf $device; allowed mount -t btrfs -o subvol=/ $device /mnt/x
            mkdir /mnt/x/none; btrfs -q subvolume create /mnt/x/home
            allowed mount -t btrfs -o subvol=/home $device /mnt/y
            says 32 gate mount -t btrfs -o nodatacow $device /mnt/target; absent /mnt/target
            # The kernel shows a level that nobody asked for.
            umount /mnt/x /mnt/y; allowed mount -t btrfs -o compress=zstd,subvol=/ $device /mnt/x
            allowed mount -t btrfs -o compress=zstd,subvol=/home $device /mnt/y
            says 32 gate mount -t btrfs -o compress=lzo,subvol=/home $device /mnt/target"
        ),
    )?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.contains("ended with 32"), "{text}");
    ensure!(text.contains("and would be shared without commit=7"), "{text}");
    Ok(())
}

/// A `umount -R` that fails in the end puts its mounts back on a shared mount, and so on all peers of it.
fn what_is_put_back_is_seen_only_where_it_was() -> Result<()> {
    guarded(
        "mount -t tmpfs a /mnt/v; mkdir /mnt/v/x /mnt/v/p; allowed mount -t tmpfs evil /mnt/v/x
        # A peer without x.
        mount --bind /mnt/v /mnt/w/secret/in
        denied mount -t tmpfs evil /mnt/v/p
        exec 8</mnt/v
        denied umount -R /mnt/v
        at /mnt/v/x; absent /mnt/w/secret/in/x
        umount /mnt/w/secret/in
        # What comes back has the propagation that it had.
        mount -t tmpfs private /mnt/v/p; mount --make-private /mnt/v/p
        says 32 gate umount -R /mnt/v
        at /mnt/v/x | grep shared:; if at /mnt/v/p | grep shared:; then exit 1; fi
        exec 8<&-; allowed umount -R /mnt/v",
    )
    .map(drop)
}

/// While a `umount -R` works, somebody who may write there gives the name of a mount point to another folder.
fn what_is_put_back_does_not_follow_a_name() -> Result<()> {
    let text = guarded(
        "mount -t tmpfs a /mnt/v; mkdir /mnt/v/c /mnt/v/app; mount --bind /mnt/v/app /mnt/w/secret/in
        denied mount -t tmpfs evil /mnt/v/app
        allowed mount -t tmpfs evil /mnt/v/c
        exec 8</mnt/v
        ( for i in $(seq 20); do if mv /mnt/v/c /mnt/v/c.old 2>/dev/null; then mv /mnt/v/app /mnt/v/c; break; fi; done ) &
        says 32 gate umount -R /mnt/v; echo \"$said\"
        # It may have come too late, and ends with this host.
        if grep ' /mnt/w/secret/in ' /proc/1/mountinfo | grep ' - tmpfs evil '; then exit 1; fi",
    )?;
    ensure!(text.contains("undone: move_mount(/mnt/v/c)"), "{text}");
    Ok(())
}

/// `umount -f` has the file system itself give up, wherever it's mounted.
fn umount_by_force_is_judged_at_all_mounts_of_the_file_system() -> Result<()> {
    guarded(
        "mount -t tmpfs s /mnt/w/secret/in; mount --bind /mnt/w/secret/in /mnt/v; mount --make-private /mnt/v
        denied umount -f /mnt/v
        denied umount -f -l /mnt/v
        allowed umount /mnt/v",
    )
    .map(drop)
}

fn a_view_is_opened_only_where_what_it_shows_is_allowed() -> Result<()> {
    let policies = "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { allow-sources = [\"/mnt/a\", \"/mnt/views\", \"/dev\"] }\n";
    let output = on_host_with(
        policies,
        &["path-guard"],
        "mkdir /mnt/a /mnt/a/in /mnt/home /mnt/views /mnt/views/home /mnt/views/a /mnt/views/t /mnt/views/second
        view() { mount --bind $1 $2; mount -o remount,bind,ro,noexec $2; }
        view /mnt/home /mnt/views/home; view /mnt/a/in /mnt/views/a
        denied mount --bind /mnt/home /mnt/x
        allowed mount --bind /mnt/views/home /mnt/x; umount /mnt/x
        for right in rw exec; do
            denied mount --bind -o $right /mnt/views/home /mnt/x; echo \"$said\" | grep 'what /mnt/views/home shows'
            denied mount -o remount,bind,$right /mnt/views/home
            # A second view is no other way.
            allowed mount --bind /mnt/views/home /mnt/views/second; denied mount -o remount,bind,$right /mnt/views/home; umount /mnt/views/second
            # It could be bound from there with the right.
            allowed mount --bind -o $right /mnt/views/a /mnt/x; umount /mnt/x
        done
        allowed mount -o remount,bind,rw /mnt/views/a
        # What isn't anywhere else may be opened where it is, and a part of it, as a subvolume is one.
        mount -t tmpfs -o ro t /mnt/views/t; allowed mount -o remount,rw /mnt/views/t
        mkdir /mnt/views/t/in /mnt/views/in; view /mnt/views/t/in /mnt/views/in; umount -l /mnt/views/t
        allowed mount -o remount,bind,rw /mnt/views/in; umount /mnt/views/in; mount -t tmpfs t /mnt/views/t
        mount -o remount,ro /mnt/views/t; mkdir /mnt/elsewhere; mount --bind /mnt/views/t /mnt/elsewhere
        denied mount -o remount,rw /mnt/views/t",
    )?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_remount_opens_no_view_of_a_denied_place() -> Result<()> {
    let read_only =
        "mount --bind /mnt/w/secret /mnt/v; mount --make-private /mnt/v; mount -o remount,bind,ro,noexec /mnt/v
        denied mount -o remount,bind,rw /mnt/v
        denied mount -o remount,bind,exec /mnt/v
        allowed mount -o remount,bind,ro,nosuid /mnt/v
        umount /mnt/v; mount -t tmpfs t /mnt/v
        allowed mount -o remount,bind,ro /mnt/v; allowed mount -o remount,bind,rw /mnt/v
        # A folder that holds the denied one.
        mount --bind /mnt/w /mnt/u; mount --make-private /mnt/u; mount -o remount,bind,ro /mnt/u
        denied mount -o remount,bind,rw /mnt/u";
    guarded(read_only)?;
    let settings = GUARDED.replace(", deny-sources = [\"/mnt/w/secret\", \"/mnt/link\"]", "");
    guarded_by(&settings, read_only).map(drop)
}

fn a_folder_of_device_nodes_is_not_bound() -> Result<()> {
    let settings = GUARDED.replace("deny-sources", "allow-device-nodes = [\"/dev/null\"], deny-sources");
    guarded_by(
        &settings,
        "denied mount --bind /dev /mnt/v; denied mount --rbind -o rshared /dev /mnt/v
        mount --bind /dev /mnt/u; denied mount --bind /mnt/u /mnt/v
        denied mount --bind /mnt/u/pts /mnt/v
        allowed mount --bind /mnt/w/evil /mnt/v; touch /mnt/w/evil/null; allowed mount --bind /dev/null /mnt/w/evil/null",
    )
    .map(drop)
}

/// Directories that are renamed right before the mount is shown: what it's put on is seen at a denied place by then, as a peer.
fn a_mount_that_is_carried_elsewhere_by_a_rename_is_taken_away() -> Result<()> {
    for request in ["mount -t tmpfs pwned", "mount --bind /mnt/w/evil", "mount --move /mnt/pwned"] {
        let text = guarded(&format!(
            "mkdir -p /mnt/w/u/e /mnt/w/u/d/w/t /mnt/pwned; mount --make-private /mnt; mount -t tmpfs pwned /mnt/pwned
            mount --bind /mnt/w/u/e /mnt/w/secret
            $T inside between move_mount 1 'cd /mnt/w/u; mv d/w e/w; mv d old; mv e d' \
                $M --policies $P {request} /mnt/w/u/d/w/t
            if grep ' /mnt/w/secret/w/t' /proc/1/mountinfo; then exit 1; fi
            grep ' /mnt/pwned ' /proc/1/mountinfo"
        ))?;
        ensure!(text.contains("it ended with Some(3)") && text.contains("is denied"), "{request}: {text}");
    }
    Ok(())
}

/// A directory that has another name while the mounts below it are looked up.
fn a_tree_that_brings_along_what_nobody_judged_is_taken_away() -> Result<()> {
    let text = guarded(
        "mkdir -p /mnt/w/u/d/app /mnt/w/u/e /mnt/w/secret/in; mount --bind /mnt/w/secret /mnt/w/u/d/app
        swap='cd /mnt/w/u; mv d x; mv e d; mv x e'
        says 3 gate mount --rbind /mnt/w/u/d /mnt/u
        $T inside between-both listmount 1 \"$swap\" open_tree 1 \"$swap\" $M --policies $P mount --rbind /mnt/w/u/d /mnt/u
        if grep ' /mnt/u' /proc/1/mountinfo; then exit 1; fi",
    )?;
    ensure!(text.contains("it ended with Some(3)"), "{text}");
    Ok(())
}

fn a_mount_that_somebody_else_makes_meanwhile_is_not_taken_for_a_carried_one() -> Result<()> {
    let text = guarded(
        "mkdir /mnt/u/one /mnt/u/other
        $T inside between move_mount 1 'mount --bind /mnt/w/evil /mnt/u/other' \
            $M --policies $P -v mount --bind /mnt/w/evil /mnt/u/one
        at /mnt/u/one; at /mnt/u/other",
    )?;
    ensure!(text.contains("it ended with Some(0)") && !text.contains("carried"), "{text}");
    Ok(())
}

/// sysfs, debugfs and the like: a new mount would show, and change, what others have mounted elsewhere.
fn a_file_system_that_there_is_only_one_of_is_not_shown_anew() -> Result<()> {
    let text = guarded(
        "says 32 gate mount -t sysfs s /mnt/v; echo \"$said\"; says 32 gate mount -t devtmpfs d /mnt/v
        absent /mnt/v
        mount -t debugfs d /mnt/w/dir; before=$(stat -c '%a %u' /mnt/w/dir)
        says 2 gate mount -t debugfs -o mode=777,uid=1000 d /mnt/v; echo \"$said\" | grep 'would change the debugfs of the whole host'
        says 32 gate mount -t debugfs d /mnt/v; says 2 gate mount -t tracefs -o gid=7 t /mnt/v; allowed check mount -t cgroup2 -o ro c /mnt/v
        test \"$(stat -c '%a %u' /mnt/w/dir)\" = \"$before\"
        allowed mount -t tmpfs -o size=1m t /mnt/v
        # The kernel itself keeps this one, which says nothing about where it's seen.
        umount -l /mnt/w/dir; while umount -l /sys/kernel/debug 2>/dev/null; do :; done
        allowed mount -t debugfs d /mnt/u; mkdir /mnt/w/d; says 32 gate mount -t debugfs d /mnt/w/d; echo \"$said\"",
    )?;
    ensure!(text.contains("there is one sysfs for the whole host, and it's mounted on /sys already"), "{text}");
    ensure!(text.contains("there is one debugfs for the whole host, and it's mounted on /mnt/u already"), "{text}");
    Ok(())
}

fn a_bind_of_an_automount_point_is_refused() -> Result<()> {
    let output = on_host_with(GUARDED, &["path-guard", "mount-limits"], "$T inside automount /mnt/x")?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.matches("nothing is mounted yet").count() == 2, "{text}");
    Ok(())
}

/// Where only the source is denied, and the target isn't.
fn a_denied_source_stays_what_it_is() -> Result<()> {
    let settings = "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-sources = [\"/mnt/w/secret\"] }\n\
        [[policy]]\nname = \"limits\"\nplugin = \"mount-limits.wasm\"\n";
    guarded_by(
        settings,
        "truncate -s 24M $W/image; mkfs.ext4 -q $W/image; device=$(losetup -f --show $W/image)
        trap 'umount -l /mnt; losetup -d $device' EXIT
        mount $device /mnt/w/secret; mkdir /mnt/w/secret/sub /mnt/w/secret/deep; denied mount -t ext4 -o ro $device /mnt/v
        # Taken away, it would be a disk like others.
        denied umount /mnt/w/secret; denied umount -l /mnt/w/secret; denied umount -R /mnt/w; denied mount --move /mnt/w/secret /mnt/v
        # Covered, another name of it would be like others.
        mount --bind /mnt/w /mnt/u; mount --rbind /mnt/w/secret /mnt/link; denied mount --bind /mnt/link/sub /mnt/v
        denied mount -t tmpfs t /mnt/w/secret; denied mount -t tmpfs t /mnt/w; denied mount --bind /mnt/v /mnt/w
        denied mount -t tmpfs t /mnt/u; denied mount --bind /mnt/link/sub /mnt/v
        # What is below it, and beside it, isn't.
        allowed mount -t tmpfs t /mnt/w/secret/deep; allowed umount /mnt/w/secret/deep; allowed mount -t tmpfs t /mnt/w/evil",
    )
    .map(drop)
}

fn flags_that_are_added_are_lost_by_no_second_request() -> Result<()> {
    let rules = |rule: &str| {
        format!(
            "[[policy]]\nname = \"flags\"\nplugin = \"secure-flags.wasm\"\nrewrites = [\"options\"]\n\
            settings = {{ rules = [{{ add = [\"nosuid\"], {rule} }}] }}\n"
        )
    };
    guarded_by(
        &rules("sources = [\"/mnt/w/evil\"]"),
        "mkdir /mnt/w/plain; has() { at $1 | grep -e ',nosuid'; }
        # Layers of an overlay, and a folder above.
        allowed mount -t overlay -o lowerdir=/mnt/w/evil:/mnt/w/dir overlay /mnt/u; has /mnt/u; umount /mnt/u
        allowed mount --bind -o suid /mnt/w /mnt/u; has /mnt/u; umount /mnt/u
        allowed mount --bind /mnt/w/plain /mnt/u; if has /mnt/u; then exit 1; fi",
    )?;
    guarded_by(
        &rules("except-sources = [\"/mnt/w/dir\"]"),
        "mkdir /mnt/w/dir/x; allowed mount --bind -o suid /mnt/w/evil /mnt/w/dir/x
        allowed mount --bind -o suid /mnt/w/dir/x /mnt/u; at /mnt/u | grep ',nosuid'; umount /mnt/u /mnt/w/dir/x
        allowed mount --bind -o suid /mnt/w/dir/x /mnt/u; if at /mnt/u | grep ',nosuid'; then exit 1; fi",
    )?;
    guarded_by(
        &rules("targets = [\"/mnt/w/secret/in\"]"),
        "mkdir /mnt/w/evil/in; mount -t tmpfs t /mnt/w/evil/in
        allowed mount --rbind /mnt/w/evil /mnt/w/secret; at /mnt/w/secret | grep ',nosuid'; at /mnt/w/secret/in | grep ',nosuid'
        umount -R /mnt/w/secret; mount -t tmpfs t /mnt/v; denied mount --move /mnt/v /mnt/w/secret",
    )?;
    // The device of a file system stands for all that is bound of it.
    guarded_by(
        &rules("sources = [\"/the-device\"]"),
        "truncate -s 16M $W/image; mkfs.ext4 -q $W/image; device=$(losetup -f --show $W/image)
        trap 'umount -l /mnt; losetup -d $device' EXIT
        sed -i s,/the-device,$device, $P/policies.toml; $M policy lock --yes $P > /dev/null
        allowed mount -t ext4 $device /mnt/u; at /mnt/u | grep ',nosuid'; mkdir /mnt/u/deep
        allowed mount --bind -o suid /mnt/u/deep /mnt/v; at /mnt/v | grep ',nosuid'",
    )
    .map(drop)
}

/// What the hostile caller may not do, by location.
const HOSTILE: &str = "[[policy]]
name = \"guard\"
plugin = \"path-guard.wasm\"
settings = { deny-targets = [\"/mnt/w/secret\", \"/mnt/w/vault\", \"/mnt/link\"], deny-sources = [\"/mnt/w/secret\", \"/mnt/w/vault\", \"/mnt/link\"] }
";

/// The same by name.
const BY_NAME: &str = "[[policy]]
name = \"guard\"
plugin = \"misbehaving-guest.wasm\"
settings = { rules = [{ act = \"judge-names\" , names = [\"/mnt/w/secret\", \"/mnt/w/vault\", \"/mnt/link\"] }] }
";

fn a_hostile_caller_never_reaches_a_denied_location() -> Result<()> {
    let output = on_host_with(HOSTILE, &["path-guard"], "mount --make-rshared /; $T inside hostile 10000")?;
    ensure!(output.status.success() && text_of(&output).contains("nothing denied was reached"), "{}", text_of(&output));
    Ok(())
}

fn the_same_caller_gets_through_a_comparison_of_names() -> Result<()> {
    let plugins = ["misbehaving-guest"];
    let output =
        on_host_with(BY_NAME, &plugins, "mount --make-rshared /; $T inside hostile 10000 || echo ended with $?")?;
    let text = text_of(&output);
    for way in ["is covered", "is shown at", "has changed"] {
        ensure!(text.contains(way), "{text}");
    }
    Ok(())
}

const LIMITED: &str = "[host]
timeout = \"120s\"
[[policy]]
name = \"limits\"
plugin = \"mount-limits.wasm\"
settings = { max-per-source = 1, below = [{ path = \"/mnt/w\", max = 64 }] }
";

fn limits_hold_among_a_hundred_callers() -> Result<()> {
    let writer = LIMITED.replace("max-per-source = 1, ", "");
    for (settings, rounds) in [(LIMITED, 25), (&writer, 25)] {
        let script = format!(
            "{LOOP} mkfs.ext4 -q $W/image
            mkdir -p /mnt/w; for i in $(seq 100); do mkdir -p /mnt/w/$i /mnt/d/$i; done
            $T inside callers {rounds} $device"
        );
        let output = on_host_with(settings, &["mount-limits"], &format!("mount --make-rshared /\n{script}"))?;
        ensure!(output.status.success(), "{}", text_of(&output));
        println!("{}", String::from_utf8_lossy(&output.stdout).trim());
    }
    Ok(())
}

fn limits_hold_among_helpers_too() -> Result<()> {
    let settings = "[host]
helpers = [\"fuse.bindfs\"]
scope = \"never\"
timeout = \"60s\"
[[policy]]
name = \"limits\"
plugin = \"mount-limits.wasm\"
settings = { below = [{ path = \"/mnt/w\", max = 3 }] }
";
    let script = "mkdir /mnt/w; for i in 1 2 3 4 5 6; do mkdir /mnt/w/$i /mnt/source/$i; done
        for i in 1 2 3 4 5 6; do (set +e; gate mount -t fuse.bindfs /mnt/source/$i /mnt/w/$i 2>> $W/said; echo $? >> $W/ended) & done
        wait
        cat $W/said $W/ended
        test $(grep -c '^0$' $W/ended) = 3; test $(grep -c '^3$' $W/ended) = 3
        test $(grep -c ' /mnt/w/' /proc/1/mountinfo) = 3";
    let output = on_host_with(settings, &["mount-limits"], script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}
