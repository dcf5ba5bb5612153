//! The audit file: what is in it, what is done about one that is torn, full or tampered with, and the decisions made again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::{mountgate, on_host_succeeds, on_host_with, policies, status, text_of};

tests! {
    privileged every_request_is_a_line_that_names_the_one_before,
    privileged secrets_are_in_no_line,
    privileged the_audit_file_is_neither_covered_nor_shown,
    privileged a_torn_line_is_cut_off_and_told,
    privileged a_full_disk_is_told_and_refuses_where_that_is_asked_for,
    privileged a_request_that_cannot_be_written_down_is_not_carried_out,
    privileged a_thousand_requests_are_replayed_and_exactly_those_that_flip_are_named,
    privileged links_of_settings_are_replayed_as_they_were,
    plain a_line_that_was_tampered_with_is_named,
}

fn lines(text: &str) -> Vec<Value> {
    let found = text.lines().filter(|line| line.starts_with("{\"version\""));
    found.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn every_request_is_a_line_that_names_the_one_before() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        a=$W/audit.jsonl
        gate mount --audit $a -t tmpfs -o size=1m tmpfs /mnt/x
        gate mount --audit $a -t vfat none /mnt/y && exit 1
        gate umount --audit $a /mnt/../mnt/x && exit 1
        gate umount --audit $a /mnt/x
        gate mount --audit $a -t tmpfs -o mode=oops tmpfs /mnt/x && exit 1
        test $(stat -c %a $a) = 600
        # After a rotation a new file is begun.
        mv $a $a.1; gate mount --audit $a -t tmpfs tmpfs /mnt/x; test $(wc -l < $a) = 1
        $M replay $a.1 --policies $P; cat $a.1
        "#,
    )?;
    ensure!(text.contains("5 requests: 0 verdicts would be others"), "{text}");
    let lines = lines(&text);
    let words: Vec<&str> = lines.iter().filter_map(|line| line["verdict"].as_str()).collect();
    ensure!(words == ["allow", "deny", "refuse", "allow", "allow"], "{words:?}");
    ensure!(lines[0]["previous"].is_null() && lines[1]["previous"].as_str().is_some_and(|hash| hash.len() == 64));
    let first = &lines[0];
    ensure!(first["outcome"]["status"] == "applied" && first["outcome"]["mount_id"].is_u64(), "{first}");
    ensure!(first["trace"][0]["microseconds"].is_u64() && first["policies"][0]["plugin"].as_str().is_some(), "{first}");
    ensure!(
        first["mounts"].as_str().is_some_and(|mounts| mounts.contains(" / ") && !mounts.contains(" /mnt/x ")),
        "{first}"
    );
    ensure!(lines[1]["code"] == "fstype-not-allowed" && lines[2]["code"] == "refused", "{lines:?}");
    ensure!(lines[4]["outcome"]["status"] == "failed", "{lines:?}");
    Ok(())
}

fn secrets_are_in_no_line() -> Result<()> {
    let text = on_host_succeeds(
        "gate mount --audit $W/a -t tmpfs -o password=hunter2 tmpfs /mnt/x || true; grep -c version $W/a; ! grep hunter2 $W/a",
    )?;
    ensure!(text.contains('1'), "{text}");
    Ok(())
}

fn the_audit_file_is_neither_covered_nor_shown() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        mkdir /mnt/log; a=/mnt/log/audit.jsonl
        gate mount --audit $a -t tmpfs tmpfs /mnt/log && exit 1
        gate mount --audit $a --bind /mnt/log /mnt/x && exit 1
        touch /mnt/y/file; gate mount --audit $a --bind /mnt/y/file $a && exit 1
        test $(wc -l < $a) = 3; absent /mnt/log; absent /mnt/x
        # One that others have made isn't written.
        touch $W/theirs; chown 65534 $W/theirs; gate mount --audit $W/theirs -t tmpfs tmpfs /mnt/x; test ! -s $W/theirs
        "#,
    )?;
    ensure!(text.matches("own state").count() == 3, "{text}");
    Ok(())
}

fn a_torn_line_is_cut_off_and_told() -> Result<()> {
    let text = on_host_succeeds(
        r#"
        gate mount --audit $W/a -t tmpfs tmpfs /mnt/x; printf '{"version":1,"half' >> $W/a
        $M replay $W/a --policies $P && exit 1
        gate umount --audit $W/a /mnt/x; test $(wc -l < $W/a) = 2; grep -o '"torn":18' $W/a
        $M replay $W/a --policies $P
        "#,
    )?;
    ensure!(text.contains("its last line is torn") && text.contains("2 requests: 0 verdicts"), "{text}");
    Ok(())
}

