//! The files of a folder as one archive. The same files with the same contents make the same bytes, whoever packs them and wherever: in the order
//! of their names, without times and owners, and of their modes only whether they can be executed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::ignored::{self, OWN as IGNORE, Patterns};
use crate::cp::binary;
use crate::error::Error;

/// What is code and not data. It is in memory as a whole.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
const MOST_FILES: usize = 10_000;
/// So many of the largest files are named where it is too much.
const NAMED: usize = 3;

/// An archive.
#[derive(Debug)]
pub struct Packed {
    pub bytes: Vec<u8>,
    pub digest: String,
    files: usize,
}

impl Packed {
    pub fn amount(&self) -> String {
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        format!("{files}, {}", binary(self.bytes.len() as u64))
    }
}

/// A file that is packed.
struct Found {
    /// Below the folder.
    name: String,
    /// Where its bytes are: elsewhere for a link.
    path: PathBuf,
    size: u64,
    executable: bool,
}

/// Packs a folder without what `.gitignore` and `.millraceignore` name, and without `.git`.
pub fn pack(folder: &Path) -> Result<Packed, Error> {
    let shown = folder.display();
    let root = folder.canonicalize().map_err(|error| Error::said(format!("--code {shown}: {error}")))?;
    if !root.is_dir() {
        return Err(Error::said(format!("--code {shown} is no folder: write the one in which programs are to run")));
    }
    let mut files = Vec::new();
    let mut open = vec![(root.clone(), above(&root)?)];
    while let Some((at, rules)) = open.pop() {
        let own = (at.clone(), Rc::new(ignored::of_folder(&at)?));
        let rules: Vec<Rules> = rules.into_iter().chain([own]).collect();
        let unreadable = |error: std::io::Error| Error::said(format!("{}: {error}", at.display()));
        for entry in fs::read_dir(&at).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, folder) = (entry.path(), entry.file_type().map_err(unreadable)?.is_dir());
            if entry.file_name() == ".git" || is_ignored(&rules, &path, folder) {
                continue;
            }
            if folder {
                open.push((path, rules.clone()));
            } else {
                files.push(found(&root, &path)?);
            }
        }
        if files.len() > MOST_FILES {
            return Err(Error::said(format!(
                "--code {shown} has more than {MOST_FILES} files: name folders that are no code in {IGNORE}, as in .gitignore"
            )));
        }
    }
    let bytes = files.iter().map(|file| file.size).sum::<u64>();
    if bytes > MOST_BYTES {
        files.sort_by_key(|file| std::cmp::Reverse(file.size));
        let largest: Vec<String> =
            files.iter().take(NAMED).map(|file| format!("{} ({})", file.name, binary(file.size))).collect();
        return Err(Error::said(format!(
            "--code {shown} has {}, and at most {} are brought: name what is no code in {IGNORE}, as in .gitignore, and read data as inputs. The \
             largest files are {}",
            binary(bytes),
            binary(MOST_BYTES),
            largest.join(", ")
        )));
    }
    if files.is_empty() {
        return Err(Error::said(format!("--code {shown} has no files but those that .gitignore and {IGNORE} name")));
    }
    files.sort_by(|left, right| left.name.as_bytes().cmp(right.name.as_bytes()));
    let bytes = archive(&files)?;
    let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
    Ok(Packed { bytes, digest, files: files.len() })
}

/// Patterns, and the folder below which they hold.
type Rules = (PathBuf, Rc<Patterns>);

/// The patterns of folders above, to where the git repository begins: without one only the folder itself counts.
fn above(root: &Path) -> Result<Vec<Rules>, Error> {
    let Some(top) = root.ancestors().find(|folder| folder.join(".git").exists()) else { return Ok(Vec::new()) };
    let mut folders: Vec<&Path> = root.ancestors().skip(1).take_while(|folder| folder.starts_with(top)).collect();
    folders.reverse();
    folders.into_iter().map(|folder| Ok((folder.to_owned(), Rc::new(ignored::of_folder(folder)?)))).collect()
}

/// The innermost folder that says something of a path decides.
fn is_ignored(rules: &[Rules], path: &Path, folder: bool) -> bool {
    let said = rules.iter().rev().find_map(|(at, patterns)| {
        let below = path.strip_prefix(at).ok()?.to_string_lossy();
        patterns.say(&below, folder)
    });
    said.unwrap_or(false)
}

