//! In place of mount(8) and umount(8): the words of callers that exec those, and what they read.

use anyhow::{Result, ensure};

use crate::support::{on_host_succeeds, on_host_with, text_of};

tests! {
    privileged the_two_steps_of_a_bind_work,
    privileged words_that_mount_drops_are_dropped_everywhere,
    privileged under_the_name_of_mount_success_prints_nothing,
    privileged flags_that_say_the_same_in_other_words_are_taken,
    privileged failures_are_said_in_the_words_of_mount,
    privileged many_targets_are_read_where_the_program_is,
    privileged many_targets_take_few_descriptors_and_end_with_a_signal,
    privileged a_bind_can_ask_for_its_propagation,
    privileged a_device_node_that_is_bound_stays_one,
    privileged a_descriptor_of_the_caller_is_bound_as_what_it_holds,
    privileged a_broken_stderr_is_no_panic,
    privileged nothing_hidden_is_shown,
}

fn the_two_steps_of_a_bind_work() -> Result<()> {
    on_host_succeeds(
        r#"
        gate mount -t ext4 -o bind,_netdev /mnt/source /mnt/x
        gate mount -t ext4 -o bind,remount,ro,nosuid,data=ordered,errors=remount-ro /mnt/source /mnt/x
        at /mnt/x | grep ' ro,nosuid'
        "#,
    )
    .map(drop)
}

fn words_that_mount_drops_are_dropped_everywhere() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        words=noowner,nogroup,silent,loud,iversion,nofail,noauto,x-systemd.automount,_netdev,comment=a,defaults
        gate mount -t tmpfs -o $words tmpfs /mnt/x
        gate mount -o remount,$words,nosuid /mnt/x
        gate mount -o remount,bind,$words,noexec /mnt/x
        gate mount --bind -o $words /mnt/x /mnt/y
        "#,
    )?;
    ensure!(text.matches("noowner, nogroup, silent, loud, iversion").count() == 4, "{text}");
    Ok(())
}

const NAMES: &str = r#"
    mkdir /mnt/bin; ln -s $M /mnt/bin/mount; ln -s $M /mnt/bin/umount; export MOUNTGATE_POLICIES=$P
    tells() { says "$@"; echo "said: $said"; }
    m=/mnt/bin/mount; u=/mnt/bin/umount
"#;

fn under_the_name_of_mount_success_prints_nothing() -> Result<()> {
    let text = on_host_succeeds(&format!(
        r#"{NAMES}
        tells 0 $m tmpfs /mnt/x -n -s -i -t tmpfs -o size=1m
        tells 0 $m --no-canonicalize -v -t tmpfs tmpfs /mnt/y -w
        tells 0 $u -c -n /mnt/x /mnt/y
        tells 0 $m -o bind /mnt/source /mnt/x
        tells 0 $m -o bind,remount,ro /mnt/source /mnt/x
        tells 0 $u -l /mnt/x
        tells 0 $m -V
        "#
    ))?;
    ensure!(text.matches("said: \n").count() == 6 && text.contains("said: mount "), "{text}");
    Ok(())
}

fn flags_that_say_the_same_in_other_words_are_taken() -> Result<()> {
    let text = on_host_succeeds(&format!(
        r#"{NAMES}
        says 0 $m -t tmpfs --source named --target /mnt/x; at /mnt/x | grep named
        says 0 $m -t tmpfs --target /mnt/y placed
        says 0 $m --bind --make-private --target /mnt/target /mnt/x
        if at /mnt/target | grep -e shared: -e master:; then exit 1; fi
        mount --make-shared /mnt/x; says 0 $m --make-private none /mnt/x; if at /mnt/x | grep shared:; then exit 1; fi
        says 1 $m --move --make-private /mnt/x /mnt/source; says 1 $m --source a -t tmpfs b /mnt/x
        test "$($m -t tmpfs | grep /mnt/x)" = "$(mount -t tmpfs | grep /mnt/x)"
        test "$($m -l -t notmpfs,proc)" = "$(mount -t notmpfs,proc)"
        test "$($m | sort)" = "$(mount | sort)"
        umount /mnt/x; cd /mnt; says 0 $m -vvv -n -n -t tmpfs -o ro -o noexec here ./x; at /mnt/x | grep ' ro,noexec'
        mkdir /mnt/source/in; says 0 $m --bind --bind source/in y; says 32 $m --bind source/in x/../y
        cd /mnt/x; says 0 $u -l .; cd /mnt; says 0 $u y; absent /mnt/x; cd /
        tells 0 $u -d -q /mnt/target; tells 32 $u -q /mnt/target; tells 32 $u /mnt/target
        "#
    ))?;
    ensure!(text.matches("said: \n").count() == 2 && text.contains("not mounted"), "{text}");
    let made = on_host_with(
        "[host]\noptions = [\"X-mount.mkdir\"]\n[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n",
        &["fstype-allow"],
        &format!(
            "{NAMES} says 0 $m -m -t tmpfs t /mnt/a/b; says 0 $m --mkdir=0700 -t tmpfs t /mnt/c/d; test $(stat -c %a /mnt/c) = 700"
        ),
    )?;
    ensure!(made.status.success(), "{}", text_of(&made));
    Ok(())
}