fn a_full_disk_is_told_and_refuses_where_that_is_asked_for() -> Result<()> {
    let open = "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";
    let script = r#"
        mkdir /mnt/log; mount -t tmpfs -o size=64k log /mnt/log; head -c 65536 /dev/zero > /mnt/log/full || true
        gate mount -t tmpfs tmpfs /mnt/x && echo "ended with 0" || echo "ended with $?"
    "#;
    let required = format!("[host]\naudit = \"/mnt/log/audit.jsonl\"\naudit-required = true\n{open}");
    let text = text_of(&on_host_with(&required, &["fstype-allow"], &format!("{script} absent /mnt/x"))?);
    ensure!(
        text.contains("ended with 1") && text.contains("can't be audited") && text.contains("No space left"),
        "{text}"
    );
    let wanted = format!("[host]\naudit = \"/mnt/log/audit.jsonl\"\n{open}");
    let text = text_of(&on_host_with(
        &wanted,
        &["fstype-allow"],
        &format!("{script} at /mnt/x; test ! -s /mnt/log/audit.jsonl"),
    )?);
    ensure!(text.contains("ended with 0") && text.contains("isn't in /mnt/log/audit.jsonl"), "{text}");
    Ok(())
}

fn a_request_that_cannot_be_written_down_is_not_carried_out() -> Result<()> {
    let text = "[host]\naudit = \"/mnt/log/audit.jsonl\"\naudit-required = true\n\
        [[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [\"tmpfs\"] }\n";
    let script = r#"
        mkdir /mnt/log; mount -t tmpfs -o size=200m log /mnt/log; a=/mnt/log/audit.jsonl
        # A limit of the size of files that the caller has set.
        (ulimit -S -f 0; allowed mount -t tmpfs x /mnt/x); at /mnt/x; test $(wc -l < $a) = 1
        (ulimit -f 0; gate mount -t tmpfs x /mnt/source || test $? = 1)
        test $(wc -l < $a) = $(grep -c -e ' /mnt/x ' -e ' /mnt/source ' /proc/1/mountinfo)
        # A request that is too large.
        many=$(printf '=,%.0s' $(seq 600)); refused mount -t tmpfs -o "$many" x /mnt/y
        long=$(head -c 3000 /dev/zero | tr '\0' y)
        set --; for i in $(seq 60); do set -- "$@" -o "x-$i=$long"; done; refused mount -t tmpfs "$@" x /mnt/y
        # Mounts of the caller's with long names, which JSON makes longer.
        long=$(printf '\001%.0s' $(seq 250)); deep=/mnt/source/$long/$long/$long/$long/$long/$long/$long/$long/$long/$long/$long/$long
        mkdir -p "$deep"; for i in $(seq 500); do mkdir "$deep/$i"; mount -n -i -t tmpfs t "$deep/$i"; done
        allowed mount -t tmpfs x /mnt/target; at /mnt/target; tail -n 1 $a | grep -o '"omitted":[0-9]*'
        tail -n 1 $a | grep -o '"status":"applied"'; test $(tail -n 1 $a | wc -c) -lt 100000
        $M replay $a --policies $P
        umount /mnt/target; for i in $(seq 500); do umount -n -i "$deep/$i"; done
        # A last line that no line can name.
        head -c 70000000 /dev/zero | tr '\0' y >> $a; echo >> $a
        says 1 gate mount -t tmpfs x /mnt/y; echo "$said"; absent /mnt/y
        # One that would take minutes to be read.
        : > $a; truncate -s 200G $a; says 1 gate mount -t tmpfs x /mnt/y; echo "$said" | grep 'longer than any'; absent /mnt/y
    "#;
    let output = on_host_with(text, &["fstype-allow"], script)?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.contains("longer than any that mountgate writes"), "{text}");
    ensure!(text.contains("\"omitted\":") && text.contains("isn't decided again"), "{text}");
    Ok(())
}

