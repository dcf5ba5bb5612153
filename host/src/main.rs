//! The program. It has no commands yet.

fn main() {}
