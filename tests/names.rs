//! What a policy or the host allows by name: whatever a caller mounts on such a name, or over it, nothing else is allowed by it.

use anyhow::{Result, ensure};

use crate::support::{on_host_with, text_of};

tests! {
    privileged a_mount_on_an_exempt_folder_opens_nothing_else,
    privileged a_mount_on_an_allowed_target_allows_no_other_place,
    privileged a_place_that_is_hidden_is_judged_by_its_own_name,
    privileged a_mount_that_is_hidden_is_judged_by_its_own_name,
    privileged above_what_is_allowed_by_name_nothing_is_put,
    privileged a_link_to_what_is_allowed_is_not_replaced,
    privileged an_export_is_exempt_for_types_of_servers_only,
    privileged another_name_of_the_own_state_is_taken_away_again,
    privileged what_is_hidden_below_a_limited_folder_still_counts,
    privileged changes_that_come_through_another_namespace_are_places,
    privileged an_exempt_source_is_exempt_by_its_name,
    privileged what_is_known_of_many_mounts_hides_no_place,
    traced a_mount_that_cannot_be_asked_about_is_not_left_out,
}

const WORLD: &str = r#"
    mount --make-rshared /
    mkdir -p /mnt/a /mnt/b /mnt/s/data /mnt/s/disk /mnt/pods /mnt/view; echo evil > /mnt/f
"#;