/// What is packed of a file. A link is packed as the file that it leads to, if that is in the folder.
fn found(root: &Path, path: &Path) -> Result<Found, Error> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let wrong = |what: &str| Error::said(format!("{}: {what}, or name it in {IGNORE}", path.display()));
    let name = below.to_str().ok_or_else(|| wrong("its name is no UTF-8: give it another one"))?.to_owned();
    let real = if path.is_symlink() {
        let real = path.canonicalize().map_err(|_| wrong("the link leads nowhere: take it out"))?;
        if !real.starts_with(root) {
            return Err(wrong("the link leads out of the folder: put a copy in its place"));
        }
        real
    } else {
        path.to_owned()
    };
    let metadata = fs::metadata(&real).map_err(|error| wrong(&format!("{error}: let it be read")))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "the link leads to a folder: put a copy in its place"
        } else {
            "it is no file: take it out"
        };
        return Err(wrong(what));
    }
    let executable = metadata.permissions().mode() & 0o100 != 0;
    Ok(Found { name, path: real, size: metadata.len(), executable })
}

fn archive(files: &[Found]) -> Result<Vec<u8>, Error> {
    let mut builder = Builder::new(Vec::new());
    for Found { name, path, size: _, executable } in files {
        let failed = |error: std::io::Error| Error::said(format!("{}: {error}", path.display()));
        let bytes = fs::read(path).map_err(failed)?;
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(if *executable { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes.as_slice()).map_err(failed)?;
    }
    builder.into_inner().map_err(|error| Error::said(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn names(packed: &Packed) -> Vec<String> {
        let mut archive = tar::Archive::new(packed.bytes.as_slice());
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn the_same_files_make_the_same_archive_wherever_they_lie() {
        let packed = |order: &[(&str, &str)], executable: bool| {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in order {
                write(folder.path(), name, text);
            }
            if executable {
                fs::set_permissions(folder.path().join("b.sh"), fs::Permissions::from_mode(0o700)).unwrap();
            }
            pack(folder.path()).unwrap()
        };
        let one = packed(&[("a/x.py", "1"), ("b.sh", "2")], false);
        assert_eq!(names(&one), ["a/x.py", "b.sh"]);
        assert_eq!(one.digest, packed(&[("b.sh", "2"), ("a/x.py", "1")], false).digest);
        assert_ne!(one.digest, packed(&[("b.sh", "2"), ("a/x.py", "3")], false).digest);
        assert_ne!(one.digest, packed(&[("b.sh", "2"), ("a/y.py", "1")], false).digest);
        assert_ne!(one.digest, packed(&[("b.sh", "2"), ("a/x.py", "1")], true).digest, "who runs it sees a difference");
    }

    #[test]
    fn what_is_ignored_and_git_itself_stay_here() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            [".git/HEAD", "train.py", ".config/a", "data/rows.csv", "data/keep.py", "log.txt", "sub/out/x", "sub/y.py"]
        {
            write(folder.path(), name, "1");
        }
        write(folder.path(), ".gitignore", "*.txt\n/data/*\n!/data/keep.py\n");
        write(folder.path(), "sub/.gitignore", "out/\n");
        write(folder.path(), ".millraceignore", ".config\n");
        let packed = pack(folder.path()).unwrap();
        assert_eq!(
            names(&packed),
            [".gitignore", ".millraceignore", "data/keep.py", "sub/.gitignore", "sub/y.py", "train.py"]
        );
    }

    #[test]
    fn links_lead_to_files_of_the_folder_or_are_told() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.py", "1");
        symlink("a.py", folder.path().join("b.py")).unwrap();
        assert_eq!(names(&pack(folder.path()).unwrap()), ["a.py", "b.py"]);
        for (to, words) in
            [("/etc/passwd", "leads out of the folder"), ("nowhere", "leads nowhere"), (".", "leads to a folder")]
        {
            let link = folder.path().join("c");
            symlink(to, &link).unwrap();
            let told = pack(folder.path()).unwrap_err().to_string();
            assert!(told.contains(words) && told.contains(IGNORE), "{told}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn too_much_is_told_with_what_is_largest() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train.py", "1");
        fs::File::create(folder.path().join("model.bin")).unwrap().set_len(MOST_BYTES).unwrap();
        let told = pack(folder.path()).unwrap_err().to_string();
        assert!(told.contains("model.bin (64.0 MiB)") && told.contains(IGNORE), "{told}");
        write(folder.path(), IGNORE, "*.bin\n");
        assert_eq!(names(&pack(folder.path()).unwrap()), [IGNORE, "train.py"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(pack(empty.path()).unwrap_err().to_string().contains("has no files"));
        assert!(pack(&empty.path().join("x")).unwrap_err().to_string().contains("--code"));
    }
}
