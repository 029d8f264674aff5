//! Where a source goes on. What is appended to a table has the position that was reached in the table's own commit; the next run gets it back
//! from there, and a source that knows it reads only what is new.

use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum PositionError {
    #[error(
        "the table's position of this source is {found}, which the source does not know: {reason}. Another source has it: give this one a name of its own in table.position"
    )]
    Unknown { found: String, reason: String },
}

/// The position that was reached before, as JSON of the source's own.
#[derive(Clone, Debug, Default)]
pub struct Since(Option<Value>);

impl Since {
    pub fn new(position: Option<Value>) -> Self {
        Self(position)
    }

    /// In the source's own type. None: nothing was read before.
    pub fn get<T: DeserializeOwned>(&self) -> Result<Option<T>, PositionError> {
        let Some(position) = &self.0 else { return Ok(None) };
        serde_json::from_value(position.clone()).map(Some).map_err(|error| PositionError::Unknown {
            found: crate::say::excerpt(&position.to_string(), 200),
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mine {
        offset: u64,
    }

    #[test]
    fn a_position_is_the_sources_own_or_is_refused() {
        assert_eq!(Since::default().get::<Mine>().unwrap(), None);
        assert_eq!(Since::new(Some(json!({ "offset": 3 }))).get::<Mine>().unwrap(), Some(Mine { offset: 3 }));
        let message = Since::new(Some(json!({ "digest": "a" }))).get::<Mine>().unwrap_err().to_string();
        assert!(message.contains("unknown field `digest`") && message.contains("table.position"), "{message}");
    }
}