/// 1,000 requests, of which each hundredth is for a type that the new policies don't allow, and each fiftieth for one that only
/// they allow.
fn a_thousand_requests_are_replayed_and_exactly_those_that_flip_are_named() -> Result<()> {
    let allow = |types: &str| {
        format!("[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = {{ allow = [{types}] }}\n")
    };
    let new = policies(&allow("\"tmpfs\", \"ramfs\""), &["fstype-allow"])?;
    let script = format!(
        r#"
        for i in $(seq 1000); do
            fs=tmpfs; if [ $((i % 50)) = 0 ]; then fs=ramfs; fi; if [ $((i % 100)) = 0 ]; then fs=mqueue; fi
            gate mount --audit $W/a -t $fs none /mnt/x >/dev/null 2>&1 && umount /mnt/x
        done
        $M replay $W/a --policies $P
        $M replay $W/a --policies {new} > $W/new || echo "ended with $?"; tail -n 1 $W/new; grep -c '^line' $W/new
        $M replay $W/a --json --policies {new} | tail -n 1
        "#,
        new = new.path().display()
    );
    let old = allow("\"tmpfs\", \"mqueue\"");
    let output = on_host_with(&old, &["fstype-allow"], &script)?;
    let text = text_of(&output);
    ensure!(text.contains("1000 requests: 0 verdicts would be others"), "{text}");
    ensure!(text.contains("ended with 5") && text.contains("1000 requests: 20 verdicts would be others"), "{text}");
    let json = text.lines().find(|line| line.starts_with("{\"")).context("no JSON")?;
    let json: Value = serde_json::from_str(json)?;
    let flips = json["flips"].as_array().context("no flips")?;
    let lines: Vec<u64> = flips.iter().filter_map(|flip| flip["line"].as_u64()).collect();
    ensure!(lines == (1..=20).map(|n| n * 50).collect::<Vec<_>>(), "{lines:?}");
    for flip in flips {
        let is_mqueue = flip["line"].as_u64().is_some_and(|line| line.is_multiple_of(100));
        ensure!(flip["was"]["verdict"] == if is_mqueue { "allow" } else { "deny" }, "{flip}");
    }
    Ok(())
}

/// The link isn't there any more when the requests are replayed.
fn links_of_settings_are_replayed_as_they_were() -> Result<()> {
    let guarded = "[[policy]]\nname = \"guard\"\nplugin = \"path-guard.wasm\"\nsettings = { deny-targets = [\"/mnt/link\"] }\n\
                   [[policy]]\nname = \"watched\"\nplugin = \"fstype-allow.wasm\"\nmode = \"monitor\"\nsettings = { allow = [] }\n";
    let output = on_host_with(
        guarded,
        &["path-guard", "fstype-allow"],
        "mkdir /mnt/real /mnt/real/in; ln -s real /mnt/link
        gate mount --audit $W/a -t tmpfs tmpfs /mnt/real/in && exit 1; gate mount --audit $W/a -t tmpfs tmpfs /mnt/x
        rm /mnt/link; umount /mnt/x; $M replay $W/a --policies $P; $M replay --monitor $W/a",
    )?;
    let text = text_of(&output);
    ensure!(output.status.success() && text.contains("2 requests: 0 verdicts would be others"), "{text}");
    ensure!(
        text.contains("watched: asked 1 times")
            && text.contains("would have denied 1 with fstype-not-allowed, first in line 2"),
        "{text}"
    );
    Ok(())
}

fn a_line_that_was_tampered_with_is_named() -> Result<()> {
    let directory = policies(
        "[[policy]]\nname = \"types\"\nplugin = \"fstype-allow.wasm\"\nsettings = { allow = [] }\n",
        &["fstype-allow"],
    )?;
    let file = directory.path().join("audit.jsonl");
    let replay = |file: &Path| mountgate(&["replay", "--policies"]).arg(directory.path()).arg(file).output();
    for n in 0..3 {
        let target = format!("/tmp/none-{n}");
        let output = mountgate(&["mount", "--sandbox", "-t", "tmpfs", "tmpfs", &target, "--audit"])
            .arg(&file)
            .arg("--policies")
            .arg(directory.path())
            .output()?;
        ensure!(status(&output) == 2, "{}", text_of(&output));
    }
    ensure!(status(&replay(&file)?) == 0, "{}", text_of(&replay(&file)?));
    let text = fs::read_to_string(&file)?;
    let all: Vec<&str> = text.lines().collect();
    for (lines, said) in [
        (
            vec![all[0].replace("none-0", "none-9"), all[1].to_owned(), all[2].to_owned()],
            "line 2 doesn't follow line 1",
        ),
        (vec![all[0].to_owned(), all[2].to_owned()], "line 2 doesn't follow line 1"),
        (vec![all[0].to_owned(), "{}".to_owned()], "line 2 isn't a line of an audit file"),
        (vec![all[0].replace("\"version\":1", "\"version\":9")], "line 1 has version 9"),
    ] {
        fs::write(&file, lines.join("\n") + "\n")?;
        let output = replay(&file)?;
        ensure!(status(&output) == 4 && text_of(&output).contains(said), "{said}: {}", text_of(&output));
    }
    Ok(())
}
