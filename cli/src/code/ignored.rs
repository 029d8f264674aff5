//! What `.gitignore` and `.millraceignore` name, by git's rules: the last pattern that fits decides, one that begins with `!` takes back what an earlier
//! one names, and nothing is taken back out of a folder that is named itself.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::error::Error;

pub const OWN: &str = ".millraceignore";
const GIT: &str = ".gitignore";

/// One line of a file.
struct Pattern {
    regex: Regex,
    takes_back: bool,
    folders_only: bool,
}

/// The patterns that hold below a folder.
#[derive(Default)]
pub struct Patterns(Vec<Pattern>);

/// The patterns of a folder's own files; nothing where it has none.
pub fn of_folder(folder: &Path) -> Result<Patterns, Error> {
    let mut found = Vec::new();
    // What is Millrace's own comes last, and decides.
    for name in [GIT, OWN] {
        let path = folder.join(name);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::said(format!("{}: {error}", path.display()))),
        };
        found.extend(text.lines().filter_map(pattern));
    }
    Ok(Patterns(found))
}

impl Patterns {
    /// What these say of a path below their folder, if anything.
    pub fn say(&self, below: &str, folder: bool) -> Option<bool> {
        let fits = |pattern: &&Pattern| (folder || !pattern.folders_only) && pattern.regex.is_match(below);
        self.0.iter().rev().find(fits).map(|pattern| !pattern.takes_back)
    }
}

/// A line, if it is a pattern that means something.
fn pattern(line: &str) -> Option<Pattern> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut text = line.trim_end_matches(' ');
    // A space that is meant has a backslash before it.
    if text.ends_with('\\') && text.len() < line.len() {
        text = &line[..=text.len()];
    }
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let takes_back = text.starts_with('!');
    let text = text.strip_prefix('!').unwrap_or(text);
    let folders_only = text.ends_with('/');
    let text = text.strip_suffix('/').unwrap_or(text);
    // A slash that is not at the end ties a pattern to its folder.
    let tied = text.contains('/');
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut regex = String::from(if tied { "^" } else { "^(?:.*/)?" });
    regex.push_str(&glob(text));
    regex.push('$');
    Some(Pattern { regex: Regex::new(&regex).ok()?, takes_back, folders_only })
}

/// A glob as a regular expression.
fn glob(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let begins = out.is_empty() || out.ends_with('/');
        if begins && rest.starts_with("**/") {
            out.push_str("(?:.*/)?");
            rest = &rest[3..];
            // What follows begins a name too.
            if let Some(more) = rest.strip_prefix("**/") {
                rest = more;
            }
            continue;
        }
        if begins && rest == "**" {
            out.push_str(".+");
            return out;
        }
        rest = &rest[sign.len_utf8()..];
        match sign {
            '*' => {
                rest = rest.trim_start_matches('*');
                out.push_str("[^/]*");
            }
            '?' => out.push_str("[^/]"),
            '[' => match class(rest) {
                Some((class, after)) => {
                    out.push_str(&class);
                    rest = after;
                }
                None => out.push_str("\\["),
            },
            '\\' => {
                let meant = rest.chars().next().unwrap_or('\\');
                rest = rest.get(meant.len_utf8()..).unwrap_or_default();
                out.push_str(&regex::escape(&meant.to_string()));
            }
            sign => out.push_str(&regex::escape(&sign.to_string())),
        }
    }
    out
}

/// `[a-z]` or `[!a-z]` without its first sign, and what stands behind it.
fn class(text: &str) -> Option<(String, &str)> {
    let (no, inside) = match text.strip_prefix(['!', '^']) {
        Some(inside) => ("^/", inside),
        None => ("", text),
    };
    // A bracket that comes first is meant.
    let end = inside.char_indices().skip(1).find(|(_, sign)| *sign == ']')?.0;
    let escaped = inside[..end].replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace("&&", "&\\&");
    let escaped = escaped.replace("~~", "~\\~").replace('^', "\\^");
    Some((format!("[{no}{escaped}]"), &inside[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(lines: &str, path: &str, folder: bool) -> Option<bool> {
        Patterns(lines.lines().filter_map(pattern).collect()).say(path, folder)
    }

    #[test]
    fn patterns_are_gits() {
        for (lines, path, said) in [
            ("*.log", "a/b.log", Some(true)),
            ("*.log", "a/b.logs", None),
            ("*.log\n!keep.log", "a/keep.log", Some(false)),
            ("/data", "data", Some(true)),
            ("/data", "a/data", None),
            ("data", "a/data", Some(true)),
            ("a/data", "b/a/data", None),
            ("**/data", "b/a/data", Some(true)),
            ("a/**/z", "a/z", Some(true)),
            ("a/**/z", "a/b/c/z", Some(true)),
            ("a/**", "a/b/c", Some(true)),
            ("a/**", "a", None),
            ("/data/*\n!/data/keep.py", "data/keep.py", Some(false)),
            ("?.py", "a.py", Some(true)),
            ("?.py", "ab.py", None),
            ("[ab].py", "b.py", Some(true)),
            ("[!ab].py", "b.py", None),
            ("[!ab].py", "c.py", Some(true)),
            ("a.py", "aXpy", None),
            ("a+(b).py", "a+(b).py", Some(true)),
            ("# a", "# a", None),
            ("\\#a", "#a", Some(true)),
            ("\\!a", "!a", Some(true)),
            ("a ", "a", Some(true)),
            ("a\\ ", "a ", Some(true)),
            ("", "a", None),
            ("foo*bar", "foo/bar", None),
            ("*", "a/b", Some(true)),
        ] {
            assert_eq!(says(lines, path, false), said, "{lines:?} {path}");
        }
        assert_eq!((says("out/", "a/out", true), says("out/", "a/out", false)), (Some(true), None));
    }
}
