//! Text that somebody else wrote. It is bounded and escaped before a person sees it, so that it can neither drive a
//! terminal nor fill it.

use std::borrow::Cow;

/// Whether a character drives a terminal, or changes how the text around it is read without being seen: control characters
/// of both sets, and those that change the direction of text or have no width; see Unicode Technical Report 36 and the property
/// Default_Ignorable_Code_Point.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}'
        )
        || matches!(c, '\u{feff}' | '\u{ffa0}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{1bca0}'..='\u{1bca3}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{fff0}'..='\u{fff8}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text as people may see it.
pub(crate) fn for_people(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_hidden) {
        true => Cow::Owned(text.chars().flat_map(escape_hidden).collect()),
        false => Cow::Borrowed(text),
    }
}

/// The most bytes that one text in a verdict may have.
const MAX_TEXT: usize = 4096;

/// Refuses text that is too long or holds control characters. `what` names the text in the error.
pub(crate) fn check(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("{what} has {} bytes where at most {MAX_TEXT} may be", text.len()));
    }
    // Other hidden characters are shown escaped: a reason may quote a path with one.
    if text.chars().any(char::is_control) {
        return Err(format!("{what} holds control characters: {}", for_people(text)));
    }
    Ok(())
}

/// The start of a text, escaped: at most so many characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut characters = text.chars().flat_map(escape_hidden);
    let mut shown: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Output of a program as one line: its lines with `; ` between them, control characters escaped.
pub(crate) fn one_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.trim_end().chars().flat_map(escape_hidden).collect::<String>())
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

fn escape_hidden(c: char) -> impl Iterator<Item = char> {
    let (kept, escaped) = if is_hidden(c) { (None, Some(c.escape_unicode())) } else { (Some(c), None) };
    kept.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_and_the_cut_is_seen() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "abc…");
        assert_eq!(shorten("\u{1b}[2J", 80), "\\u{1b}[2J");
    }

    #[test]
    fn lines_become_one_line() {
        assert_eq!(one_line(b"one\n\ntwo\r\n\x1b[31m\n"), "one; two; \\u{1b}[31m");
    }

    #[test]
    fn characters_that_are_not_seen_are_shown() {
        assert_eq!(for_people("/mnt/ä b"), "/mnt/ä b");
        assert_eq!(for_people("a\u{202e}b\u{9b}c\u{7}"), "a\\u{202e}b\\u{9b}c\\u{7}");
        // Quotes and backslashes are seen as they are.
        assert_eq!(for_people(r#"DOMAIN\me's "share""#), r#"DOMAIN\me's "share""#);
    }
}
