//! What a state of objects is called.

use sha2::{Digest, Sha256};

/// The version of one object or of many, added in the order of their names: the `ETag`, or a digest of all of them.
#[derive(Default)]
pub struct Version {
    count: u64,
    first: String,
    hash: Sha256,
    /// One has no `ETag`: nobody can say.
    unknown: bool,
}

impl Version {
    pub fn add(&mut self, tag: Option<&str>) {
        let Some(tag) = tag.map(|tag| tag.trim_matches('"')) else {
            self.unknown = true;
            return;
        };
        if self.count == 0 {
            tag.clone_into(&mut self.first);
        } else {
            self.hash.update("\n");
        }
        self.hash.update(tag);
        self.count += 1;
    }

    /// None if nothing was added.
    pub fn finish(self) -> Option<String> {
        match self.count {
            _ if self.unknown => None,
            0 => None,
            1 => Some(self.first),
            _ => Some(format!("sha256:{:x}", self.hash.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_one_object_is_its_etag_and_of_many_a_digest_of_all() {
        let version = |tags: &[Option<&str>]| {
            let mut version = Version::default();
            for tag in tags {
                version.add(*tag);
            }
            version.finish()
        };
        assert_eq!(version(&[]), None);
        assert_eq!(version(&[Some("\"a\"")]).as_deref(), Some("a"));
        assert_eq!(version(&[Some("a"), Some("b")]), Some(format!("sha256:{:x}", Sha256::digest("a\nb"))));
        assert_ne!(version(&[Some("a"), Some("b")]), version(&[Some("b"), Some("a")]));
        assert_eq!(version(&[Some("a"), None]), None);
    }
}