fn failures_are_said_in_the_words_of_mount() -> Result<()> {
    let output = on_host_with(
        "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/mnt/y\"] }\n",
        &["path-guard"],
        &format!(
            r#"{NAMES}
            tells 32 $u /mnt/x
            tells 32 $u /mnt/not-there
            tells 32 $m -t tmpfs tmpfs /mnt/not-there
            tells 32 $m -t tmpfs tmpfs /mnt/y
            tells 32 $m -t tmpfs -o nonsense=1 tmpfs /mnt/x
            tells 32 $m -t nonsense tmpfs /mnt/x
            tells 1 $m -t tmpfs -r
            mount -t tmpfs tmpfs /mnt/x
            tells 64 $u /mnt/x /mnt/source
            mount -t tmpfs tmpfs /mnt/x; exec 5< /mnt/x
            tells 32 $u /mnt/x
            "#
        ),
    )?;
    let text = text_of(&output);
    ensure!(output.status.success(), "{text}");
    for part in [
        "umount: /mnt/x: not mounted.",
        "umount: /mnt/not-there: no mount point specified",
        "mount: /mnt/not-there: mount point does not exist.",
        "mount: /mnt/y: permission denied: denied by guard",
        "mount: /mnt/x: wrong fs type, bad option, bad superblock",
        "mount: /mnt/x: unknown filesystem type",
        "umount: /mnt/source: not mounted.",
        "umount: /mnt/x: target is busy",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

/// The policies lie in the container only: whoever has entered the host for the first target must not look for them there.
fn many_targets_are_read_where_the_program_is() -> Result<()> {
    on_host_succeeds(&format!(
        r#"{NAMES}
        mkdir $W/c; mount -t tmpfs a /mnt/x; mount -t tmpfs b /mnt/y
        container "
            mount -t tmpfs c $W/c
            for d in /*; do if test -L \$d; then cp -P \$d $W/c; elif test -d \$d; then mkdir $W/c\$d; mount --rbind \$d $W/c\$d; fi; done
            mkdir -p $W/c/rootfs $W/c/only; mount --rbind $W/rootfs $W/c/rootfs; cp -R $P/. $W/c/only
            MOUNTGATE_POLICIES=/only chroot $W/c $u /mnt/x /mnt/y"
        absent /mnt/x; absent /mnt/y
        "#
    ))
    .map(drop)
}

fn many_targets_take_few_descriptors_and_end_with_a_signal() -> Result<()> {
    let text = on_host_succeeds(&format!(
        r#"{NAMES}
        fill() {{ for i in $(seq 100); do mkdir -p /mnt/x/$i; mount -t tmpfs leaf /mnt/x/$i; done; }}
        left() {{ grep -c ' /mnt/x/' /proc/1/mountinfo || true; }}
        fill; (ulimit -n 48; says 0 $u /mnt/x/*); test $(left) = 0
        for attempt in $(seq 20); do
            fill; $u /mnt/x/* > /run/said 2>&1 & many=$!
            for i in $(seq 10000); do test $(left) = 100 || break; done
            kill -TERM $many 2>/dev/null || true; status=0; wait $many || status=$?
            test $status = 0 || break
        done
        echo "ended with $status"; test $(left) != 0; grep -c "wasn't tried: a signal" /run/said
        "#
    ))?;
    ensure!(text.contains("ended with 64"), "{text}");
    Ok(())
}

fn a_bind_can_ask_for_its_propagation() -> Result<()> {
    on_host_succeeds(
        r#"
        mount --make-private /mnt; mount -t tmpfs t /mnt/source; mount --make-shared /mnt/source; mkdir /mnt/source/in
        group() { at $1 | grep -o "$2:[0-9]*" | head -n 1 | cut -d: -f2; }
        gate mount --bind /mnt/source /mnt/x
        test "$(group /mnt/x master)" = "$(group /mnt/source shared)"
        gate mount -o bind,shared /mnt/source /mnt/y
        test "$(group /mnt/y shared)" = "$(group /mnt/source shared)"
        gate mount -o rbind,rprivate /mnt/source /mnt/target
        at /mnt/target; if at /mnt/target | grep -e shared: -e master:; then exit 1; fi
        gate mount -o rbind,rslave /mnt/source /mnt/target
        at /mnt/target | grep master:
        # Also on a mount that is shared: what is put there is shared at first.
        mount --make-shared /mnt; mkdir /mnt/p /mnt/s /mnt/n /mnt/r
        gate mount -o bind,private /mnt/source /mnt/p; if at /mnt/p | grep -e shared: -e master:; then exit 1; fi
        gate mount -o bind,slave /mnt/source /mnt/s; at /mnt/s | grep master:; if at /mnt/s | grep shared:; then exit 1; fi
        gate mount -o bind,unbindable /mnt/source /mnt/n; at /mnt/n | grep unbindable
        gate mount -o rbind,rprivate /mnt/source /mnt/r; if at /mnt/r | grep -e shared: -e master:; then exit 1; fi
        "#,
    )
    .map(drop)
}

fn a_device_node_that_is_bound_stays_one() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        touch /mnt/node /mnt/mem; mknod /mnt/source/mem c 1 1
        $M --policies $B mount --bind /dev/null /mnt/node
        echo gone > /mnt/node; test ! -s /mnt/node
        $M --policies $B mount --bind /mnt/source/mem /mnt/mem || echo "ended with $?"
        "#,
    )?;
    ensure!(text.contains("ended with 3") && text.contains("device-not-allowed"), "{text}");
    Ok(())
}

/// As kubelet binds a subPath.
fn a_descriptor_of_the_caller_is_bound_as_what_it_holds() -> Result<()> {
    let policies =
        "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-sources = [\"/mnt/secret\"] }\n";
    let output = on_host_with(
        policies,
        &["path-guard"],
        &format!(
            r#"{NAMES}
            mkdir -p /mnt/source/sub /mnt/secret/sub; touch /mnt/source/sub/file
            exec 7</mnt/source/sub 8</mnt/secret/sub
            tells 0 $m --no-canonicalize -o bind /proc/$$/fd/7 /mnt/x; test -e /mnt/x/file
            tells 0 $m --no-canonicalize -o bind,remount,ro /proc/$$/fd/7 /mnt/x; at /mnt/x | grep ' ro'
            tells 32 $m --no-canonicalize -o bind /proc/$$/fd/8 /mnt/y; echo "$said" | grep 'permission denied: denied by guard'
            # What was renamed is judged by its new name, and what is nowhere on the host isn't bound.
            mv /mnt/source/sub /mnt/secret/moved; tells 32 $m -o bind /proc/$$/fd/7 /mnt/y; echo "$said" | grep 'denied by guard'
            mkdir /mnt/gone; exec 9</mnt/gone; rmdir /mnt/gone; tells 32 $m -o bind /proc/$$/fd/9 /mnt/y
            mkdir /mnt/hidden; exec 9</mnt/hidden; mount -t tmpfs tmpfs /mnt/hidden; tells 32 $m -o bind /proc/$$/fd/9 /mnt/y
            # Nothing else of proc(5) is followed.
            says 2 gate mount --bind /proc/$$/root/mnt /mnt/y; says 2 gate mount --bind /proc/$$/cwd /mnt/y
            says 2 gate mount --bind /proc/self/fd/0 /mnt/y; says 2 gate mount --bind /proc/$$/fd/7/x /mnt/y
            says 2 gate mount -t tmpfs tmpfs /proc/$$/fd/7; says 2 gate mount --move /proc/$$/fd/7 /mnt/y
            "#
        ),
    )?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_broken_stderr_is_no_panic() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        run() { set +e; "$@"; echo "ended with $?"; set -e; }
        run gate mount -v -t tmpfs -o nofail tmpfs /mnt/x 2>/dev/full
        run gate mount -v -t tmpfs -o nofail tmpfs /mnt/y 2>&-
        run gate mount -vv -t tmpfs tmpfs /mnt/not-there 2>/dev/full
        run gate umount /mnt/x >/dev/full 2>/dev/full
        absent /mnt/x
        # Nobody has read the answer, so it's no success.
        if gate check mount -t tmpfs tmpfs /mnt/x >/dev/full 2>/run/said; then exit 1; fi; grep 'No space left on device' /run/said
        run $M completions bash >/dev/full 2>/run/said; grep 'No space left on device' /run/said
        "#,
    )?;
    ensure!(text.matches("ended with 0").count() >= 2 && !text.contains("ended with 101"), "{text}");
    Ok(())
}

fn nothing_hidden_is_shown() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        odd=$(printf '/mnt/a\342\200\256b\302\233c')
        bidi=$(printf '/mnt/a\342\200\256b')
        gate mount -t tmpfs tmpfs "$odd" || true
        gate mount -t tmpfs tmpfs "$odd" --json || true
        mkdir "$bidi"; gate mount -t tmpfs tmpfs "$bidi"; gate mount -t nonsense tmpfs "$bidi" --json -v || true
        gate umount "$bidi" --json
        # In what the parser and the log say.
        for arguments in "mount --$odd x" "check --all $odd" "completions $odd" "--label $odd"; do $M $arguments || true; done
        gate mount -t tmpfs -o "x-$bidi" tmpfs /mnt/x; gate --audit "$bidi/no" mount -t tmpfs tmpfs /mnt/x
        two=$(printf 'one\nfalse two'); $M "$two" || true; ln -s $M /mnt/mount; /mnt/mount "--$bidi" || true
        # Quotes and backslashes hide nothing.
        seen='/mnt/it'"'"'s "a\b"'; mkdir "$seen"; gate mount -t tmpfs tmpfs "$seen"
        "#,
    )?;
    ensure!(!text.chars().any(|c| c == '\u{202e}' || c == '\u{9b}'), "{text}");
    ensure!(text.contains("one\\u{a}false two") && !text.contains("\nfalse two"), "{text}");
    ensure!(text.contains(r#"on /mnt/it's "a\b""#), "{text}");
    ensure!(text.contains("\\u{202e}") && text.contains("\\u202e"), "{text}");
    Ok(())
}
