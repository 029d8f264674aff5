//! Where the programs of an image are: a stage runs with what is on this machine. `<programs>/<image>/bin` stands first on its PATH, where
//! `<image>` is the last part of the image's name: `data` of `registry.example.com/millrace/data:1.2`.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The folder beside this program that `make local` fills.
const BESIDE: &str = "millrace-programs";

/// The folder with one folder an image.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    folder: Option<PathBuf>,
}

impl Programs {
    /// The folder that a person names, else the one beside this program.
    pub fn at(named: Option<&Path>) -> Self {
        let beside = || Some(env::current_exe().ok()?.parent()?.join(BESIDE));
        let folder = named.map(Path::to_owned).or_else(beside).filter(|folder| folder.is_dir());
        Self { folder: folder.and_then(|folder| folder.canonicalize().ok()) }
    }

    fn bin(&self, image: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(name(image)).join("bin")).filter(|bin| bin.is_dir())
    }

    /// The PATH of a stage, if it is another than this program's.
    pub fn path(&self, image: &str) -> Option<String> {
        let bin = self.bin(image)?;
        let rest = env::var_os("PATH").unwrap_or_default();
        env::join_paths(std::iter::once(bin).chain(env::split_paths(&rest))).ok()?.into_string().ok()
    }

    /// Whether this machine has the program of an image.
    pub fn has(&self, image: &str, program: &str) -> bool {
        let runs =
            |path: &Path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        if program.contains('/') {
            return runs(Path::new(program));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        self.bin(image).into_iter().chain(env::split_paths(&path)).any(|folder| runs(&folder.join(program)))
    }
}

/// The last part of an image's name. The stock templates name theirs `${image:trainTabular}` until a chart fills it in.
pub fn name(image: &str) -> String {
    if let Some(stock) = stock(image) {
        return stock;
    }
    let bare = image.split('@').next().unwrap_or(image);
    let last = bare.rsplit('/').next().unwrap_or(bare);
    last.split(':').next().unwrap_or(last).to_owned()
}

/// The name of one of Millrace's own images.
pub fn stock(image: &str) -> Option<String> {
    let key = image.strip_prefix("${image:")?.strip_suffix('}')?;
    let mut name = String::new();
    for sign in key.chars() {
        if sign.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(sign.to_ascii_lowercase());
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_by_the_last_part_of_its_name() {
        for (image, expected) in [
            ("${image:data}", "data"),
            ("${image:trainTabular}", "train-tabular"),
            ("registry:5000/team/train:1.2", "train"),
            ("registry/train@sha256:00", "train"),
            ("debian", "debian"),
        ] {
            assert_eq!(name(image), expected);
        }
    }

    #[test]
    fn the_programs_of_an_image_come_before_those_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("train/bin");
        std::fs::create_dir_all(&bin).unwrap();
        let fit = bin.join("fit");
        std::fs::write(&fit, "").unwrap();
        let programs = Programs::at(Some(folder.path()));
        assert!(!programs.has("train", "fit"), "it cannot be executed");
        std::fs::set_permissions(&fit, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(programs.has("x/train:1", "fit") && programs.has("train", "sh") && programs.has("other", "/bin/sh"));
        assert!(!programs.has("other", "fit") && !programs.has("train", "/bin/no-such-program"));
        let bin = bin.canonicalize().unwrap().display().to_string();
        assert!(programs.path("train").unwrap().starts_with(&format!("{bin}:")));
        assert_eq!(programs.path("other"), None);
    }
}
