//! Unmounting, where mounts hide each other, leave by themselves, have odd names, or can't be looked into.

use anyhow::{Result, ensure};

use crate::support::{on_host_succeeds, on_host_with, text_of};

tests! {
    privileged a_recursive_umount_takes_children_before_parents_and_the_youngest_first,
    privileged mounts_below_a_hidden_one_are_taken_too,
    privileged a_mount_that_left_by_propagation_is_done,
    privileged names_that_are_no_text_are_no_obstacle,
    privileged a_name_that_is_no_text_is_taken_as_it_is_or_as_it_is_listed,
    privileged a_name_with_hidden_characters_is_taken_as_it_is_listed_also_where_places_are_allowed,
    privileged many_mounts_are_kept_with_few_descriptors_or_left_alone,
    privileged a_fuse_that_root_may_not_look_into_is_unmounted,
    privileged a_folder_that_is_renamed_meanwhile_holds_nothing_up,
    privileged failures_have_a_code_and_the_kernels_number,
}

fn a_recursive_umount_takes_children_before_parents_and_the_youngest_first() -> Result<()> {
    on_host_succeeds(
        r#"
        mount -t tmpfs top /mnt/x; mkdir -p /mnt/x/a/b /mnt/x/long-name
        mount -t tmpfs one /mnt/x/a; mkdir /mnt/x/a/b; mount -t tmpfs two /mnt/x/a/b
        mount -t tmpfs stack /mnt/x/long-name; mount -t tmpfs stack /mnt/x/long-name
        # Older than what it lies on now.
        mkdir /mnt/x/a/b/moved; mount -t tmpfs moved /mnt/y; mount -t tmpfs later /mnt/x/a/b; mkdir /mnt/x/a/b/m
        mount --move /mnt/y /mnt/x/a/b/m
        gate umount -R /mnt/x
        absent /mnt/x; absent /mnt/x/a/b/m; absent /mnt/x/long-name
        "#,
    )
    .map(drop)
}

fn mounts_below_a_hidden_one_are_taken_too() -> Result<()> {
    on_host_succeeds(
        r#"
        mount -t tmpfs top /mnt/x; mkdir -p /mnt/x/d/c
        mount -t tmpfs hidden /mnt/x/d/c; mount -t tmpfs over /mnt/x/d
        gate umount -R /mnt/x
        absent /mnt/x; absent /mnt/x/d; absent /mnt/x/d/c
        "#,
    )
    .map(drop)
}

fn a_mount_that_left_by_propagation_is_done() -> Result<()> {
    on_host_succeeds(
        r#"
        mount -t tmpfs top /mnt/x; mkdir /mnt/x/one /mnt/x/two
        mount -t tmpfs inner /mnt/x/one; mount --make-shared /mnt/x/one; mkdir /mnt/x/one/sub
        mount --bind /mnt/x/one /mnt/x/two; mount -t tmpfs leaf /mnt/x/one/sub
        grep -q ' /mnt/x/two/sub ' /proc/1/mountinfo
        gate umount -R /mnt/x
        absent /mnt/x
        "#,
    )
    .map(drop)
}

fn names_that_are_no_text_are_no_obstacle() -> Result<()> {
    on_host_succeeds(
        r#"
        mount -t tmpfs top /mnt/x; name=$(printf '/mnt/x/\377 \\')
        mkdir "$name"; mount -t tmpfs odd "$name"
        gate umount -R /mnt/x; absent /mnt/x
        "#,
    )
    .map(drop)
}

fn a_name_that_is_no_text_is_taken_as_it_is_or_as_it_is_listed() -> Result<()> {
    on_host_succeeds(
        r#"
        name=$(printf '/mnt/x/\377 \\'); mkdir "$name"
        mount -t tmpfs odd "$name"; gate umount "$name"; if grep odd /proc/1/mountinfo; then exit 1; fi
        mount -t tmpfs odd "$name"; listed=$($M list --json /mnt/x | grep -o '"target":"[^"]*377[^"]*"' | cut -d'"' -f4 | sed 's/\\\\/\\/g')
        gate umount "$listed"; if grep odd /proc/1/mountinfo; then exit 1; fi
        mount -t tmpfs odd "$name"; gate umount -R "$name"; if grep odd /proc/1/mountinfo; then exit 1; fi
        # As the kernel prints it.
        line=$(printf '/mnt/x/a\nb'); mkdir "$line"; mount -t tmpfs odd "$line"
        gate umount "$(grep odd /proc/1/mountinfo | cut -d' ' -f5)"; if grep odd /proc/1/mountinfo; then exit 1; fi
        # A name that looks like it and is there is meant as it stands.
        mkdir '/mnt/x/\141' /mnt/x/a; mount -t tmpfs odd '/mnt/x/\141'; mount -t tmpfs even /mnt/x/a
        gate umount '/mnt/x/\141'; absent odd; at /mnt/x/a
        gate umount '/mnt/x/none\041' && exit 1; true
        "#,
    )
    .map(drop)
}

