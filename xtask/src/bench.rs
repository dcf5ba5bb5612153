//! mountgate and its peers, side by side in one run, in turns: what is printed are medians and ratios.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::planted::GUIDES;
use crate::{dist, plugins, step};

/// Turns of each benchmark.
const TURNS: usize = 41;

/// Runs the benchmarks whose name holds the filter.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    plugins::build()?;
    let bench = Bench { mountgate: dist::program()?, folder: tempfile::tempdir()? };
    let all: [(_, Benchmark); 6] = [
        ("process", Bench::process),
        ("mount", Bench::mount),
        ("list", Bench::list),
        ("decision", Bench::decision),
        ("languages", Bench::languages),
        ("fuzz", Bench::fuzz),
    ];
    for (name, benchmark) in all {
        if filter.is_none_or(|filter| name.contains(filter)) {
            benchmark(&bench).with_context(|| format!("the benchmark {name} failed"))?;
        }
    }
    Ok(())
}

struct Bench {
    mountgate: PathBuf,
    folder: tempfile::TempDir,
}

/// A group of contenders.
type Benchmark = fn(&Bench) -> Result<()>;

/// Something that is measured against the others of its group.
type Contender<'c> = (String, Box<dyn FnMut() -> Result<Duration> + 'c>);

/// Runs the contenders in turns, and prints medians and the ratio to the first.
fn compare(title: &str, mut contenders: Vec<Contender<'_>>) -> Result<()> {
    step(title);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    // The first turn warms caches up and isn't counted.
    for turn in 0..=TURNS {
        for ((_, contender), times) in contenders.iter_mut().zip(&mut times) {
            let time = contender()?;
            if turn > 0 {
                times.push(time);
            }
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        })
        .collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        println!("  {name:<52} {:>10.3} ms  {:>6.2}x", median * 1e3, median / medians[0]);
    }
    Ok(())
}

/// The time that a command takes from start to end.
fn timed(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let time = start.elapsed();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(time)
}

fn program(name: &str, mut command: Command) -> Contender<'static> {
    (name.to_owned(), Box::new(move || timed(&mut command)))
}

fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

