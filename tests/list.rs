//! `list`, and what the kernel prints for mounts with odd names.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mountgate::mount_table::table::MountTable;
use serde_json::Value;

use crate::support::{folder, mountgate, on_host, text_of};

tests! {
    plain ten_thousand_mounts_are_listed,
    plain odd_names_are_read_and_a_broken_line_hides_no_other,
    plain what_is_no_table_is_an_error,
    plain files_without_an_end_are_refused,
    privileged what_the_kernel_prints_for_any_name_is_read_back,
}

fn list(text: &[u8]) -> Result<Value> {
    let folder = folder()?;
    let file = folder.path().join("mountinfo");
    fs::write(&file, text)?;
    let output = mountgate(&["list", "--json", "--file"]).arg(&file).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn ten_thousand_mounts_are_listed() -> Result<()> {
    let mut text = String::from("1 0 0:1 / / rw - rootfs root rw\n");
    for i in 2..=10_000 {
        writeln!(text, "{i} 1 0:{i} / /mnt/{i} rw,nosuid shared:{i} - tmpfs source-{i} rw,size=4k")?;
    }
    let json = list(text.as_bytes())?;
    let mounts = json["mounts"].as_array().context("no list")?;
    ensure!(mounts.len() == 10_000 && json["bad_lines"] == Value::Array(Vec::new()), "{} mounts", mounts.len());
    ensure!(mounts[9_999]["target"] == "/mnt/10000" && mounts[9_999]["optional_fields"][0] == "shared:10000");
    Ok(())
}

fn odd_names_are_read_and_a_broken_line_hides_no_other() -> Result<()> {
    let json = list(
        b"1 0 0:1 / /a\\040b\\011c\\012d\\134e#f\rg\xc2\xa0h rw - tmpfs so\\043urce rw\n\
          this line is broken\n\
          3 1 0:3 / /bad\xffutf8\\040x rw - tmpfs t rw\n",
    )?;
    ensure!(json["mounts"][0]["target"] == "/a b\tc\nd\\e#f\rg\u{a0}h", "{json}");
    ensure!(json["mounts"][0]["source"] == "so#urce", "{json}");
    ensure!(json["mounts"][1]["target"] == "/bad\\377utf8\\040x", "{json}");
    ensure!(json["bad_lines"][0]["line"] == 2 && json["bad_lines"][0]["text"] == "this line is broken", "{json}");
    Ok(())
}

fn what_is_no_table_is_an_error() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("file");
    fs::write(&file, "this is\nno table\n")?;
    for how in [&["list", "--file"][..], &["list", "--json", "--file"]] {
        let output = mountgate(how).arg(&file).output()?;
        let text = text_of(&output);
        ensure!(output.status.code() == Some(2) && text.contains("holds no mount table; line 1"), "{text}");
    }
    // Some lines of what is no table may look like one.
    fs::write(&file, "a /b c d\nthis is\nno table\n")?;
    let output = mountgate(&["list", "--file"]).arg(&file).output()?;
    ensure!(output.status.code() == Some(2) && text_of(&output).contains("line 2"), "{}", text_of(&output));
    // What is wrong is said in the words of its format.
    for line in ["/dev/sda1 / ext4 rw x y\n", "/dev/sda1 / ext4 rw 1 2 3\n"] {
        fs::write(&file, line)?;
        let output = mountgate(&["list", "--file"]).arg(&file).output()?;
        ensure!(text_of(&output).contains("line 1: something else than two numbers"), "{}", text_of(&output));
    }
    // An empty table is one.
    fs::write(&file, "")?;
    let output = mountgate(&["list", "--file"]).arg(&file).output()?;
    ensure!(output.status.success(), "{}", text_of(&output));
    Ok(())
}

fn files_without_an_end_are_refused() -> Result<()> {
    let folder = folder()?;
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)?;
    for command in [&["list", "--file"][..], &["check", "--request"], &["policy", "inspect"]] {
        let large = folder.path().join("large");
        fs::File::create(&large)?.set_len(1 << 40)?;
        let output = mountgate(command).arg(&large).output()?;
        ensure!(output.status.code() == Some(1) && text_of(&output).contains("larger than 256 MiB"), "{command:?}");
        for file in [Path::new("/dev/zero"), &fifo, folder.path()] {
            let output = mountgate(command).arg(file).output()?;
            let text = text_of(&output);
            ensure!(output.status.code() == Some(1) && text.contains("it isn't a plain file"), "{command:?}: {text}");
        }
    }
    Ok(())
}

/// Mounts a tmpfs on names of arbitrary bytes, for real, and reads the kernel's table of them.
fn what_the_kernel_prints_for_any_name_is_read_back() -> Result<()> {
    let folder = folder()?;
    let list = folder.path().join("names");
    let mut random = fastrand::Rng::with_seed(0x6d6f_756e_7467_6174);
    let mut names: Vec<Vec<u8>> = Vec::new();
    while names.len() < 200 {
        let name: Vec<u8> = (0..random.usize(1..12))
            .map(|_| match random.u8(0..4) {
                0 => *random.choice(b" \t\n\\#,=:\"'\r\x0b\x0c").unwrap_or(&b' '),
                1 => random.u8(128..=255),
                _ => random.u8(1..=127),
            })
            .collect();
        if !name.contains(&b'/') && name != b"." && name != b".." && !names.contains(&name) {
            names.push(name);
        }
    }
    for (i, name) in names.iter().enumerate() {
        let place = folder.path().join(i.to_string());
        fs::create_dir(&place)?;
        fs::create_dir(place.join(OsStr::from_bytes(name)))?;
    }
    let script = format!(
        "for d in {0}/[0-9]*; do for n in \"$d\"/* \"$d\"/.*; do case \"$n\" in */.|*/..) continue;; esac; \
         [ -d \"$n\" ] && mount -n -i -c -t tmpfs \"x${{n##*/}}\" \"$n\"; done; done; \
         cat /proc/self/mountinfo > {1}",
        folder.path().display(),
        list.display()
    );
    let output = on_host(&script)?;
    ensure!(list.exists(), "{}", text_of(&output));
    let table = MountTable::read(&list)?;
    ensure!(table.bad_lines().is_empty(), "{:?}", table.bad_lines());
    for (i, name) in names.iter().enumerate() {
        let mut path = folder.path().join(i.to_string()).into_os_string().as_bytes().to_vec();
        path.push(b'/');
        path.extend(name);
        let mount = table.mount_point(&path).with_context(|| format!("{:?} isn't there", OsStr::from_bytes(name)))?;
        ensure!(mount.source()[1..] == name[..], "{:?} has another source", OsStr::from_bytes(name));
    }
    Ok(())
}
