//! Helpers that hang, and callers that wait for each other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::support::{on_host, on_host_succeeds, on_host_with, text_of};

tests! {
    privileged a_helper_that_never_returns_is_killed,
    privileged a_helper_that_ignores_sigterm_is_killed,
    privileged what_a_helper_leaves_behind_is_ended,
    privileged a_signal_ends_a_helper_and_what_it_has_done,
    privileged a_tree_is_unmounted_whole_or_not_at_all_when_a_signal_comes,
    privileged a_frozen_file_system_does_not_hold_the_program,
    privileged limits_of_a_caller_are_raised_or_refused,
    privileged who_holds_a_lock_is_named,
    privileged opposite_moves_do_not_wait_for_each_other,
    privileged callers_for_one_target_are_served_one_after_the_other,
    privileged different_targets_do_not_wait_and_a_dead_owner_holds_nothing,
}

fn a_helper_that_never_returns_is_killed() -> Result<()> {
    hangs("never", "took longer than 2s")
}

fn a_helper_that_ignores_sigterm_is_killed() -> Result<()> {
    hangs("stubborn", "took longer than 2s")
}

fn what_a_helper_leaves_behind_is_ended() -> Result<()> {
    hangs("grandchild", "nothing new is mounted")
}

const HANGING: &str = "[host]
helpers = [\"hang\"]
timeout = \"2s\"
[[policy]]
name = \"types\"
plugin = \"fstype-allow.wasm\"
settings = { allow = [\"hang\", \"tmpfs\"] }
";

/// Puts a `mount.hang` among the host's programs that does as its source says.
const HELPER: &str = r#"
    mkdir /run/upper /run/work
    mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin
    cat > /usr/sbin/mount.hang <<'END'
#!/bin/sh
case $1 in
    never) exec sleep 1000 ;;
    stubborn) trap '' TERM INT HUP; while :; do sleep 1000; done ;;
    grandchild) setsid sleep 1000 & exit 0 ;;
esac
END
    chmod 755 /usr/sbin/mount.hang
    left() { for comm in /proc/[0-9]*/comm; do case $(cat $comm) in sleep|mount*) echo "left: $comm" ;; esac; done; }
"#;

fn hangs(how: &str, expected: &str) -> Result<()> {
    let output = on_host_with(
        HANGING,
        &["fstype-allow"],
        &format!(
            "{HELPER}
            start=$(date +%s%N)
            gate mount -t hang {how} /mnt/x || echo ended with $?
            echo took $(( ($(date +%s%N) - start) / 1000000 )) ms
            left; absent /mnt/x"
        ),
    )?;
    let text = text_of(&output);
    ensure!(text.contains("ended with 32") && text.contains(expected), "{text}");
    ensure!(!text.contains("left: ") && output.status.success(), "{text}");
    let took = text.split("took ").filter_map(|part| part.split_once(" ms")?.0.parse::<u64>().ok()).next();
    // The helper would sleep for a thousand seconds.
    ensure!(took.context("no time")? <= 100_000, "{text}");
    Ok(())
}

fn a_signal_ends_a_helper_and_what_it_has_done() -> Result<()> {
    for signal in ["TERM", "HUP"] {
        let text = on_host_succeeds(&format!(
            "{HELPER}
            cat > /usr/sbin/mount.hang <<'END'
#!/bin/sh
mount -i -t tmpfs -o size=1m hang \"$2\"
exec sleep 1000
END
            left() {{ for comm in /proc/[0-9]*/comm; do case $(cat $comm) in sleep|mount*) echo \"left: $comm\" ;; esac; done; }}
            $M --policies $P mount -t hang done /mnt/x >/run/said 2>&1 & gate=$!
            for i in $(seq 600); do grep -q ' /mnt/x ' /proc/1/mountinfo && break; sleep 0.1; done
            # These neither stop nor end it.
            for other in USR1 ALRM QUIT TSTP TTOU VTALRM; do kill -$other $gate; done
            kill -{signal} $gate
            wait $gate || echo \"ended with $?\"
            cat /run/said; left; absent /mnt/x"
        ))?;
        ensure!(text.contains("ended with 32") && text.contains("a signal told mountgate to end"), "{signal}: {text}");
        ensure!(!text.contains("left: "), "{signal}: {text}");
    }
    Ok(())
}

fn a_tree_is_unmounted_whole_or_not_at_all_when_a_signal_comes() -> Result<()> {
    let text = on_host_succeeds(
        "mount -t tmpfs top /mnt/x; cd /mnt/x; for i in $(seq 100); do mkdir $i; done; cd /
        for i in $(seq 100); do mount -t tmpfs leaf /mnt/x/$i; done
        taken_back=0
        for attempt in $(seq 20); do
            $M --policies $P umount -R /mnt/x >/run/said 2>&1 & gate=$!
            for i in $(seq 10000); do test $(grep -c ' /mnt/x' /proc/1/mountinfo) = 101 || break; done
            kill -TERM $gate 2>/dev/null || true
            status=0; wait $gate || status=$?
            left=$(grep -c ' /mnt/x' /proc/1/mountinfo || true)
            case $status,$left in
                0,0) mount -t tmpfs top /mnt/x; for i in $(seq 100); do mkdir /mnt/x/$i; mount -t tmpfs leaf /mnt/x/$i; done ;;
                32,101) taken_back=1; grep 'a signal told mountgate to end' /run/said; break ;;
                *) echo \"$status with $left mounts\"; cat /run/said; exit 1 ;;
            esac
        done
        echo taken back: $taken_back",
    )?;
    ensure!(text.contains("taken back: 1"), "{text}");
    Ok(())
}

