//! The arguments of `get`. The operator writes them; a template in an address is filled in by then.

use std::ffi::OsString;
use std::path::PathBuf;

use super::GetError;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub uri: String,
    /// Nothing is there yet.
    pub to: PathBuf,
    pub digest: Option<String>,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub account: Option<String>,
    /// Of `pvc://`: where it is mounted.
    pub from: Option<PathBuf>,
    /// Credentials are in variables.
    pub secret: bool,
    pub anonymous: bool,
}

impl Asked {
    pub fn read(arguments: &[OsString]) -> Result<Self, GetError> {
        let wrong = |said: &str| GetError::last(format!("{said}; agent and operator are of different versions?"));
        let mut asked = Self::default();
        let mut words = arguments.iter().map(|word| word.to_str());
        while let Some(word) = words.next() {
            let name = word.ok_or_else(|| wrong("an argument is no text"))?;
            match name {
                "--secret" => asked.secret = true,
                "--anonymous" => asked.anonymous = true,
                _ => {
                    let value =
                        words.next().flatten().ok_or_else(|| wrong(&format!("{name} has no value")))?.to_owned();
                    match name {
                        "--uri" => asked.uri = value,
                        "--to" => asked.to = value.into(),
                        "--digest" => asked.digest = Some(value),
                        "--endpoint" => asked.endpoint = Some(value),
                        "--region" => asked.region = Some(value),
                        "--account" => asked.account = Some(value),
                        "--from" => asked.from = Some(value.into()),
                        _ => return Err(wrong(&format!("{name} is unknown"))),
                    }
                }
            }
        }
        if asked.uri.is_empty() || asked.to.as_os_str().is_empty() {
            return Err(wrong("--uri and --to are needed"));
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Asked, String> {
        Asked::read(&words.iter().map(OsString::from).collect::<Vec<_>>()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_asked_for_is_read_and_what_is_unknown_is_told() {
        let asked = read(&["--uri", "s3://b/k", "--to", "/out", "--secret", "--region", "eu"]).unwrap();
        assert_eq!((asked.uri.as_str(), asked.secret, asked.anonymous), ("s3://b/k", true, false));
        assert_eq!(asked.region.as_deref(), Some("eu"));
        assert!(read(&["--uri", "s3://b/k"]).unwrap_err().contains("--uri and --to are needed"));
        assert!(read(&["--speed", "9"]).unwrap_err().contains("--speed is unknown"));
        assert!(read(&["--uri"]).unwrap_err().contains("--uri has no value"));
    }
}