fn a_name_with_hidden_characters_is_taken_as_it_is_listed_also_where_places_are_allowed() -> Result<()> {
    let policies = "[[policy]]
name = \"guard\"
plugin = \"path-guard.wasm\"
settings = { allow-targets = [\"/mnt/x\"] }
";
    let output = on_host_with(
        policies,
        &["path-guard"],
        r#"
        for name in 'a\nb' 'a\tb' 'a\342\200\256b' 'a\033[31mb' 'a b' 'a"b'; do
            path=$(printf "/mnt/x/$name"); mkdir "$path"; mount -t tmpfs odd "$path"
            listed=$($M list | grep -o '/mnt/x/a.*  odd' | sed 's/  odd$//')
            case $listed in *[![:print:]]*) echo "hidden: $name"; exit 1 ;; esac
            allowed umount "$listed"
            if grep odd /proc/1/mountinfo; then exit 1; fi
        done
        "#,
    )?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn many_mounts_are_kept_with_few_descriptors_or_left_alone() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mount -t tmpfs top /mnt/x; cd /mnt/x; seq 300 | xargs mkdir; cd /
        for i in $(seq 300); do mount -i -n -t tmpfs t /mnt/x/$i; done
        before=$(wc -l < /proc/1/mountinfo)
        # It may not raise its limit: then nothing is lost.
        (ulimit -n 200; gate umount -R /mnt/x) || echo "ended with $?"
        test $before = $(wc -l < /proc/1/mountinfo)
        (ulimit -Sn 200; gate umount -R /mnt/x)
        absent /mnt/x
        "#,
    )?;
    ensure!(text.contains("ended with 32") && text.contains("ulimit -n"), "{text}");
    Ok(())
}

fn a_fuse_that_root_may_not_look_into_is_unmounted() -> Result<()> {
    on_host_succeeds(
        r#"
        mkdir /mnt/x/fuse /mnt/source/in; chown -R 65534 /mnt/x /mnt/source
        as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
        chmod 666 /dev/fuse 2>/dev/null || true
        as_user bindfs --no-allow-other /mnt/source /mnt/x/fuse
        if stat /mnt/x/fuse/in 2>/dev/null; then echo "root may look into it"; exit 1; fi
        gate umount /mnt/x/fuse; absent /mnt/x/fuse
        as_user bindfs --no-allow-other /mnt/source /mnt/x/fuse; ln -s x /mnt/link; gate umount /mnt/link/fuse; absent /mnt/x/fuse
        mount --bind /mnt/x /mnt/x; as_user bindfs --no-allow-other /mnt/source /mnt/x/fuse
        gate umount -R /mnt/x; absent /mnt/x
        "#,
    )
    .map(drop)
}

fn a_folder_that_is_renamed_meanwhile_holds_nothing_up() -> Result<()> {
    on_host_succeeds(
        r#"
        mount -t tmpfs top /mnt/x; for i in $(seq 100); do mkdir -p /mnt/x/d/$i; mount -n -i -t tmpfs $i /mnt/x/d/$i; done
        while mv -T /mnt/x/d /mnt/x/e && mv -T /mnt/x/e /mnt/x/d; do :; done 2>/dev/null & renames=$!
        says 0 gate umount -R /mnt/x; absent /mnt/x; wait $renames || true; rmdir /mnt/x/* || true
        "#,
    )
    .map(drop)
}

fn failures_have_a_code_and_the_kernels_number() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        said() { gate "$@" --json 2>/dev/null | head -n 1 || true; }
        said umount /mnt/x
        mount -t tmpfs t /mnt/x; exec 5< /mnt/x
        said umount /mnt/x
        exec 5<&-
        said mount -t tmpfs t /mnt/not-there
        said mount -t tmpfs -o nonsense=1 t /mnt/y
        mount --make-rshared /; mkdir -p /mnt/d; mount -t tmpfs t /mnt/d
        said mount --move /mnt/d /mnt/y
        "#,
    )?;
    for part in [
        "\"code\":\"not-mounted\"",
        "\"code\":\"busy\",\"errno\":16",
        "\"code\":\"no-target\"",
        "\"code\":\"invalid\",\"errno\":22",
        "make the mount above it private first",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}