fn holds(policies: &str, plugin: &str, script: &str) -> Result<()> {
    let output = on_host_with(policies, &[plugin], &format!("{WORLD}\n{script}"))?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn guard(settings: &str) -> String {
    format!("[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = {{ {settings} }}\n")
}

fn a_mount_on_an_exempt_folder_opens_nothing_else() -> Result<()> {
    let policies = format!("[host]\ntargets = [\"/dev/shm\"]\nsources = [\"/mnt/e\"]\n{}", guard("deny-targets = []"));
    holds(
        &policies,
        "path-guard",
        "mkdir /mnt/e; refused mount --bind /mnt/s $P; refused mount --bind / /mnt/x
        allowed mount --bind -o ro / /mnt/e
        refused mount --bind / /mnt/x; refused mount --bind $P /mnt/x; refused mount --bind -o rw /mnt/e$P /mnt/x
        umount /mnt/e
        allowed mount --bind /dev /dev/shm
        refused mount --bind /mnt/f /dev/null; refused mount --bind /mnt/s /proc/sys; refused mount --bind /mnt/s $P
        umount /dev/shm; allowed mount --bind -o ro / /dev/shm
        refused mount --bind /mnt/f /dev/null; refused mount --bind /mnt/s /proc/sys; refused mount --bind /mnt/s $P",
    )
}

fn a_mount_on_an_allowed_target_allows_no_other_place() -> Result<()> {
    holds(
        &guard("allow-targets = [\"/mnt/a\"]"),
        "path-guard",
        "mount -t tmpfs tmpfs /mnt/s/disk
        denied umount /mnt/s/disk; denied mount -t tmpfs tmpfs /mnt/s/data
        allowed mount --bind /mnt/s /mnt/a; allowed mount -t tmpfs tmpfs /mnt/a/data
        denied umount /mnt/s/disk; denied mount -t tmpfs tmpfs /mnt/s/data",
    )
}

fn a_place_that_is_hidden_is_judged_by_its_own_name() -> Result<()> {
    holds(
        &guard("allow-targets = [\"/mnt/a\"]"),
        "path-guard",
        "mkdir -p /mnt/a/d /mnt/b/c; mount -t tmpfs tmpfs /mnt/a/d; mkdir /mnt/a/d/p; mount --bind /mnt/a/d /mnt/b/c
        denied mount -t tmpfs tmpfs /mnt/a/d/p
        # Whoever may mount on /mnt/b hides what is there, and a link leads to an allowed folder.
        mkdir -p /mnt/s/x/c; ln -s /mnt/a/d/p /mnt/s/x/c/p; mount --bind /mnt/s/x /mnt/b; mount --make-private /mnt/b
        denied mount -t tmpfs tmpfs /mnt/a/d/p; echo \"$said\" | grep -q '/mnt/b/c/p'",
    )
}

fn a_mount_that_is_hidden_is_judged_by_its_own_name() -> Result<()> {
    holds(
        &guard("allow-targets = [\"/mnt/pods\", \"/mnt/view\", \"/mnt/x\"], allow-sources = [\"/mnt/s\", \"/mnt/view\", \"/dev\"]"),
        "path-guard",
        "mkdir -p /mnt/pods/p/v /mnt/s/evil/p/v; mount -t tmpfs tmpfs /mnt/pods/p/v; mount --bind /mnt/pods/p/v /mnt/view
        mount -o remount,bind,ro /mnt/view
        truncate -s 16M /mnt/image; mkfs.ext4 -q /mnt/image; device=$(losetup -f --show /mnt/image); trap 'losetup -d $device' EXIT
        mkdir /mnt/pods/p/w; mount -o ro $device /mnt/pods/p/w
        closed() { denied mount -o remount,bind,rw /mnt/view; denied mount -t ext4 -o ro $device /mnt/x; }
        closed; allowed mount --bind /mnt/s/evil /mnt/pods; closed; umount /mnt/pods; umount /mnt/pods/p/w",
    )
}

fn above_what_is_allowed_by_name_nothing_is_put() -> Result<()> {
    let policies = format!(
        "[host]\ntargets = [\"/mnt/jail/dev\"]\n{}{}",
        guard("allow-targets = [\"/mnt\", \"/dev\"], allow-sources = [\"/mnt/s/data\", \"/mnt/f\"]"),
        "[[policy]]\nname = \"flags\"\nplugin = \"secure-flags.wasm\"\nrewrites = [\"options\"]\n\
         settings = { rules = [{ add = [\"noexec\"], except-targets = [\"/mnt/b/apps\"] }] }\n"
    );
    let script = format!(
        "{WORLD}
        mkdir -p /mnt/jail/dev /mnt/b/apps /mnt/secret; mount --bind /dev /mnt/jail/dev; mount --make-private /mnt/jail/dev
        refused mount -t tmpfs tmpfs /dev/shm; refused mount -t tmpfs tmpfs /mnt/jail; echo \"$said\" | grep -q another
        denied mount --bind /mnt/secret /mnt/a; denied mount -t tmpfs tmpfs /mnt/s; echo \"$said\" | grep -q another
        denied mount -t tmpfs tmpfs /mnt/b; echo \"$said\" | grep -q hides-exception
        # Nor is what is there taken away.
        mount -t tmpfs tmpfs /mnt/b; denied umount /mnt/b; umount /mnt/b
        allowed mount -t tmpfs tmpfs /mnt/a; allowed umount /mnt/a; allowed mount -t tmpfs tmpfs /mnt/s/data"
    );
    let output = on_host_with(&policies, &["path-guard", "secure-flags"], &script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_link_to_what_is_allowed_is_not_replaced() -> Result<()> {
    let policies = format!(
        "[host]\ntargets = [\"/mnt/jobs\"]\n{}",
        guard("allow-targets = [\"/mnt/a\", \"/mnt/jobs\"], allow-sources = [\"/mnt/s\"]")
    );
    holds(
        &policies,
        "path-guard",
        "mkdir -p /mnt/a/rel /mnt/a/other /mnt/data/t /mnt/s/evil; ln -s a/rel/current /mnt/jobs; ln -s ../../data /mnt/a/rel/current
        ln -s /sys/kernel /mnt/s/evil/current; allowed mount --bind /mnt/s/data /mnt/data/t; umount /mnt/data/t
        refused mount --bind /mnt/s/evil /mnt/a/rel; echo \"$said\" | grep -q another
        refused mount --bind /mnt/s/data /sys/kernel; allowed mount --bind /mnt/s/data /mnt/a/other
        # A folder that a link leads into and out of again.
        umount /mnt/a/other; mkdir -p /mnt/a/x/y /mnt/real; rm /mnt/jobs; ln -s a/x/y/../../../real /mnt/jobs
        refused mount --bind /mnt/s/evil /mnt/a/x; echo \"$said\" | grep -q another; allowed mount --bind /mnt/s/data /mnt/a/other",
    )?;
    holds(
        &guard("allow-targets = [\"/mnt/a\", \"/mnt/jobs\"], allow-sources = [\"/mnt/s\"]"),
        "path-guard",
        "mkdir -p /mnt/a/rel /mnt/data /mnt/s/evil; ln -s a/rel/current /mnt/jobs; ln -s ../../data /mnt/a/rel/current
        ln -s /mnt/b /mnt/s/evil/current; denied mount --bind /mnt/s/evil /mnt/a/rel; echo \"$said\" | grep -q another
        denied mount --bind /mnt/s/data /mnt/b",
    )
}

fn an_export_is_exempt_for_types_of_servers_only() -> Result<()> {
    holds(
        "[[policy]]\nname = \"flags\"\nplugin = \"secure-flags.wasm\"\nrewrites = [\"options\"]\n\
         settings = { rules = [{ add = [\"nosuid\"], except-sources = [\"filer:/trusted\"] }] }\n",
        "secure-flags",
        "has() { grep \" $1 \" /proc/self/mountinfo | tail -n 1 | grep -q nosuid; }
        allowed mount -t tmpfs filer:/trusted /mnt/x; has /mnt/x; allowed mount -o remount,suid /mnt/x; has /mnt/x
        allowed mount -t overlay -o lowerdir=/mnt/a:/mnt/b filer:/trusted /mnt/y; has /mnt/y",
    )
}

fn another_name_of_the_own_state_is_taken_away_again() -> Result<()> {
    holds(
        &guard("deny-targets = []"),
        "path-guard",
        // Whoever can read the file of the locks can hold them.
        "allowed mount -t tmpfs tmpfs /mnt/y; umount /mnt/y; refused mount --bind -o ro /run /mnt/x; refused mount --rbind -o ro / /mnt/x
        mkdir /mnt/o; mount --bind ${P%/*} /mnt/o; mount --make-private /mnt/o; allowed mount --bind -o ro ${P%/*} /mnt/x
        allowed mount -o remount,bind,ro,nosuid /mnt/x; refused mount -o remount,bind,rw /mnt/x; allowed umount /mnt/x; absent /mnt/x
        # What the own state is found by stays.
        mount --bind ${P%/*} ${P%/*}; refused umount ${P%/*}; umount ${P%/*}",
    )
}

fn what_is_hidden_below_a_limited_folder_still_counts() -> Result<()> {
    let policies = "[[policy]]\nname = \"limits\"\nplugin = \"mount-limits.wasm\"\n\
        settings = { below = [{ path = \"/mnt/a\", max = 2 }] }\n";
    holds(
        policies,
        "mount-limits",
        "mkdir /mnt/a/1 /mnt/a/2 /mnt/a/3 /mnt/s/1 /mnt/s/2 /mnt/s/3
        allowed mount -t tmpfs tmpfs /mnt/a/1; allowed mount -t tmpfs tmpfs /mnt/a/2; denied mount -t tmpfs tmpfs /mnt/a/3
        mount --bind /mnt/s /mnt/a; denied mount -t tmpfs tmpfs /mnt/a/3; umount /mnt/a
        # Nor is it hidden by a mount above it.
        denied mount --bind /mnt/s /mnt; mkdir -p /mnt/over/a/3; mount --bind /mnt/over /mnt; denied mount -t tmpfs tmpfs /mnt/a/3",
    )
}

fn changes_that_come_through_another_namespace_are_places() -> Result<()> {
    holds(
        &guard("allow-targets = [\"/mnt/s\"]"),
        "path-guard",
        "mkdir /mnt/c; mount -t tmpfs tmpfs /mnt/s; mkdir /mnt/s/p
        mount --bind /mnt/s /mnt/b; mount --make-slave /mnt/b; mount --make-shared /mnt/b
        mount --bind /mnt/b /mnt/c; mount --make-slave /mnt/c
        denied mount -t tmpfs tmpfs /mnt/s/p
        # Now the group between them has a mount in another namespace only.
        unshare --mount --propagation unchanged sh -euc 'mount --make-private /mnt; : > /mnt/ready; exec sleep 60' & other=$!
        for i in $(seq 200); do test -e /mnt/ready || sleep 0.05; done
        umount /mnt/b; grep ' /mnt/c ' /proc/self/mountinfo | grep -q propagate_from
        denied mount -t tmpfs tmpfs /mnt/s/p; echo \"$said\" | grep -q /mnt/c/p
        # A container sees the same.
        container \"$M --policies $P --host-root $W/rootfs mount -t tmpfs tmpfs /mnt/s/p && exit 1; test \\$? = 3\"; kill $other",
    )
}

fn an_exempt_source_is_exempt_by_its_name() -> Result<()> {
    let policies = "[host]\noptions = [\"loop\"]\n[[policy]]\nname = \"flags\"\nplugin = \"secure-flags.wasm\"\nrewrites = [\"options\"]\n\
        settings = { rules = [{ add = [\"nosuid\"], except-sources = [\"/dev\", \"/mnt/pods\"] }, { add = [\"nosymfollow\"], targets = [\"/mnt/strict\"], except-sources = [\"/mnt/pods\"] }, { add = [\"nodev\"], targets = [\"/mnt/null\"] }, { add = [\"noexec\"], except-targets = [\"/mnt/a\"] }] }\n";
    holds(
        policies,
        "secure-flags",
        "truncate -s 16M /mnt/image; mkfs.ext4 -q /mnt/image
        has() { grep \" $1 \" /proc/self/mountinfo | tail -n 1 | grep -q $2; }
        allowed mount -t ext4 -o loop /mnt/image /mnt/x; has /mnt/x nosuid
        allowed mount -o remount,bind,suid /mnt/x; has /mnt/x nosuid
        device=$(losetup -j /mnt/image | cut -d: -f1); allowed mount -t ext4 $device /mnt/y; has /mnt/y nosuid; umount /mnt/y
        rm /mnt/image; allowed mount -o remount,bind,suid /mnt/x; has /mnt/x nosuid; umount /mnt/x
        # What is put below an exempt source isn't exempt.
        mkdir -p /mnt/pods/t /mnt/evil /mnt/strict/a; allowed mount --bind /mnt/evil /mnt/pods/t; if has /mnt/pods/t nosymfollow; then exit 1; fi
        allowed mount --bind /mnt/pods/t /mnt/strict/a; has /mnt/strict/a nosymfollow; umount /mnt/strict/a
        allowed mount --rbind /mnt/pods /mnt/strict/a; has /mnt/strict/a/t nosymfollow; umount -R /mnt/strict/a; umount /mnt/pods/t
        allowed mount --bind /mnt/pods /mnt/strict/a; if has /mnt/strict/a nosymfollow; then exit 1; fi
        # The node of a device stays one when it's remounted.
        : > /mnt/null; mount --bind /dev/null /mnt/null; allowed mount -o remount,bind,ro,noexec /mnt/null; echo > /mnt/null
        # A bind on an exempt target exempts nothing elsewhere.
        mount --bind /mnt/s /mnt/a; mount --make-private /mnt/a; allowed mount -t tmpfs tmpfs /mnt/s/data; has /mnt/s/data noexec
        allowed mount -t tmpfs tmpfs /mnt/a/disk; if has /mnt/a/disk noexec; then exit 1; fi",
    )
}

/// Which file systems mounts show is kept between runs where there are many.
fn what_is_known_of_many_mounts_hides_no_place() -> Result<()> {
    holds(
        &guard("deny-targets = [\"/mnt/s/data\"]"),
        "path-guard",
        r#"export MOUNTGATE_CACHE=$W/known; mkdir -m 700 $W/known; known=$W/known/mounts
        # These lie in a denied place by one of their mounts alone, whatever shows them elsewhere.
        below() { mkdir $1; mount -t tmpfs tmpfs $1; mkdir $1/1; }
        elsewhere() { mount --bind $1 /mnt/b; denied mount -t tmpfs tmpfs /mnt/b/1; inside_denied /mnt/b/1; umount /mnt/b; }
        mkdir /mnt/many; for i in $(seq 300); do mkdir -p /mnt/many/$i; mount -t tmpfs tmpfs /mnt/many/$i; done
        below /mnt/s/data/known
        calls() { strace -f -o $W/calls $M --policies $P check mount -t tmpfs tmpfs /mnt/x > /dev/null; wc -l < $W/calls; }
        inside_denied() { container "$M --policies $P --host-root $W/rootfs mount -t tmpfs tmpfs $1 && exit 1; test \$? = 3"; }
        calls > /dev/null; rm $known; asked=$(calls); test -s $known; few=$(calls); test $((few + 250)) -lt $asked
        elsewhere /mnt/s/data/known
        # Mounts that are made later, with numbers in mountinfo that others had before.
        for i in $(seq 100); do umount /mnt/many/$i; done
        for i in 1 2 3; do below /mnt/s/data/$i; elsewhere /mnt/s/data/$i; done
        for i in $(seq 100); do mount --bind /mnt/s /mnt/many/$i; done
        for i in 1 50 100; do denied mount -t tmpfs tmpfs /mnt/many/$i/data; inside_denied /mnt/many/$i/data; done
        # Known ones that have other peers since.
        calls > /dev/null; mount --make-private /mnt/many/100; mkdir /mnt/t; mount --bind /mnt/many/100 /mnt/t; mount --make-shared /mnt/many/100
        mount --bind /mnt/many/100 /mnt/b; denied mount -t tmpfs tmpfs /mnt/b/data; denied mount -t tmpfs tmpfs /mnt/t/data
        inside_denied /mnt/b/data; inside_denied /mnt/t/data
        # A file that others could write counts for nothing, nor does one of an earlier start of the machine, or half of one.
        chmod 644 $known; test $(calls) -gt $((few + 250)); rm $known; calls > /dev/null
        sed -i '2s/^./x/' $known; test $(calls) -gt $((few + 250))
        truncate -s 1000 $known; denied mount -t tmpfs tmpfs /mnt/many/50/data; test $(calls) -lt $asked"#,
    )
}

fn a_mount_that_cannot_be_asked_about_is_not_left_out() -> Result<()> {
    let output = on_host_with(
        &guard("deny-targets = [\"/mnt/s/data\"]"),
        &["path-guard"],
        &format!(
            r#"{WORLD}
            export MOUNTGATE_CACHE=$W/known; mkdir -m 700 $W/known
            # What is bound lies in a denied place by its other mount alone.
            mkdir /mnt/s/data/sub; mount -t tmpfs tmpfs /mnt/s/data/sub; mkdir /mnt/s/data/sub/1; mount --bind /mnt/s/data/sub /mnt/b
            never() {{ $T inside never-allowed $M --policies $P check mount -t tmpfs tmpfs /mnt/b/1; }}
            never; mkdir /mnt/many; for i in $(seq 70); do mkdir /mnt/many/$i; mount -t tmpfs tmpfs /mnt/many/$i; done
            gate check mount -t tmpfs tmpfs /mnt/x > /dev/null; test -s $W/known/mounts; never"#
        ),
    )?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.matches("denied whatever failed").count() == 2, "{text}");
    Ok(())
}
