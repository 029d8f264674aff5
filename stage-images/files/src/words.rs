//! Paths as messages have them.

use std::path::Path;

/// A path within a line: of a long one the middle is left out, so that what is said of it is not cut away.
#[must_use]
pub fn short(path: &Path) -> String {
    const END: usize = 80;
    let text = path.display().to_string();
    if text.len() <= 2 * END + 5 {
        return text;
    }
    let head = &text[..text.floor_char_boundary(END)];
    let tail = &text[text.ceil_char_boundary(text.len() - END)..];
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_path_is_left_out() {
        assert_eq!(short(Path::new("/a/b")), "/a/b");
        let long = short(Path::new(&format!("/begin/{}/end", "ü".repeat(5000))));
        assert!(long.starts_with("/begin/ü") && long.ends_with("ü/end") && long.len() < 170, "{long}");
    }
}
