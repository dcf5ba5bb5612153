//! A caller with lent rights chooses the arguments of a request and nothing else; and for everybody: what is taken for a
//! host, for policies, and for compiled code.

use anyhow::{Result, ensure};

use crate::support::{mountgate, on_host_succeeds, on_host_with, status, text_of};

tests! {
    plain with_lent_rights_only_the_request_is_the_callers,
    privileged a_set_user_id_bit_and_file_capabilities_lend_rights,
    privileged what_runs_as_its_caller_keeps_nothing_that_is_the_callers,
    traced a_caller_ends_no_request_before_it_is_written_down,
    privileged a_policy_is_for_the_user_who_was_lent_the_rights,
    plain what_is_inherited_changes_nothing,
    privileged a_folder_that_is_no_host_is_refused,
    privileged policies_on_a_file_system_of_somebody_elses_are_refused,
    privileged without_locks_nothing_is_mounted,
    privileged links_to_the_own_state_and_parts_of_it_are_guarded,
}

fn with_lent_rights_only_the_request_is_the_callers() -> Result<()> {
    for (arguments, named) in [
        (&["--policies", "/tmp", "check", "mount", "-t", "tmpfs", "x", "/mnt"][..], "--policies: "),
        (&["check", "--cache", "/tmp", "mount", "-t", "tmpfs", "x", "/mnt"], "--cache: "),
        (&["list", "--host-root", "/tmp"], "--host-root: "),
        (&["list", "--file", "/etc/shadow"], "--file: "),
        (&["check", "--request", "/etc/shadow"], "--request: "),
        (&["policy", "validate", "/tmp"], "policy: "),
        (&["fuzz"], "fuzz: "),
        (&["man", "/tmp"], "man: "),
        (&["completions", "bash"], "completions: "),
        (&["plugin", "inspect", "/etc/shadow"], "plugin: "),
        (&["replay", "/etc/shadow"], "replay: "),
        (&["mount", "--audit", "/etc/passwd", "-t", "tmpfs", "x", "/mnt"], "--audit: "),
        (&["mount", "--trusted-keys", "/tmp", "-t", "tmpfs", "x", "/mnt"], "--trusted-keys: "),
    ] {
        let output = mountgate(arguments).env_remove("MOUNTGATE_CACHE").env("SUDO_UID", "1000").output()?;
        let text = text_of(&output);
        ensure!(status(&output) == 2 && text.contains(named) && text.contains("sudo(8)"), "{arguments:?}: {text}");
    }
    for (variable, value) in
        [("MOUNTGATE_POLICIES", "/tmp"), ("MOUNTGATE_CACHE", ""), ("MOUNTGATE_TRUSTED_KEYS", "/tmp")]
    {
        let mut command = mountgate(&["check", "mount", "-t", "tmpfs", "x", "/mnt"]);
        let output = command.env_remove("MOUNTGATE_CACHE").env(variable, value).env("SUDO_UID", "1000").output()?;
        let text = text_of(&output);
        ensure!(status(&output) == 2 && text.contains(&format!("{variable}: ")), "{text}");
    }
    let output = mountgate(&["list", "/"]).env_remove("MOUNTGATE_CACHE").env("SUDO_UID", "0").output()?;
    ensure!(status(&output) != 2, "{}", text_of(&output));
    Ok(())
}

/// A name, a stack and ignored signals are the caller's to choose, and lead nowhere.
fn what_is_inherited_changes_nothing() -> Result<()> {
    let plugin = std::fs::File::open(crate::support::plugin("fstype-allow"))?;
    let mut command = mountgate(&[]);
    std::os::unix::process::CommandExt::arg0(&mut command, "mountgate-compiler");
    let output = command.env("SUDO_UID", "1000").stdin(plugin).output()?;
    ensure!(status(&output) == 2 && output.stdout.is_empty(), "{} bytes of code", output.stdout.len());
    let directory = crate::support::policies(
        "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n",
        &["fstype-allow"],
    )?;
    let mut check = mountgate(&["check", "mount", "-t", "ramfs", "x", "/var", "--policies"]);
    let output = check.arg(directory.path()).env("RUST_MIN_STACK", "1").output()?;
    ensure!(status(&output) == 3, "{}", text_of(&output));
    // Plugins are compiled in a child, whose end must be told.
    let cache = crate::support::private_folder()?;
    let script = "trap '' CHLD XFSZ; ulimit -S -f 0; exec \"$@\"";
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", script, "bash"]).arg(crate::support::program());
    let shell = shell.args(["check", "mount", "-t", "ramfs", "x", "/var", "--policies"]).arg(directory.path());
    let output = shell.env("MOUNTGATE_CACHE", cache.path()).output()?;
    ensure!(status(&output) == 3, "{}", text_of(&output));
    Ok(())
}

