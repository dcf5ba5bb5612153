//! Every operation on every kind of file system at hand, asked for by a container and looked at from inside of its host.

use anyhow::{Result, ensure};

use crate::support::{on_host, on_host_succeeds, text_of};

tests! {
    privileged every_operation_works_on_tmpfs,
    privileged every_operation_works_on_overlay,
    privileged every_operation_works_on_ext4,
    privileged every_operation_works_on_xfs,
    privileged every_operation_works_on_btrfs,
    traced every_operation_works_without_statmount,
    privileged a_recursive_umount_that_fails_puts_back_what_it_took,
    privileged a_remount_that_fails_leaves_the_mount_as_it_was,
    privileged a_bind_does_not_tell_its_source_what_is_mounted_on_it,
    privileged a_device_whose_name_is_swapped_is_not_mounted,
}

fn every_operation_works_on_tmpfs() -> Result<()> {
    all("tmpfs")
}

fn every_operation_works_on_overlay() -> Result<()> {
    all("overlay")
}

fn every_operation_works_on_ext4() -> Result<()> {
    all("ext4")
}

fn every_operation_works_on_xfs() -> Result<()> {
    all("xfs")
}

fn every_operation_works_on_btrfs() -> Result<()> {
    all("btrfs")
}

/// Makes what a file system of this type is mounted from, and sets `$source` and `$options`.
const SOURCES: &str = r#"
    options=nosuid,nodev
    case $fs in
        tmpfs) source=tmpfs; options=$options,size=32m ;;
        overlay)
            mkdir -p /mnt/lower/below /mnt/upper/u /mnt/upper/w
            source=overlay; options=$options,lowerdir=/mnt/lower,upperdir=/mnt/upper/u,workdir=/mnt/upper/w ;;
        *)
            truncate -s 320M $W/image
            mkfs.$fs -q $W/image
            source=$(losetup --find --show $W/image)
            trap 'umount -l /mnt; losetup -d $source' EXIT ;;
    esac
"#;

/// `via` asks for an operation; `has PLACE WORDS…` looks whether the host's mount there has all of the words, and none
/// of those behind `!`.
const OPERATIONS: &str = r#"
    has() {
        place=$1; shift; want=yes
        line=$(grep " $place " /proc/1/mountinfo | tail -n 1)
        test -n "$line" || { echo "nothing is mounted on $place"; exit 1; }
        for word in "$@"; do
            if [ "$word" = ! ]; then want=no; continue; fi
            case "$(echo "$line" | tr ',' ' ') " in *" $word"*) is=yes ;; *) is=no ;; esac
            test $want = $is || { echo "$place: $word: $is where $want was expected: $line"; exit 1; }
        done
    }
    via mount -t $fs -o $options $source /mnt/x
    has /mnt/x nosuid nodev $fs ! noexec
    mkdir /mnt/x/dir /mnt/x/dir/sub; touch /mnt/x/file /mnt/file

    via mount -o remount,ro /mnt/x;            has /mnt/x "ro " nosuid nodev
    if touch /mnt/x/file 2>/dev/null; then echo "it is writable"; exit 1; fi
    via mount -o remount,rw /mnt/x;            has /mnt/x "rw " nosuid nodev ! "ro "
    via mount -o remount,bind,noexec,noatime /mnt/x; has /mnt/x nosuid noexec noatime
    via mount -o remount,bind,exec,dev /mnt/x; has /mnt/x nosuid ! noexec nodev
    if [ $fs = tmpfs ]; then via mount -o remount,size=16m /mnt/x; has /mnt/x size=16384k nosuid; fi

    via mount --bind -o ro,noexec /mnt/x/dir /mnt/y;  has /mnt/y "ro " noexec nosuid
    test -d /mnt/y/sub
    via mount --bind /mnt/x/file /mnt/file;           has /mnt/file nosuid
    mount -t tmpfs below /mnt/x/dir/sub
    via mount --rbind -o ro,nosymfollow /mnt/x /mnt/target
    has /mnt/target "ro " nosymfollow;  has /mnt/target/dir/sub "ro " nosymfollow below
    has /mnt/x/dir/sub ! "ro " nosymfollow

    mkdir /mnt/new; mount --make-shared /mnt
    via mount -t tmpfs new /mnt/new;                has /mnt/new shared:; umount /mnt/new
    via mount --make-private -t tmpfs new /mnt/new; has /mnt/new ! shared:; umount /mnt/new
    mount --make-private /mnt
    via mount -t tmpfs -o rshared new /mnt/new;     has /mnt/new shared:; umount /mnt/new
    via mount --make-shared /mnt/target;     has /mnt/target shared:;  has /mnt/target/dir/sub ! shared:
    via mount --make-rshared /mnt/target;    has /mnt/target/dir/sub shared:
    via mount --make-private /mnt/target;    has /mnt/target ! shared:;  has /mnt/target/dir/sub shared:
    via mount --make-rprivate /mnt/target;   has /mnt/target/dir/sub ! shared:
    mount --make-rshared /mnt/target;        mount --rbind /mnt/target /mnt/source
    via mount --make-slave /mnt/source;      has /mnt/source master: ! shared:;  has /mnt/source/dir/sub shared:
    via mount --make-rslave /mnt/source;     has /mnt/source/dir/sub master: ! shared:
    via mount --make-unbindable /mnt/source; has /mnt/source unbindable
    via mount --make-runbindable /mnt/source; has /mnt/source/dir/sub unbindable
    mount --make-rprivate /mnt

    mkdir /mnt/moved
    via mount --move /mnt/y /mnt/moved;      has /mnt/moved "ro " noexec;  absent /mnt/y
    via umount /mnt/moved;                   absent /mnt/moved
    via umount -f /mnt/file;                 absent /mnt/file
    via umount -R /mnt/target;               absent /mnt/target;  absent /mnt/target/dir/sub
    via umount -l /mnt/source;               absent /mnt/source;  absent /mnt/source/dir/sub
    umount /mnt/x/dir/sub
    exec 5< /mnt/x/file
    if via umount /mnt/x 2>/dev/null; then echo "a busy mount is unmounted"; exit 1; fi
    exec 5<&-
    via umount /mnt/x;                       absent /mnt/x
