use mountgate_sdk::testing::{bind, mount, place, with_option};
use mountgate_sdk::{Label, MountList, Via};

use super::*;

/// What a rule makes of a review: `allow`, the code and the reason of a denial, edits, or an error.
fn judge(rules: &str, review: &Review) -> String {
    let prepared = match Rules::prepare(rules) {
        Ok(prepared) => prepared,
        Err(problems) => {
            return problems
                .iter()
                .map(|problem| format!("{}: {}", problem.path, problem.message))
                .collect::<Vec<_>>()
                .join("; ");
        }
    };
    let rules = Rules::read(&prepared.prepared).expect("it was prepared");
    match Rules::evaluate(&rules, review, &MountList::default()) {
        Ok(Verdict::Allow) => "allow".to_owned(),
        Ok(Verdict::Deny(denial)) => format!("{}: {}", denial.code, denial.reason),
        Ok(Verdict::Rewrite(edits)) => format!("{edits:?}"),
        Err(error) => error,
    }
}

/// One rule that denies, with its condition.
fn rule(condition: &str) -> String {
    let condition = condition.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        r#"{{"rules": [{{"name": "r", "match": "{condition}", "deny": {{"code": "no", "message": "not {{target.path}}"}}}}]}}"#
    )
}

fn holds(condition: &str, review: &Review) -> bool {
    match judge(&rule(condition), review).as_str() {
        "allow" => false,
        denied if denied.starts_with("no: not /") => true,
        other => panic!("{condition}: {other}"),
    }
}

#[test]
fn a_device_lies_wherever_its_bytes_are() {
    let mut review = mount("ext4", "/dev/loop0", "/mnt");
    assert!(!holds("path.within(source, '/images')", &review));
    if let Some(source) = &mut review.source {
        source.storage = vec![place("/images/a", Via::Target).location];
    }
    assert!(holds("path.within(source, '/images') && path.within(source, '/dev')", &review));
    assert!(holds("path.holds(source, '/images/a/b') && !path.holds(source, '/images')", &review));
    assert!(holds("source.storage.exists(s, s.path == '/images/a')", &review));
}

#[test]
fn folders_are_compared_by_location_and_component() {
    let of = |target: &str| mount("tmpfs", "tmpfs", target);
    assert!(holds("path.within(target, '/foo')", &of("/foo/bar")));
    assert!(!holds("path.within(target, '/foo')", &of("/foolish")));
    assert!(holds("path.holds(target, '/foo/bar')", &of("/foo")));
    assert!(holds("places.exists(p, path.within(p, '/foo'))", &of("/foo")));
    let mut carried = of("/mnt");
    carried.places.push(place("/foo/x", Via::Peer));
    assert!(holds("places.exists(p, path.within(p, '/foo'))", &carried));
    assert!(!holds("places.all(p, path.within(p, '/foo'))", &carried));
    assert!(holds("size(places.filter(p, p.via == 'peer')) == 1", &carried));
    assert!(holds("places.map(p, p.path) == ['/mnt', '/foo/x']", &carried));
}

#[test]
fn globs_fit_component_by_component() {
    for (path, pattern, fits) in [
        ("/mnt/a/b", "/mnt/a/*", true),
        ("/mnt/a", "/mnt/a/*", false),
        ("/mnt/a/b/c", "/mnt/a/*", false),
        ("/mnt/a/b/c", "/mnt/a/**", true),
        ("/mnt/a", "/mnt/**", true),
        ("/mnt/tenant-a", "/mnt/tenant-*", true),
        ("/mnt/x-tenant", "/mnt/tenant-*", false),
        ("/mnt/abcabc", "/mnt/a*b*c", true),
        ("/mnt/ab", "/mnt/a*b*c", false),
    ] {
        assert_eq!(
            holds(&format!("path.glob(target, '{pattern}')"), &mount("tmpfs", "tmpfs", path)),
            fits,
            "{path} {pattern}"
        );
    }
}

