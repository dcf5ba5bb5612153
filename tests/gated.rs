//! Gated mounts on a real host made of namespaces, from a real container.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::{mountgate, on_host, on_host_succeeds, on_host_with, status, text_of};

tests! {
    privileged a_container_mounts_on_its_host,
    privileged observers_are_told_how_a_request_ended_and_change_nothing,
    privileged a_denied_mount_changes_nothing,
    privileged a_bind_gets_its_flags,
    privileged a_bind_that_cannot_have_its_flags_is_never_seen,
    privileged check_mounts_nothing,
    privileged a_failed_mount_says_why,
    privileged a_symlinked_target_is_judged_by_what_it_names,
    privileged a_host_without_proc_cannot_be_entered,
    privileged a_helper_may_make_another_type_where_that_is_named,
    privileged what_a_helper_mounts_more_than_once_is_taken_away,
    privileged a_secret_is_masked_in_what_a_helper_prints,
    plain a_sandbox_needs_no_root,
    plain requests_that_the_host_refuses_end_with_2,
}

fn lines_with<'t>(text: &'t str, part: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.contains(part)).collect()
}

fn a_container_mounts_on_its_host() -> Result<()> {
    let output = on_host(
        r#"
        container "$M mount -t tmpfs -o size=1m tmpfs /mnt/x --host-root $W/rootfs --policies $B --json -v;
                   sed 's/^/container: /' /proc/self/mountinfo"
        sed 's/^/host: /' /proc/1/mountinfo
        "#,
    )?;
    let text = text_of(&output);
    ensure!(output.status.success(), "{text}");
    let json: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).context("no JSON")?)?;
    ensure!(json["verdict"] == "allow" && json["outcome"]["status"] == "applied", "{json}");
    let on_host = lines_with(&text, "/mnt/x ");
    ensure!(on_host.len() == 1 && on_host[0].starts_with("host: "), "{text}");
    ensure!(on_host[0].contains("nosuid,nodev") && on_host[0].contains("size=1024k"), "{text}");
    ensure!(lines_with(&text, "observe ").is_empty(), "{text}");
    Ok(())
}