/// A directory of a FUSE daemon that was stopped: looking at it doesn't return.
fn a_frozen_file_system_does_not_hold_the_program() -> Result<()> {
    let start = Instant::now();
    let text = text_of(&on_host_with(
        HANGING,
        &["fstype-allow"],
        r#"
        mkdir -p /mnt/data/below
        bindfs --no-allow-other /mnt/data /mnt/x -f & daemon=$!
        for i in $(seq 600); do grep -q ' /mnt/x ' /proc/1/mountinfo && break; sleep 0.1; done
        kill -STOP $daemon
        # A source that doesn't answer keeps nobody from the target.
        gate mount --bind /mnt/x/below /mnt/y & stuck=$!; sleep 0.3; says 0 gate mount -t tmpfs tmpfs /mnt/y; wait $stuck || true
        # It has no policies, and so the time that is the default.
        (status=0; gate list --mountpoint /mnt/x/below || status=$?; echo list ended with $status) & listing=$!
        gate mount --audit /run/audit.jsonl -t tmpfs tmpfs /mnt/x/below || echo ended with $?
        grep -o '"code":"late"' /run/audit.jsonl; test $(wc -l < /run/audit.jsonl) = 1
        # Of many targets, those that answer are unmounted.
        mkdir /mnt/bin; ln -s $M /mnt/bin/umount; mount -t tmpfs tmpfs /mnt/target; mount -t tmpfs tmpfs /mnt/source
        says 64 env MOUNTGATE_POLICIES=$P /mnt/bin/umount /mnt/source /mnt/x/below /mnt/target
        echo "by name: $said"; absent /mnt/source; absent /mnt/target
        wait $listing; kill -KILL $daemon
        "#,
    )?);
    ensure!(text.contains("list ended with 1") && text.contains("hasn't answered within 30s"), "{text}");
    ensure!(text.contains("\nended with 1") && text.contains("hasn't answered within 2s"), "{text}");
    ensure!(text.contains("\"code\":\"late\""), "{text}");
    ensure!(text.contains("by name: umount: /mnt/x/below: the time for the request is up"), "{text}");
    // Without the deadline nothing would ever return.
    ensure!(start.elapsed() < Duration::from_secs(100), "{text}");
    Ok(())
}

const NO_STACKING: &str = "[[policy]]
name = \"limits\"
plugin = \"mount-limits.wasm\"
";

fn limits_of_a_caller_are_raised_or_refused() -> Result<()> {
    on_host_succeeds(
        r#"little() { sh -c 'ulimit -d 40000; exec "$@"' little "$@"; }
        # Without CAP_SYS_RESOURCE nobody can raise a hard limit.
        if little sh -c 'ulimit -d unlimited' 2>/dev/null; then
            little $M --policies $P mount -t tmpfs tmpfs /mnt/x; at /mnt/x | grep tmpfs
        else
            says 1 little $M --policies $P mount -t tmpfs tmpfs /mnt/x; absent /mnt/x
            echo "$said" | grep 'RLIMIT_DATA (getrlimit(2), `ulimit -d`) is 40000 KiB'
            says 1 sh -c 'ulimit -v 4000000; exec "$@"' few $M --policies $P mount -t tmpfs tmpfs /mnt/x
            echo "$said" | grep 'RLIMIT_AS (getrlimit(2), `ulimit -v`) is 4000000 KiB'
            says 1 sh -c 'ulimit -s 300; exec "$@"' small $M --policies $P mount -t tmpfs tmpfs /mnt/x
            echo "$said" | grep 'RLIMIT_STACK (getrlimit(2), `ulimit -s`) is 300 KiB'
            says 1 sh -c 'ulimit -s 3000; exec "$@"' small $M --policies $P mount -t tmpfs tmpfs /mnt/x
            says 0 sh -c 'ulimit -S -s 300; exec "$@"' small $M --policies $P check mount -t tmpfs tmpfs /mnt/x
            says 1 sh -c 'ulimit -t 30; exec "$@"' short $M --policies $P mount -t tmpfs tmpfs /mnt/x
            echo "$said" | grep 'RLIMIT_CPU.*`ulimit -t` leaves [23]. s'
            says 1 sh -c 'ulimit -f 0; exec "$@"' none $M --policies $P check mount -t tmpfs tmpfs /mnt/x
            echo "$said" | grep 'RLIMIT_FSIZE (getrlimit(2), `ulimit -f`) is 0 KiB'
        fi"#,
    )
    .map(drop)
}

