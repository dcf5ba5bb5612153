//! Which places no request may touch, whatever any policy says: the kernel's own file systems, and mountgate's own state.
//! Both are judged by location, under every name.

use std::io;

use crate::error::Error;
use crate::host::own_state::OwnPlace;
use crate::model::ends::{Ends, ResolvedPath};
use crate::model::host_error::HostError;
use crate::model::location::{Location, Place, Via};
use crate::model::paths::is_within;
use crate::model::refusals::{Refusal, Refusals};
use crate::model::request::{MountRequest, Operation};
use crate::model::rules::HostRules;
use crate::model::untrusted::for_people;
use crate::mount_table::snapshot::Snapshot;

/// Folders of the kernel's own file systems.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Where the locks of requests are, see `host/locks.rs`.
const LOCKS: &str = "/run/mountgate";
const NAME_TARGET: &str = "to allow it, add the path to [host] targets in policies.toml";
const NAME_SOURCE: &str = "to allow it, add the path to [host] sources in policies.toml";

/// Refuses a request that would be seen at such a place, or show one.
///
/// # Errors
/// Every reason to refuse it, or that the host can't be asked.
pub(super) fn check(
    rules: &HostRules,
    request: &MountRequest,
    own_state: &[OwnPlace],
    ends: &Ends,
    places: &[Place],
    snapshot: &Snapshot,
) -> Result<(), Error> {
    // To take another name of the own state away does no harm.
    let touches_one_name =
        matches!(request.operation, Operation::Unmount(_) | Operation::Remount { mount_point_only: true });
    let guarded = Guarded::of(own_state, touches_one_name, snapshot)?;
    let mut refusals = Vec::new();
    // What is brought along covers nothing. What lies below a target lies, by its own path, in the same
    // folders as the target, or these lie below the target; and what leaves elsewhere with it is a place of its own.
    let is_judged = |place: &&Place| !matches!(place.via, Via::BroughtAlong | Via::Below);
    let judged: Vec<&Place> = places.iter().filter(|place| place.via != Via::BroughtAlong).collect();
    let places: Vec<&Place> = places.iter().filter(is_judged).collect();
    if guarded.find(&places, snapshot)?.is_some() {
        let allowed = followed(&rules.targets, snapshot)?;
        // Which one it is must be asked place by place.
        for place in places {
            if let Some(what) = guarded.find(&[place], snapshot)?
                && !allowed.iter().any(|folder| is_within(&place.path, folder))
            {
                refusals.push(refusal(place, what));
            }
        }
    }
    refusals.extend(replaced(rules, request, &judged, snapshot)?);
    if let Some((own, argument)) = guarded.shown(request, ends, &rules.sources, snapshot)? {
        let message = format!("it would show mountgate's own state in {}", own.path);
        refusals.push(Refusal::new(&argument, message, Some(NAME_SOURCE)));
    }
    Ok(Refusals::check(refusals)?)
}

/// What is exempt is so by name. Where something is mounted above such a name, or taken away, a link there could lead anywhere.
fn replaced(
    rules: &HostRules,
    request: &MountRequest,
    places: &[&Place],
    snapshot: &Snapshot,
) -> Result<Option<Refusal>, HostError> {
    if matches!(request.operation, Operation::Remount { .. } | Operation::SetPropagation(_)) {
        return Ok(None);
    }
    for name in rules.targets.iter().chain(&rules.sources).map(AsRef::<str>::as_ref) {
        let followed = snapshot.follow(name)?;
        let (real, links) = followed.split_first().map_or((None, &[][..]), |(real, links)| (Some(real), links));
        let is_above = |place: &Place, path: &str| place.path != path && is_within(path, &place.path);
        let changes = |place: &&&Place| {
            is_above(place, name)
                || real.is_some_and(|real| is_above(place, real))
                || links.iter().any(|link| is_within(link, &place.path))
        };
        if let Some(place) = places.iter().find(changes) {
            let message =
                format!("it would make {name} another place, which [host] names ({})", for_people(&place.path));
            return Ok(Some(Refusal::new(argument_of(place), message, None)));
        }
    }
    Ok(None)
}

