//! The host's own parsers, with the inputs that are kept in `fuzz/corpus`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};
use mountgate::parsers::ALL;

use crate::support::{folder, root};

tests! {
    plain what_once_reached_something_new_still_holds,
    plain each_parser_has_a_target_and_a_corpus,
}

fn what_once_reached_something_new_still_holds() -> Result<()> {
    for (name, parser) in ALL {
        let scratch = folder()?;
        for file in fs::read_dir(root().join("fuzz/corpus").join(name))? {
            let bytes = fs::read(file?.path())?;
            parser(&bytes, scratch.path());
        }
    }
    Ok(())
}

fn each_parser_has_a_target_and_a_corpus() -> Result<()> {
    let names = |folder: &str| -> Result<BTreeSet<String>> {
        let files = fs::read_dir(root().join(folder))?.collect::<Result<Vec<_>, _>>()?;
        let stem = |file: &fs::DirEntry| file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(files.iter().map(stem).collect())
    };
    let parsers: BTreeSet<String> = ALL.map(|(name, _)| name.to_owned()).into();
    ensure!(names("fuzz/targets")? == parsers);
    ensure!(names("fuzz/corpus")? == parsers);
    for name in &parsers {
        let count = fs::read_dir(root().join("fuzz/corpus").join(name))?.count();
        ensure!(count >= 5, "{name} has {count} inputs");
    }
    Ok(())
}
