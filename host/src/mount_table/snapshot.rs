//! The mounts as one decision sees them: each question is looked up once, and its answer stays the same. What was asked is
//! remembered, so that it can be asked again before the request is carried out.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::mount::{Mount, MountText};
use super::question::{Answer, PAGE, Question};
use super::source::{MountSource, Paths, Reached, Recorded};
use super::table::MountTable;
use super::topology::Topology;
use crate::model::host_error::HostError;
use crate::model::location::{Device, Location};

/// So many answers are remembered of a recorded table, which may be asked about thousands of requests: those about the host and about
/// the policies' settings, which come first and come again.
const RECORDED_ANSWERS: usize = 96;

/// A mount table that is read when a question needs more than one mount.
pub struct Snapshot {
    source: Box<dyn MountSource>,
    /// Whether it's of a host: a recorded table can't change.
    is_live: bool,
    table: OnceLock<Result<MountTable, HostError>>,
    topology: OnceLock<Result<Topology, HostError>>,
    asked: Mutex<HashMap<Question, Remembered>>,
    /// What is below mounted file systems, by their numbers, where that was asked.
    storage: Mutex<HashMap<(Device, bool), Vec<Location>>>,
    /// Where paths lead.
    reached: Mutex<HashMap<String, Option<Reached>>>,
    hasher: RandomState,
}

/// An answer that was given. Of a large one only a hash is kept.
struct Remembered {
    hash: u64,
    answer: Option<Answer>,
}

