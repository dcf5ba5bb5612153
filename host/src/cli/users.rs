//! The users and groups of this machine, see passwd(5) and group(5). The C library's own functions load further libraries, which a program
//! that is linked statically can't.

use std::{fs, io};

/// The users and groups of this machine.
pub(super) struct Users {
    passwd: String,
    group: String,
}

/// A user.
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Users {
    /// Reads them.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn read() -> io::Result<Self> {
        // A name that is no text hides no other.
        let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Self { passwd: read("/etc/passwd")?, group: read("/etc/group")? })
    }

    /// The first user of whom this holds.
    pub(super) fn find(&self, is_wanted: impl Fn(&User) -> bool) -> Option<User> {
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some(User { name, uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        self.passwd.lines().filter_map(user).find(is_wanted)
    }

    /// The groups of a user: his own, and those of which he is a member.
    pub(super) fn groups_of(&self, user: &User) -> Vec<u32> {
        let group = |line: &str| {
            let mut fields = line.split(':').skip(2);
            let gid = fields.next()?.parse().ok()?;
            fields.next()?.split(',').any(|member| member.trim() == user.name).then_some(gid)
        };
        [user.gid].into_iter().chain(self.group.lines().filter_map(group)).collect()
    }
}