"#;

fn all(fs: &str) -> Result<()> {
    let via = r#"via() { container "$M --policies $P --host-root $W/rootfs $*" > /dev/null; }"#;
    on_host_succeeds(&format!("fs={fs}\n{SOURCES}\n{via}\n{OPERATIONS}")).map(drop)
}

/// As on a kernel before Linux 6.8: what is mounted is looked up in mountinfo.
fn every_operation_works_without_statmount() -> Result<()> {
    let via = r#"via() { $T inside without-statmount $M --policies $P "$@"; }"#;
    on_host_succeeds(&format!("fs=tmpfs\n{SOURCES}\n{via}\n{OPERATIONS}")).map(drop)
}

fn a_recursive_umount_that_fails_puts_back_what_it_took() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        gate mount -t tmpfs -o nosuid,size=1m top /mnt/x; mkdir /mnt/x/a /mnt/x/b
        mount -t tmpfs one /mnt/x/a; mount -t tmpfs -o ro two /mnt/x/b
        exec 5< /mnt/x/a
        gate umount -R /mnt/x || echo status $?
        at /mnt/x; at /mnt/x/a; at /mnt/x/b
        "#,
    )?);
    ensure!(text.contains("status 32") && text.contains("umount2(/mnt/x/a)"), "{text}");
    ensure!(text.contains("undone: move_mount(/mnt/x/b)") && !text.contains("NOT undone"), "{text}");
    for line in ["/mnt/x rw,nosuid", "/mnt/x/a rw", "/mnt/x/b ro"] {
        ensure!(text.contains(line), "{line} is missing\n{text}");
    }
    Ok(())
}

fn a_remount_that_fails_leaves_the_mount_as_it_was() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        gate mount -t tmpfs -o size=8m tmpfs /mnt/x
        gate mount -o remount,ro,nosuid,size=oops /mnt/x || echo status $?
        at /mnt/x
        gate mount -o remount,ro /mnt/y || echo status $?
        "#,
    )?);
    ensure!(text.matches("status 32").count() == 2, "{text}");
    ensure!(text.contains("tmpfs: Bad value for 'size'") && text.contains("undone: mount_setattr(/mnt/x"), "{text}");
    ensure!(text.contains("at: ") && text.contains("/mnt/x rw,relatime"), "{text}");
    ensure!(text.contains("/mnt/y isn't a mount point"), "{text}");
    Ok(())
}

/// On a host whose `/` is shared, as systemd has it, a bind made by mount(8) is a peer of its source: what is mounted on it
/// is on the source as well. Ours hears what is mounted on the source, and doesn't tell.
fn a_bind_does_not_tell_its_source_what_is_mounted_on_it() -> Result<()> {
    on_host_succeeds(
        r#"
        mount --make-rshared /
        mkdir -p /mnt/source/sub /mnt/source/other /mnt/y/deep; mount -t tmpfs deep /mnt/y/deep; mkdir /mnt/y/deep/sub
        mount --bind /mnt/source /mnt/target; mount -t tmpfs told /mnt/target/sub
        grep -q ' /mnt/source/sub ' /proc/1/mountinfo
        umount /mnt/target/sub; umount /mnt/target

        gate mount --bind /mnt/source /mnt/x
        gate mount -t tmpfs told /mnt/x/sub
        grep ' /mnt/x/sub ' /proc/1/mountinfo; absent /mnt/source/sub
        mount -t tmpfs heard /mnt/source/other; grep ' /mnt/x/other ' /proc/1/mountinfo

        gate mount --rbind -o nosuid /mnt/y /mnt/target
        gate mount -t tmpfs told /mnt/target/deep/sub
        grep ' /mnt/target/deep/sub ' /proc/1/mountinfo; absent /mnt/y/deep/sub
        gate umount -R /mnt/target
        grep ' /mnt/y/deep ' /proc/1/mountinfo

        gate mount --rbind /mnt /mnt/target
        gate mount -t tmpfs told /mnt/target/y/deep/sub; absent /mnt/y/deep/sub
        gate umount -R /mnt/target
        grep ' /mnt/y/deep ' /proc/1/mountinfo
        "#,
    )
    .map(drop)
}

/// The device's folder belongs to somebody else, who puts another one in its place when the name is looked up: for a
/// file system that has no number of a device, that can't be seen afterwards, so it isn't mounted at all.
fn a_device_whose_name_is_swapped_is_not_mounted() -> Result<()> {
    let text = text_of(&on_host(&format!(
        r#"
        fs=btrfs
        {SOURCES}
        chmod 755 /mnt; mkdir /mnt/theirs; cp -a $source /mnt/theirs/disk; chown 1000 /mnt/theirs
        gate mount -t btrfs /mnt/theirs/disk /mnt/x || echo status $?
        absent /mnt/x
        chown 0 /mnt/theirs
        gate mount -t btrfs /mnt/theirs/disk /mnt/x; at /mnt/x
        "#
    ))?);
    ensure!(text.contains("status 32") && text.contains("another device was there"), "{text}");
    ensure!(text.contains("/mnt/x rw"), "{text}");
    Ok(())
}
