//! Where the program runs: alone in an empty container, and without root.

use anyhow::{Result, ensure};

use crate::support::{on_host, on_host_succeeds, text_of};

tests! {
    privileged the_binary_alone_in_an_empty_container_mounts_on_the_host,
    privileged without_root_what_the_kernel_allows_works_and_the_rest_says_why,
    privileged a_program_elsewhere_has_its_descriptors_closed,
}

/// A container of crun(1) that shares the host's PID namespace, and holds nothing but the program.
fn the_binary_alone_in_an_empty_container_mounts_on_the_host() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir -p $W/bundle/root/rootfs $W/bundle/root/policies $W/bundle/root/dev
        cp $M $W/bundle/root/mountgate
        cat > $W/bundle/config.json <<END
{ "ociVersion": "1.0.2",
  "process": {
    "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["MOUNTGATE_CACHE="],
    "args": ["/mountgate", "--policies", "/policies", "mount", "-t", "tmpfs", "-o", "size=1m,nosuid", "tmpfs", "/mnt/x"],
    "capabilities": {
      "bounding": ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"],
      "effective": ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"],
      "permitted": ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"] } },
  "root": { "path": "root", "readonly": true },
  "mounts": [
    { "destination": "/rootfs", "type": "bind", "source": "/", "options": ["rbind", "rslave"] },
    { "destination": "/policies", "type": "bind", "source": "$P", "options": ["bind", "ro"] } ],
  "linux": { "namespaces": [{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }] } }
END
        find $W/bundle/root -type f | sed "s#$W/bundle/root##; s/^/file: /"
        crun --cgroup-manager=disabled --root $W/crun run --bundle $W/bundle alone
        at /mnt/x
        "#,
    )?;
    ensure!(text.matches("file: ").count() == 1 && text.contains("file: /mountgate"), "{text}");
    ensure!(text.contains("done: mount tmpfs") && text.contains("/mnt/x rw,nosuid"), "{text}");
    Ok(())
}

fn without_root_what_the_kernel_allows_works_and_the_rest_says_why() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        truncate -s 8M $W/image; mkfs.ext4 -q $W/image; disk=$(losetup --find --show $W/image)
        trap 'losetup -d $disk' EXIT
        chmod 755 $W; export disk
        cat > $W/mine <<'END'
            gate() { $M --policies $P "$@"; }
            mount -t tmpfs tmpfs /mnt; mkdir /mnt/a /mnt/b
            gate mount -t tmpfs -o size=1m,nosuid tmpfs /mnt/a;  grep ' /mnt/a ' /proc/self/mountinfo
            gate mount --bind -o ro,nodev /mnt/a /mnt/b;         grep ' /mnt/b ' /proc/self/mountinfo
            gate mount -o remount,bind,noexec /mnt/a;            grep ' /mnt/a ' /proc/self/mountinfo
            gate umount /mnt/b
            gate mount -t ext4 $disk /mnt/b || echo ext4 ended with $?
END
        setpriv --reuid 65534 --regid 65534 --clear-groups \
            unshare --user --map-root-user --mount --pid --fork --mount-proc sh -eu $W/mine
        "#,
    )?);
    ensure!(text.contains("/mnt/a rw,nosuid,relatime") && text.contains("/mnt/b ro,nosuid,nodev"), "{text}");
    ensure!(text.contains("/mnt/a rw,nosuid,noexec") && text.contains("ext4 ended with 32"), "{text}");
    ensure!(text.contains("Operation not permitted") || text.contains("Permission denied"), "{text}");
    Ok(())
}

fn a_program_elsewhere_has_its_descriptors_closed() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mkdir /run/upper /run/work
        mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin
        printf '#!/bin/sh\nls -l /proc/$$/fd; env; mount -i -t tmpfs "$1" "$2"' > /usr/sbin/mount.hang
        chmod 755 /usr/sbin/mount.hang
        SECRET=hidden gate mount -t hang tmpfs /mnt/x 3< /etc/passwd 7< /etc/hosts || echo ended with $?
        absent /mnt/x
        "#,
    )?;
    // It says what it has, since it fails: it made a tmpfs.
    ensure!(text.contains("ended with 32") && text.contains("0 -> /dev/null"), "{text}");
    for leaked in ["SECRET", "/etc/passwd", "/etc/hosts", "mnt:[", " 251 ->"] {
        ensure!(!text.contains(leaked), "{leaked}: {text}");
    }
    Ok(())
}