impl Bench {
    fn gate(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.mountgate, arguments);
        command.env("MOUNTGATE_CACHE", self.folder.path().join("cache"));
        command
    }

    /// A policy directory with so many policies, all of them shipped plugins.
    fn policies(&self, count: usize) -> Result<String> {
        let folder = self.folder.path().join(format!("policies-{count}"));
        if !folder.exists() {
            fs::create_dir(&folder)?;
            let settings = [
                "allow = [\"tmpfs\"]",
                "deny-targets = [\"/etc\"]",
                "allow-stacking = false",
                "allow-targets = [\"/\"]",
            ];
            let plugins = ["fstype-allow", "path-guard", "mount-limits", "path-guard"];
            let mut text = String::new();
            for i in 0..count {
                let (plugin, settings) = (plugins[i % 4], settings[i % 4]);
                write!(text, "[[policy]]\nname = \"p{i}\"\nplugin = \"{plugin}.wasm\"\nsettings = {{ {settings} }}\n")?;
                fs::copy(format!("{}/{plugin}.wasm", plugins::FOLDER), folder.join(format!("{plugin}.wasm")))?;
            }
            fs::write(folder.join("policies.toml"), text)?;
            self.lock(&folder)?;
            // Plugins that were written this very moment are hashed each time.
            std::thread::sleep(Duration::from_millis(3100));
        }
        Ok(folder.display().to_string())
    }

    /// A policy directory with one policy of twenty rules in CEL, all of which are evaluated.
    fn rules(&self) -> Result<String> {
        let folder = self.folder.path().join("rules-20");
        fs::create_dir_all(&folder)?;
        let mut text = String::from("[[policy]]\nname = \"rules\"\nplugin = \"rules.wasm\"\n");
        for i in 0..20 {
            write!(
                text,
                "[[policy.settings.rules]]\nmatch = \"request.fstype == 'tmpfs' && target.path.startsWith('/never/{i}') && \
                 !request.counts('ro')\"\ndeny = {{ code = \"no-{i}\", message = \"not {{target.path}}\" }}\n"
            )?;
        }
        fs::write(folder.join("policies.toml"), text)?;
        fs::copy(format!("{}/rules.wasm", plugins::FOLDER), folder.join("rules.wasm"))?;
        self.lock(&folder)?;
        Ok(folder.display().to_string())
    }

    fn request(&self) -> Result<String> {
        let path = self.folder.path().join("request.json");
        let request = serde_json::json!({ "request": {
            "operation": "mount", "source": "tmpfs", "target": "/mnt", "fstype": "tmpfs", "options": [{ "name": "ro" }]
        } });
        fs::write(&path, request.to_string())?;
        Ok(path.display().to_string())
    }

    fn process(&self) -> Result<()> {
        let request = self.request()?;
        let mut contenders = vec![program("/bin/true", command("/bin/true", &[]))];
        for count in [1, 5, 20] {
            let policies = self.policies(count)?;
            let check = self.gate(&["check", "--policies", &policies, "--request", &request]);
            contenders.push(program(&format!("start to verdict, {count} policies, cached"), check));
        }
        let policies = self.policies(5)?;
        let mut first = self.gate(&["check", "--policies", &policies, "--request", &request]);
        first.env("MOUNTGATE_CACHE", "");
        contenders.push(program("start to verdict, 5 policies, compiled anew", first));
        compare("a process from start to verdict", contenders)
    }

    /// Needs root: a host of namespaces is made, and mounts are made on it from another mount namespace.
    fn mount(&self) -> Result<()> {
        let folder = self.folder.path();
        let rootfs = folder.join("rootfs");
        fs::create_dir_all(&rootfs)?;
        let (rootfs, policies) = (rootfs.display().to_string(), self.policies(5)?);
        let program = self.mountgate.display().to_string();
        let nsenter = format!("nsenter --mount={rootfs}/proc/1/ns/mnt -- ");
        let gate = format!("{program} --host-root {rootfs} --policies {policies} ");
        let undo = format!("{nsenter}umount /mnt/x");
        let tmpfs = [
            ("nsenter(1) + mount(8) of a tmpfs, ungated", format!("{nsenter}mount -t tmpfs tmpfs /mnt/x"), true),
            ("mountgate mount of a tmpfs, 5 policies, cached", format!("{gate}mount -t tmpfs tmpfs /mnt/x"), true),
            ("/bin/true", "/bin/true".to_owned(), false),
        ];
        let flags = "ro,nosuid,nodev";
        let bind = [
            (
                "nsenter(1) + mount(8), bind and remount, ungated",
                format!("{nsenter}mount --bind /mnt/y /mnt/x && {nsenter}mount -o remount,bind,{flags} /mnt/x"),
                true,
            ),
            (
                "mountgate mount of a bind with three flags",
                format!("{gate}mount --bind -o {flags} /mnt/y /mnt/x"),
                true,
            ),
        ];
        for (name, contenders) in [("tmpfs", &tmpfs[..]), ("bind", &bind)] {
            let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
            let list: Vec<_> = contenders
                .iter()
                .map(|(name, run, is_undone)| {
                    let undo: Vec<_> = is_undone.then(|| words(&undo)).into_iter().collect();
                    serde_json::json!({ "name": name, "run": words(run), "undo": undo })
                })
                .collect();
            fs::write(folder.join(format!("{name}.json")), serde_json::to_vec(&list)?)?;
        }
        let measure = dist::example("measure")?;
        let script = format!(
            "mount --make-rshared /; mount -t tmpfs tmpfs /mnt; mount -t tmpfs tmpfs /run; mkdir /mnt/x /mnt/y
             for i in $(seq 50); do mkdir /mnt/$i; mount -t tmpfs tmpfs /mnt/$i; done
             unshare --mount --propagation private sh -euc '
                mount --rbind / {rootfs}; mount --make-rprivate /
                {measure} processes {folder}/tmpfs.json
                {measure} processes {folder}/bind.json
                strace -f -c -U calls -o {folder}/calls {gate} mount -t tmpfs tmpfs /mnt/x > /dev/null
            '",
            measure = measure.display(),
            folder = folder.display(),
        );
        step("a gated mount in another mount namespace, on a shared root with 50 mounts more");
        let mut host = namespaces(&["--mount", "--pid", "--fork", "--mount-proc"], &script);
        crate::run(host.env("MOUNTGATE_CACHE", folder.join("cache")))?;
        let calls = fs::read_to_string(folder.join("calls"))?;
        let total =
            calls.lines().last().and_then(|line| line.split_whitespace().find_map(|word| word.parse::<u64>().ok()));
        println!("  system calls of the gated mount of a tmpfs: {}", total.context("strace counted nothing")?);
        Ok(())
    }

    /// On the kernel's own table: so many mounts are made in a namespace of their own. Needs root.
    fn list(&self) -> Result<()> {
        for mounts in [10, 100, 1000, 10_000] {
            step(&format!("the table of a namespace with {mounts} mounts more"));
            let script = format!(
                "mount --make-rshared /; mount -t tmpfs tmpfs /mnt; cd /mnt; mkdir x; seq {mounts} | xargs mkdir
                 for i in $(seq {mounts}); do mount -i -n -t tmpfs tmpfs /mnt/$i; done; cd /
                 {measure} read
                 {measure} point /mnt/7
                 {measure} places /mnt/x
                 now() {{ date +%s%N; }}
                 for i in $(seq 9); do
                     a=$(now); cat /proc/self/mountinfo >/dev/null; b=$(now); {program} list --file /proc/self/mountinfo >/dev/null; c=$(now)
                     findmnt >/dev/null; d=$(now)
                     echo $((b - a)) $((c - b)) $((d - c))
                 done > {times}",
                measure = dist::example("measure")?.display(),
                program = self.mountgate.display(),
                times = self.folder.path().join("times").display(),
            );
            crate::run(&mut namespaces(&["--mount"], &script))?;
            compare_rows(&self.folder.path().join("times"), &["cat mountinfo", "mountgate list --file", "findmnt"])?;
        }
        Ok(())
    }

    fn decision(&self) -> Result<()> {
        step("a decision with fresh instances");
        let mut measure = command(dist::example("measure")?, &["decision"]);
        for count in [1, 5, 20] {
            measure.arg(self.policies(count)?);
        }
        measure.arg(self.rules()?);
        crate::run(&mut measure)
    }

    /// The same policy in each language, as `plugin new` makes it, and a rule.
    fn languages(&self) -> Result<()> {
        let request = self.request()?;
        let mut directories = Vec::new();
        for language in ["rust", "js", "python"] {
            let name = format!("in-{language}");
            for arguments in [&["plugin", "new", "--lang", language, &name][..], &["plugin", "build", &name]] {
                crate::run(self.gate(arguments).current_dir(self.folder.path()).stdout(Stdio::null()))?;
            }
            let directory = self.folder.path().join(format!("policies-in-{language}"));
            fs::rename(self.folder.path().join(&name).join("policies"), &directory)?;
            directories.push(directory.display().to_string());
        }
        directories.push(self.rules()?);
        std::thread::sleep(Duration::from_millis(3100));
        let mut contenders = Vec::new();
        for directory in &directories {
            let name = Path::new(directory).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let check = self.gate(&["check", "--policies", directory, "--request", &request]);
            contenders.push(program(&format!("start to verdict, {name}, cached"), check));
        }
        compare("one policy in each language: a process", contenders)?;
        step("one policy in each language: a decision with fresh instances");
        crate::run(command(dist::example("measure")?, &["decision"]).args(&directories))
    }

    /// How many requests a search tries in a second on one core: each plugin by itself, all of `baseline`, and a plugin in JavaScript.
    fn fuzz(&self) -> Result<()> {
        let one = |plugin: &'static str, settings: &str| -> Result<Searched> {
            let folder = self.folder.path().join(format!("one-{plugin}"));
            fs::create_dir(&folder)?;
            let policy = format!("[[policy]]\nname = \"one\"\nplugin = \"{plugin}.wasm\"\n{settings}\n");
            fs::write(folder.join("policies.toml"), policy)?;
            fs::copy(format!("{}/{plugin}.wasm", plugins::FOLDER), folder.join(format!("{plugin}.wasm")))?;
            self.lock(&folder)?;
            Ok((plugin, folder, 20_000))
        };
        let mut searched = vec![
            one("fstype-allow", "settings = { allow = [\"tmpfs\"] }")?,
            one("path-guard", "settings = { deny-targets = [\"/etc\"], allow-sources = [\"/srv\"] }")?,
            one("mount-limits", "settings = { allow-stacking = false, below = [{ path = \"/mnt\", max = 10 }] }")?,
            one(
                "secure-flags",
                "rewrites = [\"options\"]\nsettings = { rules = [{ add = [\"nosuid\", \"nodev\"] }] }",
            )?,
            ("baseline", PathBuf::from("policies/baseline"), 10_000),
        ];
        for arguments in [&["plugin", "new", "--lang", "js", "in-js"][..], &["plugin", "build", "in-js"]] {
            crate::run(self.gate(arguments).current_dir(self.folder.path()).stdout(Stdio::null()))?;
        }
        searched.push(("JavaScript", self.folder.path().join("in-js/policies"), 2000));
        for (name, policies, runs) in searched {
            step(&format!("a search with {name}, {SEARCHES} seeds of {runs} runs"));
            let mut first = None;
            for guide in GUIDES {
                let mut rates = Vec::new();
                for seed in 1..=SEARCHES {
                    let (runs, seed) = (runs.to_string(), seed.to_string());
                    let mut fuzz = self.gate(&["fuzz", "--json", "--guide", guide, "--runs", &runs, "--seed", &seed]);
                    fuzz.arg("--output").arg(self.folder.path().join("findings")).arg("--policies").arg(&policies);
                    let output = fuzz.stderr(Stdio::null()).output()?;
                    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).context("no summary")?;
                    rates.push(summary["runs_per_second"].as_f64().context("no rate")?);
                }
                rates.sort_by(f64::total_cmp);
                let (median, worst) = (rates[rates.len() / 2], rates[0]);
                let ratio = median / *first.get_or_insert(median);
                println!("  {guide:<14} {median:>8.0} runs a second, {worst:.0} the slowest {ratio:>8.2}x");
            }
        }
        Ok(())
    }

    fn lock(&self, folder: &Path) -> Result<()> {
        crate::run(self.gate(&["policy", "lock", "--yes"]).arg(folder).stdout(Stdio::null()))
    }
}

/// What is searched: a name, the policies, and how many runs make a search of some seconds.
type Searched = (&'static str, PathBuf, u64);

/// How many searches are made of each kind.
const SEARCHES: u64 = 5;

/// A shell script in namespaces of its own.
fn namespaces(flags: &[&str], script: &str) -> Command {
    let mut host = command("unshare", flags);
    host.args(["--propagation", "private", "sh", "-euc", script]);
    host
}

/// Compares the columns of a file of nanoseconds, one turn a line; the first turn warmed caches up.
fn compare_rows(file: &Path, names: &[&str]) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let rows: Vec<Vec<u64>> =
        text.lines().skip(1).map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect()).collect();
    let median = |column: usize| {
        let mut times: Vec<u64> = rows.iter().filter_map(|row| row.get(column).copied()).collect();
        times.sort_unstable();
        times.get(times.len() / 2).map(|time| *time as f64 / 1e6)
    };
    let first = median(0).context("nothing was measured")?;
    for (column, name) in names.iter().enumerate() {
        let median = median(column).context("a column is missing")?;
        println!("  {name:<52} {median:>10.3} ms  {:>6.2}x", median / first);
    }
    Ok(())
}