impl Snapshot {
    /// The mounts of a host.
    pub(crate) fn live(source: impl MountSource + 'static) -> Self {
        Self {
            source: Box::new(source),
            is_live: true,
            table: OnceLock::new(),
            topology: OnceLock::new(),
            asked: Mutex::default(),
            storage: Mutex::default(),
            reached: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// The mounts of a host, with the paths that another snapshot has followed. They aren't followed again: the table says on
    /// which mounts they lie now.
    pub(crate) fn with_paths_of(source: impl MountSource + 'static, other: &Self) -> Self {
        let followed = other.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let real = |reached: &Option<Reached>| reached.clone().map(|reached| Reached { on: None, ..reached });
        let reached = followed.iter().map(|(path, reached)| (path.clone(), real(reached))).collect();
        Self { reached: Mutex::new(reached), ..Self::live(source) }
    }

    /// A table that is already there.
    pub fn of(table: MountTable) -> Self {
        Self::recorded(table, Paths::new())
    }

    /// A table that is already there, with the paths that lead elsewhere than their names say, or nowhere.
    pub fn recorded(table: MountTable, paths: Paths) -> Self {
        Self { is_live: false, table: OnceLock::from(Ok(table)), ..Self::live(Recorded(paths)) }
    }

    /// The paths that were asked for and lead elsewhere than their names say, or nowhere.
    pub(crate) fn real_paths(&self) -> Paths {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let real =
            reached.iter().map(|(path, reached)| (path.clone(), reached.as_ref().map(|reached| reached.real.clone())));
        real.filter(|(path, real)| real.as_ref() != Some(path)).collect()
    }

    /// The table.
    ///
    /// # Errors
    /// When the table can't be read; each call has the same error.
    pub fn table(&self) -> Result<&MountTable, &HostError> {
        self.table.get_or_init(|| self.source.table()).as_ref()
    }

    /// How the mounts hang together.
    pub(crate) fn topology(&self) -> Result<&Topology, &HostError> {
        let read = || match self.source.topology() {
            Some(topology) => Ok(topology),
            None => self.table().map(Topology::of).map_err(HostError::clone),
        };
        self.topology.get_or_init(read).as_ref()
    }

    /// The mount that a path lies on.
    ///
    /// # Errors
    /// When only the table could tell and it can't be read.
    pub fn covering(&self, path: &str) -> Result<Option<MountText>, HostError> {
        match self.ask(Question::Covering(path.to_owned()))? {
            Answer::Mount(mount) => Ok(mount),
            _ => Ok(None),
        }
    }

    /// The mountinfo id of the mount that a path lies on.
    ///
    /// # Errors
    /// As [`Self::covering`].
    pub(crate) fn id_covering(&self, path: &str) -> Result<Option<u64>, HostError> {
        if self.is_live {
            return Ok(self.covering(path)?.map(|mount| mount.id));
        }
        Ok(self.table().map_err(HostError::clone)?.covering(path.as_bytes()).map(|mount| mount.id()))
    }

    /// Where a path leads, see [`MountSource::reach`].
    pub(crate) fn locate(&self, path: &str) -> Result<Option<Location>, HostError> {
        match self.ask(Question::Locate(path.to_owned()))? {
            Answer::Location(location) => Ok(location),
            _ => Ok(None),
        }
    }

    /// Where the thing lies that was found at a real path.
    pub(crate) fn locate_found(&self, found: BorrowedFd<'_>, path: &str) -> Result<Option<Location>, HostError> {
        self.location_of(self.source.reach_found(found, path))
    }

    /// The real path of a path, and then those of the links that lead there; nothing where it leads nowhere.
    pub(crate) fn follow(&self, path: &str) -> Result<Vec<String>, HostError> {
        match self.ask(Question::Follow(path.to_owned()))? {
            Answer::Names(paths) => Ok(paths),
            _ => Ok(Vec::new()),
        }
    }

    /// The locations that a path goes through, see [`Topology::along`]. Links are followed.
    pub(crate) fn along(&self, path: &str) -> Result<Vec<Location>, HostError> {
        match self.ask(Question::Along(path.to_owned()))? {
            Answer::Locations(locations) => Ok(locations),
            _ => Ok(Vec::new()),
        }
    }

    /// Locations and all that they lie in, see [`Topology::around`].
    pub(crate) fn around(&self, locations: Vec<Location>) -> Result<Vec<Location>, HostError> {
        match self.ask(Question::Around(locations))? {
            Answer::Locations(locations) => Ok(locations),
            _ => Ok(Vec::new()),
        }
    }

    /// The root of the file system on a block device, where that is mounted.
    pub(crate) fn file_system_on(&self, device: Device) -> Result<Option<Location>, HostError> {
        let topology = self.topology().map_err(HostError::clone)?;
        let own = topology.of_device(device).next().map(|_| device);
        let device = own.or_else(|| self.source.known_as(device, topology));
        self.check()?;
        Ok(device.map(|device| Location { device, path: "/".to_owned() }))
    }

    /// Finds out once where the bytes of a mounted file system are.
    ///
    /// # Errors
    /// What finding out fails with.
    pub(crate) fn storage_of(
        &self,
        file_system: (Device, bool),
        find: impl FnOnce() -> Result<Vec<Location>, HostError>,
    ) -> Result<Vec<Location>, HostError> {
        let known = || self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(storage) = known().get(&file_system) {
            return Ok(storage.clone());
        }
        let storage = find()?;
        known().insert(file_system, storage.clone());
        Ok(storage)
    }

    /// Answers a question, and remembers it.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer, HostError> {
        if let Some(Remembered { answer: Some(answer), .. }) = self.asked().get(&question) {
            return Ok(answer.clone());
        }
        let answer = self.answer(&question)?;
        self.check()?;
        let kept = answer.is_small().then(|| answer.clone());
        if !self.is_live && (kept.is_none() || self.asked().len() >= RECORDED_ANSWERS) {
            return Ok(answer);
        }
        // Nobody compares the answers of a table that can't change.
        let hash = if self.is_live { self.hasher.hash_one(&answer) } else { 0 };
        self.asked().insert(question, Remembered { hash, answer: kept });
        Ok(answer)
    }

    /// Whether it's of a host, and not recorded.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Whether no mount has changed since this snapshot was begun, see [`MountSource::is_unchanged`].
    pub(crate) fn is_unchanged(&self) -> bool {
        self.source.is_unchanged()
    }

    /// The first path that led elsewhere when this snapshot was asked for it.
    pub(crate) fn leads_elsewhere(&self, now: &Self) -> Option<String> {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.iter().find(|(path, reached)| now.reach(path) != **reached).map(|(path, _)| path.clone())
    }

    /// Follows the paths that another snapshot has followed.
    pub(crate) fn follow_paths_of(&self, other: &Self) {
        let followed = other.reached.lock().unwrap_or_else(PoisonError::into_inner);
        followed.keys().for_each(|path| drop(self.reach(path)));
    }

    /// The first question of this snapshot's to which another one has another answer.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub(crate) fn differs_from(&self, now: &Self) -> Result<Option<Question>, HostError> {
        for (question, remembered) in &*self.asked() {
            if self.hasher.hash_one(now.ask(question.clone())?) != remembered.hash {
                return Ok(Some(question.clone()));
            }
        }
        Ok(None)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<Question, Remembered>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, question: &Question) -> Result<Answer, HostError> {
        let table = || self.table().map_err(HostError::clone);
        Ok(match question {
            Question::Count => Answer::Count(table()?.len() as u64),
            Question::Page { offset, limit } => {
                let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
                some(table()?.page(offset, (*limit).min(PAGE) as usize), *limit)
            }
            Question::At(target) => {
                let stack = table()?.at(target.as_bytes());
                let hidden = stack.len().saturating_sub(PAGE as usize);
                some(stack.skip(hidden), PAGE)
            }
            Question::Covering(path) => Answer::Mount(self.find_covering(path)?),
            Question::Below { path, limit } => some(table()?.below(path.as_bytes()), *limit),
            Question::CountBelow(path) => Answer::Count(table()?.below(path.as_bytes()).len() as u64),
            Question::CountIn(folder) => Answer::Count(self.topology().map_err(HostError::clone)?.count_in(folder)),
            Question::BySource { source, limit } => some(table()?.by_source(source.as_bytes()), *limit),
            Question::CountBySource(source) => Answer::Count(table()?.by_source(source.as_bytes()).len() as u64),
            Question::ByDevice { device, limit } => some(table()?.by_device(device.major, device.minor), *limit),
            Question::ById(id) => Answer::Mount(table()?.by_id(*id).map(|mount| mount.to_text())),
            Question::Locate(path) => Answer::Location(self.location_of(self.reach(path))?),
            Question::Follow(path) => Answer::Names(self.find_real(path)),
            Question::Along(path) => Answer::Locations(self.find_along(path)?),
            Question::Around(locations) => {
                Answer::Locations(self.topology().map_err(HostError::clone)?.around(locations))
            }
            Question::Names { location, limit } => Answer::Names(self.find_names(location, *limit)?),
        })
    }

