//! Denies requests by their targets and sources.
//!
//! It compares locations, so that a place is the same place under every name: through links, binds and peers. A denied path
//! holds for what lies below it, and for what lies above it, because a mount there hides, shows or changes all below.

use mountgate_sdk::{
    Code, FileKind, Folders, Kind, Location, Mount, Mounts, NamedFolders, Operation, OptionPath, Place, Policy,
    Problem, ResolvedPath, Review, Verdict, Via, deny, is_export_within, is_on_host, is_within, last_of, lies_in,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// If this isn't empty, every place of a request must be at or below one of these paths.
    pub allow_targets: Vec<String>,
    /// No place of a request may be at, below or above one of these paths.
    pub deny_targets: Vec<String>,
    /// If this isn't empty, sources with a slash must be at or below one of these paths.
    pub allow_sources: Vec<String>,
    /// No source may be at, below or above one of these paths.
    pub deny_sources: Vec<String>,
    /// If this is set, a bind of a device node must be a bind of one of these, and no folder at, below or above /dev may be bound.
    pub allow_device_nodes: Option<Vec<String>>,
}

const TARGET_DENIED: Code = Code::new("target-denied");
const TARGET_NOT_ALLOWED: Code = Code::new("target-not-allowed");
const DEVICE_NOT_ALLOWED: Code = Code::new("device-not-allowed");
const SOURCE_DENIED: Code = Code::new("source-denied");
const SOURCE_NOT_ALLOWED: Code = Code::new("source-not-allowed");
const SOURCE_NOT_PLAIN: Code = Code::new("source-not-plain");

