//! What a mount is made of: layers, images, further devices. Each is judged, and what was judged is what is mounted.

use anyhow::{Result, ensure};

use crate::support::{on_host_with, text_of};

tests! {
    privileged layers_of_an_overlay_are_judged_as_what_they_are,
    privileged layers_of_an_overlay_are_pinned_and_may_be_many,
    privileged a_journal_device_is_judged_as_a_source,
}

/// Policies that guard `/mnt/w/secret` as a source, and allow all types.
const GUARDED: &str = "[host]
options = [\"context\", \"loop\", \"offset\", \"sizelimit\"]
[[policy]]
name = \"guard\"
plugin = \"path-guard.wasm\"
settings = { deny-targets = [\"/mnt/w/secret\"], deny-sources = [\"/mnt/w/secret\"] }
";

const WORLD: &str = r#"
    mount --make-rshared /
    mkdir -p /mnt/w; mount -t tmpfs -o size=64m w /mnt/w
    mkdir -p /mnt/w/secret/in /mnt/w/a /mnt/w/b /mnt/w/upper /mnt/w/work /mnt/other
    echo secret > /mnt/w/secret/file; echo a > /mnt/w/a/file
    says() { want=$1; shift; set +e; said=$("$@" 2>&1); got=$?; set -e
        test $got = $want || { echo "$*: ended with $got where $want was expected: $said"; exit 1; }; }
    denied() { says 3 gate "$@"; }
    refused() { says 2 gate "$@"; }
    allowed() { says 0 gate "$@"; }
"#;

fn with_sources(script: &str) -> Result<String> {
    let output = on_host_with(GUARDED, &["path-guard"], &format!("{WORLD}\n{script}"))?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(text_of(&output))
}

fn layers_of_an_overlay_are_judged_as_what_they_are() -> Result<()> {
    with_sources(
        "layered() { echo mount -t overlay -o \"$1\" overlay /mnt/x; }
        denied $(layered lowerdir=/mnt/w/a:/mnt/w/secret)
        denied $(layered lowerdir=/mnt/w)
        denied $(layered lowerdir=/mnt/w/a,upperdir=/mnt/w/secret/in,workdir=/mnt/w/work)
        ln -s /mnt/w/secret /mnt/w/link; denied $(layered lowerdir=/mnt/w/a:/mnt/w/link)
        mount --bind /mnt/w/secret /mnt/other; denied $(layered lowerdir=/mnt/w/a:/mnt/other)
        refused $(layered lowerdir=mnt/w/a:/mnt/w/b); refused $(layered lowerdir=/mnt/w/a:/mnt/../mnt/w/b)
        refused $(layered lowerdir=/mnt/w/a:/mnt/none)
        # What decides is neither shown nor written through a layer.
        refused $(layered lowerdir=/mnt/w/a,upperdir=$P,workdir=/mnt/w/work); echo \"$said\" | grep 'own state'
        refused $(layered lowerdir=/mnt/w/a:$P)
        gate check --json $(layered lowerdir=/mnt/w/a:/mnt/w/b) | grep '\"option_paths\":.{\"option\":\"lowerdir\",\"found\":{\"path\":\"/mnt/w/a\"'
        allowed $(layered lowerdir=/mnt/w/a:/mnt/w/b,upperdir=/mnt/w/upper,workdir=/mnt/w/work)
        test $(cat /mnt/x/file) = a; allowed umount /mnt/x",
    )
    .map(drop)
}

fn layers_of_an_overlay_are_pinned_and_may_be_many() -> Result<()> {
    let text = with_sources(
        r#"long=$(printf 'x%.0s' $(seq 200)); lower=/mnt/w/a
        for i in $(seq 40); do mkdir -p /mnt/w/$long/$i; lower=$lower:/mnt/w/$long/$i; done
        echo last > /mnt/w/$long/40/last; mkdir '/mnt/w/with:colon'; echo colon > '/mnt/w/with:colon/colon'
        strace -f -e trace=fsconfig -o $W/calls $M --policies $P mount -t overlay -o "lowerdir=$lower:/mnt/w/with\:colon" overlay /mnt/x
        test $(cat /mnt/x/last) = last; test $(cat /mnt/x/colon) = colon; test $(cat /mnt/x/file) = a
        grep -c 'FSCONFIG_SET_FD, "lowerdir+"' $W/calls
    gate check mount -t overlay -o lowerdir=/mnt/w/a:/mnt/w/b overlay /mnt/other | grep 'fsconfig(lowerdir+, /mnt/w/b)'"#,
    )?;
    ensure!(text.contains("\n42\n"), "{text}");
    Ok(())
}

fn a_journal_device_is_judged_as_a_source() -> Result<()> {
    with_sources(
        "mkdir /mnt/w/secret/dev; mknod /mnt/w/secret/dev/journal b 7 7; mknod /mnt/w/loop b 7 6
        denied mount -t ext4 -o journal_path=/mnt/w/secret/dev/journal /mnt/w/loop /mnt/x
        denied mount -t xfs -o logdev=/mnt/w/secret/dev/journal /mnt/w/loop /mnt/x
        denied mount -t ext4 -o unheard-of=/mnt/w/secret/file /mnt/w/loop /mnt/x
        refused mount -t ext4 -o unheard-of=/mnt/w/none /mnt/w/loop /mnt/x
        refused mount -t cgroup -o release_agent=/mnt/w/a/file cgroup /mnt/x",
    )
    .map(drop)
}