fn a_set_user_id_bit_and_file_capabilities_lend_rights() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mount -t tmpfs -o mode=755 tmpfs /mnt/x; cp $M /mnt/x/mg
        as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@" 2>&1 || echo "ended with $?"; }
        chmod 4755 /mnt/x/mg; as_user env -u MOUNTGATE_CACHE /mnt/x/mg --policies /tmp list
        chmod 755 /mnt/x/mg; setcap cap_sys_admin+ep /mnt/x/mg
        as_user env -u MOUNTGATE_CACHE /mnt/x/mg --policies /tmp list
        "#,
    )?;
    ensure!(text.contains("set-user-ID or set-group-ID bit") && text.contains("file capabilities"), "{text}");
    ensure!(text.matches("ended with 2").count() == 2, "{text}");
    Ok(())
}

fn what_runs_as_its_caller_keeps_nothing_that_is_the_callers() -> Result<()> {
    on_host_succeeds(
        r#"
        mkdir /run/upper /run/work; mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
        mkdir -p /etc/mountgate /var/cache /run/mountgate; mount -t tmpfs -o mode=755 etc /etc/mountgate; cp $P/* /etc/mountgate
        mount -t tmpfs -o mode=755 cache /var/cache; mount -t tmpfs -o mode=755 tmpfs /mnt/x; cp $M /mnt/x/mg; rmdir /run/mountgate
        setcap cap_sys_admin,cap_sys_ptrace,cap_dac_override,cap_dac_read_search,cap_sys_chroot+ep /mnt/x/mg
        ask() { says $1 setpriv --reuid 65534 --regid 65534 --clear-groups env -u MOUNTGATE_CACHE /mnt/x/mg mount -t ${2:-tmpfs} x /mnt/y; }
        # Neither the cache nor the locks are made for the caller, and what is the caller's is not used.
        ask 1; echo "$said" | grep 'once as root'; test ! -e /var/cache/mountgate; test ! -e /run/mountgate
        mkdir -m 700 /run/mountgate; chown 65534 /run/mountgate; ask 1; rmdir /run/mountgate
        mkdir -m 700 /var/cache/mountgate; chown 65534 /var/cache/mountgate; ask 1; ls -A /var/cache/mountgate | grep . && exit 1
        rmdir /var/cache/mountgate
        # Root's are.
        env -u MOUNTGATE_CACHE $M mount -t tmpfs x /mnt/y; umount /mnt/y
        ask 3 ramfs; ask 0; test "$(stat -c %u /run/mountgate /run/mountgate/requests.lock /var/cache/mountgate | sort -u)" = 0"#,
    )
    .map(drop)
}

fn a_caller_ends_no_request_before_it_is_written_down() -> Result<()> {
    let policies = "[host]\naudit = \"/mnt/log/audit.jsonl\"\naudit-required = true\n\
        [[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";
    let script = r#"
        mkdir /run/upper /run/work /mnt/log; mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
        mkdir -p /etc/mountgate; mount -t tmpfs -o mode=755 etc /etc/mountgate; cp $P/* /etc/mountgate
        mount -t tmpfs -o mode=755 tmpfs /mnt/x; cp $M /mnt/x/mg; chmod 4755 /mnt/x/mg
        mount -t tmpfs -o mode=755 cache /var/cache; unset MOUNTGATE_CACHE; $M check mount -t tmpfs x /mnt/y > /dev/null
        # The kernel is slow where the mount is shown. Meanwhile the caller wants to end the request.
        slow="-e inject=move_mount:delay_exit=5000000"
        strace -u nobody -f -o /dev/null -e trace=move_mount $slow /mnt/x/mg mount -t tmpfs x /mnt/y & traced=$!
        for i in $(seq 400); do grep -q ' /mnt/y ' /proc/self/mountinfo || sleep 0.02; done
        if setpriv --reuid nobody --clear-groups pkill -KILL -x mg; then exit 1; fi
        pkill -INT -x mg; sleep 0.1; pkill -INT -x mg
        wait $traced; test $(wc -l < /mnt/log/audit.jsonl) = 1; umount /mnt/y
        # What is reserved for others stays when a line is written.
        $M mount -t tmpfs x /mnt/y; test $(stat -c %b /mnt/log/audit.jsonl) -ge 16384
    "#;
    let output = on_host_with(policies, &["fstype-allow"], script)?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_policy_is_for_the_user_who_was_lent_the_rights() -> Result<()> {
    let policies = "[[policy]]\nname = \"user\"\nplugin = \"fstype-allow.wasm\"\nfor = { uid = 61001 }\nsettings = { allow = [\"ext4\"] }\n\
        [[policy]]\nname = \"group\"\nplugin = \"fstype-allow.wasm\"\nfor = { gid = 61002 }\nsettings = { allow = [\"xfs\"] }\n\
        [[policy]]\nname = \"all\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"ext4\", \"xfs\", \"tmpfs\"] }\n\
        [[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nfor = { uid = 61001 }\nsettings = { deny-targets = [\"/mnt/y\"] }\n";
    let output = on_host_with(
        policies,
        &["fstype-allow", "path-guard"],
        r#"
        mkdir /run/upper /run/work; mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
        mkdir -p /etc/mountgate; mount -t tmpfs -o mode=755 etc /etc/mountgate; cp $P/* /etc/mountgate
        ask() { says "$@" $M check mount -t tmpfs tmpfs /mnt/y; echo "$said" | tail -n 3; }
        unset MOUNTGATE_CACHE
        ask 0 env; ask 3 env SUDO_UID=61001 SUDO_GID=61001; ask 3 env SUDO_UID=61003 SUDO_GID=61002; ask 0 env SUDO_UID=61003 SUDO_GID=61003
        # His own groups, whichever sudo tells.
        echo 'alice:x:61005:61002::/:/bin/sh' >> /etc/passwd; printf 'odd\351:x:7777:\nsome:x:61002:bob\n' >> /etc/group
        echo 'bob:x:61006:61006::/:/bin/sh' >> /etc/passwd; ask 3 env SUDO_UID=61005 SUDO_GID=61009; ask 3 env SUDO_UID=61006 SUDO_GID=61006
        ask 3 env DOAS_USER=bob; ask 3 env PKEXEC_UID=61005; ask 2 env SUDO_UID=0 SUDO_GID=0 DOAS_USER=alice
        ask 2 env DOAS_USER=nobody-of-this-name; echo "$said" | grep 'no user is known'
        # One of the caller's own groups, whichever comes first.
        mount -t tmpfs -o mode=755 tmpfs /mnt/x; cp $M /mnt/x/mg; chmod 4755 /mnt/x/mg; M=/mnt/x/mg
        ask 3 setpriv --reuid 61003 --regid 61003 --groups 61002,61004; ask 3 setpriv --reuid 61003 --regid 61002 --groups 61004
        ask 0 setpriv --reuid 61003 --regid 61003 --groups 61004; ask 3 setpriv --reuid 61001 --regid 61001 --clear-groups
        # So is every one of many targets, after the first one took root's ids.
        cp $M /mnt/x/umount; chmod 4755 /mnt/x/umount; mount -t tmpfs tmpfs /mnt/y
        for sudo in "" SUDO_UID=61003; do
            says 32 env $sudo setpriv --reuid 61001 --regid 61001 --clear-groups /mnt/x/umount /mnt/none /mnt/y; at /mnt/y | grep tmpfs
        done
        says 64 env setpriv --reuid 61003 --regid 61003 --clear-groups /mnt/x/umount /mnt/none /mnt/y; absent /mnt/y
        "#,
    )?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn a_folder_that_is_no_host_is_refused() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mkdir -p /mnt/x/proc/1/ns /mnt/y/proc/1/ns
        cp /proc/1/mountinfo /mnt/x/proc/1/mountinfo; ln -s / /mnt/x/proc/1/root; touch /mnt/x/proc/1/ns/mnt
        $M --policies $P --host-root /mnt/x mount -t tmpfs tmpfs /mnt/target || echo "ended with $?"
        $M --policies $P --host-root /mnt/x list || echo "ended with $?"
        "#,
    )?;
    ensure!(text.matches("ended with 1").count() == 2 && text.contains("isn't a folder of proc(5)"), "{text}");
    Ok(())
}

fn policies_on_a_file_system_of_somebody_elses_are_refused() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        truncate -s 16M $W/image; mkfs.ext4 -q $W/image; device=$(losetup --find --show $W/image)
        trap 'umount -l /mnt; losetup -d $device' EXIT
        mount $device /mnt/x; cp -r $P /mnt/x/policies; mkdir -m 700 /mnt/x/cache
        $M --policies /mnt/x/policies check mount -t tmpfs tmpfs /mnt/target || echo "ended with $?"
        $M --policies $P --cache /mnt/x/cache check mount -t tmpfs tmpfs /mnt/target
        bindfs $P /mnt/y
        $M --policies /mnt/y check mount -t tmpfs tmpfs /mnt/target || echo "ended with $?"
        "#,
    )?;
    ensure!(text.matches("ended with 4").count() == 2 && text.contains("(ext4 of an image)"), "{text}");
    ensure!(text.contains("(fuse)") || text.contains("(fuse.bindfs)"), "{text}");
    ensure!(text.contains("compiled plugins aren't kept in /mnt/x/cache"), "{text}");
    Ok(())
}

fn links_to_the_own_state_and_parts_of_it_are_guarded() -> Result<()> {
    on_host_succeeds(
        r#"
        mkdir -p /mnt/opt/bin /mnt/opt/other /mnt/deep; ln -s $P /mnt/opt/policies; ln -s opt /mnt/way; ln -s $M /mnt/opt/bin/mount
        own() { says "$@"; echo "$said" | grep "mountgate's own state in $in"; }
        through() { own 2 $M --policies /mnt/way/policies "$@"; }
        in=/mnt/opt/policies through mount --bind /mnt/source /mnt/opt
        mkdir /mnt/back; mount --bind /mnt/opt /mnt/back; in=/mnt/opt/policies through mount --bind -o rw /mnt/opt /mnt/deep; umount /mnt/back
        says 0 $M --policies /mnt/way/policies mount -t tmpfs t /mnt/opt/other; umount /mnt/opt/other
        # The name by which the program is found.
        MOUNTGATE_POLICIES=$P; export MOUNTGATE_POLICIES
        in=/mnt/opt/bin/mount own 32 /mnt/opt/bin/mount --bind /mnt/source /mnt/opt/bin
        (cd /mnt/opt; in=/mnt/opt/bin/mount own 32 bin/mount --bind /mnt/source /mnt/opt/bin)
        # A view of a part that others closed.
        touch /mnt/file; mount --bind $P/policies.toml /mnt/file; mount -o remount,bind,ro /mnt/file
        in=$P own 2 $M mount -o remount,bind,rw /mnt/file; says 0 $M mount -o remount,bind,ro,nosuid /mnt/file
        "#,
    )
    .map(drop)
}

fn without_locks_nothing_is_mounted() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mkdir -m 755 /run/mountgate
        gate mount -t tmpfs tmpfs /mnt/target || echo "ended with $?"
        absent /mnt/target
        "#,
    )?;
    ensure!(text.contains("ended with 1") && text.contains("others have access to it"), "{text}");
    Ok(())
}