    fn find_real(&self, path: &str) -> Vec<String> {
        let Some(Reached { real, .. }) = self.reach(path) else { return Vec::new() };
        let links = if real == path { Some(Vec::new()) } else { self.source.links(path) };
        links.map(|links| std::iter::once(real).chain(links).collect()).unwrap_or_default()
    }

    fn find_covering(&self, path: &str) -> Result<Option<MountText>, HostError> {
        if self.table.get().is_none()
            && let Some(found) = self.source.covering(path)
        {
            return Ok(Some(found));
        }
        Ok(self.table().map_err(HostError::clone)?.covering(path.as_bytes()).map(|mount| mount.to_text()))
    }

    fn reach(&self, path: &str) -> Option<Reached> {
        if !self.is_live {
            return self.source.reach(path);
        }
        let mut known = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reached) = known.get(path) {
            return reached.clone();
        }
        let reached = self.source.reach(path);
        known.insert(path.to_owned(), reached.clone());
        reached
    }

    fn location_of(&self, reached: Option<Reached>) -> Result<Option<Location>, HostError> {
        match reached {
            None => Ok(None),
            Some(Reached { on: Some((_, location)), .. }) => Ok(Some(location)),
            Some(Reached { real, on: None }) => self.location_in_table(&real),
        }
    }

    /// Where a real path lies, by the table alone. Without any mounts, the host is one file system without a number.
    fn location_in_table(&self, path: &str) -> Result<Option<Location>, HostError> {
        let table = self.table().map_err(HostError::clone)?;
        let Some(mount) = table.covering(path.as_bytes()) else {
            let device = Device { major: 0, minor: 0 };
            return Ok(table.is_empty().then(|| Location { device, path: path.to_owned() }));
        };
        let device = Device { major: mount.major(), minor: mount.minor() };
        Ok(mount.paths().in_file_system(path).map(|path| Location { device, path }))
    }

    fn find_along(&self, path: &str) -> Result<Vec<Location>, HostError> {
        let Some(Reached { real, on }) = self.reach(path) else { return Ok(Vec::new()) };
        let id = match on {
            Some((id, _)) => Some(id),
            None => self.id_covering(&real)?,
        };
        let Some(id) = id else { return Ok(self.location_in_table(&real)?.into_iter().collect()) };
        let topology = self.topology().map_err(HostError::clone)?;
        Ok(topology.find(id).map(|mount| topology.along(mount, &real)).unwrap_or_default())
    }

    /// The names of a location that no other mount hides.
    fn find_names(&self, location: &Location, limit: u32) -> Result<Vec<String>, HostError> {
        let table = self.table().map_err(HostError::clone)?;
        if table.is_empty() {
            return Ok(vec![location.path.clone()]);
        }
        let topology = self.topology().map_err(HostError::clone)?;
        let is_seen = |mount: usize, name: &str| {
            table.covering(name.as_bytes()).is_some_and(|covering| covering.id() == topology.nodes()[mount].id)
        };
        let names = topology.names(location).into_iter().filter(|(mount, name)| is_seen(*mount, name));
        Ok(names.map(|(_, name)| name).take(limit.min(PAGE) as usize).collect())
    }

    /// Checks that all that was needed of the mounts could be read. What was found out without it counts for nothing.
    ///
    /// # Errors
    /// Why something couldn't be read.
    pub(crate) fn check(&self) -> Result<(), HostError> {
        let of_table = self.table.get().and_then(|table| table.as_ref().err());
        let failure = of_table.or_else(|| self.topology.get()?.as_ref().map_or_else(Some, Topology::failure));
        failure.map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

/// Copies at most `limit` of the mounts.
fn some<'t>(mounts: impl Iterator<Item = Mount<'t>>, limit: u32) -> Answer {
    Answer::Mounts(mounts.take(limit.min(PAGE) as usize).map(|mount| mount.to_text()).collect())
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("read", &self.table.get().is_some()).finish()
    }
}
