/// Whether a path is a folder or lies below it, by path component: `/a/b` is within `/a`, and `/ab` isn't.
pub fn is_within(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path is one of the host, and not the share of a server as `//host/share`.
pub fn is_on_host(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//")
}

/// Whether what a server exports is a folder's or lies below it, however it's spelled: `host:/path` or `//host/share`.
pub fn is_export_within(export: &str, folder: &str) -> bool {
    is_within(&plain_export(export), &plain_export(folder))
}

/// An export with a host in lower case, without a dot at its end, and without empty components and `.` in its path.
fn plain_export(export: &str) -> String {
    let (host, path, between) = match export.strip_prefix("//") {
        Some(share) => share.split_once('/').map_or((share, "", "//"), |(host, path)| (host, path, "//")),
        None => match export.split_once(":/") {
            Some((host, path)) => (host, path, ""),
            None => return export.to_owned(),
        },
    };
    let host = host.trim_end_matches('.').to_lowercase();
    let start = if between.is_empty() { format!("{host}:") } else { format!("{between}{host}") };
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.fold(start, |export, part| export + "/" + part)
}

#[cfg(test)]
mod tests {
    use super::{is_export_within, is_within};

    #[test]
    fn exports_are_compared_however_they_are_spelled() {
        for other in ["filer:/secret", "filer://secret", "FILER:/./secret/a", "filer.:/secret"] {
            assert!(is_export_within(other, "filer:/secret"), "{other}");
        }
        assert!(is_export_within("filer:/secret", "filer:/"));
        assert!(is_export_within("//WIN/secret/a", "//win/secret"));
        assert!(!is_export_within("//win/secrets", "//win/secret"));
        assert!(!is_export_within("filer:/secrets", "filer:/secret"));
        assert!(!is_export_within("other:/secret", "filer:/secret"));
    }

    #[test]
    fn paths_are_compared_by_component() {
        assert!(is_within("/a/b", "/a"));
        assert!(is_within("/a", "/a/"));
        assert!(is_within("/a", "/"));
        assert!(!is_within("/ab", "/a"));
        assert!(!is_within("/", "/a"));
    }
}
