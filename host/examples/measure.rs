//! Measures what happens within one process; `cargo xtask bench` runs it.
//!
//! `measure decision DIR…` decides one request with each policy directory, at several sizes of the mount table.
//! `measure read` reads this process's mountinfo, bare and parsed.
//! `measure point PATH` asks which mount covers a path, of the kernel and of the whole table.
//! `measure places PATH` decides a mount on a path without any policy: where it will be seen is found out, and judged by
//! the host's own rules.
//! `measure processes FILE` runs commands from start to end in turns: a list of `{name, run, undo}` in JSON.

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use mountgate::decision::case::{Case, Resolution};
use mountgate::decision::chain::Chain;
use mountgate::gate::Gate;
use mountgate::host::root::HostRoot;
use mountgate::model::options::Options;
use mountgate::model::request::{MountRequest, Operation};
use mountgate::model::requester::Requester;
use mountgate::model::rules::HostRules;
use mountgate::mount_table::snapshot::Snapshot;
use mountgate::mount_table::table::MountTable;
use mountgate::policy::cache::Cache;
use mountgate::policy::directory::open::PolicyDirectory;

const MOUNTINFO: &str = "/proc/self/mountinfo";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((what, directories)) if what == "decision" => decision(directories),
        Some((what, [])) if what == "read" => read(),
        Some((what, [path])) if what == "point" => point(path),
        Some((what, [path])) if what == "places" => places(path),
        Some((what, [file])) if what == "processes" => processes(Path::new(file)),
        _ => anyhow::bail!("say `decision DIR…`, `read`, `point PATH`, `places PATH` or `processes FILE`"),
    }
}

/// Something that is measured, by its name.
type Contender<'c> = (String, Box<dyn FnMut() -> anyhow::Result<()> + 'c>);

