//! Adds `nosuid`, `nodev`, `noexec`, `ro` or `nosymfollow` to requests, by target, source or file system type. Targets and
//! sources are compared by location, under every name.

use mountgate_sdk::{
    Code, Edit, FileKind, Folders, Kind, Location, Mount, MountOption, Mounts, NamedFolders, Operation, Place, Policy,
    Problem, ResolvedPath, Review, Verdict, Via, deny, is_export_within, is_on_host, is_within, last_of, lies_in,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Each rule that applies adds its flags.
    pub rules: Vec<Rule>,
}

/// Which flags to add, and to which requests. An empty condition excludes no request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The flags.
    pub add: Vec<Flag>,
    /// Only targets at or below these paths, or above them.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Only sources at or below these paths, or above them.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Only these file system types.
    #[serde(default)]
    pub fstypes: Vec<String>,
    /// No targets at or below these paths.
    #[serde(default)]
    pub except_targets: Vec<String>,
    /// No sources at or below these paths.
    #[serde(default)]
    pub except_sources: Vec<String>,
    /// None of these file system types.
    #[serde(default)]
    pub except_fstypes: Vec<String>,
}

/// A flag that takes a right away, see mount(8).
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the manual page")]
pub enum Flag {
    Ro,
    Nosuid,
    Nodev,
    Noexec,
    Nosymfollow,
}

impl Flag {
    fn pair(self) -> (&'static str, &'static str) {
        match self {
            Self::Ro => ("ro", "rw"),
            Self::Nosuid => ("nosuid", "suid"),
            Self::Nodev => ("nodev", "dev"),
            Self::Noexec => ("noexec", "exec"),
            Self::Nosymfollow => ("nosymfollow", "symfollow"),
        }
    }
}

/// The types whose source is an export of a server.
const SERVED: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "coda"];

/// Where a host has its device nodes.
const DEVICE_NODES: &str = "/dev";

/// The most mounts that are looked at.
const MANY: u32 = 1000;

const MOVE_LACKS_FLAGS: Code = Code::new("move-lacks-flags");
const HIDES_EXCEPTION: Code = Code::new("hides-exception");

/// The plugin.
pub struct SecureFlags;