fn who_holds_a_lock_is_named() -> Result<()> {
    let text = text_of(&on_host_with(
        HANGING,
        &["fstype-allow"],
        &format!(
            "{HELPER}
            $M --policies $P mount -t hang never /mnt/x & owner=$!
            for i in $(seq 600); do grep -qs sleep /proc/[0-9]*/comm && break; sleep 0.1; done
            kill -STOP $owner
            gate mount -t tmpfs tmpfs /mnt/x || echo \"ended with $?\"
            echo owner is $owner; kill -KILL $owner; pkill -KILL sleep || true"
        ),
    )?);
    let owner = text.lines().find_map(|line| line.strip_prefix("owner is ")).context("no owner")?;
    let expected = format!("process {owner} holds it, and was stopped: SIGCONT lets it go on");
    ensure!(text.contains("ended with 1") && text.contains(&expected), "{text}");
    // The lock of the host, while another request puts its mount where it belongs.
    let text = text_of(&on_host_with(
        HANGING,
        &["fstype-allow"],
        "$T inside between move_mount 1 '$M --policies $P mount -t tmpfs tmpfs /mnt/y || echo \"ended with $?\"' \
            $M --policies $P mount -t tmpfs tmpfs /mnt/x
        absent /mnt/y",
    )?);
    ensure!(
        text.contains("ended with 1") && text.contains("the lock of the host") && text.contains(" holds it"),
        "{text}"
    );
    Ok(())
}

fn opposite_moves_do_not_wait_for_each_other() -> Result<()> {
    on_host_succeeds(
        "for round in $(seq 40); do
            mount -t tmpfs one /mnt/x; mount -t tmpfs other /mnt/y
            gate mount --move /mnt/x /mnt/y >/run/one 2>&1 & one=$!
            gate mount --move /mnt/y /mnt/x >/run/other 2>&1 & other=$!
            moved=0; wait $one && moved=1; wait $other && moved=1; test $moved = 1
            if grep -h 'the lock of' /run/one /run/other; then exit 1; fi
            for place in /mnt/x /mnt/y; do while umount $place 2>/dev/null; do :; done; done
        done",
    )
    .map(drop)
}

fn callers_for_one_target_are_served_one_after_the_other() -> Result<()> {
    let output = on_host_with(
        NO_STACKING,
        &["mount-limits"],
        r#"
        for i in $(seq 8); do (gate mount -t tmpfs tmpfs /mnt/x 2>/dev/null && echo "caller 0" || echo "caller $?") & callers="${callers:-} $!"; done
        wait $callers
        at /mnt/x
        "#,
    )?;
    let text = text_of(&output);
    ensure!(text.matches("caller 0").count() == 1 && text.matches("caller 3").count() == 7, "{text}");
    ensure!(text.matches("at: ").count() == 1, "{text}");
    Ok(())
}

fn different_targets_do_not_wait_and_a_dead_owner_holds_nothing() -> Result<()> {
    let text = on_host_succeeds(&format!(
        "{HELPER}
        $M --policies $P mount -t hang never /mnt/x & owner=$!
        for i in $(seq 600); do grep -qs sleep /proc/[0-9]*/comm && break; sleep 0.1; done
        timeout 60 $M --policies $P mount -t tmpfs tmpfs /mnt/y; at /mnt/y
        kill -KILL $owner
        timeout 60 $M --policies $P mount -t tmpfs tmpfs /mnt/x; at /mnt/x
        pkill -KILL sleep || true"
    ))?;
    ensure!(text.contains("/mnt/x rw") && text.contains("/mnt/y rw"), "{text}");
    let waits = on_host(&format!(
        "{HELPER}
        $M --policies $P mount -t hang never /mnt/x & owner=$!
        for i in $(seq 600); do grep -qs sleep /proc/[0-9]*/comm && break; sleep 0.1; done
        timeout 2 $M --policies $P mount -t tmpfs tmpfs /mnt/x || echo waited, $?
        kill -KILL $owner; pkill -KILL sleep || true; absent /mnt/x"
    ))?;
    ensure!(text_of(&waits).contains("waited, 124"), "{}", text_of(&waits));
    Ok(())
}
