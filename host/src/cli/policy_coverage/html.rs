//! One page with the sources, that needs nothing else.

use std::fmt::Write as _;

use crate::fuzz::covered::{BranchCoverage, FileCoverage, PluginCoverage, Sources, Ways};
use crate::model::untrusted::for_people;

const STYLE: &str = "\
:root { color-scheme: light dark; --no: light-dark(#fbdada, #5a1f1f); --some: light-dark(#fdf0c4, #574613); --yes: light-dark(#ddf3dd, #1d4023) }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse } th, td { padding: .1em .8em; text-align: left } td.n { text-align: right; font-variant-numeric: tabular-nums }
pre { margin: 0; overflow-x: auto; font-size: 13px } pre span { display: block; white-space: pre } pre i { display: inline-block; min-width: 9em; font-style: normal; opacity: .7 }
.no { background: var(--no) } .some { background: var(--some) } .yes { background: var(--yes) } summary { cursor: pointer; padding: .2em 0 }";

/// The page.
pub(super) fn page(plugins: &[PluginCoverage], requests: usize, sources: &Sources) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Coverage of plugins</title>\n<style>\n{STYLE}\n</style>\n<h1>Coverage of plugins</h1>\n<p>{requests} requests. Of a branch, \
         each way that it can go counts. Beside each line stands by how many requests and settings it was reached at least, and the ways of its branches that \
         were taken.</p>\n"
    );
    for plugin in plugins {
        let name = plugin.plugin.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escaped(&name), escaped(&plugin.policies.join(", ")));
        page.push_str("<table>\n");
        for (word, ways) in [("Functions", plugin.called()), ("Branches", plugin.branches), ("Lines", plugin.lines())] {
            let _ = writeln!(page, "<tr><th>{word}{}", cells(ways));
        }
        page.push_str("</table>\n<details><summary>Functions</summary>\n<table>\n<tr><th>Name<th>Requests<th colspan=3>Branches\n");
        for function in &plugin.functions {
            let class = class(function.count > 0, function.branches);
            let (name, count) = (escaped(&function.name), function.count);
            let _ = writeln!(page, "<tr class=\"{class}\"><td>{name}<td class=n>{count}{}", cells(function.branches));
        }
        page.push_str("</table></details>\n");
        for (path, file) in &plugin.files {
            source(&mut page, path, file, sources);
        }
    }
    page.push_str("</html>\n");
    page
}

fn source(page: &mut String, path: &str, file: &FileCoverage, sources: &Sources) {
    let (branches, lines) = (file.ways().percent(), file.reached().percent());
    let _ = writeln!(
        page,
        "<details><summary>{}: {branches:.1} % of branches, {lines:.1} % of lines</summary>\n<pre>",
        escaped(&super::shown(path))
    );
    let known: Vec<String> = sources.lines(path).iter().map(|line| line.replace('\t', "    ")).collect();
    let numbers: Vec<u32> = match known.len() {
        0 => file.lines.keys().copied().collect(),
        count => (1..=u32::try_from(count).unwrap_or(u32::MAX)).collect(),
    };
    for number in numbers {
        let at = usize::try_from(number).unwrap_or(0).saturating_sub(1);
        let code = escaped(known.get(at).map(String::as_str).unwrap_or_default());
        let mut ways = Ways::default();
        ways.add(file.branches.get(&number).into_iter().flatten().flat_map(BranchCoverage::counts));
        let of_ways = if ways.all > 0 { format!("{}/{}", ways.taken, ways.all) } else { String::new() };
        let _ = match file.lines.get(&number) {
            Some(count) => {
                let class = class(*count > 0, ways);
                write!(page, "<span class=\"{class}\"><i>{number:>5} {count:>6} {of_ways:>5}</i> {code}</span>")
            }
            None => write!(page, "<span><i>{number:>5}</i> {code}</span>"),
        };
    }
    page.push_str("</pre></details>\n");
}

fn class(is_reached: bool, ways: Ways) -> &'static str {
    match (is_reached, ways.taken == ways.all) {
        (false, _) => "no",
        (true, false) => "some",
        (true, true) => "yes",
    }
}

fn cells(ways: Ways) -> String {
    format!("<td class=n>{}<td>of {}<td class=n>{:.1} %", ways.taken, ways.all, ways.percent())
}

/// A text as HTML has it, and as people may see it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in for_people(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