impl Policy for SecureFlags {
    const NAME: &'static str = "secure-flags";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Mutating;
    const HELP: &'static str = "adds nosuid, nodev, noexec, ro or nosymfollow";
    const CODES: &'static [Code] = &[MOVE_LACKS_FLAGS, HIDES_EXCEPTION];
    const CHANGES: &'static [&'static str] = &["options"];
    type Settings = Settings;

    fn codes(settings: &Settings) -> Vec<Code> {
        let has_exceptions =
            settings.rules.iter().any(|rule| !(rule.except_targets.is_empty() && rule.except_sources.is_empty()));
        let hides = has_exceptions.then_some(HIDES_EXCEPTION);
        [MOVE_LACKS_FLAGS].into_iter().chain(hides).collect()
    }

    fn problems(settings: &Settings) -> Vec<Problem> {
        let nothing = settings.rules.iter().enumerate().filter(|(_, rule)| rule.add.is_empty());
        let mut problems: Vec<Problem> = nothing
            .map(|(i, _)| Problem { path: format!("rules[{i}].add"), message: "it adds nothing".to_owned() })
            .collect();
        for (i, rule) in settings.rules.iter().enumerate() {
            for (name, list) in [("targets", &rule.targets), ("except-targets", &rule.except_targets)] {
                let elsewhere = list.iter().enumerate().filter(|(_, path)| !is_on_host(path));
                problems.extend(elsewhere.map(|(j, _)| Problem {
                    path: format!("rules[{i}].{name}[{j}]"),
                    message: "it isn't an absolute path".to_owned(),
                }));
            }
        }
        problems
    }

    fn evaluate(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        if let Some(denied) = exception_replaced(settings, review, mounts)? {
            return Ok(denied);
        }
        let moves = matches!(review.request.operation, Operation::Move);
        let takes_flags =
            matches!(review.request.operation, Operation::Mount | Operation::Bind(_) | Operation::Remount(_));
        if !takes_flags && !moves {
            return Ok(Verdict::Allow);
        }
        let facts = Facts::of(review, mounts);
        // A bind keeps what its source lacks, unless it asks for that.
        let shown = match review.request.operation {
            Operation::Bind(_) => review.source.as_ref(),
            Operation::Remount(_) => Some(&review.target),
            _ => None,
        };
        let is_node = shown.is_some_and(|found| matches!(found.kind, FileKind::CharDevice | FileKind::BlockDevice))
            && review.request.options.iter().all(|option| option.name != "dev");
        let mut missing: Vec<&str> = Vec::new();
        for rule in &settings.rules {
            let applies = rule.applies(&facts, mounts)?;
            if applies == Applies::Not {
                continue;
            }
            // A device node on a nodev mount is useless. Which ones may be bound is for path-guard to say.
            let flags = rule.add.iter().filter(|flag| !(is_node && matches!(flag, Flag::Nodev)));
            for (strict, lax) in flags.map(|flag| flag.pair()) {
                // What somebody has put below an exempt source keeps what was taken away from it.
                if applies == Applies::ToTakenRights && !facts.flags.iter().any(|flag| flag == strict) {
                    continue;
                }
                if last_of(&review.request.options, strict, lax) != Some(strict) && !missing.contains(&strict) {
                    missing.push(strict);
                }
            }
        }
        if missing.is_empty() {
            return Ok(Verdict::Allow);
        }
        if moves {
            // A move can't add flags: the mount must have them already, and all that come along.
            let path = review.source.as_ref().map(|found| found.path.as_str()).unwrap_or_default();
            let below = mounts.below(path, MANY);
            let is_known = below.len() < MANY as usize;
            let moved: Vec<Mount> = mounts.covering(path).into_iter().chain(below).collect();
            let has = |flag: &str| moved.iter().all(|mount| mount.options.iter().any(|option| option == flag));
            missing.retain(|flag| !is_known || moved.is_empty() || !has(flag));
            if missing.is_empty() {
                return Ok(Verdict::Allow);
            }
            let reason = format!(
                "{path} or a mount below it has no {}, which a mount at {} must have",
                missing.join(", "),
                review.target.path
            );
            return Ok(deny(&MOVE_LACKS_FLAGS, "source", reason));
        }
        let add = |name: &str| Edit::AddOption(MountOption { name: name.to_owned(), value: None });
        Ok(Verdict::Rewrite(missing.into_iter().map(add).collect()))
    }
}

/// An exception holds by name. Where something is mounted above such a name, or taken away, a link there could lead anywhere.
fn exception_replaced(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    if matches!(review.request.operation, Operation::Remount(_) | Operation::SetPropagation(_)) {
        return Ok(None);
    }
    for list in settings.rules.iter().flat_map(|rule| [&rule.except_targets, &rule.except_sources]) {
        let excepted = NamedFolders::follow(list, mounts)?;
        let places = review.places.iter().filter(|place| !matches!(place.via, Via::BroughtAlong | Via::Below));
        let replaced = places.filter_map(|place| Some((place, excepted.below(&place.path)?))).next();
        if let Some((place, folder)) = replaced {
            let reason =
                format!("{} holds {folder}, for which there is an exception: it would be another one then", place.path);
            let field = if place.via == Via::MovedFrom { "source" } else { "target" };
            return Ok(Some(deny(&HIDES_EXCEPTION, field, reason)));
        }
    }
    Ok(None)
}

/// How a rule applies to a request.
#[derive(Clone, Copy, PartialEq)]
enum Applies {
    Not,
    /// The source is exempt: it gets back no right that its mount lacks.
    ToTakenRights,
    Whole,
}

