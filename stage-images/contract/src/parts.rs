//! What the agent writes when somebody reads a store by it (`millrace-agent logs`, `millrace-agent send`): lines of JSON, each followed by
//! as many bytes as it says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Before what one pod of an attempt printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPart {
    pub stage: String,
    /// Of a stage with `forEach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// Of an item: its own count.
    pub attempt: u32,
    /// Of an attempt with several pods: those that were replaced count from 1; the last has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<u32>,
    pub bytes: u64,
}

/// Whose log is wanted: `train`, or `train:2` of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedLog {
    pub stage: String,
    pub attempt: Option<u32>,
}

impl fmt::Display for WantedLog {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempt {
            Some(attempt) => write!(to, "{}:{attempt}", self.stage),
            None => to.write_str(&self.stage),
        }
    }
}

impl FromStr for WantedLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (stage, attempt) = text.split_once(':').map_or((text, None), |(stage, attempt)| (stage, Some(attempt)));
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let wrong = || format!("{text:?} names no log: write STAGE or STAGE:ATTEMPT");
        if stage.is_empty() || !stage.bytes().all(plain) {
            return Err(wrong());
        }
        let attempt = attempt.map(str::parse).transpose().map_err(|_| wrong())?;
        Ok(Self { stage: stage.to_owned(), attempt })
    }
}

/// Before the files of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactHead {
    pub folder: bool,
    pub files: u64,
}

/// Before a file of an artifact. Its path is relative to the artifact, and empty if that is the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilePart {
    pub path: String,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_log_is_written_as_it_is_read_and_no_path_is_one() {
        for text in ["train", "train:2", "eval-fit:10"] {
            assert_eq!(text.parse::<WantedLog>().unwrap().to_string(), text);
        }
        for text in ["", "../etc", "a/b", "train:", "train:x", "train:-1", ":1", "a.1"] {
            assert!(text.parse::<WantedLog>().is_err(), "{text}");
        }
    }
}