const OBSERVED: &str = "[[policy]]
name = \"writes\"
plugin = \"misbehaving-guest.wasm\"
settings = { rules = [{ act = \"deny\", target = \"/mnt/y\" }, { act = \"observe\" }] }
[[policy]]
name = \"traps\"
plugin = \"misbehaving-guest.wasm\"
settings = { rules = [{ act = \"observe-and-trap\" }] }
[[policy]]
name = \"quiet\"
plugin = \"misbehaving-guest.wasm\"
settings = { rules = [] }
";

fn observers_are_told_how_a_request_ended_and_change_nothing() -> Result<()> {
    let output = on_host_with(
        OBSERVED,
        &["misbehaving-guest"],
        "gate mount -t tmpfs tmpfs /mnt/x -v
        gate mount -t tmpfs tmpfs /mnt/y -v || echo ended with $?
        gate mount -t tmpfs -o size=nonsense tmpfs /mnt/source -v || echo ended with $?",
    )?;
    let text = text_of(&output);
    ensure!(output.status.success(), "{text}");
    let ends = ["applied; /mnt/x is on /mnt/x", "denied; /mnt/y is on /mnt", "failed; /mnt/source is on /mnt"];
    for told in ends.into_iter().chain(["ended with 3\n", "ended with 32\n"]) {
        ensure!(text.contains(told), "no {told:?} in {text}");
    }
    let observers = lines_with(&text, "observe ");
    let failed = observers.iter().filter(|line| line.contains("traps") && line.contains("fail")).count();
    ensure!(observers.len() == 6 && failed == 3, "{text}");
    ensure!(observers.iter().all(|line| !line.contains("quiet")), "{text}");
    Ok(())
}

fn a_denied_mount_changes_nothing() -> Result<()> {
    let output = on_host(
        r#"
        cat /proc/1/mountinfo > $W/before
        container "$M mount -t tmpfs tmpfs /etc --host-root $W/rootfs --policies $B --json" || echo status $?
        cmp $W/before /proc/1/mountinfo
        "#,
    )?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.contains("status 3"), "{text}");
    let json: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).context("no JSON")?)?;
    let denial = &json["denied_by"];
    ensure!(denial["policy"] == "protect-system" && denial["code"] == "target-denied", "{json}");
    ensure!(denial["field"] == "target" && denial["reason"] == "/etc is denied", "{json}");
    Ok(())
}

fn a_bind_gets_its_flags() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        container "$M mount --bind -o ro /mnt/x /mnt/y --host-root $W/rootfs --policies $B"
        grep ' /mnt/y ' /proc/1/mountinfo
        "#,
    )?;
    ensure!(text.contains("ro,nosuid,nodev"), "{text}");
    Ok(())
}

fn a_bind_that_cannot_have_its_flags_is_never_seen() -> Result<()> {
    // In a user namespace the host's nosuid is locked: the copy can be made, and not be made suid.
    let text = text_of(&on_host(
        r#"
        mount -o remount,nosuid /mnt
        gate --sandbox mount --bind -o suid /mnt/x /mnt/y || echo status $?
        "#,
    )?);
    ensure!(text.contains("status 32") && text.contains("mount_setattr(suid, slave)"), "{text}");
    Ok(())
}

fn check_mounts_nothing() -> Result<()> {
    let output = on_host(
        r#"
        container "strace -f -o $W/trace $M check mount -t tmpfs tmpfs /mnt/x --host-root $W/rootfs --policies $B"
        grep -E ' (u?mount2?|setns|unshare|execve|fsopen|fspick|fsmount|move_mount|open_tree|mount_setattr)\(' $W/trace
        "#,
    )?;
    let text = text_of(&output);
    let calls: Vec<&str> = text.lines().filter(|line| line.contains('(') && line.contains(") ")).collect();
    let calls: Vec<&&str> = calls.iter().filter(|line| !line.contains("run:") && line.contains(" = ")).collect();
    ensure!(calls.len() == 1 && calls[0].contains("execve") && calls[0].contains("check"), "{text}");
    ensure!(text.contains("run: ") && text.contains("nosuid,nodev"), "{text}");
    Ok(())
}

fn a_failed_mount_says_why() -> Result<()> {
    let text = text_of(&on_host(
        r#"container "$M mount -t tmpfs -o size=oops tmpfs /mnt/x --host-root $W/rootfs --policies $B" || echo status $?"#,
    )?);
    ensure!(text.contains("status 32") && text.contains("tmpfs: Bad value for 'size'"), "{text}");
    Ok(())
}

fn a_symlinked_target_is_judged_by_what_it_names() -> Result<()> {
    let text = text_of(&on_host(
        r#"
        ln -s /etc /mnt/link
        cat /proc/1/mountinfo > $W/before
        container "$M mount -t tmpfs tmpfs /mnt/link --host-root $W/rootfs --policies $B" || echo status $?
        cmp $W/before /proc/1/mountinfo && echo same
        "#,
    )?);
    ensure!(text.contains("status 3") && text.contains("/etc is denied") && text.contains("same"), "{text}");
    Ok(())
}

fn a_secret_is_masked_in_what_a_helper_prints() -> Result<()> {
    let policies = "[host]
helpers = [\"hang\"]
options = [\"password\"]
[[policy]]
name = \"types\"
plugin = \"fstype-allow.wasm\"
settings = { allow = [\"hang\"] }
";
    let text = text_of(&on_host_with(
        policies,
        &["fstype-allow"],
        r#"
        mkdir /run/upper /run/work
        mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin
        printf '#!/bin/sh\necho "called with $*"; exit 1' > /usr/sbin/mount.hang
        chmod 755 /usr/sbin/mount.hang
        for how in "" --json -v; do gate $how mount -t hang -o password=sesame tmpfs /mnt/x || echo ended with $?; done
        gate check mount -t hang -o password=sesame tmpfs /mnt/x
        "#,
    )?);
    ensure!(text.matches("ended with 32").count() == 3 && text.contains("called with"), "{text}");
    ensure!(text.contains("password=****") && !text.contains("sesame"), "{text}");
    Ok(())
}

fn a_helper_may_make_another_type_where_that_is_named() -> Result<()> {
    for (named, status) in [("hang", 32), ("hang=tmpfs", 0)] {
        let policies = format!(
            "[host]\nhelpers = [{named:?}]\n[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = {{ allow = [\"hang\"] }}\n"
        );
        let script = format!(
            r#"
            mkdir /run/upper /run/work
            mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin
            printf '#!/bin/sh\nmount -i -t tmpfs -o size=1m hang "$2"' > /usr/sbin/mount.hang; chmod 755 /usr/sbin/mount.hang
            says {status} gate mount -t hang share /mnt/x; echo "$said"; at /mnt/x || true"#
        );
        let output = on_host_with(&policies, &["fstype-allow"], &script)?;
        let text = text_of(&output);
        ensure!(output.status.success(), "{text}");
        ensure!(text.contains("write \"hang=tmpfs\" in [host] helpers") == (status == 32), "{text}");
        ensure!(text.contains("at: ") == (status == 0), "{text}");
    }
    Ok(())
}

fn what_a_helper_mounts_more_than_once_is_taken_away() -> Result<()> {
    let policies = "[host]\nhelpers = [\"hang=tmpfs\"]\noptions = [\"X-mount.mkdir\"]\n[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"hang\"] }\n";
    let script = r#"
        mkdir /run/upper /run/work
        mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin
        mount -t tmpfs before /mnt/x
        for end in 'exit 0' 'exit 1' 'kill -9 $$'; do
            printf '#!/bin/sh\nfor i in 1 2 3; do mount -i -t tmpfs hang "$2"; done\n%s' "$end" > /usr/sbin/mount.hang; chmod 755 /usr/sbin/mount.hang
            says 32 gate mount -t hang share /mnt/x; test $(echo "$said" | grep -c 'undone: umount2') = 2
            test $(grep -c ' /mnt/x ' /proc/self/mountinfo) = 1; at /mnt/x | grep -q before
        done
        # What isn't on the target isn't the helper's: it stays.
        printf '#!/bin/sh\nmount --bind /mnt/source /mnt; exit 0' > /usr/sbin/mount.hang; mkdir /mnt/source/x
        says 32 gate mount -t hang share /mnt/x; echo "$said" | grep -q 'something else is mounted over'
        grep -c ' /mnt ' /proc/self/mountinfo | grep -q 2; umount /mnt; at /mnt/x | grep -q before
        # With a folder that is made for it.
        printf '#!/bin/sh\nfor i in 1 2; do mount -i -t tmpfs hang "$2"; done\nkill -9 $$' > /usr/sbin/mount.hang
        says 32 gate mount -t hang -o X-mount.mkdir share /mnt/y/new; test ! -e /mnt/y/new"#;
    let output = on_host_with(policies, &["fstype-allow"], script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_host_without_proc_cannot_be_entered() -> Result<()> {
    let text = text_of(&on_host(
        r#"mkdir $W/mnt; $M mount -t tmpfs tmpfs /mnt --host-root $W --policies $B && echo done || echo ended with $?"#,
    )?);
    ensure!(text.contains("ended with 1") && text.contains("ns/mnt): No such file"), "{text}");
    ensure!(text.contains("error: ") && text.contains("hint: "), "{text}");
    Ok(())
}

fn a_sandbox_needs_no_root() -> Result<()> {
    let arguments =
        ["--sandbox", "--policies", "policies/baseline", "mount", "-t", "tmpfs", "tmpfs", "/mnt", "--show-table"];
    let output = mountgate(&arguments).output()?;
    let text = text_of(&output);
    ensure!(output.status.success(), "{text}");
    ensure!(lines_with(&text, "/mnt  tmpfs  tmpfs").iter().any(|line| line.contains("nosuid,nodev")), "{text}");
    let mine = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mine.contains(" /mnt rw,nosuid,nodev"), "{mine}");
    Ok(())
}

fn requests_that_the_host_refuses_end_with_2() -> Result<()> {
    for (arguments, argument) in [
        (&["-t", "tmpfs", "tmpfs", "mnt"][..], "TARGET: "),
        (&["-t", "tmpfs", "tmpfs", ""], "TARGET: "),
        (&["-t", "tmpfs", "tmpfs", "/mnt/../etc"], "TARGET: "),
        (&["-t", "tmpfs", "tmpfs", "/proc/1/root/mnt"], "TARGET: "),
        (&["-t", "tmpfs", "tmpfs", "/sys"], "TARGET: "),
        (&["-t", "tmpfs", "tmpfs", "/mnt/not-there"], "TARGET: "),
        (&["-t", "tmpfs", "--", "--version", "/mnt"], "SOURCE: "),
        (&["-t", "tmpfs", "-o", "X-mount.mkdir", "tmpfs", "/mnt"], "-o: "),
        (&["-t", "tmpfs", "-o", "helper=x", "tmpfs", "/mnt"], "-o: "),
        (&["-t", "tmpfs", "-o", "size=\"1,2\"", "tmpfs", "/mnt"], "-o: "),
        (&["-t", "fuse.sshfs", "host:/", "/mnt"], "-t: "),
        (&["-t", "auto", "/dev/null", "/mnt"], "-t: "),
        (&["tmpfs", "/mnt"], "-t: "),
        (&["--bind", "/srv/../etc", "/mnt"], "SOURCE: "),
        (&["--move", "-o", "remount", "/srv", "/mnt"], "-o: "),
    ] {
        let output = mountgate(&["check", "--policies", "policies/baseline", "mount"]).args(arguments).output()?;
        let text = text_of(&output);
        ensure!(status(&output) == 2 && text.contains(argument), "{arguments:?}: {text}");
    }
    Ok(())
}
