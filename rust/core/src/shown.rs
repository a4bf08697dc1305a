//! Values of callers and files, as messages show them: short, and without control characters.

use std::path::Path;

/// Most characters of a value in a message: a line of a terminal.
const MOST: usize = 80;

/// A value as a message may show it. A file may hold a name of ten megabytes, or one that moves the
/// cursor of the terminal on which it is printed: what is not printable is escaped, and the middle
/// of what is too long is left out.
///
/// ```
/// use metro_fast_core::shown::shown;
///
/// assert_eq!(shown("layers.0.q"), "layers.0.q");
/// assert_eq!(shown("a\u{1b}[2J"), r"a\u{1b}[2J");
/// assert_eq!(shown(&"x".repeat(1000)).len(), 80);
/// ```
pub fn shown(value: &str) -> String {
    shown_within(value, MOST)
}

/// As [`shown`], of at most `most` characters, which are 3 or more.
pub fn shown_within(value: &str, most: usize) -> String {
    if value.chars().take(most + 1).count() <= most {
        let text = printable(value.chars());
        if text.chars().count() <= most {
            return text;
        }
    }
    // Escapes make a text longer, never shorter: the ends suffice.
    let half = (most - 3) / 2;
    let front: String = printable(value.chars().take(most)).chars().take(most - 3 - half).collect();
    let back: Vec<char> = value.chars().rev().take(most).collect();
    let back: Vec<char> = printable(back.into_iter().rev()).chars().collect();
    let back: String = back[back.len().saturating_sub(half)..].iter().collect();
    format!("{front}...{back}")
}

/// A path as a message may show it, whole, as the system limits its length.
pub(crate) fn shown_path(path: &Path) -> String {
    printable(path.display().to_string().chars())
}

/// Text with escapes for what is not printable; quotes and backslashes stay as they are.
fn printable(characters: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for character in characters {
        match character {
            '"' | '\'' | '\\' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_printable() {
        for (value, expected) in [
            ("", ""),
            ("a \"b\" \\ 'c' é 漢", "a \"b\" \\ 'c' é 漢"),
            ("a\u{202e}b\nc", r"a\u{202e}b\nc"),
        ] {
            assert_eq!(shown(value), expected);
        }
        let eighty = "é".repeat(40);
        assert_eq!(shown(&eighty), eighty);
        for long in ["é".repeat(90), "\u{1b}".repeat(20), "\n".repeat(10_000_000)] {
            let text = shown(&long);
            assert!(text.chars().count() <= MOST, "{text}");
            assert!(text.contains("..."));
        }
        let middle = shown(&format!("{}0123{}", "a".repeat(50), "z".repeat(50)));
        assert!(middle.starts_with("aaa") && middle.ends_with("zzz") && !middle.contains('1'));
    }

    #[test]
    fn paths_are_whole() {
        let path = Path::new("/a\u{1b}b").join("c".repeat(200));
        assert_eq!(shown_path(&path), format!(r"/a\u{{1b}}b/{}", "c".repeat(200)));
    }
}
