//! The secret values of a request, which are kept out of everything that is shown.

use super::options::{MASK, Options};

/// The secret values of a request, to be kept out of everything that is shown.
#[derive(Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets among these options.
    pub fn of(options: &[&Options]) -> Self {
        let mut values: Vec<String> = options.iter().flat_map(|options| options.secrets()).map(str::to_owned).collect();
        // The longest first, so that a secret within a secret leaves nothing behind.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// A text with every secret replaced by `****`.
    pub fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_within_a_secret_leaves_nothing_behind() {
        let options = Options::parse("password=ab,credentials=abc");
        assert_eq!(Secrets::of(&[&options]).mask("x abc y ab z"), "x **** y **** z");
    }
}