/// The words of a remount that give a right, each with the one that takes it.
const RIGHTS: [(&str, &str); 5] =
    [("rw", "ro"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("symfollow", "nosymfollow")];

/// Where a host has its device nodes.
const DEVICE_NODES: &str = "/dev";

/// The plugin.
pub struct PathGuard;

impl Policy for PathGuard {
    const NAME: &'static str = "path-guard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Kind = Kind::Validating;
    const HELP: &'static str = "denies requests by source and target";
    const CODES: &'static [Code] =
        &[TARGET_DENIED, TARGET_NOT_ALLOWED, DEVICE_NOT_ALLOWED, SOURCE_DENIED, SOURCE_NOT_ALLOWED, SOURCE_NOT_PLAIN];
    type Settings = Settings;

    fn codes(settings: &Settings) -> Vec<Code> {
        let has_sources = !(settings.deny_sources.is_empty() && settings.allow_sources.is_empty());
        let codes = [
            (TARGET_DENIED, !settings.deny_targets.is_empty()),
            (TARGET_NOT_ALLOWED, !settings.allow_targets.is_empty()),
            (DEVICE_NOT_ALLOWED, settings.allow_device_nodes.is_some()),
            (SOURCE_DENIED, !settings.deny_sources.is_empty()),
            (SOURCE_NOT_ALLOWED, !settings.allow_sources.is_empty()),
            (SOURCE_NOT_PLAIN, has_sources),
        ];
        codes.into_iter().filter_map(|(code, is_possible)| is_possible.then_some(code)).collect()
    }

    fn problems(settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        let none = Vec::new();
        let lists = [
            ("allow-targets", &settings.allow_targets, true),
            ("deny-targets", &settings.deny_targets, true),
            ("allow-sources", &settings.allow_sources, false),
            ("deny-sources", &settings.deny_sources, false),
            ("allow-device-nodes", settings.allow_device_nodes.as_ref().unwrap_or(&none), true),
        ];
        for (name, list, must_be_absolute) in &lists {
            for (i, path) in list.iter().enumerate() {
                let message = if path.is_empty() {
                    "it's empty"
                } else if *must_be_absolute && !is_on_host(path) {
                    "it isn't an absolute path"
                } else if path.split('/').any(|part| part == ".." || part == ".") {
                    "it holds `.` or `..`"
                } else {
                    continue;
                };
                problems.push(Problem { path: format!("{name}[{i}]"), message: message.to_owned() });
            }
        }
        problems
    }

    fn evaluate(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Verdict, String> {
        if let Some(denied) = target_denied(settings, review, mounts)? {
            return Ok(denied);
        }
        if let Some(denied) = source_replaced(settings, review, mounts)? {
            return Ok(denied);
        }
        if let Some(denied) = allowed_replaced(settings, review, mounts)? {
            return Ok(denied);
        }
        Ok(source_denied(settings, review, mounts)?.unwrap_or(Verdict::Allow))
    }
}

fn target_denied(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    let denied = Folders::locate(&settings.deny_targets, mounts)?;
    let allowed = NamedFolders::follow(&settings.allow_targets, mounts)?;
    // What is brought along covers nothing.
    let is_judged = |place: &&Place| place.via != Via::BroughtAlong;
    let places = || review.places.iter().filter(is_judged);
    if !denied.paths().is_empty() {
        // A mount above would hide the denied path, or change what it's on. That costs less to find out than where thousands of places lie.
        let is_denied_itself = |place: &Place| denied.locations().contains(&place.location);
        if let Some((place, folder)) =
            at_or_above(review, &denied, mounts).filter(|(place, _)| !is_denied_itself(place))
        {
            let reason = format!("{} holds {folder}, which is denied", shown(place));
            return Ok(Some(deny(&TARGET_DENIED, field_of(place), reason)));
        }
        let locations: Vec<Location> = places().map(|place| place.location.clone()).collect();
        if denied.holding(&mounts.around(&locations)).is_some() {
            // Which one it is must be asked place by place.
            for place in places() {
                if let Some(folder) = denied.holding(&mounts.around(std::slice::from_ref(&place.location))) {
                    return Ok(Some(deny(&TARGET_DENIED, field_of(place), denied_as(&shown(place), folder))));
                }
            }
        }
        if let Some(verdict) = opened(review, &[], &denied, &TARGET_DENIED, mounts) {
            return Ok(Some(verdict));
        }
    }
    if !allowed.paths().is_empty() {
        if let Some(place) = places().find(|place| allowed.holding(&place.path).is_none()) {
            let reason = format!("{} isn't at or below an allowed target", shown(place));
            return Ok(Some(deny(&TARGET_NOT_ALLOWED, field_of(place), reason)));
        }
        if review.places.is_empty() {
            let reason = format!("nothing says where {} is", review.target.path);
            return Ok(Some(deny(&TARGET_NOT_ALLOWED, "target", reason)));
        }
    }
    Ok(None)
}

/// The first place that one of these folders lies at or below.
fn at_or_above<'r, 'f>(
    review: &'r Review,
    folders: &Folders<'f>,
    mounts: &impl Mounts,
) -> Option<(&'r Place, &'f str)> {
    let ways = mounts.along(folders.paths());
    let is_judged = |place: &&Place| place.via != Via::BroughtAlong;
    review.places.iter().filter(is_judged).find_map(|place| {
        let is_above = |way: &Vec<Location>| way.iter().any(|location| lies_in(location, &place.location));
        let (folder, _) = folders.paths().iter().zip(&ways).find(|(_, way)| is_above(way))?;
        Some((place, *folder))
    })
}

/// Where a denied source is covered, or what is mounted there is taken away, the path means something else from then on: what it meant
/// could be shown by the next request.
fn source_replaced(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    if matches!(review.request.operation, Operation::Remount(_) | Operation::SetPropagation(_)) {
        return Ok(None);
    }
    let denied = Folders::locate(&settings.deny_sources, mounts)?;
    if denied.paths().is_empty() {
        return Ok(None);
    }
    Ok(at_or_above(review, &denied, mounts).map(|(place, folder)| {
        let reason = format!("{} holds {folder}, which is a denied source: it would be another one then", shown(place));
        deny(&SOURCE_DENIED, field_of(place), reason)
    }))
}

/// What is allowed holds by name. Where something is mounted above such a name, or taken away, a link there could lead anywhere.
fn allowed_replaced(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    if matches!(review.request.operation, Operation::Remount(_) | Operation::SetPropagation(_)) {
        return Ok(None);
    }
    let lists = [
        (&TARGET_NOT_ALLOWED, Some(&settings.allow_targets)),
        (&SOURCE_NOT_ALLOWED, Some(&settings.allow_sources)),
        (&DEVICE_NOT_ALLOWED, settings.allow_device_nodes.as_ref()),
    ];
    for (code, list) in lists {
        let Some(list) = list else { continue };
        let allowed = NamedFolders::follow(list, mounts)?;
        // What lies below the target is above an allowed name only if the target is.
        let places = review.places.iter().filter(|place| !matches!(place.via, Via::BroughtAlong | Via::Below));
        let replaced = places.filter_map(|place| Some((place, allowed.below(&place.path)?))).next();
        if let Some((place, folder)) = replaced {
            let reason = format!("{} holds {folder}, which is allowed: it would be another one then", shown(place));
            return Ok(Some(deny(code, field_of(place), reason)));
        }
    }
    Ok(None)
}

/// A remount that gives a right opens what the mount shows, and that may lie in a denied folder, or hold one.
fn opened(
    review: &Review,
    storage: &[Location],
    denied: &Folders,
    code: &Code,
    mounts: &impl Mounts,
) -> Option<Verdict> {
    let given = RIGHTS.into_iter().any(|(right, taken)| last_of(&review.request.options, right, taken) == Some(right));
    if !given || !matches!(review.request.operation, Operation::Remount(_)) {
        return None;
    }
    // A file system that becomes writable does so in all its mounts.
    let others = review.places.iter().filter(|place| place.via == Via::SameFileSystem).map(|place| &place.location);
    let target = review.target.location.iter().chain(storage);
    let shown: Vec<Location> = target.chain(others).cloned().collect();
    let path = &review.target.path;
    if let Some(folder) = denied.holding(&mounts.around(&shown)) {
        let reason = format!("{path} shows {folder} or what is in it, which is denied");
        return Some(deny(code, "target", reason));
    }
    let is_shown = |one: &Location| shown.iter().any(|shown| !is_lost(shown) && lies_in(one, shown));
    if let Some(folder) = holding_lost(denied, &shown) {
        return Some(deny(code, "target", format!("{path} may show {folder}, which is denied")));
    }
    let shows = |folder: &Location| mounts.around(std::slice::from_ref(folder)).iter().any(is_shown);
    let (folder, _) = denied.paths().iter().zip(denied.locations()).find(|(_, folder)| shows(folder))?;
    Some(deny(code, "target", format!("{path} shows {folder}, which is denied")))
}

/// A mount of which a request opens a view, with the rights that it gives.
struct Opened<'r> {
    field: String,
    found: &'r ResolvedPath,
    mount: Mount,
    given: Vec<(&'static str, &'static str)>,
}

impl Opened<'_> {
    /// Where its bytes are.
    fn bytes(&self, denied: &Folders, mounts: &impl Mounts) -> Vec<Location> {
        // All devices are in one folder: one of them must be named itself.
        let nodes = mounts.locate(&[DEVICE_NODES]).into_iter().flatten().next();
        let is_node = |location: &Location| nodes.as_ref().is_some_and(|nodes| lies_in(location, nodes));
        let counts = |location: &Location| !is_node(location) || denied.locations().contains(location);
        let source = is_on_host(&self.mount.source).then(|| mounts.locate(&[&self.mount.source])).into_iter().flatten();
        let mut bytes: Vec<Location> =
            self.found.storage.iter().cloned().chain(source.flatten()).filter(counts).collect();
        // Of a file without a device, only the name is known that it had.
        let is_from_file = is_on_host(&self.mount.source) && self.mount.device.major == 0;
        let named = denied.paths().iter().zip(denied.locations());
        let named = named.filter(|(path, _)| is_from_file && is_within(&self.mount.source, path));
        bytes.extend(named.map(|(_, location)| location.clone()));
        bytes
    }
}