/// What the conditions of a rule are compared with.
struct Facts {
    /// The places of the request.
    seen: Vec<Location>,
    /// The same, under all their names.
    places: Vec<Location>,
    /// The real path of each place.
    paths: Vec<String>,
    /// What is mounted or shown.
    shown: Vec<Location>,
    /// The same, under all its names.
    source: Vec<Location>,
    /// The real path of the source, if it's one.
    source_path: Option<String>,
    /// Where the bytes of a device or an image are, apart from the nodes of devices and the mounted file system itself.
    storage: Vec<Location>,
    /// The flags of the mount that the source lies on, or that is remounted.
    flags: Vec<String>,
    /// The source as it's written.
    written: Option<String>,
    /// The sources of the mounts that are shown.
    below: Vec<String>,
    fstype: Option<String>,
    /// The types of what the layers of an overlay lie on.
    layers: Vec<String>,
    /// Whether nothing tells any more what an existing mount shows: the layers of an overlay, and the file of an image without a device,
    /// are known by the names that they had.
    is_from_names: bool,
    /// Whether what is mounted anew is in an image of which nobody can tell where it is.
    is_unknown: bool,
    /// Where the mount is on which the source of a bind or a move lies, and whether others come along.
    lies_on: Option<String>,
    brings_others: bool,
    /// Whether it's bound or moved.
    is_copied: bool,
    is_remount: bool,
}

impl Facts {
    /// A remount request has no source and no type, so they come from the mount.
    fn of(review: &Review, mounts: &impl Mounts) -> Self {
        let request = &review.request;
        let (brought, places): (Vec<&Place>, Vec<&Place>) =
            review.places.iter().partition(|place| place.via == Via::BroughtAlong);
        let locations: Vec<Location> = places.iter().map(|place| place.location.clone()).collect();
        let layers: Vec<&ResolvedPath> = review.option_paths.iter().map(|path| &path.found).collect();
        let ends = review.source.iter().chain(layers.iter().copied());
        let mut shown: Vec<Location> =
            ends.flat_map(|found| found.location.iter().chain(&found.storage)).cloned().collect();
        shown.extend(brought.iter().map(|place| place.location.clone()));
        let (mut written, mut fstype) = (request.source.clone(), request.fstype.clone());
        let is_remount = matches!(request.operation, Operation::Remount(_));
        let is_copied = matches!(request.operation, Operation::Bind(_) | Operation::Move);
        let mut mount = None;
        if is_remount {
            shown.extend(review.target.location.iter().chain(&review.target.storage).cloned());
            let target = &review.target.path;
            mount = mounts.covering(target).filter(|mount| mount.target == *target);
            (written, fstype) = mount.as_ref().map(|mount| (mount.source.clone(), mount.fstype.clone())).unzip();
        }
        let directory = review.source.as_ref().filter(|found| found.kind == FileKind::Directory);
        // What is bound or moved has the type of the file system that it lies on, and comes from where that does.
        let copied = review.source.as_ref().filter(|_| is_copied).and_then(|found| mounts.covering(&found.path));
        if is_copied {
            fstype = copied.as_ref().map(|mount| mount.fstype.clone());
        }
        let lower = layers.iter().filter(|found| found.kind == FileKind::Directory);
        let lower: Vec<Mount> = lower.filter_map(|found| mounts.covering(&found.path)).collect();
        let below: Vec<String> = copied.iter().chain(&lower).map(|mount| mount.source.clone()).collect();
        let devices: Vec<&str> = below.iter().map(String::as_str).filter(|source| is_on_host(source)).collect();
        if !devices.is_empty() {
            shown.extend(mounts.locate(&devices).into_iter().flatten());
        }
        // The source of a tmpfs or of an overlay is only a name, whatever it looks like. It's exempt by no path, nor by its layers.
        let is_fuse = fstype.as_ref().is_some_and(|fstype| fstype.starts_with("fuse"));
        let is_path = match &mount {
            Some(mount) => is_fuse || mount.fstype == "btrfs" || mount.device.major != 0,
            None => {
                is_copied || is_fuse || review.source.as_ref().is_some_and(|found| found.kind == FileKind::BlockDevice)
            }
        };
        let path = review.source.as_ref().map(|found| found.path.as_str()).or(written.as_deref());
        let path = path.filter(|path| is_on_host(path));
        shown.extend(path.and_then(|path| mounts.locate(&[path]).into_iter().next().flatten()));
        let source_path = path.filter(|_| is_path).and_then(|path| mounts.follow(&[path]).into_iter().flatten().next());
        let existing = mount.as_ref().or(copied.as_ref());
        let is_named = |mount: &&Mount| mount.fstype == "overlay" || mount.fstype == "erofs" && mount.device.major == 0;
        // Of an image in a file system that is mounted no more, not even that is known.
        let is_gone = |place: &Location| place.path.is_empty() && mounts.by_device(place.device, 1).is_empty();
        let is_unknown = shown.iter().any(is_gone);
        let is_from_names = is_unknown || existing.iter().copied().chain(&lower).any(|mount| is_named(&mount));
        let judged = review.source.as_ref().unwrap_or(&review.target);
        let nodes = if judged.storage.is_empty() { Vec::new() } else { mounts.locate(&[DEVICE_NODES]) };
        let nodes = nodes.into_iter().flatten().next();
        let is_node = |location: &Location| nodes.as_ref().is_some_and(|nodes| lies_in(location, nodes));
        let is_own = |location: &Location| review.source.is_some() && judged.location.as_ref() == Some(location);
        let storage =
            judged.storage.iter().filter(|location| !is_node(location) && !is_own(location)).cloned().collect();
        let lain_on = match directory {
            Some(found) if !is_copied => mounts.covering(&found.path),
            _ => existing.cloned(),
        };
        let flags =
            lain_on.iter().chain(lower.iter().filter(is_named)).flat_map(|mount| mount.options.clone()).collect();
        Self {
            places: mounts.around(&locations),
            seen: locations,
            paths: places.iter().map(|place| place.path.clone()).collect(),
            source: mounts.around(&shown),
            shown,
            source_path,
            storage,
            flags,
            written,
            below,
            fstype,
            layers: lower.into_iter().map(|mount| mount.fstype).collect(),
            is_from_names,
            is_unknown: is_unknown && !is_copied && !is_remount,
            lies_on: copied.map(|mount| mount.target),
            brings_others: !brought.is_empty(),
            is_copied,
            is_remount,
        }
    }

