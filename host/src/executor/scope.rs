//! Tells failures of systemd-run(1) itself from failures of the program that it runs.

/// Why there is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScopeError {
    /// systemd's bus can't be reached or refuses the request.
    #[error("systemd's bus refused the scope: {0}")]
    Bus(String),
    /// The process isn't in the PID namespace of the host's systemd.
    #[error("systemd doesn't know this process, which isn't in the host's PID namespace: {0}")]
    PidNamespace(String),
    /// systemd didn't answer in time.
    #[error("systemd didn't start the scope in time: {0}")]
    Timeout(String),
    /// Anything else that systemd-run(1) says before it runs anything.
    #[error("systemd gave no scope: {0}")]
    Other(String),
}

/// What systemd-run(1) says when it has a scope, before it runs anything in it.
const STARTED: &str = "Running scope as unit: ";

/// The output of what ran in a scope, without that of systemd-run(1).
pub(super) fn without_announcement(output: &str) -> String {
    output.split("; ").filter(|part| !part.starts_with(STARTED)).collect::<Vec<_>>().join("; ")
}

impl ScopeError {
    /// Recognises the words of systemd-run(1), see `src/run/run.c` of systemd: all of them come before mount(8) runs. The
    /// words of mount(8) and its helpers begin differently.
    pub(super) fn of(output: &str) -> Option<Self> {
        if output.contains(STARTED) {
            return None;
        }
        let own = ["Failed to ", "Job for ", "Unit ", "System has not been booted"];
        if !own.iter().any(|start| output.starts_with(start)) {
            return None;
        }
        let has = |part: &str| output.contains(part);
        let output = output.to_owned();
        Some(if has("control group") || has("Process with ID") || has("No such process") {
            Self::PidNamespace(output)
        } else if has("timed out") || has("timeout") {
            Self::Timeout(output)
        } else if has("bus") || has("Access denied") || has("authentication") || has("Permission denied") {
            Self::Bus(output)
        } else {
            Self::Other(output)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ScopeError;

    #[test]
    fn scope_failures_are_told_from_those_of_mount() {
        let of = |output: &str| ScopeError::of(output);
        assert!(matches!(of("Failed to connect to bus: No such file or directory"), Some(ScopeError::Bus(_))));
        assert!(matches!(
            of("Failed to start transient scope unit: Process with ID 7 does not exist."),
            Some(ScopeError::PidNamespace(_))
        ));
        assert!(matches!(
            of("Failed to start transient scope unit: Connection timed out"),
            Some(ScopeError::Timeout(_))
        ));
        assert_eq!(of("Running scope as unit: mountgate-a.scope; Failed to resolve fs-1"), None);
        assert_eq!(super::without_announcement("Running scope as unit: a.scope; oops"), "oops");
        assert_eq!(of("mount: /mnt/x: wrong fs type, bad option"), None);
    }
}
