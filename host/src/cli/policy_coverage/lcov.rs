//! The format of lcov, see geninfo(1).

use std::fmt::Write as _;

use crate::fuzz::covered::{PluginCoverage, Ways};

/// A record for each file of each plugin.
pub(super) fn text(plugins: &[PluginCoverage]) -> String {
    let mut text = String::new();
    for plugin in plugins {
        for (path, file) in &plugin.files {
            let _ = writeln!(text, "TN:\nSF:{}", one_line(path));
            let mut called = Ways::default();
            for function in &plugin.functions {
                if let Some((_, line)) = function.place.as_ref().filter(|(file, _)| file == path) {
                    let name = one_line(&function.name);
                    let _ = writeln!(text, "FN:{line},{name}\nFNDA:{},{name}", function.count);
                    called.add([function.count]);
                }
            }
            let _ = writeln!(text, "FNF:{}\nFNH:{}", called.all, called.taken);
            for (line, branches) in &file.branches {
                for (block, branch) in branches.iter().enumerate() {
                    // A branch that nothing came to has no counts.
                    let is_reached = branch.counts().any(|count| count > 0);
                    for (way, count) in branch.counts().enumerate() {
                        let count = if is_reached { count.to_string() } else { "-".to_owned() };
                        let _ = writeln!(text, "BRDA:{line},{block},{way},{count}");
                    }
                }
            }
            let (ways, reached) = (file.ways(), file.reached());
            let _ = writeln!(text, "BRF:{}\nBRH:{}", ways.all, ways.taken);
            for (line, count) in &file.lines {
                let _ = writeln!(text, "DA:{line},{count}");
            }
            let _ = writeln!(text, "LF:{}\nLH:{}\nend_of_record", reached.all, reached.taken);
        }
    }
    text
}

/// A plugin names its files and functions itself: none of them may begin a line.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