/// Times of the contenders, taken in turns: the median of each, in microseconds, with the ratio to the first.
fn compare(turns: usize, contenders: &mut [Contender<'_>]) -> anyhow::Result<()> {
    let mut times = vec![Vec::with_capacity(turns); contenders.len()];
    for turn in 0..=turns {
        for ((_, contender), times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            contender()?;
            if turn > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    print_medians(contenders.iter().map(|(name, _)| name.as_str()), &mut times);
    Ok(())
}

fn print_medians<'n>(names: impl Iterator<Item = &'n str>, times: &mut [Vec<f64>]) {
    let mut first = None;
    for (name, times) in names.zip(times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let ratio = median / *first.get_or_insert(median);
        println!("  {name:<56} {median:>10.1} us  {ratio:>6.2}x");
    }
}

fn decision(directories: &[String]) -> anyhow::Result<()> {
    let gates = directories
        .iter()
        .map(|path| Ok(Gate::new(PolicyDirectory::open(Path::new(path), &Cache::none())?, &Cache::none())?))
        .collect::<anyhow::Result<Vec<Gate>>>()?;
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (gate, directory) in gates.iter().zip(directories) {
        let directory = Path::new(directory).file_name().unwrap_or_default().display();
        for mounts in [10, 1000, 100_000] {
            let snapshot = Arc::new(Snapshot::of(table(mounts)?));
            let name = format!("{directory}, {mounts} mounts");
            let case = Case {
                request: MountRequest {
                    operation: Operation::Mount,
                    source: Some("tmpfs".to_owned()),
                    target: "/mnt".to_owned(),
                    fstype: Some("tmpfs".to_owned()),
                    options: Options::parse("ro,size=1m"),
                },
                requester: Requester::default(),
                resolution: Resolution::Recorded { source: None, target: None, option_paths: Vec::new() },
                snapshot,
                locks: None,
            };
            let chain = gate.chain();
            let decide = move || {
                black_box(chain.decide(&case, false)?);
                Ok(())
            };
            contenders.push((name, Box::new(decide) as Box<_>));
        }
    }
    compare(1001, &mut contenders)
}

fn table(mounts: usize) -> anyhow::Result<MountTable> {
    let mut text = String::from("1 0 0:1 / / rw - rootfs root rw\n");
    for i in 2..=mounts {
        writeln!(text, "{i} 1 0:{i} / /srv/{i} rw,nosuid,nodev shared:{i} - tmpfs tmpfs rw,size=1024k")?;
    }
    Ok(MountTable::parse(text.into_bytes())?)
}

/// What it costs to find out where a mount will be seen, and whether the host's own rules hold there: where nothing is known of the
/// host's mounts, and where an earlier run has kept what it learned.
fn places(path: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cache = Cache::open(&folder.path().join("cache"));
    let rules = HostRules::default();
    let chain = Chain::new(&[], &rules, &[]);
    let request = MountRequest {
        operation: Operation::Mount,
        source: Some("tmpfs".to_owned()),
        target: path.to_owned(),
        fstype: Some("tmpfs".to_owned()),
        options: Options::default(),
    };
    let decide = |kept: Option<OwnedFd>| {
        // A host of its own each time: it remembers what it has learned.
        let host = Arc::new(HostRoot::own()?.keeping_in(kept));
        let case = Case {
            request: request.clone(),
            requester: Requester::default(),
            resolution: Resolution::OnHost(&host),
            snapshot: Arc::new(mountgate::host::live_mounts::snapshot(&host)),
            locks: None,
        };
        anyhow::Ok(chain.decide(&case, false)?.places)
    };
    anyhow::ensure!(decide(None)? == decide(cache.private_folder())?, "what is known is wrong");
    let nothing = || decide(None).map(|places| drop(black_box(places)));
    let known = || decide(cache.private_folder()).map(|places| drop(black_box(places)));
    compare(
        101,
        &mut [
            ("the places of a mount, nothing known before".to_owned(), Box::new(nothing)),
            ("the places of a mount, mounts known before".to_owned(), Box::new(known)),
        ],
    )
}

fn point(path: &str) -> anyhow::Result<()> {
    let host = Arc::new(HostRoot::own()?);
    let asked = || {
        // A fresh one each time: nothing is remembered from the turn before.
        let snapshot = mountgate::host::live_mounts::snapshot(&host);
        black_box(snapshot.covering(path).map_err(|error| anyhow::anyhow!("{error}"))?);
        Ok(())
    };
    let looked_up = || {
        black_box(host.mount_table()?.covering(path.as_bytes()).map(|mount| mount.to_text()));
        Ok(())
    };
    // One after the other: reading the table leaves nothing of the other's in the processor's caches.
    compare(1001, &mut [("is it a mount point: asked of the kernel".to_owned(), Box::new(asked))])?;
    compare(101, &mut [("is it a mount point: looked up in the table".to_owned(), Box::new(looked_up))])
}

/// A program that is measured from start to end, and what takes back what it does.
#[derive(serde::Deserialize)]
struct Process {
    name: String,
    run: Vec<String>,
    #[serde(default)]
    undo: Vec<Vec<String>>,
}

fn processes(file: &Path) -> anyhow::Result<()> {
    const TURNS: usize = 101;
    let processes: Vec<Process> = serde_json::from_slice(&std::fs::read(file)?)?;
    let mut times = vec![Vec::with_capacity(TURNS); processes.len()];
    #[expect(clippy::disallowed_methods, reason = "processes are what is measured")]
    let start = |words: &[String]| -> anyhow::Result<f64> {
        let (program, arguments) = words.split_first().ok_or_else(|| anyhow::anyhow!("no command"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status()?;
        anyhow::ensure!(status.success(), "{words:?}: {status}");
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    for turn in 0..=TURNS {
        for (process, times) in processes.iter().zip(&mut times) {
            // A command with several parts: `&&` between them.
            let mut time = 0.0;
            for part in process.run.split(|word| word == "&&") {
                time += start(part)?;
            }
            for undo in &process.undo {
                start(undo)?;
            }
            if turn > 0 {
                times.push(time);
            }
        }
    }
    print_medians(processes.iter().map(|process| process.name.as_str()), &mut times);
    Ok(())
}

fn read() -> anyhow::Result<()> {
    let bare = || {
        let mut buffer = vec![0; 64 << 10];
        let mut file = File::open(MOUNTINFO)?;
        while file.read(black_box(&mut buffer))? > 0 {}
        Ok(())
    };
    let parsed = || {
        black_box(MountTable::read(Path::new(MOUNTINFO))?);
        Ok(())
    };
    compare(
        101,
        &mut [
            ("bare read(2) of mountinfo".to_owned(), Box::new(bare)),
            ("read and parsed".to_owned(), Box::new(parsed)),
        ],
    )
}
