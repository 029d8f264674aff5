//! Which commit a folder is of, for the record: where there is no git, nothing is said.

use std::path::Path;
use std::process::{Command, Stdio};

/// The commit, and whether something below the folder is other than in it.
pub fn checked_out(folder: &Path) -> Option<(String, bool)> {
    let commit = said(folder, &["rev-parse", "HEAD"])?.trim().to_owned();
    let whole = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let changed = said(folder, &["status", "--porcelain", "--", "."])?;
    whole.then_some((commit, !changed.trim().is_empty()))
}

fn said(folder: &Path, words: &[&str]) -> Option<String> {
    let git = Command::new("git").arg("-C").arg(folder).args(words).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let ended = git.ok().filter(|ended| ended.status.success())?;
    String::from_utf8(ended.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, words: &[&str]) {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let done = Command::new("git").arg("-C").arg(folder).args(who).args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn a_commit_is_known_and_what_is_other_than_in_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(checked_out(folder.path()), None, "no git has it");
        git(folder.path(), &["init", "--quiet"]);
        assert_eq!(checked_out(folder.path()), None, "nothing is committed");
        std::fs::write(folder.path().join("train.py"), "1").unwrap();
        git(folder.path(), &["add", "."]);
        git(folder.path(), &["commit", "--quiet", "-m", "one"]);
        let (commit, dirty) = checked_out(folder.path()).unwrap();
        assert!(commit.len() == 40 && !dirty, "{commit}");
        std::fs::write(folder.path().join("new.py"), "1").unwrap();
        assert_eq!(checked_out(folder.path()), Some((commit, true)));
    }
}