/// Whether a mount, or all of its file system, lacks one of these rights.
fn lacks_one(mount: &Mount, given: &[(&str, &str)], of_all: bool) -> bool {
    let of_all = mount.super_options.iter().filter(|_| of_all);
    let lacks = |taken: &str| mount.options.iter().chain(of_all.clone()).any(|word| word == taken);
    given.iter().any(|(_, taken)| lacks(taken))
}

/// The mounts of which a request opens a view: by a remount, by a bind, or by a layer of an overlay, which has all rights but those that the
/// overlay lacks.
fn opened_views<'r>(review: &'r Review, mounts: &impl Mounts) -> Vec<Opened<'r>> {
    let last = |(right, taken)| last_of(&review.request.options, right, taken);
    let asked = || RIGHTS.into_iter().filter(|right| last(*right) == Some(right.0)).collect::<Vec<_>>();
    let view = |field: String, found: &'r ResolvedPath, given: Vec<(&'static str, &'static str)>| {
        let mount = mounts.covering(&found.path).filter(|_| !given.is_empty())?;
        Some(Opened { field, found, mount, given })
    };
    match (review.request.operation, &review.source) {
        (Operation::Remount(_), _) => view("target".to_owned(), &review.target, asked()).into_iter().collect(),
        (Operation::Bind(_), Some(found)) => view("source".to_owned(), found, asked())
            .filter(|view| lacks_one(&view.mount, &view.given, false))
            .into_iter()
            .collect(),
        (Operation::Mount, _) => {
            // An overlay writes to what the kernel lets it write to.
            let mut layers =
                review.option_paths.iter().filter(|path| path.found.kind == FileKind::Directory).peekable();
            let is_given = |right: &(&'static str, &'static str)| right.0 != "rw" && last(*right) != Some(right.1);
            // Each word is looked for among all options.
            let given: Vec<_> =
                if layers.peek().is_some() { RIGHTS.into_iter().filter(is_given).collect() } else { Vec::new() };
            let views = layers.filter_map(|path| view(format!("options.{}", path.option), &path.found, given.clone()));
            views.filter(|view| lacks_one(&view.mount, &view.given, false)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether nobody can tell any more where in its file system something is.
fn is_lost(location: &Location) -> bool {
    location.path.is_empty()
}

/// A denied folder in the file system of something that is lost there.
fn holding_lost<'f>(denied: &Folders<'f>, locations: &[Location]) -> Option<&'f str> {
    let may_be_in = |folder: &Location| locations.iter().any(|lost| is_lost(lost) && lies_in(folder, lost));
    denied.paths().iter().zip(denied.locations()).find(|(_, folder)| may_be_in(folder)).map(|(path, _)| *path)
}

fn denied_as(path: &str, folder: &str) -> String {
    if path == folder { format!("{path} is denied") } else { format!("{path} is denied, as all of {folder}") }
}

/// The field of the request that leads to a place.
fn field_of(place: &Place) -> &'static str {
    if place.via == Via::MovedFrom { "source" } else { "target" }
}

