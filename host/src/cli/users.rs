//! The users and groups of this machine, see passwd(5) and group(5). The C library's own functions load further libraries, which a program
//! that is linked statically can't.

use std::fs;

/// A user.
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The first user of whom this holds.
pub(super) fn find_user(is_wanted: impl Fn(&User) -> bool) -> Option<User> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some(User { name, uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    text.lines().filter_map(user).find(is_wanted)
}

/// The groups of which a user is a member.
pub(super) fn groups_of(user: &str) -> Vec<u32> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let group = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|member| member.trim() == user).then_some(gid)
    };
    text.lines().filter_map(group).collect()
}