#[test]
fn options_labels_and_operations_can_be_asked_for() {
    let mut review = with_option(with_option(mount("tmpfs", "tmpfs", "/mnt"), "ro", None), "size", Some("1m"));
    review.requester.labels = vec![Label { key: "tenant".to_owned(), value: "a".to_owned() }];
    review.requester.uid = 1000;
    assert!(holds("request.counts('ro') && request.has_option('size') && request.value_of('size') == '1m'", &review));
    assert!(!holds("request.counts('ro')", &with_option(review.clone(), "rw", None)));
    assert!(holds(
        "requester.uid >= 1000 && requester.labels['tenant'] == 'a' && 'tenant' in requester.labels",
        &review
    ));
    assert!(holds("has(requester.labels.tenant) && requester.labels.tenant == 'a' && requester.peer == null", &review));
    assert!(holds("request.operation == 'mount' && request.fstype in ['tmpfs', 'ramfs']", &review));
    assert!(holds(
        "request.operation == 'bind' && !request.recursive && source.kind == 'directory'",
        &bind("/a", "/b")
    ));
    assert!(holds("request.options.exists_one(o, o.name == 'size') && 1 + 2 * 3 == 7 && 'a' + 'b' == 'ab'", &review));
}

#[test]
fn what_is_missing_is_an_error_unless_it_does_not_matter() {
    let review = mount("tmpfs", "tmpfs", "/mnt");
    assert!(judge(&rule("source.path == '/a'"), &review).contains("a field of null"));
    assert!(!holds("source != null && source.path == '/a'", &review));
    assert!(holds("source.path == '/a' || true", &review));
    assert!(judge(&rule("requester.labels['tenant'] == 'a'"), &review).contains("there is no label tenant"));
}

#[test]
fn a_wrong_rule_is_told_with_line_and_column_and_what_was_expected() {
    let review = mount("tmpfs", "tmpfs", "/mnt");
    for (condition, said) in [
        ("target.path ==", "rules[0].match: 1:"),
        ("true &&\n target.pth == 'a'", "2:8: a resolved path has no field pth: it has path, kind,"),
        ("target.path", "1:1: it's a string where a bool is expected"),
        ("target.path == 1", "two values of one type are compared, not a string and a int"),
        ("tarqet.path == 'a'", "1:1: there is no tarqet: there are request,"),
        ("path.inside(target, '/a')", "there is no function path.inside: there are path.within(place, folder)"),
        ("path.within(target)", "it's written path.within(place, folder)"),
        ("path.within(target, 1)", "a int can't stand here"),
        ("places.all(p, p.path)", "a string where a bool is expected"),
        ("1.5 < 2.0", "only null, bool, int and string"),
    ] {
        let found = judge(&rule(condition), &review);
        assert!(found.contains(said), "{condition}: {found}");
    }
    let at = judge(&rule("true && target.pth == 'a'"), &review);
    assert!(at.contains("1:15: a resolved path has no field pth") || at.contains("1:9:"), "{at}");
}

#[test]
fn rewrites_are_edits_with_texts_filled_in() {
    let rules = r#"{"rules": [{"match": "request.operation == 'bind'", "rewrite": {"add": ["ro", "x-of={target.path}"], "drop": ["rw"]}}]}"#;
    let edits = judge(rules, &bind("/a", "/b"));
    assert!(
        edits.contains("DropOption(\"rw\")") && edits.contains("\"ro\"") && edits.contains("Some(\"/b\")"),
        "{edits}"
    );
    assert_eq!(judge(rules, &mount("tmpfs", "tmpfs", "/mnt")), "allow");
    let neither = r#"{"rules": [{"match": "true"}, {"match": "true", "deny": {"code": "No", "message": "{"}}]}"#;
    let problems = judge(neither, &bind("/a", "/b"));
    for said in ["rules[0].deny: a rule has either", "rules[1].deny.code", "rules[1].deny.message: a `{` isn't closed"]
    {
        assert!(problems.contains(said), "{problems}");
    }
}