/// A place for people.
fn shown(place: &Place) -> String {
    let why = match place.via {
        Via::Peer => "a peer of the target",
        Via::Slave => "a slave of the target",
        Via::SameFileSystem => "the same file system",
        // The others are named in the request, or aren't judged.
        Via::Target | Via::MovedFrom | Via::Below | Via::BroughtAlong => return place.path.clone(),
    };
    format!("{} ({why})", place.path)
}

/// Something that is mounted from.
struct Source<'r> {
    field: String,
    /// As it is shown.
    path: String,
    /// What is shown by it; nothing for what isn't on the host.
    locations: Vec<Location>,
    is_on_host: bool,
    /// The node, if it's a block device.
    device: Option<&'r ResolvedPath>,
}

impl<'r> Source<'r> {
    /// What the host found. A device is at its node as well, and wherever else its bytes are.
    fn found(field: String, found: &'r ResolvedPath, mounts: &impl Mounts) -> Self {
        let device = Some(found).filter(|found| found.kind == FileKind::BlockDevice);
        // What a folder shows is mounted already, wherever its image is.
        let storage = found.storage.iter().filter(|_| found.kind != FileKind::Directory);
        let mut locations: Vec<Location> = found.location.iter().chain(storage).cloned().collect();
        locations.extend(device.and_then(|node| mounts.locate(&[&node.path]).into_iter().next().flatten()));
        Self { field, path: found.path.clone(), locations, is_on_host: true, device }
    }
}

/// A device node gives its device to whoever may open it there, so it's a source by name alone.
fn node_denied(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    let (Some(allowed), Some(found)) = (&settings.allow_device_nodes, &review.source) else { return Ok(None) };
    let is_node = matches!(found.kind, FileKind::CharDevice | FileKind::BlockDevice);
    if !is_node || !matches!(review.request.operation, Operation::Bind(_)) {
        return Ok(None);
    }
    let node = mounts.locate(&[&found.path]).into_iter().flatten().next();
    let is_allowed = Folders::locate(allowed, mounts)?.locations().iter().any(|allowed| Some(allowed) == node.as_ref());
    let reason = || format!("{} is a device node that may not be bound", found.path);
    Ok((!is_allowed).then(|| deny(&DEVICE_NOT_ALLOWED, "source", reason())))
}

