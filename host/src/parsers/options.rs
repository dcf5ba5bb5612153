//! The argument of mount(8)'s `-o`.

use crate::model::image::Image;
use crate::model::mount_flags::restrictions;
use crate::model::option_paths::paths_in;
use crate::model::options::{MASK, MountOption, Options};
use crate::model::own_options::{IdMap, directory_mode};

/// Options: what is printed is read as the same, what is masked holds no secret, and what is added counts.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let options = Options::parse(&text);
    assert_eq!(Options::parse(&options.to_string()), options);
    let masked = options.masked();
    assert_eq!(masked.masked(), masked, "what is masked stays as it is");
    assert_eq!(masked.len(), options.len());
    let names = |options: &Options| options.iter().map(|option| option.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&masked), names(&options), "a name is no secret");

    for (option, masked) in options.iter().zip(masked.iter()) {
        let secret = [option.clone()].into_iter().collect::<Options>();
        let secret = secret.secrets().next().map(str::to_owned);
        assert!(secret.is_none() || secret.as_deref() == Some(MASK) || masked != option, "a secret is shown");
    }

    // Each of the grammars inside.
    let _ = (IdMap::of(&options), directory_mode(&options), Image::of(&options));
    for option in options.iter() {
        let value = option.value.as_deref().unwrap_or_default();
        assert!(paths_in(option).len() <= value.len() + 1);
    }

    for flag in restrictions() {
        for (word, other) in [(flag.sets, flag.clears), (flag.clears, flag.sets)] {
            let mut added = options.clone();
            added.add(MountOption::flag(word));
            let counting = added.iter().rev().find(|option| option.name == word || option.name == other);
            assert_eq!(counting, Some(&MountOption::flag(word)), "{word} was added and doesn't count");
            assert_eq!(added.restrictions().any(|flag| flag == word), word == flag.sets);
        }
    }
}
