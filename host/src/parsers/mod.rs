//! The parsers of what comes from outside, as a fuzzer calls them.
//!
//! Each function takes bytes as libFuzzer gives them, reads them as the program would, and panics where something doesn't hold
//! that must hold of every input. `fuzz/` makes a target of each for cargo-fuzz.

mod audit;
mod lock;
mod mountinfo;
mod options;
mod parts;
mod places;
mod policies;
mod request;
mod verdict;

use std::path::Path;

use self::audit::audit;
use self::lock::lock;
use self::mountinfo::mountinfo;
use self::options::options;
use self::places::places;
use self::policies::policies;
use self::request::request;
use self::verdict::verdict;

/// Reads bytes. What needs files has a folder of its own, the second argument, to which nobody else writes.
pub type Parser = fn(&[u8], &Path);

/// Every one of them by its name, which is also that of its target and of its corpus.
pub const ALL: [(&str, Parser); 8] = [
    ("audit", |data, _| audit(data)),
    ("lock", lock),
    ("mountinfo", |data, _| mountinfo(data)),
    ("options", |data, _| options(data)),
    ("places", |data, _| places(data)),
    ("policies", policies),
    ("request", |data, _| request(data)),
    ("verdict", |data, _| verdict(data)),
];