/// The folder of the device nodes shows them all, and whoever may write there can make others of them.
fn folder_of_nodes_denied(
    settings: &Settings,
    review: &Review,
    mounts: &impl Mounts,
) -> Result<Option<Verdict>, String> {
    if settings.allow_device_nodes.is_none() {
        return Ok(None);
    }
    let layers = review.option_paths.iter().filter(|path| path.found.kind == FileKind::Directory);
    let layers: Vec<(&OptionPath, &Location)> =
        layers.filter_map(|layer| Some((layer, layer.found.location.as_ref()?))).collect();
    let is_bind = matches!(review.request.operation, Operation::Bind(_));
    let bound = review.source.as_ref().filter(|found| is_bind && found.kind == FileKind::Directory);
    if bound.is_none() && layers.is_empty() {
        return Ok(None);
    }
    let folder = [DEVICE_NODES.to_owned()];
    let nodes = Folders::locate(&folder, mounts)?;
    // A layer shows nothing that is mounted in it.
    let of_nodes = |layer: &Location| {
        let is_above = nodes.locations().iter().any(|nodes| lies_in(nodes, layer));
        is_above || nodes.holding(&mounts.around(std::slice::from_ref(layer))).is_some()
    };
    if let Some((OptionPath { option, found }, _)) = layers.into_iter().find(|(_, layer)| of_nodes(layer)) {
        let reason = format!("{} is a folder of device nodes, which may not be shown", found.path);
        return Ok(Some(deny(&DEVICE_NOT_ALLOWED, &format!("options.{option}"), reason)));
    }
    let Some(found) = bound else { return Ok(None) };
    let brought = review.places.iter().filter(|place| place.via == Via::BroughtAlong).map(|place| &place.location);
    let shown: Vec<Location> = found.location.iter().chain(brought).cloned().collect();
    let around = mounts.around(nodes.locations());
    let is_shown = |nodes: &Location| shown.iter().any(|shown| lies_in(nodes, shown));
    let reason = || format!("{} is or holds a folder of device nodes, which may not be bound", found.path);
    let is_denied = nodes.holding(&mounts.around(&shown)).is_some() || around.iter().any(is_shown);
    Ok(is_denied.then(|| deny(&DEVICE_NOT_ALLOWED, "source", reason())))
}

fn source_denied(settings: &Settings, review: &Review, mounts: &impl Mounts) -> Result<Option<Verdict>, String> {
    if let Some(verdict) = node_denied(settings, review, mounts)? {
        return Ok(Some(verdict));
    }
    let denied = Folders::locate(&settings.deny_sources, mounts)?;
    let views = opened_views(review, mounts);
    let bytes: Vec<Location> = views.iter().flat_map(|view| view.bytes(&denied, mounts)).collect();
    if let Some(verdict) = opened(review, &bytes, &denied, &SOURCE_DENIED, mounts) {
        return Ok(Some(verdict));
    }
    for view in &views {
        if let Some(verdict) = opened_unknown(settings, view, &bytes, mounts) {
            return Ok(Some(verdict));
        }
        if let Some(verdict) = opened_elsewhere(settings, review, view, mounts)? {
            return Ok(Some(verdict));
        }
    }
    let sources = match sources(review, &views, &denied, mounts) {
        Ok(sources) => sources,
        Err(verdict) => return Ok(Some(verdict)),
    };
    if sources.is_empty() {
        return Ok(None);
    }
    let allowed = NamedFolders::follow(&settings.allow_sources, mounts)?;
    let reach = mounts.around(denied.locations());
    for source in &sources {
        let Source { field, path, locations, .. } = source;
        if !source.is_on_host {
            if let Some(folder) = holding_by_name(&settings.deny_sources, path) {
                return Ok(Some(deny(&SOURCE_DENIED, field, format!("{path} is denied, as all of {folder}"))));
            }
            if !settings.allow_sources.is_empty() && holding_by_name(&settings.allow_sources, path).is_none() {
                let reason = format!("{path} isn't at or below an allowed source");
                return Ok(Some(deny(&SOURCE_NOT_ALLOWED, field, reason)));
            }
            continue;
        }
        if let Some(folder) = denied.holding(&mounts.around(locations)) {
            return Ok(Some(deny(&SOURCE_DENIED, field, denied_as(path, folder))));
        }
        let is_gone = |place: &Location| is_lost(place) && mounts.by_device(place.device, 1).is_empty();
        if !settings.deny_sources.is_empty() && locations.iter().any(is_gone) {
            let reason = format!("nothing tells any more where the image behind {path} is");
            return Ok(Some(deny(&SOURCE_DENIED, field, reason)));
        }
        if let Some(folder) = holding_lost(&denied, locations) {
            let reason = format!("the image behind {path} may be in {folder}, which is denied");
            return Ok(Some(deny(&SOURCE_DENIED, field, reason)));
        }
        let is_shown =
            |folder: &Location| locations.iter().any(|location| !is_lost(location) && lies_in(folder, location));
        if reach.iter().any(is_shown) {
            // Which one it is must be asked one by one.
            let shows = |folder: &Location| mounts.around(std::slice::from_ref(folder)).iter().any(is_shown);
            let folder = denied.paths().iter().zip(denied.locations()).find(|(_, location)| shows(location));
            let folder = folder.map_or("something", |(folder, _)| folder);
            return Ok(Some(deny(&SOURCE_DENIED, field, format!("{path} holds {folder}, which is denied"))));
        }
        if !settings.allow_sources.is_empty() && !is_allowed(source, &allowed, mounts) {
            let reason = format!("{path} isn't at or below an allowed source");
            return Ok(Some(deny(&SOURCE_NOT_ALLOWED, field, reason)));
        }
    }
    folder_of_nodes_denied(settings, review, mounts)
}