    /// Whether some place is in one of these folders, or holds one, under whatever name.
    fn touches(&self, folders: &Folders<'_>, names: &NamedFolders<'_>, mounts: &impl Mounts) -> Match {
        let is_in =
            folders.holding(&self.places).is_some() || self.paths.iter().any(|path| names.holding(path).is_some());
        if is_in { Match::Itself } else { Self::hold(&self.seen, folders, mounts) }
    }

    /// Whether some folder, under whatever name, lies in one of these locations, and isn't already seen there.
    fn hold(locations: &[Location], folders: &Folders<'_>, mounts: &impl Mounts) -> Match {
        // An image that isn't at its name any more may be anywhere in its file system. It's in none that is mounted there.
        let (lost, known): (Vec<&Location>, Vec<&Location>) = locations.iter().partition(|place| place.path.is_empty());
        let may_hold = |folder: &Location| lost.iter().any(|lost| lies_in(folder, lost));
        if folders.locations().iter().any(may_hold) {
            return Match::Itself;
        }
        let is_in = |folder: &Location| known.iter().any(|location| lies_in(folder, location));
        if mounts.around(folders.locations()).iter().any(is_in) { Match::Above } else { Match::Not }
    }

    /// Whether every place is in one of these folders.
    fn stays_in(&self, folders: &NamedFolders<'_>) -> bool {
        !self.paths.is_empty() && self.paths.iter().all(|path| folders.holding(path).is_some())
    }

