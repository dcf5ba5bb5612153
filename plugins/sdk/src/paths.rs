/// Whether a path is a folder or lies below it, by path component: `/a/b` is within `/a`, and `/ab` isn't.
pub fn is_within(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path is one of the host, and not the share of a server as `//host/share`.
pub fn is_on_host(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//")
}

/// Whether what a server exports is a folder's or lies below it, however it's spelled: `host:/path` or `//host/share`. Nothing with `..` in it
/// does.
pub fn is_export_within(export: &str, folder: &str) -> bool {
    let climbs = export.split(['/', '\\']).any(|part| part == "..");
    !climbs && is_within(&plain_export(export), &plain_export(folder))
}

fn host_name(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase()
}

/// An export with a host in lower case, without a dot at its end, and without empty components and `.` in its path. A share has no case and
/// may have backslashes.
fn plain_export(export: &str) -> String {
    let share = export.replace('\\', "/").to_lowercase();
    let (start, path) = if let Some(share) = share.strip_prefix("//") {
        let (host, path) = share.split_once('/').unwrap_or((share, ""));
        (format!("//{}", host.trim_end_matches('.')), path)
    } else if let Some(address) = export.strip_prefix("nfs://") {
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        (format!("{}:", host_name(host)), path)
    } else if let Some((host, path)) = export.split_once(":/") {
        (format!("{}:", host_name(host)), path)
    } else if let Some((host, path)) = export.split_once(':').filter(|(_, path)| !path.contains(':')) {
        // Relative to what the server takes for its root.
        (format!("{}:", host_name(host)), path)
    } else {
        return export.to_owned();
    };
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.fold(start, |export, part| export + "/" + part)
}

#[cfg(test)]
mod tests {
    use super::{is_export_within, is_within};

    #[test]
    fn exports_are_compared_however_they_are_spelled() {
        for other in [
            "filer:/secret",
            "filer://secret",
            "FILER:/./secret/a",
            "filer.:/secret",
            "[filer]:/secret",
            "filer:secret",
            "nfs://filer/secret",
        ] {
            assert!(is_export_within(other, "filer:/secret"), "{other}");
        }
        assert!(is_export_within("filer:/secret", "filer:/"));
        for other in ["//WIN/secret/a", "//win/SECRET", "\\\\win\\secret", "//win\\secret", "//win/\\secret"] {
            assert!(is_export_within(other, "//win/secret"), "{other}");
        }
        assert!(!is_export_within("filer:/secret/../other", "filer:/secret"));
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