/// Nobody can tell for certain what the layers of an overlay are, or the file of an erofs without a device, or an image in a file system
/// that is mounted no more. Where sources are judged, such a mount gets no right that it lacks.
fn opened_unknown(settings: &Settings, view: &Opened, bytes: &[Location], mounts: &impl Mounts) -> Option<Verdict> {
    let code = match (settings.deny_sources.is_empty(), settings.allow_sources.is_empty()) {
        (false, _) => &SOURCE_DENIED,
        (true, false) => &SOURCE_NOT_ALLOWED,
        (true, true) => return None,
    };
    let Opened { field, found, mount, given } = view;
    let is_named = mount.fstype == "overlay" || mount.fstype == "erofs" && mount.device.major == 0;
    let is_lost = || bytes.iter().any(|place| is_lost(place) && mounts.by_device(place.device, 1).is_empty());
    // An overlay writes to what the kernel lets it write to.
    let given: Vec<(&str, &str)> = given.iter().copied().filter(|right| !is_named || right.0 != "rw").collect();
    let is_opened = lacks_one(mount, &given, false) && (is_named || is_lost());
    let reason = || format!("nothing tells any more what {} shows, so that it gets no right that it lacks", found.path);
    is_opened.then(|| deny(code, field, reason()))
}

/// What is opened must be allowed by itself, and not only by where it's shown: a view that lacks rights may show any folder of the host.
fn opened_elsewhere(
    settings: &Settings,
    review: &Review,
    view: &Opened,
    mounts: &impl Mounts,
) -> Result<Option<Verdict>, String> {
    // What is bound has the file system as it is.
    let is_whole = review.request.operation == Operation::Remount(false);
    if settings.allow_sources.is_empty() || !lacks_one(&view.mount, &view.given, is_whole) {
        return Ok(None);
    }
    let (found, mount) = (view.found, &view.mount);
    let allowed = NamedFolders::follow(&settings.allow_sources, mounts)?;
    let is_in_allowed = |path: &str| allowed.holding(path).is_some();
    // All of the file system could be mounted from.
    let is_all_allowed = || {
        let all = mounts.by_device(mount.device, MANY);
        let source = || mounts.follow(&[&mount.source]).into_iter().flatten().next();
        let is_from_elsewhere = is_on_host(&mount.source) && !source().is_some_and(|source| is_in_allowed(&source));
        !is_from_elsewhere && all.len() < MANY as usize && all.iter().all(|mount| is_in_allowed(&mount.target))
    };
    let has_other_name = |location: &Location| {
        // Another view that lacks the right is no way to it.
        let is_other = |name: &String| {
            mounts.covering(name).is_some_and(|other| other.id != mount.id && !lacks_one(&other, &view.given, is_whole))
        };
        mounts.names(location, MANY).iter().any(|name| is_other(name) && is_in_allowed(name))
    };
    let is_allowed = is_all_allowed() || found.location.as_ref().is_some_and(has_other_name);
    let reason = || format!("what {} shows isn't at or below an allowed source", found.path);
    Ok((!is_allowed).then(|| deny(&SOURCE_NOT_ALLOWED, &view.field, reason())))
}

