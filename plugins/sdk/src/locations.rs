//! Compares places by what they are, not by their names.

use crate::{Location, Mounts, is_on_host, is_within};

/// Whether a location is a folder's or lies below it, in the same file system.
pub fn lies_in(location: &Location, folder: &Location) -> bool {
    if (location.device.minor, location.device.major) != (folder.device.minor, folder.device.major) {
        return false;
    }
    let (path, folder) = (location.path.as_bytes(), folder.path.as_bytes());
    match path.get(folder.len()) {
        // Where both have the same length, or the next component begins, the beginnings are compared.
        None => path == folder,
        Some(b'/') => path.starts_with(folder),
        Some(_) => folder == b"/",
    }
}

/// Paths of a policy's settings, as they lie on the host.
#[derive(Debug)]
pub struct Folders<'s> {
    paths: Vec<&'s str>,
    locations: Vec<Location>,
}

impl<'s> Folders<'s> {
    /// Locates the absolute paths of a list. Others, such as the exports of a server, aren't on the host.
    ///
    /// # Errors
    /// A path that leads nowhere, so that nothing can be compared with it.
    pub fn locate(paths: &'s [String], mounts: &impl Mounts) -> Result<Self, String> {
        let paths: Vec<&str> = paths.iter().map(String::as_str).filter(|path| is_on_host(path)).collect();
        if paths.is_empty() {
            return Ok(Self { paths, locations: Vec::new() });
        }
        let located = mounts.locate(&paths).into_iter().zip(&paths);
        let locations: Result<_, String> =
            located.map(|(location, path)| location.ok_or_else(|| leads_nowhere(path))).collect();
        Ok(Self { locations: locations?, paths })
    }

    /// The paths.
    pub fn paths(&self) -> &[&'s str] {
        &self.paths
    }

    /// Their locations.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// The first of them that one of these locations lies in. The locations are those of [`Mounts::along`], for a path, or
    /// of [`Mounts::around`], for a place under any of its names.
    pub fn holding(&self, locations: &[Location]) -> Option<&'s str> {
        let holds = |folder: &Location| locations.iter().any(|location| lies_in(location, folder));
        self.locations.iter().zip(&self.paths).find(|(folder, _)| holds(folder)).map(|(_, path)| *path)
    }
}

/// Paths of a policy's settings that hold by name. Allow by these: if something else is mounted on such a path, what that shows
/// elsewhere isn't allowed.
#[derive(Debug)]
pub struct NamedFolders<'s> {
    paths: Vec<&'s str>,
    real: Vec<String>,
    /// The links that lead to each of them.
    links: Vec<Vec<String>>,
}

impl<'s> NamedFolders<'s> {
    /// Follows the links in the absolute paths of a list. Others, such as the exports of a server, aren't on the host.
    ///
    /// # Errors
    /// A path that leads nowhere.
    pub fn follow(paths: &'s [String], mounts: &impl Mounts) -> Result<Self, String> {
        let paths: Vec<&str> = paths.iter().map(String::as_str).filter(|path| is_on_host(path)).collect();
        if paths.is_empty() {
            return Ok(Self { paths, real: Vec::new(), links: Vec::new() });
        }
        let (mut real, mut links) = (Vec::new(), Vec::new());
        for (followed, path) in mounts.follow(&paths).into_iter().zip(&paths) {
            let mut followed = followed.into_iter();
            real.push(followed.next().ok_or_else(|| leads_nowhere(path))?);
            links.push(followed.collect());
        }
        Ok(Self { paths, real, links })
    }

    /// The paths.
    pub fn paths(&self) -> &[&'s str] {
        &self.paths
    }

    /// Where they lead.
    pub fn real_paths(&self) -> &[String] {
        &self.real
    }

    /// The first of them that a mount at this path, or its end, would make another one: the path is above it, and a link could be put there.
    pub fn below(&self, path: &str) -> Option<&'s str> {
        let is_above = |folder: &str| folder.len() > path.len() && is_within(folder, path);
        let all = self.paths.iter().zip(&self.real).zip(&self.links);
        let changes = |written: &str, real: &String, links: &[String]| {
            is_above(real) || is_above(written) || links.iter().any(|link| is_within(link, path))
        };
        let found = all.into_iter().find(|((written, real), links)| changes(written, real, links));
        found.map(|((path, _), _)| *path)
    }

    /// The first of them that a real path is at or below.
    pub fn holding(&self, path: &str) -> Option<&'s str> {
        let found = self.real.iter().zip(&self.paths).find(|(real, _)| is_within(path, real));
        found.map(|(_, path)| *path)
    }
}

fn leads_nowhere(path: &str) -> String {
    format!("{path} of the settings leads nowhere on this host")
}

#[cfg(test)]
mod tests {
    use super::lies_in;
    use crate::{Device, Location};

    #[test]
    fn locations_are_compared_by_file_system_and_component() {
        let at = |minor, path: &str| Location { device: Device { major: 8, minor }, path: path.to_owned() };
        assert!(lies_in(&at(1, "/a/b"), &at(1, "/a")));
        assert!(lies_in(&at(1, "/a"), &at(1, "/a")));
        assert!(lies_in(&at(1, "/ab"), &at(1, "/")));
        assert!(lies_in(&at(1, "/"), &at(1, "/")));
        assert!(!lies_in(&at(1, "/ab"), &at(1, "/a")));
        assert!(!lies_in(&at(1, "/"), &at(1, "/a")));
        assert!(!lies_in(&at(1, "/b/c"), &at(1, "/a")));
        assert!(!lies_in(&at(2, "/a/b"), &at(1, "/a")));
    }
}
