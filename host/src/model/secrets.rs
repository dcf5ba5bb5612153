//! The secret values of a request, which are kept out of everything that is shown.

use super::options::{MASK, Options, secrets_of_url};
use super::request::MountRequest;
use super::untrusted::for_people;

/// The secret values of a request, to be kept out of everything that is shown.
#[derive(Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets in these requests.
    pub fn of(requests: &[&MountRequest]) -> Self {
        let of_options = |options: &'_ Options| options.secrets().map(str::to_owned).collect::<Vec<_>>();
        let mut values: Vec<String> = requests.iter().flat_map(|request| of_options(&request.options)).collect();
        let sources = requests.iter().filter_map(|request| request.source.as_deref());
        values.extend(sources.flat_map(secrets_of_url).map(str::to_owned));
        // As they stand where a text was escaped before it's masked.
        let forms = |value: &String| [value.escape_debug().to_string(), for_people(value).into_owned()];
        let escaped: Vec<String> = values.iter().flat_map(forms).collect();
        values.extend(escaped);
        // The longest first, so that a secret within a secret leaves nothing behind.
        values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        Self(values)
    }

    /// A text with every secret replaced by `****`. The text is gone through once.
    pub fn mask(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let mut masked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let secret = self.0.iter().find(|secret| rest.starts_with(secret.as_str()));
            match secret {
                Some(_) => masked.push_str(MASK),
                None => masked.push(c),
            }
            rest = &rest[secret.map_or(c.len_utf8(), String::len)..];
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::Operation;

    fn request(source: &str, options: &str) -> MountRequest {
        MountRequest {
            operation: Operation::Mount,
            source: Some(source.to_owned()),
            target: "/mnt".to_owned(),
            fstype: Some("cifs".to_owned()),
            options: Options::parse(options),
        }
    }

    #[test]
    fn a_secret_within_a_secret_leaves_nothing_behind() {
        let request = request("x", "password=ab,credentials=abc");
        assert_eq!(Secrets::of(&[&request]).mask("x abc y ab z"), "x **** y **** z");
    }

    #[test]
    fn passwords_in_urls_and_beside_users_are_secrets() {
        let request = request("https://me:s3cret@dav.example/x", "username=a%b1,pass2=zz,url=ftp://u:pw9@h/");
        let masked = request.masked();
        assert_eq!(masked.source.as_deref(), Some("https://me:****@dav.example/x"));
        assert_eq!(masked.options.to_string(), "username=a%****,pass2=****,url=ftp://u:****@h/");
        assert_eq!(Secrets::of(&[&request]).mask("s3cret b1 zz pw9"), "**** **** **** ****");
        let sources = [
            ("//me%s3cret@nas/share", "//me%****@nas/share"),
            ("https://h/x?user=me&token=s3cret", "https://h/x?user=me&token=****"),
            ("https://h/x?X-Amz-Signature=s3cret&sig=abc#top", "https://h/x?X-Amz-Signature=****&sig=****#top"),
            ("server:/export", "server:/export"),
            ("https://me%40example@h/", "https://me%****@h/"),
        ];
        for (source, shown) in sources {
            let masked = self::request(source, "rw").masked();
            assert_eq!(masked.source.as_deref(), Some(shown));
        }
    }
}