    /// Whether the source is among these, which may name exports of servers, or holds one.
    fn is_from(&self, written: &[String], folders: &Folders<'_>, mounts: &impl Mounts) -> Match {
        let mut sources = self.written.iter().chain(&self.below);
        let is_in = self.is_unknown
            || sources.any(|source| is_named(source, written))
            || folders.holding(&self.source).is_some();
        if is_in { Match::Itself } else { Self::hold(&self.shown, folders, mounts) }
    }

    /// Whether the source is among these, as the request reaches it. What is in an image is never exempt: its device is the kernel's.
    fn is_exempt(&self, written: &[String], folders: &NamedFolders<'_>) -> bool {
        let is_in = |path: &String| folders.holding(path).is_some();
        // Other types take any word for their source.
        let is_served = self
            .fstype
            .as_ref()
            .is_some_and(|fstype| SERVED.contains(&fstype.as_str()) || fstype == "fuse" || fstype.starts_with("fuse."));
        let is_export = is_served && self.written.as_ref().is_some_and(|source| is_named(source, written));
        is_export || self.source_path.as_ref().is_some_and(is_in) && self.storage.is_empty()
    }

    /// Whether something that is mounted below one of these folders is bound or moved, or comes along.
    fn is_put_below(&self, folders: &NamedFolders<'_>) -> bool {
        let lies_on_it = |target: &String| folders.real_paths().iter().any(|folder| is_within(folder, target));
        self.is_copied && (self.brings_others || !self.lies_on.as_ref().is_some_and(lies_on_it))
    }
}

/// Whether a source is one of these exports of servers.
fn is_named(source: &str, exports: &[String]) -> bool {
    exports.iter().any(|export| !is_on_host(export) && is_export_within(source, export))
}

/// How a condition fits.
#[derive(Clone, Copy, PartialEq)]
enum Match {
    Not,
    /// What it names is below.
    Above,
    Itself,
}

impl Rule {
    fn applies(&self, facts: &Facts, mounts: &impl Mounts) -> Result<Applies, String> {
        let is_one = |fstype: &String| self.fstypes.contains(fstype);
        let is_type = self.fstypes.is_empty() || facts.fstype.iter().chain(&facts.layers).any(is_one);
        // Another type may be mounted below what is bound or moved.
        let is_exempt_type = !facts.is_copied && facts.fstype.iter().any(|own| self.except_fstypes.contains(own));
        if !is_type && !facts.is_from_names || is_exempt_type {
            return Ok(Applies::Not);
        }
        let (targets, names) = (Folders::locate(&self.targets, mounts)?, NamedFolders::follow(&self.targets, mounts)?);
        let sources = Folders::locate(&self.sources, mounts)?;
        let target = if self.targets.is_empty() { Match::Itself } else { facts.touches(&targets, &names, mounts) };
        let source =
            if self.sources.is_empty() { Match::Itself } else { facts.is_from(&self.sources, &sources, mounts) };
        if target == Match::Not || source == Match::Not && !facts.is_from_names {
            return Ok(Applies::Not);
        }
        if facts.stays_in(&NamedFolders::follow(&self.except_targets, mounts)?) {
            return Ok(Applies::Not);
        }
        let except_sources = NamedFolders::follow(&self.except_sources, mounts)?;
        let is_exempt = facts.is_exempt(&self.except_sources, &except_sources);
        // A remount above what a rule names gives no right back that was taken there.
        let is_above = facts.is_remount && (target == Match::Above || source == Match::Above);
        // What was mounted where the rule didn't hold has nothing that was taken.
        let depends_on_place = !(self.targets.is_empty() && self.except_targets.is_empty());
        let is_new_here = facts.is_from_names && !facts.is_remount && depends_on_place;
        let is_exempt = is_exempt && !(depends_on_place && facts.is_put_below(&except_sources));
        Ok(match is_new_here || is_type && source != Match::Not && !is_above {
            true if !is_exempt => Applies::Whole,
            true if facts.is_remount => Applies::Not,
            _ => Applies::ToTakenRights,
        })
    }
}

mountgate_sdk::export!(SecureFlags);

#[cfg(test)]
mod tests;
