//! What a mount is made of: layers, images, further devices. Each is judged, and what was judged is what is mounted.

use anyhow::{Result, ensure};

use crate::support::{on_host_with, text_of};

tests! {
    privileged layers_of_an_overlay_are_judged_as_what_they_are,
    privileged layers_of_an_overlay_are_pinned_and_may_be_many,
    privileged two_overlays_never_write_to_one_folder,
    privileged a_journal_device_is_judged_as_a_source,
    privileged what_the_kernel_is_not_told_hides_no_path,
    privileged a_remount_names_no_path_that_nobody_has_judged,
    privileged what_mount_would_look_up_again_is_refused,
    privileged an_erofs_image_needs_no_loop_device,
    privileged a_directory_that_takes_long_holds_nobody_up,
    privileged an_image_gets_a_loop_device_that_goes_with_its_mount,
    privileged an_image_has_one_writer,
    privileged a_server_behind_a_loop_device_holds_nobody_up,
    privileged the_kernel_finds_nothing_by_name_but_what_was_judged,
    privileged what_a_closed_root_holds_is_not_seen_on_the_host,
    privileged two_devices_that_show_the_same_are_one_file_system,
    privileged what_a_device_shows_is_judged_under_its_other_names,
    privileged a_node_in_an_allowed_folder_is_not_the_kernels,
    privileged what_an_image_gets_it_keeps,
    privileged an_image_that_is_mounted_is_no_device_of_its_user,
    privileged what_is_used_under_another_name_is_not_used_again,
    privileged one_of_many_callers_writes_what_has_two_names,
    privileged a_context_with_commas_reaches_the_kernel_as_it_is_meant,
    privileged a_missing_mount_point_is_made_below_the_folder_that_is_there,
    privileged a_mount_that_fails_leaves_no_directory_that_it_made,
    privileged owners_are_mapped_on_new_mounts_and_binds,
}

