//! Images, and what is mounted from them: their rules hold in a second request, through an overlay, in another image, and where the
//! image is hidden.

use anyhow::{Result, ensure};

use crate::support::{on_host_with, text_of};

tests! {
    privileged a_bind_that_gives_a_right_shows_no_denied_image,
    privileged a_file_system_of_any_kind_keeps_what_its_image_gets,
    privileged an_image_that_is_hidden_is_not_forgotten,
    privileged an_image_in_an_image_gets_its_flags,
    privileged an_overlay_gets_and_keeps_the_flags_of_its_layers,
    privileged a_remount_above_a_folder_gives_nothing_back,
    privileged a_device_keeps_its_other_names_when_it_is_mounted,
    privileged an_overlay_gives_no_right_that_a_bind_may_not_give,
    privileged an_image_that_is_gone_is_only_in_its_own_file_system,
    privileged an_image_is_not_written_through_an_overlay_as_well,
    privileged an_overlay_hands_out_no_device_nodes,
    privileged mounts_of_an_image_are_counted,
}

/// Whatever comes from /mnt/w/untrusted gets two flags. Nothing of /mnt/w/secret is shown.
const POLICIES: &str = "[host]
options = [\"loop\"]
[[policy]]
name = \"flags\"
plugin = \"secure-flags.wasm\"
rewrites = [\"options\"]
settings = { rules = [{ add = [\"nosuid\", \"noexec\"], sources = [\"/mnt/w/untrusted\", \"filer:/untrusted\"] }, { add = [\"nodev\"], fstypes = [\"ext4\"] }] }
[[policy]]
name = \"guard\"
plugin = \"path-guard.wasm\"
settings = { deny-sources = [\"/mnt/w/secret\", \"/mnt/w/device\"] }
[[policy]]
name = \"limits\"
plugin = \"mount-limits.wasm\"
settings = { max-per-source = 2, allow-second-writer = true }
";

const WORLD: &str = r#"
    mount --make-rshared /
    mkdir -p /mnt/w /mnt/z /mnt/img; mount -t tmpfs -o size=512m w /mnt/w; ln -s /dev/null /mnt/w/device
    mkdir -p /mnt/w/secret/t /mnt/w/untrusted/t /mnt/w/other /mnt/w/upper /mnt/w/work
    image() { truncate -s 16M $1; mkfs.ext4 -q $1; }
    flags() { grep " $1 " /proc/self/mountinfo | tail -n 1 | cut -d ' ' -f 6; }
    keeps() { case $(flags $1) in *nosuid*noexec*) ;; *) echo "$1 has $(flags $1)"; exit 1;; esac; }
    trap 'set +e; umount -R /mnt/x /mnt/y /mnt/z /mnt/img 2> /dev/null; for image in $(find /mnt/w -name "*.img"); do losetup -j $image; done | cut -d : -f 1 | xargs -r losetup -d' EXIT
"#;

fn holds(script: &str) -> Result<()> {
    let plugins = ["secure-flags", "path-guard", "mount-limits"];
    let output = on_host_with(POLICIES, &plugins, &format!("{WORLD}\n{script}"))?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_bind_that_gives_a_right_shows_no_denied_image() -> Result<()> {
    holds(
        "image /mnt/w/secret/e.img; denied mount -t ext4 -o loop,ro /mnt/w/secret/e.img /mnt/x
        mount -o loop,nosuid /mnt/w/secret/e.img /mnt/img; mount -o remount,bind,ro /mnt/img
        denied mount -o remount,bind,rw /mnt/img; denied mount --bind -o rw /mnt/img /mnt/x; denied mount --bind -o suid /mnt/img /mnt/x
        # What is shown already may be bound as it is.
        allowed mount --bind /mnt/img /mnt/x; umount /mnt/x /mnt/img
        # A device that is denied itself.
        image /mnt/w/other/e.img; device=$(losetup -f --show /mnt/w/other/e.img); ln -sf $device /mnt/w/device
        denied mount -t ext4 -o ro $device /mnt/x; mount -o ro,noexec $device /mnt/img
        denied mount -o remount,bind,exec /mnt/img; denied mount --bind -o exec /mnt/img /mnt/x",
    )
}

fn a_file_system_of_any_kind_keeps_what_its_image_gets() -> Result<()> {
    holds(
        "mkdir $W/u $W/s; mount --bind $W/u /mnt/w/untrusted/t; mount --bind $W/s /mnt/w/secret/t
        truncate -s 128M /mnt/w/untrusted/t/b.img; mkfs.btrfs -q /mnt/w/untrusted/t/b.img 2> /dev/null; mkdir /mnt/tree; echo a > /mnt/tree/a
        mkfs.erofs --quiet /mnt/w/untrusted/t/e.img /mnt/tree
        for name in b:btrfs:loop e:erofs:ro; do
            image=${name%%:*}; rest=${name#*:}
            allowed mount -t ${rest%:*} -o ${rest#*:} /mnt/w/untrusted/t/$image.img /mnt/x; keeps /mnt/x
            allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x
            allowed mount --bind -o suid,exec /mnt/x /mnt/y; keeps /mnt/y; umount /mnt/y /mnt/x
        done
        # The name by which an image was mounted leads nowhere by now.
        mount --bind /mnt/w/untrusted/t /mnt/y; allowed mount -t erofs /mnt/y/e.img /mnt/x; keeps /mnt/x; umount /mnt/y
        allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x; umount /mnt/x
        cp /mnt/w/untrusted/t/b.img /mnt/w/secret/b.img; btrfstune -f -u /mnt/w/secret/b.img > /dev/null
        mount -o loop,noexec /mnt/w/secret/b.img /mnt/img; mount -o remount,bind,ro /mnt/img
        denied mount -o remount,bind,rw /mnt/img; denied mount --bind -o exec /mnt/img /mnt/x; umount /mnt/img
        cp /mnt/w/untrusted/t/e.img /mnt/w/secret/t/e.img; mount -i -t erofs -o noexec /mnt/w/secret/t/e.img /mnt/img
        denied mount -o remount,bind,exec /mnt/img; denied mount --bind -o exec /mnt/img /mnt/x",
    )
}

fn an_image_that_is_hidden_is_not_forgotten() -> Result<()> {
    holds(
        "image /mnt/w/secret/t/e.img; device=$(losetup -f --show /mnt/w/secret/t/e.img); image /mnt/w/untrusted/t/u.img
        denied mount -t ext4 $device /mnt/x; mount -t tmpfs tmpfs /mnt/w/secret/t; denied mount -t ext4 $device /mnt/x
        umount /mnt/w/secret/t
        allowed mount -t ext4 -o loop /mnt/w/untrusted/t/u.img /mnt/x; keeps /mnt/x
        mount -t tmpfs tmpfs /mnt/w/untrusted/t; allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x
        allowed mount --bind -o suid,exec /mnt/x /mnt/y; keeps /mnt/y; umount /mnt/y /mnt/x /mnt/w/untrusted/t
        # Mounted under a name that is gone, and then replaced.
        mount --bind /mnt/w/untrusted/t /mnt/z; allowed mount -t ext4 -o loop /mnt/z/u.img /mnt/x; keeps /mnt/x; umount -l /mnt/z
        allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x
        # Hidden in a file system whose files have other numbers.
        umount /mnt/x; mkdir $W/lower $W/upper $W/work; mv /mnt/w/untrusted/t/u.img $W
        mount -t overlay -o lowerdir=/mnt/w/other,upperdir=$W/upper,workdir=$W/work overlay /mnt/w/untrusted; mkdir /mnt/w/untrusted/t
        mv $W/u.img /mnt/w/untrusted/t; allowed mount -t ext4 -o loop /mnt/w/untrusted/t/u.img /mnt/x; keeps /mnt/x
        mount -t tmpfs tmpfs /mnt/w/untrusted/t; allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x; umount /mnt/w/untrusted/t
        rm /mnt/w/untrusted/t/u.img; ln -s /mnt/f /mnt/w/untrusted/t/u.img
        allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x",
    )
}

fn an_image_in_an_image_gets_its_flags() -> Result<()> {
    holds(
        "image /mnt/w/untrusted/t/outer.img; allowed mount -t ext4 -o loop /mnt/w/untrusted/t/outer.img /mnt/x; keeps /mnt/x
        truncate -s 4M /mnt/x/inner.ext4; mkfs.ext4 -q /mnt/x/inner.ext4; mkdir /mnt/tree; mkfs.erofs --quiet /mnt/x/inner.erofs /mnt/tree
        allowed mount -t ext4 -o loop /mnt/x/inner.ext4 /mnt/y; keeps /mnt/y
        allowed mount -o remount,bind,suid,exec /mnt/y; keeps /mnt/y; umount /mnt/y
        allowed mount -t erofs /mnt/x/inner.erofs /mnt/y; keeps /mnt/y; umount /mnt/y
        # The outer one is mounted no more, but for its users.
        allowed mount -t ext4 -o loop /mnt/x/inner.ext4 /mnt/y; keeps /mnt/y; umount -l /mnt/x
        allowed mount -o remount,bind,suid,exec /mnt/y; keeps /mnt/y; allowed mount --bind -o suid,exec /mnt/y /mnt/z; keeps /mnt/z
        umount /mnt/z; mkdir /mnt/empty; allowed mount -t overlay -o lowerdir=/mnt/y:/mnt/empty overlay /mnt/z; keeps /mnt/z; umount /mnt/z /mnt/y",
    )
}

fn an_overlay_gets_and_keeps_the_flags_of_its_layers() -> Result<()> {
    holds(
        "mkdir /mnt/w/untrusted/a /mnt/empty
        allowed mount -t overlay -o lowerdir=/mnt/w/untrusted/a:/mnt/empty overlay /mnt/x; keeps /mnt/x
        allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x
        allowed mount --bind -o suid,exec /mnt/x /mnt/y; keeps /mnt/y; umount /mnt/y /mnt/x
        # Layers on an image, and on a type.
        image /mnt/w/untrusted/t/u.img; allowed mount -t ext4 -o loop /mnt/w/untrusted/t/u.img /mnt/img; keeps /mnt/img
        allowed mount -t overlay -o lowerdir=/mnt/img:/mnt/empty overlay /mnt/x; keeps /mnt/x; flags /mnt/x | grep -q nodev; umount /mnt/x
        # An overlay of an overlay, a bind of what comes from an export.
        allowed mount -t overlay -o lowerdir=/mnt/w/untrusted/a:/mnt/empty overlay /mnt/x; keeps /mnt/x
        allowed mount -t overlay -o lowerdir=/mnt/x:/mnt/empty overlay /mnt/y; keeps /mnt/y; umount /mnt/y /mnt/x
        allowed mount -t tmpfs filer:/untrusted/a /mnt/x; keeps /mnt/x; allowed mount --bind -o suid,exec /mnt/x /mnt/y; keeps /mnt/y; umount /mnt/y
        allowed mount -t overlay -o lowerdir=/mnt/x:/mnt/empty overlay /mnt/y; keeps /mnt/y; umount /mnt/y /mnt/x
        allowed mount -t overlay -o lowerdir=/mnt/empty:/mnt/w/other overlay /mnt/x; if flags /mnt/x | grep nosuid; then exit 1; fi",
    )
}

fn a_remount_above_a_folder_gives_nothing_back() -> Result<()> {
    let flags = "[[policy]]\nname = \"flags\"\nplugin = \"secure-flags.wasm\"\nrewrites = [\"options\"]\n\
        settings = { rules = [{ add = [\"nosuid\", \"noexec\"], sources = [\"/mnt/w/untrusted\"] }, { add = [\"nodev\"], targets = [\"/mnt/srv/a\"] }] }\n";
    let script = format!(
        "{WORLD}
        mkdir -p /mnt/srv/a
        allowed mount --bind -o suid,exec /mnt/w /mnt/x; keeps /mnt/x; allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x
        allowed mount -t tmpfs tmpfs /mnt/srv; flags /mnt/srv | grep -q nodev
        mkdir /mnt/srv/a; allowed mount -o remount,bind,dev /mnt/srv; flags /mnt/srv | grep -q nodev; umount /mnt/x
        # What nothing was taken from is remounted as ever.
        mount -t tmpfs tmpfs /mnt/x; allowed mount -o remount,bind,suid /mnt/x; if flags /mnt/x | grep nosuid; then exit 1; fi
        allowed mount -o remount,bind,suid /mnt/w; if flags /mnt/w | grep nosuid; then exit 1; fi"
    );
    let output = on_host_with(flags, &["secure-flags"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    // What was mounted on a target with an exception has lost nothing there.
    let excepting = flags.replace("/mnt/w/untrusted\"]", "/mnt/w/untrusted\"], except-targets = [\"/mnt/z\"]");
    let script = format!(
        "{WORLD}
        mkdir /mnt/empty /mnt/z/o; allowed mount -t overlay -o lowerdir=/mnt/w/untrusted:/mnt/empty overlay /mnt/z/o
        if flags /mnt/z/o | grep nosuid; then exit 1; fi
        allowed mount --bind /mnt/z/o /mnt/x; keeps /mnt/x"
    );
    let output = on_host_with(&excepting, &["secure-flags"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

/// A disk with a partition, in `$device` and `$part`.
const PARTITION: &str = r#"
    truncate -s 64M /mnt/w/other/d.img; device=$(losetup -f --show /mnt/w/other/d.img); part=${device}p1
    addpart $device 1 2048 100000; for i in $(seq 100); do test -b $part || sleep 0.05; done
    mkfs.ext4 -q $part; ln -sf $device /mnt/w/device
"#;

fn a_device_keeps_its_other_names_when_it_is_mounted() -> Result<()> {
    let end = "umount /mnt/y /mnt/x /mnt/img 2> /dev/null || true; delpart $device 1; losetup -d $device";
    holds(&format!(
        "{PARTITION}
        denied mount -t ext4 $part /mnt/x; mount -o ro,nosuid,noexec $part /mnt/img
        denied mount -o remount,bind,suid /mnt/img; denied mount --bind -o exec /mnt/img /mnt/x
        allowed mount --bind /mnt/img /mnt/x; {end}"
    ))?;
    let flags = "[[policy]]\nname = \"flags\"\nplugin = \"secure-flags.wasm\"\nrewrites = [\"options\"]\n\
        settings = { rules = [{ add = [\"nosuid\", \"noexec\"], sources = [\"/mnt/w/device\"] }] }\n";
    let script = format!(
        "{WORLD} {PARTITION}
        allowed mount -t ext4 $part /mnt/x; keeps /mnt/x; allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x
        allowed mount --bind -o suid,exec /mnt/x /mnt/y; keeps /mnt/y; umount /mnt/y
        mkdir /mnt/x/sub /mnt/empty; allowed mount -t overlay -o lowerdir=/mnt/x/sub:/mnt/empty overlay /mnt/y; keeps /mnt/y; {end}"
    );
    let output = on_host_with(flags, &["secure-flags"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn an_overlay_gives_no_right_that_a_bind_may_not_give() -> Result<()> {
    holds(
        "image /mnt/w/secret/e.img; mkdir /mnt/empty; mount -o loop,nosuid,noexec,ro /mnt/w/secret/e.img /mnt/img
        denied mount --bind -o exec /mnt/img /mnt/x; denied mount -t overlay -o lowerdir=/mnt/img:/mnt/empty overlay /mnt/x
        allowed mount -t overlay -o nosuid,noexec,lowerdir=/mnt/img:/mnt/empty overlay /mnt/x
        allowed mount -o remount,bind,suid,exec /mnt/x; keeps /mnt/x",
    )?;
    // Nor is it given to the overlay in a second step, whether or not a rule has taken it.
    let denying = "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-sources = [\"/mnt/w/secret\"] }\n";
    let script = format!(
        "{WORLD}
        image /mnt/w/secret/e.img; mkdir /mnt/empty; mount -o loop,nosuid,noexec,ro /mnt/w/secret/e.img /mnt/img
        allowed mount -t overlay -o nosuid,noexec,lowerdir=/mnt/img:/mnt/empty overlay /mnt/x
        denied mount -o remount,bind,suid /mnt/x; denied mount --bind -o exec /mnt/x /mnt/y
        denied mount -t overlay -o lowerdir=/mnt/x:/mnt/empty overlay /mnt/y; allowed mount --bind /mnt/x /mnt/y"
    );
    let output = on_host_with(denying, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    let script = format!(
        "{WORLD}
        truncate -s 128M /mnt/w/secret/b.img; mkfs.btrfs -q /mnt/w/secret/b.img 2> /dev/null; mount -o loop /mnt/w/secret/b.img /mnt/img
        image /mnt/img/inner; device=$(losetup -f --show /mnt/img/inner); trap 'set +e; umount /mnt/x 2> /dev/null; losetup -d $device; losetup -j /mnt/w/secret/b.img | cut -d : -f 1 | xargs -r losetup -d' EXIT
        denied mount -t ext4 -o ro $device /mnt/x; umount -l /mnt/img; denied mount -t ext4 -o ro $device /mnt/x"
    );
    let output = on_host_with(denying, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    let allowing =
        "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { allow-sources = [\"/mnt\"] }\n";
    let script = format!(
        "{WORLD}
        mkdir $W/else /mnt/empty; mount --bind $W/else /mnt/img; mount -o remount,bind,nosuid,noexec,nodev /mnt/img
        denied mount --bind -o exec /mnt/img /mnt/x; denied mount -t overlay -o lowerdir=/mnt/img:/mnt/empty overlay /mnt/x
        mount -t tmpfs -o nosuid,noexec,nodev tmpfs /mnt/z; mkdir /mnt/z/a
        allowed mount -t overlay -o lowerdir=/mnt/z/a:/mnt/empty overlay /mnt/x"
    );
    let output = on_host_with(allowing, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn an_image_that_is_gone_is_only_in_its_own_file_system() -> Result<()> {
    let policies = "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-sources = [\"/proc\", \"/mnt/w\"] }\n";
    let script = format!(
        "{WORLD}
        image $W/e.img; device=$(losetup -f --show $W/e.img); trap 'umount /mnt/x; losetup -d $device' EXIT
        rm $W/e.img; allowed mount -t ext4 -o ro $device /mnt/x"
    );
    let output = on_host_with(policies, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn an_image_is_not_written_through_an_overlay_as_well() -> Result<()> {
    holds(
        "image /mnt/w/upper/x.img; mkdir /mnt/empty
        allowed mount -t overlay -o lowerdir=/mnt/empty,upperdir=/mnt/w/upper,workdir=/mnt/w/work overlay /mnt/z
        allowed mount -t ext4 -o loop /mnt/w/upper/x.img /mnt/x
        says 32 gate mount -t ext4 -o loop /mnt/z/x.img /mnt/y; echo \"$said\" | grep -q 'shows this image already'
        umount /mnt/x; allowed mount -t ext4 -o loop /mnt/z/x.img /mnt/x
        says 32 gate mount -t ext4 -o loop /mnt/w/upper/x.img /mnt/y; echo \"$said\" | grep -q 'shows this image already'",
    )
}

fn an_overlay_hands_out_no_device_nodes() -> Result<()> {
    let policies =
        "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { allow-device-nodes = [] }\n";
    let script = format!(
        "{WORLD}
        denied mount --bind /dev /mnt/x; denied mount -t overlay -o lowerdir=/dev:/mnt/w/other overlay /mnt/x
        denied mount -t overlay -o lowerdir=/mnt/w/other:/dev overlay /mnt/x
        allowed mount -t overlay -o lowerdir=/mnt/w/other:/mnt/w/upper overlay /mnt/x"
    );
    let output = on_host_with(policies, &["path-guard"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn mounts_of_an_image_are_counted() -> Result<()> {
    holds(
        "image /mnt/w/other/e.img; mkdir /mnt/1 /mnt/2 /mnt/3
        allowed mount -t ext4 -o loop,ro /mnt/w/other/e.img /mnt/1; allowed mount -t ext4 -o loop,ro /mnt/w/other/e.img /mnt/2
        denied mount -t ext4 -o loop,ro /mnt/w/other/e.img /mnt/3; umount /mnt/1
        allowed mount -t ext4 -o loop,ro /mnt/w/other/e.img /mnt/3; umount /mnt/2 /mnt/3",
    )
}