fn argument_of(place: &Place) -> &'static str {
    if place.via == Via::MovedFrom { "SOURCE" } else { "TARGET" }
}

fn refusal(place: &Place, what: Guard<'_>) -> Refusal {
    let seen = match place.via {
        Via::Target | Via::MovedFrom => String::new(),
        via => format!(" (it would be seen at {}: {})", for_people(&place.path), via.name()),
    };
    let message = match what {
        Guard::System(path) => format!("{path} and all below it can't be mounted on{seen}"),
        Guard::Own(own) => format!("it would hide or change mountgate's own state in {}{seen}", own.path),
    };
    Refusal::new(argument_of(place), message, Some(NAME_TARGET))
}

/// What no request may touch.
struct Guarded {
    system: Vec<(&'static str, Vec<Location>)>,
    own: Vec<OwnPlace>,
    /// The own state with all that it lies in, under all its names, or under the one that is used.
    around_own: Vec<Location>,
    touches_one_name: bool,
}

/// Something that no request may touch.
#[derive(Clone, Copy)]
enum Guard<'o> {
    System(&'static str),
    Own(&'o OwnPlace),
}

impl Guarded {
    fn of(own: &[OwnPlace], touches_one_name: bool, snapshot: &Snapshot) -> Result<Self, HostError> {
        let system = SYSTEM.iter().map(|path| Ok((*path, snapshot.along(path)?)));
        let system: Vec<(&'static str, Vec<Location>)> = system.collect::<Result<_, HostError>>()?;
        let mut own = own.to_vec();
        if snapshot.is_live() {
            // What can't be located can't be guarded.
            if let Some((path, _)) = system.iter().find(|(_, way)| way.is_empty()) {
                return Err(not_located(path));
            }
            // The locks are the host's, and may not be there yet.
            let location = snapshot.locate(LOCKS)?.ok_or_else(|| not_located(LOCKS))?;
            own.push(OwnPlace { path: LOCKS.to_owned(), location });
        }
        let around_own = if touches_one_name {
            let ways = own.iter().map(|own| own.way(snapshot)).collect::<Result<Vec<_>, HostError>>()?;
            ways.concat()
        } else {
            snapshot.around(own.iter().map(|own| own.location.clone()).collect())?
        };
        Ok(Self { system, own, around_own, touches_one_name })
    }

    /// The first of these that some place lies in, or hides.
    fn find(&self, places: &[&Place], snapshot: &Snapshot) -> Result<Option<Guard<'_>>, HostError> {
        let around = snapshot.around(places.iter().map(|place| place.location.clone()).collect())?;
        let lies_in = |folder: &Location| around.iter().any(|location| location.is_within(folder));
        // A change of the mount on such a folder is seen at its mount point.
        let changes =
            |way: &Vec<Location>| way.get(1).is_some_and(|on| places.iter().any(|place| place.location == *on));
        let in_system = self.system.iter().find(|(_, way)| way.first().is_some_and(lies_in) || changes(way));
        if let Some((path, _)) = in_system {
            return Ok(Some(Guard::System(path)));
        }
        let is_hidden = |around: &[Location]| {
            let hides = |place: &&Place| around.iter().any(|location| location.is_within(&place.location));
            places.iter().any(hides)
        };
        let touched = is_hidden(&self.around_own) || self.own.iter().any(|own| lies_in(&own.location));
        for own in self.own.iter().filter(|_| touched) {
            let around =
                if self.touches_one_name { own.way(snapshot)? } else { snapshot.around(vec![own.location.clone()])? };
            if lies_in(&own.location) || is_hidden(&around) {
                return Ok(Some(Guard::Own(own)));
            }
        }
        Ok(None)
    }

    /// The own state that a request would show where it can be written, with the argument and the path that it would be shown
    /// through. A read-only copy of a folder above it changes nothing, but can't be made writable again.
    fn shown(
        &self,
        request: &MountRequest,
        ends: &Ends,
        allowed: &[String],
        snapshot: &Snapshot,
    ) -> Result<Option<(&OwnPlace, String)>, HostError> {
        for Shown { argument, found, stays_closed, is_copied } in Shown::by(request, ends) {
            let Some(location) = found.location.as_ref() else { continue };
            let is_whole = self.around_own.iter().any(|own| own.is_within(location));
            let around = snapshot.around(vec![location.clone()])?;
            for own in &self.own {
                let is_part =
                    (is_copied || !stays_closed) && around.iter().any(|location| location.is_within(&own.location));
                let shows =
                    || Ok(snapshot.around(vec![own.location.clone()])?.iter().any(|own| own.is_within(location)));
                // Whoever can read the file of the locks can hold them.
                let shows_locks = match request.operation {
                    Operation::Bind { recursive } => {
                        own.path == LOCKS && (recursive || own.location.is_within(location))
                    }
                    _ => false,
                };
                let stays_closed = stays_closed && !shows_locks;
                if (is_part || is_whole && !stays_closed && shows()?) && !own.is_in(&found.path, allowed, snapshot)? {
                    return Ok(Some((own, argument)));
                }
            }
        }
        Ok(None)
    }
}

impl OwnPlace {
    /// What its name goes through. Under a name that this process alone has, it's all that it lies in.
    fn way(&self, snapshot: &Snapshot) -> Result<Vec<Location>, HostError> {
        let way = snapshot.along(&self.path)?;
        if way.first() == Some(&self.location) { Ok(way) } else { snapshot.around(vec![self.location.clone()]) }
    }

    /// Whether it lies in one of these folders, and a path does so too. In such a folder, another one may be mounted by now.
    fn is_in<P: AsRef<str>>(&self, path: &str, folders: &[P], snapshot: &Snapshot) -> Result<bool, HostError> {
        let is_in =
            followed(folders, snapshot)?.iter().any(|folder| is_within(path, folder) && is_within(&self.path, folder));
        Ok(is_in && snapshot.locate(&self.path)?.as_ref() == Some(&self.location))
    }
}

/// Something that a request shows, or makes writable.
struct Shown<'e> {
    argument: String,
    found: &'e ResolvedPath,
    /// Whether nobody can write there through what is mounted.
    stays_closed: bool,
    is_copied: bool,
}

impl<'e> Shown<'e> {
    fn by(request: &MountRequest, ends: &'e Ends) -> Vec<Self> {
        let is_read_only = || request.options.restrictions().any(|flag| flag == "ro");
        let becomes_writable = || request.options.permissions().any(|right| right == "rw");
        let source =
            |found| Self { argument: "SOURCE".to_owned(), found, stays_closed: is_read_only(), is_copied: true };
        let shown = match request.operation {
            Operation::Mount | Operation::Bind { .. } => ends.found_source().map(source),
            Operation::Remount { .. } => Some(Self {
                argument: "SOURCE".to_owned(),
                found: &ends.target.found,
                stays_closed: !becomes_writable(),
                is_copied: false,
            }),
            _ => None,
        };
        let in_options = ends.option_paths.iter().map(|path| Self {
            argument: format!("-o {}", path.option),
            found: &path.found.found,
            // An overlay never writes to a lower layer.
            stays_closed: matches!(path.option.as_str(), "lowerdir" | "lowerdir+" | "datadir+"),
            is_copied: true,
        });
        shown.into_iter().chain(in_options).collect()
    }
}

fn not_located(path: &str) -> HostError {
    HostError::new("statx", path, io::Error::new(io::ErrorKind::NotFound, "nothing says where it lies"))
}

/// The real paths of folders in which more is allowed. They hold by name: whatever is mounted there, nothing else is allowed by it.
fn followed<P: AsRef<str>>(paths: &[P], snapshot: &Snapshot) -> Result<Vec<String>, HostError> {
    let mut followed = Vec::new();
    for path in paths {
        followed.extend(snapshot.follow(path.as_ref())?.into_iter().next());
    }
    Ok(followed)
}
