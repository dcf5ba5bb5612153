//! A request as JSON.

use crate::decision::invariants::check_request;
use crate::model::request::MountRequest;
use crate::model::rules::{Helper, HostRules};
use crate::model::secrets::Secrets;
use crate::model::untrusted::is_hidden;

/// A request: what is written of it is read as the same, and what people see of it shows no secret and nothing hidden. One that
/// passes has whole paths without control characters.
///
/// # Panics
/// Where that doesn't hold.
pub(super) fn request(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<MountRequest>(data) else { return };
    let written = serde_json::to_vec(&request).expect("a request can be written");
    let read: MountRequest = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(read, request);

    let masked = request.masked();
    assert_eq!(masked.masked(), masked, "what is masked stays as it is");
    assert!(!request.to_string().chars().any(is_hidden), "people see something hidden");
    let secrets = Secrets::of(&[&request]);
    let shown = secrets.mask(&request.target);
    // A mask beside what is left may look like a secret that holds asterisks.
    let is_shown = |secret: &str| shown.contains(secret) && !secret.contains('*');
    assert!(!request.options.secrets().any(is_shown), "a secret is shown");

    let everything = HostRules {
        helpers: request.fstype.iter().map(|fstype| Helper::parse(fstype)).collect(),
        options: request.options.iter().map(|option| option.name.clone()).collect(),
        ..HostRules::default()
    };
    for rules in [HostRules::default(), everything] {
        match check_request(&rules, None, &request) {
            Ok(()) => {
                assert!(request.target.starts_with('/') && !request.target.split('/').any(|name| name == ".."));
                let options = request.options.iter().flat_map(|option| [Some(&option.name), option.value.as_ref()]);
                let texts = options.chain([Some(&request.target), request.source.as_ref(), request.fstype.as_ref()]);
                assert!(!texts.flatten().any(|text| text.chars().any(char::is_control)));
            }
            Err(refusals) => assert!(!refusals.to_string().is_empty()),
        }
    }
}