/// The folder of a server that holds what isn't on the host.
fn holding_by_name<'f>(folders: &'f [String], path: &str) -> Option<&'f String> {
    folders.iter().find(|folder| !is_on_host(folder) && is_export_within(path, folder))
}

/// The most mounts that are looked at in one question.
const MANY: u32 = 1000;

/// Whether a path of the host may be mounted from. A device may show no file system that is also mounted elsewhere.
fn is_allowed(source: &Source, allowed: &NamedFolders, mounts: &impl Mounts) -> bool {
    let is_in_allowed = |path: &str| allowed.holding(path).is_some();
    let shows_what_is_allowed = |location: &Location| {
        let shown = mounts.by_device(location.device, MANY);
        shown.len() < MANY as usize && shown.iter().all(|mount| is_in_allowed(&mount.target))
    };
    let is_allowed_device = |node: &ResolvedPath| {
        let mut file_systems = source.locations.iter().filter(|location| location.path == "/");
        is_of_the_kernel(node, allowed, mounts) && file_systems.all(shows_what_is_allowed)
    };
    is_in_allowed(&source.path) && source.device.is_none_or(is_allowed_device)
}

/// Whether the kernel, or the operator, says what a node stands for. In a folder that is allowed, whoever may write there could have made one
/// of any device.
fn is_of_the_kernel(node: &ResolvedPath, allowed: &NamedFolders, mounts: &impl Mounts) -> bool {
    let path = node.path.as_str();
    let mount = node.covering_mount.and_then(|id| mounts.by_id(id));
    // What is mounted below /dev, such as /dev/shm, isn't the kernel's.
    let is_below = |mount: &Mount| mount.target != DEVICE_NODES && is_within(&mount.target, DEVICE_NODES);
    let is_devtmpfs = mount.as_ref().is_some_and(|mount| mount.fstype == "devtmpfs");
    let is_in_dev = is_within(path, DEVICE_NODES) && !mount.as_ref().is_some_and(is_below);
    is_devtmpfs || is_in_dev || allowed.paths().contains(&path)
}

/// All that is mounted from, with the fields that name it. A source without a slash is only a name.
fn sources<'r>(
    review: &'r Review,
    views: &[Opened],
    denied: &Folders,
    mounts: &impl Mounts,
) -> Result<Vec<Source<'r>>, Verdict> {
    let mut sources = Vec::new();
    let not_plain =
        |field, path: &str| Err(deny(&SOURCE_NOT_PLAIN, field, format!("{path} isn't a whole, plain path")));
    let place = |path: &str| mounts.locate(&[path]).into_iter().flatten();
    match &review.source {
        Some(found) => {
            let mut source = Source::found("source".to_owned(), found, mounts);
            if review.request.operation != Operation::Mount {
                // What is mounted is shown already, wherever its image is, unless a right is given that it lacks there.
                source.locations = found.location.iter().cloned().collect();
                source.locations.extend(views.iter().flat_map(|view| view.bytes(denied, mounts)));
            }
            // What is mounted below is shown as well.
            let brought = review.places.iter().filter(|place| place.via == Via::BroughtAlong);
            source.locations.extend(brought.map(|place| place.location.clone()));
            sources.push(source);
        }
        None => {
            // An export of a server isn't a path on the host.
            for path in review.request.source.iter().filter(|source| source.contains(['/', '\\', ':'])) {
                if path.split(['/', '\\']).any(|part| part == "..") {
                    return not_plain("source", path);
                }
                let is_on_host = is_on_host(path);
                // Several servers.
                if path.split(['/', '\\']).next().is_some_and(|host| host.contains(',')) {
                    return not_plain("source", path);
                }
                let locations = if is_on_host { place(path).collect() } else { Vec::new() };
                let (field, path) = ("source".to_owned(), path.clone());
                sources.push(Source { field, path, locations, is_on_host, device: None });
            }
        }
    }
    // The views are in the same order.
    let mut views = views.iter().peekable();
    for OptionPath { option, found } in &review.option_paths {
        let mut source = Source::found(format!("options.{option}"), found, mounts);
        if let Some(view) = views.next_if(|view| std::ptr::eq(view.found, found)) {
            source.locations.extend(view.bytes(denied, mounts));
        }
        sources.push(source);
    }
    Ok(sources)
}

mountgate_sdk::export!(PathGuard);

#[cfg(test)]
mod tests;
