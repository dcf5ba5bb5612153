//! Helpers and systemd: a real one, booted in namespaces; none at all; and one whose programs are there and which isn't
//! running.

use anyhow::{Result, ensure};

use crate::support::{on_host, on_host_succeeds, text_of};

tests! {
    privileged a_daemon_outlives_its_container_in_a_scope_of_its_own,
    privileged without_systemd_a_helper_runs_without_a_scope_and_the_output_says_so,
    privileged a_required_scope_that_cannot_be_had_refuses_the_mount,
    privileged a_refused_scope_is_left_out_with_prefer_and_an_error_with_require,
}

/// Boots systemd as PID 1 of new namespaces, with `$W` at `/run/test`, and runs a script beside it.
const BOOT: &str = r#"
    mkdir -p $W/test
    cat > $W/boot <<'END'
        mount --make-rprivate /
        mount -t tmpfs tmpfs /run
        mkdir /run/test; mount --bind $W /run/test
        mount -t tmpfs tmpfs /tmp
        mount -t proc proc /proc
        umount -R /sys/fs/cgroup 2>/dev/null || true
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec env -i container=test /lib/systemd/systemd --system --unit=basic.target
END
    unshare -m -p -f -u -i -C --kill-child sh -eu $W/boot > $W/journal 2>&1 &
    unshare=$!
    trap 'kill $unshare' EXIT
    for i in $(seq 600); do pid=$(cat /proc/$unshare/task/$unshare/children 2>/dev/null || true); [ -n "$pid" ] && break; sleep 0.1; done
    pid=${pid% }
    booted() { nsenter -t $pid -m -p -u -i -C -- env W=/run/test M=$M B=$B P=/run/test/policies "$@"; }
    for i in $(seq 600); do
        state=$(booted systemctl is-system-running 2>/dev/null || true)
        case $state in running|degraded) break ;; esac
        sleep 0.1
    done
    case $state in running|degraded) ;; *) echo "systemd is $state"; cat $W/journal; exit 1 ;; esac
"#;

fn a_daemon_outlives_its_container_in_a_scope_of_its_own() -> Result<()> {
    let script = r#"
        cat > $W/container <<'END'
            mount --rbind / /run/test/rootfs; mount --make-rslave /run/test/rootfs
            $M --policies $P --host-root /run/test/rootfs -v mount -t fuse.bindfs -o nosuid,nodev /run/test/data /run/test/seen \
                > /run/test/said 2>&1 || echo "status $?" >> /run/test/said
            touch /run/test/mounted
            sleep 1000
END
        mkdir $W/data $W/seen; echo hello > $W/data/file
        cp $M $W/mountgate
        booted systemd-run --quiet --unit=container --setenv=M=/run/test/mountgate --setenv=P=/run/test/policies \
            --setenv=MOUNTGATE_CACHE= unshare --mount --propagation private sh -eu /run/test/container
        for i in $(seq 600); do [ -e $W/mounted ] && break; sleep 0.1; done
        cat $W/said
        booted systemctl list-units --plain --no-legend 'mountgate*' | sed 's/^/scope: /'
        echo 1 | booted tee /sys/fs/cgroup/system.slice/container.service/cgroup.kill > /dev/null
        sleep 0.5
        booted systemctl is-active container || true
        booted cat /run/test/seen/file
        booted grep ' /run/test/seen ' /proc/1/mountinfo | sed 's/^/mount: /'
        booted /run/test/mountgate --policies /run/test/policies umount /run/test/seen
        for i in $(seq 600); do
            left=$(booted systemctl list-units --all --plain --no-legend 'mountgate*'); [ -z "$left" ] && break; sleep 0.1
        done
        echo "left: $left."
    "#;
    let text = on_host_succeeds(&format!("{BOOT}{script}"))?;
    ensure!(text.contains("scope: mountgate-run-test-seen-"), "{text}");
    ensure!(text.contains("mount: ") && text.contains("nosuid,nodev") && text.contains("fuse"), "{text}");
    ensure!(text.contains("\nhello\n") && text.contains("left: ."), "{text}");
    ensure!(!text.contains("without a systemd scope"), "{text}");
    Ok(())
}

fn without_systemd_a_helper_runs_without_a_scope_and_the_output_says_so() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mkdir /mnt/data; echo hello > /mnt/data/file
        test -x /usr/bin/systemd-run
        container "$M --policies $P --host-root $W/rootfs mount -t fuse.bindfs -o nosuid /mnt/data /mnt/x"
        cat /mnt/x/file
        at /mnt/x
        gate umount /mnt/x; absent /mnt/x
        "#,
    )?;
    ensure!(text.contains("hello") && text.contains("nosuid"), "{text}");
    ensure!(text.contains("runs without a systemd scope of its own"), "{text}");
    Ok(())
}

fn a_required_scope_that_cannot_be_had_refuses_the_mount() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        sed -i 's/^\[host\]/[host]\nscope = "require"/' $P/policies.toml; $M policy lock --yes $P > /dev/null
        gate mount -t fuse.bindfs /mnt/source /mnt/x || echo ended with $?
        absent /mnt/x
        "#,
    )?);
    ensure!(text.contains("ended with 2") && text.contains("wasn't booted with it"), "{text}");
    Ok(())
}

/// The host looks as if it was booted with systemd, and nobody answers on its bus.
fn a_refused_scope_is_left_out_with_prefer_and_an_error_with_require() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        mkdir -p /run/systemd/system /mnt/data
        gate mount -t fuse.bindfs /mnt/data /mnt/x && echo mounted anyway
        gate umount /mnt/x
        sed -i 's/^\[host\]/[host]\nscope = "require"/' $P/policies.toml; $M policy lock --yes $P > /dev/null
        gate mount -t fuse.bindfs /mnt/data /mnt/x || echo ended with $?
        absent /mnt/x
        "#,
    )?);
    ensure!(text.contains("mounted anyway") && text.contains("systemd's bus refused the scope"), "{text}");
    ensure!(text.contains("ended with 32"), "{text}");
    Ok(())
}