/// Policies that guard `/mnt/w/secret` as a source, and allow all types.
const GUARDED: &str = "[host]
options = [\"context\", \"loop\", \"offset\", \"sizelimit\", \"X-mount.mkdir\", \"X-mount.idmap\", \"user\"]
[[policy]]
name = \"guard\"
plugin = \"path-guard.wasm\"
settings = { deny-targets = [\"/mnt/w/secret\"], deny-sources = [\"/mnt/w/secret\"] }
";

const WORLD: &str = r#"
    mount --make-rshared /
    mkdir -p /mnt/w; mount -t tmpfs -o size=64m w /mnt/w
    mkdir -p /mnt/w/secret/in /mnt/w/a /mnt/w/b /mnt/w/upper /mnt/w/work /mnt/other
    echo secret > /mnt/w/secret/file; echo a > /mnt/w/a/file
"#;

fn with_sources(script: &str) -> Result<String> {
    let output = on_host_with(GUARDED, &["path-guard"], &format!("{WORLD}\n{script}"))?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(text_of(&output))
}

fn layers_of_an_overlay_are_judged_as_what_they_are() -> Result<()> {
    with_sources(
        "layered() { echo mount -t overlay -o \"$1\" overlay /mnt/x; }
        denied $(layered lowerdir=/mnt/w/a:/mnt/w/secret)
        denied $(layered lowerdir=/mnt/w)
        denied $(layered lowerdir=/mnt/w/a,upperdir=/mnt/w/secret/in,workdir=/mnt/w/work)
        ln -s /mnt/w/secret /mnt/w/link; denied $(layered lowerdir=/mnt/w/a:/mnt/w/link)
        mount --bind /mnt/w/secret /mnt/other; denied $(layered lowerdir=/mnt/w/a:/mnt/other)
        refused $(layered lowerdir=mnt/w/a:/mnt/w/b); refused $(layered lowerdir=/mnt/w/a:/mnt/../mnt/w/b)
        refused $(layered lowerdir=/mnt/w/a:/mnt/none)
        # What decides is neither shown nor written through a layer.
        refused $(layered lowerdir=/mnt/w/a,upperdir=$P,workdir=/mnt/w/work); echo \"$said\" | grep 'own state'
        refused $(layered lowerdir=/mnt/w/a:$P)
        gate check --json $(layered lowerdir=/mnt/w/a:/mnt/w/b) | grep '\"option_paths\":.{\"option\":\"lowerdir\",\"found\":{\"path\":\"/mnt/w/a\"'
        allowed $(layered lowerdir=/mnt/w/a:/mnt/w/b,upperdir=/mnt/w/upper,workdir=/mnt/w/work)
        test $(cat /mnt/x/file) = a; allowed umount /mnt/x",
    )
    .map(drop)
}

fn layers_of_an_overlay_are_pinned_and_may_be_many() -> Result<()> {
    let text = with_sources(
        r#"long=$(printf 'x%.0s' $(seq 200)); lower=/mnt/w/a
        for i in $(seq 40); do mkdir -p /mnt/w/$long/$i; lower=$lower:/mnt/w/$long/$i; done
        echo last > /mnt/w/$long/40/last; mkdir '/mnt/w/with:colon'; echo colon > '/mnt/w/with:colon/colon'
        strace -f -e trace=fsconfig -o $W/calls $M --policies $P mount -t overlay -o "lowerdir=$lower:/mnt/w/with\:colon" overlay /mnt/x
        test $(cat /mnt/x/last) = last; test $(cat /mnt/x/colon) = colon; test $(cat /mnt/x/file) = a
        grep -c 'FSCONFIG_SET_FD, "lowerdir+"' $W/calls
        says 32 gate mount -t overlay -o lowerdir=/mnt/w/a/file:/mnt/w/b overlay /mnt/other; echo "$said" | grep 'not a directory'
    gate check mount -t overlay -o lowerdir=/mnt/w/a:/mnt/w/b overlay /mnt/other | grep 'fsconfig(lowerdir+, /mnt/w/b)'"#,
    )?;
    ensure!(text.contains("\n42\n"), "{text}");
    Ok(())
}

fn two_overlays_never_write_to_one_folder() -> Result<()> {
    with_sources(
        r#"layered() { echo mount -t overlay -o lowerdir=/mnt/w/a,upperdir=$1,workdir=$2 overlay $3; }
        busy() { says 32 gate $(layered "$@"); echo "$said" | grep 'would lose files'; absent $3; }
        mkdir -p /mnt/w/upper/in /mnt/w/upper2 /mnt/w/work2 /mnt/view /mnt/part; mount --bind /mnt/w /mnt/view
        mount --bind /mnt/w/upper/in /mnt/part; mkdir /mnt/part/u /mnt/part/w; ln -s /mnt/view/upper /mnt/link
        allowed $(layered /mnt/w/upper /mnt/w/work /mnt/x)
        busy /mnt/w/upper /mnt/w/work2 /mnt/y; busy /mnt/w/upper2 /mnt/w/work /mnt/y; busy /mnt/w/work /mnt/w/work2 /mnt/y
        # Below it.
        busy /mnt/w/upper/in /mnt/w/work2 /mnt/y; busy /mnt/w/upper2 /mnt/w/work/work /mnt/y
        # Under another name.
        busy /mnt/view/upper /mnt/view/work2 /mnt/y; busy /mnt/link /mnt/view/work2 /mnt/y; busy /mnt/part/u /mnt/part/w /mnt/y
        allowed $(layered /mnt/view/upper2 /mnt/view/work2 /mnt/y); allowed umount /mnt/y
        # Those who only read take nothing from it.
        allowed mount -t overlay -o lowerdir=/mnt/w/a:/mnt/w/b overlay /mnt/y; allowed umount /mnt/y
        allowed umount /mnt/x
        # Above it.
        allowed $(layered /mnt/w/upper/in /mnt/w/work /mnt/x); busy /mnt/w/upper /mnt/w/work2 /mnt/y; allowed umount /mnt/x
        # The other one may have been mounted through a link.
        ln -s /mnt/w /mnt/short; mount -t overlay -o lowerdir=/mnt/w/a,upperdir=/mnt/short/upper,workdir=/mnt/short/work other /mnt/x
        at /mnt/x | grep upperdir=/mnt/short/upper; busy /mnt/w/upper /mnt/w/work2 /mnt/y; umount /mnt/x
        # One of many callers.
        for round in 1 2 3 4 5 6; do
            gate $(layered /mnt/w/upper /mnt/w/work /mnt/x) 2>/run/one & one=$!
            gate $(layered /mnt/view/upper /mnt/view/work2 /mnt/y) 2>/run/other & other=$!
            set +e; wait $one; one=$?; wait $other; other=$?; set -e
            test $((one + other)) = 32; cat /run/one /run/other | grep 'would lose files'
            test $(grep -c -e ' /mnt/x .* - overlay ' -e ' /mnt/y .* - overlay ' /proc/1/mountinfo) = 1; umount /mnt/x 2>/dev/null || umount /mnt/y
        done"#,
    )
    .map(drop)
}

fn a_journal_device_is_judged_as_a_source() -> Result<()> {
    with_sources(
        "mkdir /mnt/w/secret/dev; mknod /mnt/w/secret/dev/journal b 7 7; mknod /mnt/w/loop b 7 6
        denied mount -t ext4 -o journal_path=/mnt/w/secret/dev/journal /mnt/w/loop /mnt/x
        denied mount -t xfs -o logdev=/mnt/w/secret/dev/journal /mnt/w/loop /mnt/x
        denied mount -t ext4 -o unheard-of=/mnt/w/secret/file /mnt/w/loop /mnt/x
        refused mount -t ext4 -o unheard-of=/mnt/w/none /mnt/w/loop /mnt/x
        refused mount -t cgroup -o release_agent=/mnt/w/a/file cgroup /mnt/x",
    )
    .map(drop)
}

fn what_the_kernel_is_not_told_hides_no_path() -> Result<()> {
    let text = with_sources(
        r#"strace -f -e trace=fsconfig -o $W/calls $M --policies $P \
            mount -t overlay -o x-a=/etc,lowerdir=/mnt/w/a:/mnt/w/b overlay /mnt/x
        grep -c 'FSCONFIG_SET_FD, "lowerdir+"' $W/calls; test $(cat /mnt/x/file) = a; umount /mnt/x
        denied mount -t overlay -o x-a=/etc,lowerdir=/mnt/w/a:/mnt/w/secret overlay /mnt/x
        # Words that mount(8) keeps to itself may name what isn't there.
        allowed mount -t tmpfs -o x-systemd.requires-mounts-for=/none,comment=/none tmpfs /mnt/x"#,
    )?;
    ensure!(text.contains("\n2\n"), "{text}");
    Ok(())
}

fn a_remount_names_no_path_that_nobody_has_judged() -> Result<()> {
    with_sources(
        "allowed mount -t tmpfs tmpfs /mnt/x
        denied mount -o remount,journal_path=/mnt/w/secret/file /mnt/x
        denied mount -o remount,unheard-of=/mnt/w/secret /mnt/x
        refused mount -o remount,unheard-of=$P /mnt/x; echo \"$said\" | grep 'own state'
        refused mount -o remount,unheard-of=/mnt/w/none /mnt/x
        mkdir -m 777 /mnt/w/open; touch /mnt/w/open/file
        says 32 gate mount -o remount,journal_path=/mnt/w/open/file /mnt/x; echo \"$said\" | grep 'others than root can put something else'",
    )
    .map(drop)
}

fn what_mount_would_look_up_again_is_refused() -> Result<()> {
    with_sources(
        "refused mount --bind -o loop /mnt/w/a/file /mnt/target; echo \"$said\" | grep 'for a new mount of an image'
        refused mount -o remount,offset=4K /mnt/w; refused mount -o remount,loop /mnt/w
        # The word passes, and so does the path, but not both.
        gate check mount -t tmpfs -o user tmpfs /mnt/x
        refused mount -t overlay -o user,lowerdir=/mnt/w/a:/mnt/w/b overlay /mnt/x; echo \"$said\" | grep 'look up /mnt/w/a again'",
    )
    .map(drop)
}

/// A file system that doesn't answer holds up who waits for it, and nobody else.
fn a_directory_that_takes_long_holds_nobody_up() -> Result<()> {
    with_sources(
        "truncate -s 16M $W/ext4; mkfs.ext4 -q $W/ext4; device=$(losetup --find --show $W/ext4)
        trap 'fsfreeze -u /mnt/y || true; umount -l /mnt; losetup -d $device' EXIT
        mount $device /mnt/y; fsfreeze -f /mnt/y
        $M --policies $P mount -t tmpfs -o X-mount.mkdir t /mnt/y/new & slow=$!
        for i in $(seq 200); do if grep -q 'State:.D' /proc/$slow/task/*/status; then break; fi; sleep .05; done
        allowed mount -t tmpfs t /mnt/x
        fsfreeze -u /mnt/y; wait $slow; at /mnt/y/new | grep tmpfs; allowed umount /mnt/y/new",
    )
    .map(drop)
}

fn an_erofs_image_needs_no_loop_device() -> Result<()> {
    with_sources(
        "mkfs.erofs --quiet $W/image.erofs /mnt/w/a; cp $W/image.erofs /mnt/w/secret/image; mkdir $W/open; cp $W/image.erofs $W/open/image
        denied mount -t erofs /mnt/w/secret/image /mnt/x
        allowed mount -t erofs -o ro,nosuid $W/open/image /mnt/x
        test $(cat /mnt/x/file) = a; at /mnt/x | grep ' ro,nosuid'; test -z \"$(losetup --associated $W/open/image)\"
        allowed umount /mnt/x
        # Others than root can put another file there: the kernel gets the very file.
        chmod 777 $W/open; allowed mount -t erofs $W/open/image /mnt/x; test $(cat /mnt/x/file) = a
        at /mnt/x | grep erofs.*/open/image; allowed umount /mnt/x
        # Whatever a daemon says of owners, it can put another file there.
        chmod 755 $W/open; mkdir $W/served; bindfs --force-user=root --force-group=root $W/open $W/served
        allowed mount -t erofs $W/served/image /mnt/x; test $(cat /mnt/x/file) = a; allowed umount /mnt/x; umount -l $W/served
        # Policies in an image belong to whoever made that.
        mkfs.erofs --quiet $W/open/policies $P; allowed mount -t erofs $W/open/policies /mnt/x
        says 4 $M --policies /mnt/x check mount -t tmpfs t /mnt/y; echo \"$said\" | grep 'erofs of an image'; allowed umount /mnt/x
        # Not every file system can hold such an image, e.g. not tmpfs.
        cp $W/open/image /mnt/w/b/; says 32 gate mount -t erofs /mnt/w/b/image /mnt/x; echo \"$said\" | grep 'o loop'
        allowed mount -t erofs -o loop,ro /mnt/w/b/image /mnt/x; test $(cat /mnt/x/file) = a; allowed umount /mnt/x
        # Without `loop` in [host] options too.
        cp $W/open/image /mnt/; $M --policies $B check mount -t erofs -o ro /mnt/image /mnt/x
        says 2 $M --policies $B mount -t ext4 /mnt/image /mnt/x; echo \"$said\" | grep 'add \"loop\" to'",
    )
    .map(drop)
}

/// Makes an ext4 in an image, behind `$1` bytes of something else.
const IMAGE: &str = "
    image() { truncate -s 24M $W/ext4; mkfs.ext4 -q $W/ext4; head -c $1 /dev/zero > /mnt/w/b/image; cat $W/ext4 >> /mnt/w/b/image; }
    devices() { losetup --noheadings --output NAME,RO,OFFSET,AUTOCLEAR --associated /mnt/w/b/image; }
";

fn an_image_gets_a_loop_device_that_goes_with_its_mount() -> Result<()> {
    with_sources(&format!(
        "{IMAGE} image 0
        denied mount -t ext4 -o loop /mnt/w/secret/file /mnt/x
        gate check mount -t ext4 -o loop,ro /mnt/w/b/image /mnt/x | grep 'ioctl(LOOP_CONFIGURE, /mnt/w/b/image, LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY)'
        allowed mount -t ext4 -o loop /mnt/w/b/image /mnt/x
        test \"$(devices | tr -s ' ' | cut -d' ' -f2-)\" = '0 0 1'; touch /mnt/x/written; allowed umount /mnt/x; test -z \"$(devices)\"
        # As mount(8), without the word, and only to be read.
        allowed mount -t ext4 -o ro /mnt/w/b/image /mnt/x; test -e /mnt/x/written; at /mnt/x | grep ' ro'
        test \"$(devices | tr -s ' ' | cut -d' ' -f2-)\" = '1 0 1'; allowed umount /mnt/x; test -z \"$(devices)\"
        image 4096
        allowed mount -t ext4 -o offset=4K,sizelimit=24MiB /mnt/w/b/image /mnt/x
        test \"$(devices | tr -s ' ' | cut -d' ' -f2-)\" = '0 4096 1'; allowed umount /mnt/x
        # What fails leaves no device behind.
        says 32 gate mount -t xfs /mnt/w/b/image /mnt/x; test -z \"$(devices)\"
        refused mount -t ext4 -o offset=x /mnt/w/b/image /mnt/x; refused mount -t ext4 -o loop=/dev/loop7 /mnt/w/b/image /mnt/x
        refused mount -t tmpfs -o loop tmpfs /mnt/x
        container \"$M --policies $P --host-root $W/rootfs mount -t ext4 -o offset=4K /mnt/w/b/image /mnt/x\"; at /mnt/x | grep ext4"
    ))
    .map(drop)
}

fn an_image_has_one_writer() -> Result<()> {
    with_sources(&format!(
        "{IMAGE} image 0; mkdir /mnt/z
        allowed mount -t ext4 -o ro /mnt/w/b/image /mnt/x
        says 32 gate mount -t ext4 /mnt/w/b/image /mnt/y; echo \"$said\" | grep 'shows this image already'
        allowed mount -t ext4 -o ro /mnt/w/b/image /mnt/y; allowed umount /mnt/x; allowed umount /mnt/y
        allowed mount -t ext4 /mnt/w/b/image /mnt/x
        says 32 gate mount -t ext4 -o ro /mnt/w/b/image /mnt/y; ln /mnt/w/b/image /mnt/w/b/other
        says 32 gate mount -t ext4 /mnt/w/b/other /mnt/y; gate --json mount -t ext4 /mnt/w/b/other /mnt/y | grep '\"code\":\"busy\"'"
    ))
    .map(drop)
}

/// Looks into the root of the thread that makes a file system, while that waits in the call.
fn the_kernel_finds_nothing_by_name_but_what_was_judged() -> Result<()> {
    with_sources(
        r#"mkfs.erofs --quiet $W/image /mnt/w/a
        strace -o /run/calls -f -e trace=fsconfig -e inject=fsconfig:delay_enter=3s:when=2             $M --policies $P mount -t erofs -o nosuid $W/image /mnt/x & gate=$!
        for i in $(seq 300); do
            for task in /proc/[0-9]*/task/*; do test -e $task/root/proc -o ! -e $task/root$W/image || found=$task; done 2>/dev/null
            test -z "${found:-}" || break; sleep 0.01
        done
        test "$(cd $found/root; find . ! -type d)" = .$W/image; wait $gate; test $(cat /mnt/x/file) = a"#,
    )
    .map(drop)
}

fn a_server_behind_a_loop_device_holds_nobody_up() -> Result<()> {
    with_sources(
        "mkdir $W/real $W/served; truncate -s 24M $W/real/image $W/own; mkfs.ext4 -q $W/real/image; mkfs.ext4 -q $W/own
        bindfs $W/real $W/served -f & daemon=$!
        for i in $(seq 600); do test -e $W/served/image && break; sleep 0.1; done
        served=$(losetup -f --show $W/served/image); own=$(losetup -f --show $W/own)
        trap 'kill -CONT $daemon; umount /mnt/x /mnt/y 2>/dev/null || true; losetup -d $served $own' EXIT
        allowed mount -t ext4 $served /mnt/x; kill -STOP $daemon
        allowed mount -t ext4 $own /mnt/y; umount /mnt/y
        cp $W/own $W/other; allowed mount -t ext4 -o loop $W/other /mnt/y",
    )
    .map(drop)
}

fn what_a_closed_root_holds_is_not_seen_on_the_host() -> Result<()> {
    with_sources(
        r#"mount --make-rshared /; truncate -s 128M $W/one $W/other
        one=$(losetup -f --show $W/one); other=$(losetup -f --show $W/other)
        trap 'umount /mnt/x 2>/dev/null || true; losetup -d $one $other' EXIT
        # One path twice, and a folder above another path.
        mkfs.ext4 -q $one; cut -d' ' -f3- /proc/1/mountinfo | sort > /run/before
        gate mount -t ext4 -o journal_path=$one $one /mnt/x || true; gate mount -t ext4 -o journal_path=/dev $one /mnt/x || true
        cut -d' ' -f3- /proc/1/mountinfo | sort | diff /run/before -
        # The devices of a btrfs are known from a scan.
        mkfs.btrfs -q -f -d raid1 -m raid1 $one $other; btrfs device scan $one $other
        allowed mount -t btrfs $one /mnt/x; umount /mnt/x
        allowed mount -t btrfs -o device=$one,device=$other $one /mnt/x; umount /mnt/x
        cut -d' ' -f3- /proc/1/mountinfo | sort | diff /run/before -"#,
    )
    .map(drop)
}

fn two_devices_that_show_the_same_are_one_file_system() -> Result<()> {
    const DEVICES: &str = r#"
        truncate -s 24M /mnt/w/b/image; mkfs.ext4 -q /mnt/w/b/image
        trap 'umount /mnt/x /mnt/y 2>/dev/null || true; losetup -d $second $third $first' EXIT
        first=$(losetup -f --show /mnt/w/b/image); second=$(losetup -f --show /mnt/w/b/image)
        third=$(losetup -f --show $first)
    "#;
    with_sources(&format!(
        "{DEVICES}
        allowed mount -t ext4 $first /mnt/x
        for other in $second $third; do
            says 32 gate mount -t ext4 $other /mnt/y; echo \"$said\" | grep \"it shows the same as $first, which is mounted on /mnt/x\"
            gate --json mount -t ext4 $other /mnt/y | grep '\"code\":\"busy\"'
            # It lies where the file system lies that is mounted.
            gate check --json mount -t ext4 $other /mnt/y | grep -o '\"source\":.*' | grep -o '\"minor\":[0-9]*' > /run/minors
            grep -x '\"minor\":'${{first#/dev/loop}} /run/minors
        done
        # A mount that is read-only could be made writable, but not on a device that is.
        umount /mnt/x; allowed mount -t ext4 -o ro $first /mnt/x; says 32 gate mount -t ext4 -o ro $second /mnt/y
        mount -t ext4 -o ro $second /mnt/y; says 32 gate mount -o remount,rw /mnt/x; umount /mnt/x /mnt/y
        losetup -d $third $second $first; first=$(losetup -rf --show /mnt/w/b/image); second=$(losetup -rf --show /mnt/w/b/image)
        allowed mount -t ext4 -o ro $first /mnt/x; allowed mount -t ext4 -o ro $second /mnt/y; umount /mnt/x /mnt/y
        # A part of an image, by way of another device; and a btrfs, which has a number of its own.
        losetup -d $first $second; cp /mnt/w/b/image $W/ext4; truncate -s 1M /mnt/w/b/image; cat $W/ext4 >> /mnt/w/b/image
        first=$(losetup -f --show -o 1M /mnt/w/b/image); third=$(losetup -f --show /mnt/w/b/image); second=$(losetup -f --show -o 1M $third)
        allowed mount -t ext4 $first /mnt/x; says 32 gate mount -t ext4 $second /mnt/y; umount /mnt/x
        losetup -d $second $third $first; rm /mnt/w/b/image; truncate -s 128M $W/btrfs; mkfs.btrfs -q $W/btrfs
        first=$(losetup -f --show $W/btrfs); second=$(losetup -f --show $W/btrfs); third=
        allowed mount -t btrfs $first /mnt/x; says 32 gate mount -t btrfs $second /mnt/y"
    ))?;
    let limits = "[[policy]]\nname = \"limits\"\nplugin = \"mount-limits.wasm\"\nsettings = { max-per-source = 1 }\n";
    let script = format!(
        "{WORLD} {DEVICES}
        allowed mount -t ext4 $first /mnt/x
        denied mount -t ext4 $second /mnt/y; echo \"$said\" | grep 'already writable, mounted on /mnt/x'
        umount /mnt/x; allowed mount -t ext4 -o ro $first /mnt/x
        denied mount -t ext4 -o ro $second /mnt/y; echo \"$said\" | grep 'mounted 1 times, and at most 1 may be'"
    );
    let output = on_host_with(limits, &["mount-limits"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn what_a_device_shows_is_judged_under_its_other_names() -> Result<()> {
    let script = format!(
        "{WORLD}
        truncate -s 16M /mnt/w/secret/image /mnt/w/b/image /mnt/w/b/disk; mkfs.ext4 -q /mnt/w/secret/image; mkfs.ext4 -q /mnt/w/b/image
        hidden=$(losetup -f --show /mnt/w/secret/image); open=$(losetup -rf --show /mnt/w/b/image); disk=$(losetup -f --show /mnt/w/b/disk)
        above=$(losetup -f --show $hidden)
        trap 'umount /mnt/x /mnt/y 2>/dev/null || true; delpart $disk 1 || true; delpart $disk 2 || true; delpart $hidden 1 || true; losetup -d $above $hidden $open $disk' EXIT
        addpart $disk 1 2048 8192; addpart $disk 2 16384 8192; mkfs.ext4 -q ${{disk}}p1; mkfs.ext4 -q ${{disk}}p2
        mknod /mnt/w/node b $(stat -c '%Hr %Lr' $disk); mknod /mnt/w/part b $(stat -c '%Hr %Lr' ${{disk}}p1)
        sourced() {{ denied \"$@\"; echo \"$said\" | grep '(source-denied)'; }}
        guard() {{ sed -i \"s#^settings = .*#settings = {{ deny-sources = [$1] }}#\" $P/policies.toml; $M policy lock --yes $P > $W/locked; }}
        # An image in a denied folder, behind a loop device, or two.
        denied mount -t ext4 $hidden /mnt/x; echo \"$said\" | grep '/mnt/w/secret'; denied mount -t ext4 -o ro $above /mnt/x
        allowed mount -t ext4 -o ro $open /mnt/x; umount /mnt/x
        # The file system on an image is mounted in a denied folder.
        mount -t ext4 -o ro $open /mnt/w/secret/in; denied mount -t ext4 -o ro,loop /mnt/w/b/image /mnt/x
        umount /mnt/w/secret/in; allowed mount -t ext4 -o ro,loop /mnt/w/b/image /mnt/x; umount /mnt/x
        # A device that is denied, under another node, with its parts and within its disk.
        guard \"'$disk'\"; sourced mount -t ext4 /mnt/w/node /mnt/x; sourced mount -t ext4 ${{disk}}p1 /mnt/x; sourced mount -t ext4 /mnt/w/part /mnt/x
        guard \"'${{disk}}p1'\"; sourced mount -t ext4 /mnt/w/node /mnt/x; sourced mount -t ext4 /mnt/w/part /mnt/x
        allowed mount -t ext4 ${{disk}}p2 /mnt/x; umount /mnt/x
        # An image, where its device is denied, and the other way round.
        guard \"'$open'\"; sourced mount -t ext4 -o ro,loop /mnt/w/b/image /mnt/x
        guard \"'/mnt/w/b/image'\"; sourced mount -t ext4 -o ro $open /mnt/x; allowed mount -t ext4 $hidden /mnt/x; umount /mnt/x
        # A device that goes with its last user, under another node.
        cp /mnt/w/b/image /mnt/w/b/own; allowed mount -t ext4 -o loop,ro /mnt/w/b/own /mnt/x; own=$(losetup -n -O NAME -j /mnt/w/b/own)
        mknod /mnt/w/own b $(stat -c '%Hr %Lr' $own); guard \"'$own'\"; sourced mount -t ext4 -o ro /mnt/w/own /mnt/y; umount /mnt/x
        # A partition of the loop device of an image, and a loop device over a loop device of it.
        addpart $hidden 1 2048 8192; guard \"'${{hidden}}p1'\"; sourced mount -t ext4 -o ro,loop,offset=1M /mnt/w/secret/image /mnt/x
        guard \"'$above'\"; sourced mount -t ext4 -o ro,loop /mnt/w/secret/image /mnt/x"
    );
    let output = on_host_with(GUARDED, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn what_an_image_gets_it_keeps() -> Result<()> {
    let flags = "[host]
options = [\"loop\"]
[[policy]]
name = \"flags\"
plugin = \"secure-flags.wasm\"
rewrites = [\"options\"]
settings = { rules = [{ add = [\"nosuid\"], sources = [\"/mnt/w/b\"] }] }
";
    let script = format!(
        "{WORLD}
        truncate -s 16M /mnt/w/b/image /mnt/w/a/image; mkfs.ext4 -q /mnt/w/b/image; mkfs.ext4 -q /mnt/w/a/image
        has() {{ grep \" $1 \" /proc/self/mountinfo | tail -n 1 | grep -q nosuid; }}
        allowed mount -t ext4 -o loop /mnt/w/b/image /mnt/x; has /mnt/x
        allowed mount -o remount,bind,suid /mnt/x; has /mnt/x
        allowed mount -o remount,suid /mnt/x; has /mnt/x
        allowed mount --bind -o suid /mnt/x /mnt/y; has /mnt/y; umount /mnt/y /mnt/x
        allowed mount -t ext4 -o loop,suid /mnt/w/a/image /mnt/x; if has /mnt/x; then exit 1; fi; umount /mnt/x"
    );
    let output = on_host_with(flags, &["secure-flags"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn an_image_that_is_mounted_is_no_device_of_its_user() -> Result<()> {
    let policies = GUARDED.replace("[\"/mnt/w/secret\"]", "[\"/dev\"]");
    let script = format!(
        "{WORLD}
        truncate -s 16M /mnt/w/b/image; mkfs.ext4 -q /mnt/w/b/image
        device=$(losetup -rf --show /mnt/w/b/image); denied mount -t ext4 -o ro $device /mnt/x; losetup -d $device
        # Neither again nor with more rights is it more than an image.
        allowed mount -t ext4 -o loop,ro,nosuid /mnt/w/b/image /mnt/x; allowed mount -t ext4 -o loop,ro /mnt/w/b/image /mnt/y; umount /mnt/y
        allowed mount -o remount,bind,suid /mnt/x
        # Where its device has no node, it's known by the name of its image.
        mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3
        allowed mount --bind /mnt/x /mnt/y; umount /mnt/y; allowed mount -o remount,bind,nosuid /mnt/x; umount /mnt/x"
    );
    let output = on_host_with(&policies, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_node_in_an_allowed_folder_is_not_the_kernels() -> Result<()> {
    let allowing =
        "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { allow-sources = [\"/mnt/w/a\"] }\n";
    let script = format!(
        "{WORLD}
        truncate -s 16M /mnt/w/b/image; mkfs.ext4 -q /mnt/w/b/image; device=$(losetup -f --show /mnt/w/b/image)
        trap 'umount /mnt/x /mnt/w/a/bound 2>/dev/null || true; losetup -d $device' EXIT
        mknod /mnt/w/a/node b $(stat -c '%Hr %Lr' $device); touch /mnt/w/a/bound
        denied mount -t ext4 /mnt/w/a/node /mnt/x; echo \"$said\" | grep source-not-allowed
        # The kernel's own node, which somebody has put there.
        mount --bind $device /mnt/w/a/bound; allowed mount -t ext4 /mnt/w/a/bound /mnt/x; umount /mnt/x
        # A folder below /dev in which others may write.
        sed -i 's#\"/mnt/w/a\"#\"/mnt/w/a\", \"/dev\"#' $P/policies.toml; $M policy lock --yes $P > $W/locked
        mount -t tmpfs tmpfs /dev/shm; cp -a /mnt/w/a/node /dev/shm/node; denied mount -t ext4 /dev/shm/node /mnt/x; umount /dev/shm
        allowed mount -t ext4 $device /mnt/x; umount /mnt/x
        # One that the operator names.
        sed -i 's#/mnt/w/a\"#/mnt/w/a/node\"#' $P/policies.toml; $M policy lock --yes $P > $W/locked; allowed mount -t ext4 /mnt/w/a/node /mnt/x"
    );
    let output = on_host_with(allowing, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn what_is_used_under_another_name_is_not_used_again() -> Result<()> {
    with_sources(
        r#"truncate -s 64M $W/image; truncate -s 320M $W/xfs; mkfs.ext4 -q $W/image
        first=$(losetup -f --show $W/image); second=$(losetup -f --show $W/image); xfs=$(losetup -f --show $W/xfs)
        trap 'umount /mnt/x /mnt/y 2>/dev/null || true; losetup -d $first $second $xfs' EXIT
        used() { says 32 gate mount "$@"; echo "$said" | grep 'it shows the same as'; }
        # A log, which is no mount's device.
        truncate -s 64M $W/log; log=$(losetup -f --show $W/log); mkfs.xfs -q -l logdev=$log $xfs; losetup -d $log
        allowed mount -t ext4 $first /mnt/x; used -t xfs -o logdev=$second $xfs /mnt/y; umount /mnt/x
        # A mount in another mount namespace.
        allowed mount -t ext4 $first /mnt/x; unshare -m --propagation private sleep 1000 & other=$!
        until test "$(cat /proc/$other/comm)" = sleep; do sleep 0.05; done
        umount /mnt/x; used -t ext4 $second /mnt/y; used -t ext4 -o ro $second /mnt/y
        kill $other; wait $other || true; allowed mount -t ext4 $second /mnt/y; umount /mnt/y
        # Some of the bytes.
        losetup -d $second; second=$(losetup -f --show -o 1M $W/image); mkfs.ext4 -q -F $second
        allowed mount -t ext4 $second /mnt/x; used -t ext4 $first /mnt/y; umount /mnt/x; losetup -d $first $second
        first=$(losetup -f --show --sizelimit 32M $W/image); second=$(losetup -f --show -o 32M $W/image)
        mkfs.ext4 -q -F $first; mkfs.ext4 -q -F $second
        allowed mount -t ext4 $first /mnt/x; allowed mount -t ext4 $second /mnt/y; umount /mnt/x /mnt/y
        # Partitions of one disk, and a device at the offset of one of them.
        losetup -d $first $second; first=$(losetup -f --show $W/image)
        trap 'umount /mnt/x /mnt/y 2>/dev/null || true; delpart $first 1 || true; delpart $first 2 || true; losetup -d $first $second $xfs' EXIT
        addpart $first 1 2048 20480; addpart $first 2 24576 20480
        second=$(losetup -f --show -o $((24576 * 512)) --sizelimit $((20480 * 512)) $W/image); mkfs.ext4 -q -F ${first}p1; mkfs.ext4 -q -F ${first}p2
        allowed mount -t ext4 ${first}p1 /mnt/x; allowed mount -t ext4 -o ro ${first}p2 /mnt/y; gate mount -o remount,rw /mnt/y; umount /mnt/y
        allowed mount -t ext4 $second /mnt/y; umount /mnt/y; allowed mount -t ext4 ${first}p2 /mnt/y; umount /mnt/x
        used -t ext4 $second /mnt/x; umount /mnt/y"#,
    )
    .map(drop)
}

fn one_of_many_callers_writes_what_has_two_names() -> Result<()> {
    with_sources(
        r#"truncate -s 320M $W/image; mkfs.xfs -q $W/image
        first=$(losetup -f --show $W/image); second=$(losetup -f --show $W/image)
        trap 'umount /mnt/x /mnt/y 2>/dev/null || true; losetup -d $first $second' EXIT
        for round in 1 2 3 4 5 6; do
            gate mount -t xfs -o nouuid $first /mnt/x & one=$!; gate mount -t xfs -o nouuid $second /mnt/y & other=$!
            wait $one || true; wait $other || true
            test $(grep -c -e ' /mnt/x .* - xfs ' -e ' /mnt/y .* - xfs ' /proc/1/mountinfo) = 1; umount /mnt/x 2>/dev/null || umount /mnt/y
        done"#,
    )
    .map(drop)
}

fn a_context_with_commas_reaches_the_kernel_as_it_is_meant() -> Result<()> {
    with_sources(
        r#"label='system_u:object_r:tmp_t:s0:c1,c2'
        gate check mount -t tmpfs -o "context=\"$label\",size=1m" tmpfs /mnt/x | grep "fsconfig(context, $label)"
        refused mount -t tmpfs -o "context=\"$label" tmpfs /mnt/x
        refused mount -t tmpfs -o "rootcontext=\"$label\"" tmpfs /mnt/x
        refused mount -t tmpfs -o "size=\"1,2\"" tmpfs /mnt/x
        strace -f -e trace=fsconfig -o $W/calls $M --policies $P mount -t tmpfs -o "context=\"$label\"" tmpfs /mnt/x || true
        grep "\"context\", \"$label\"" $W/calls
        # Where SELinux is off, the kernel doesn't know the word.
        if test -e /sys/fs/selinux/enforce; then at /mnt/x | grep "context="; fi"#,
    )
    .map(drop)
}

fn a_missing_mount_point_is_made_below_the_folder_that_is_there() -> Result<()> {
    with_sources(
        "allowed mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/new/deep; at /mnt/w/new/deep | grep tmpfs
        umount /mnt/w/new/deep; test \"$(stat -c '%a %U' /mnt/w/new /mnt/w/new/deep | sort -u)\" = '755 root'
        umask 077; allowed mount --bind -o X-mount.mkdir=0711 /mnt/w/a /mnt/w/made; umask 022
        test $(cat /mnt/w/made/file) = a; umount /mnt/w/made; test $(stat -c %a /mnt/w/made) = 711
        gate check mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/other | grep 'mkdirat(/mnt/w/other, 0755)'; test ! -e /mnt/w/other
        # What is there is used as it is.
        allowed mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/made; umount /mnt/w/made
        denied mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/secret/new; test ! -e /mnt/w/secret/new
        ln -s /mnt/w/secret /mnt/w/link; denied mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/link/new; test ! -e /mnt/w/secret/new
        # The umask gives no other rights than those that were asked for.
        umask 0777; allowed mount -t tmpfs -o X-mount.mkdir=0705 tmpfs /mnt/w/bare/deep; umask 022; umount /mnt/w/bare/deep
        test \"$(stat -c %a /mnt/w/bare /mnt/w/bare/deep | sort -u)\" = 705
        ln -s /mnt/nowhere /mnt/w/dangling; refused mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/dangling; test ! -e /mnt/nowhere
        refused mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/a/file/new; refused mount -t tmpfs -o X-mount.mkdir=4777 tmpfs /mnt/w/n
        refused mount -o remount,ro,X-mount.mkdir /mnt/w; refused mount -t tmpfs -o X-mount.owner=0 tmpfs /mnt/w/a
        container \"$M --policies $P --host-root $W/rootfs mount -t tmpfs -o X-mount.mkdir tmpfs /mnt/w/by-container\"
        at /mnt/w/by-container | grep tmpfs",
    )
    .map(drop)
}

fn a_mount_that_fails_leaves_no_directory_that_it_made() -> Result<()> {
    with_sources(
        "says 32 gate mount -t tmpfs -o X-mount.mkdir,mode=oops tmpfs /mnt/w/new/deep; echo \"$said\" | grep 'undone: unlinkat(new'
        test ! -e /mnt/w/new",
    )
    .map(drop)
}

fn owners_are_mapped_on_new_mounts_and_binds() -> Result<()> {
    with_sources(
        "truncate -s 24M $W/image; mkfs.ext4 -q $W/image
        allowed mount -t ext4 -o loop,X-mount.idmap=b:0:1000:10 $W/image /mnt/x
        at /mnt/x | grep idmapped; test $(stat -c %u:%g /mnt/x) = 1000:1000; umount /mnt/x
        allowed mount --bind -o 'X-mount.idmap=u:0:2000:1 g:0:3000:1' /mnt/w/a /mnt/x
        test $(stat -c %u:%g /mnt/x/file) = 2000:3000; test $(stat -c %u:%g /mnt/w/a/file) = 0:0
        container \"$M --policies $P --host-root $W/rootfs mount --bind -o X-mount.idmap=0:7:1 /mnt/w/b /mnt/y\"
        test $(stat -c %u:%g /mnt/y) = 7:7
        gate check mount --bind -o X-mount.idmap=0:7:1 /mnt/w/b /mnt/other | grep 'mount_setattr(idmap b:0:7:1)'
        # A file system that can't do it says so, and nothing is shown.
        says 32 gate mount -t ramfs -o X-mount.idmap=0:7:1 ramfs /mnt/other; echo \"$said\" | grep 'owners mapped'; absent /mnt/other
        refused mount --bind -o X-mount.idmap=/proc/1/ns/user /mnt/w/b /mnt/other
        # Named with its map, it's for that one.
        sed -i 's/\"X-mount.idmap\"/\"X-mount.idmap=b:0:7:1\"/' $P/policies.toml; $M policy lock --yes $P > /dev/null
        allowed mount --bind -o X-mount.idmap=b:0:7:1 /mnt/w/b /mnt/other; refused mount --bind -o X-mount.idmap=b:0:8:1 /mnt/w/b /mnt/x",
    )
    .map(drop)
}
