//! The reference row: what a usual row looks like, from the profile of the training rows next to the model.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use serde::Deserialize;

use crate::model::Signature;
use crate::tensor::{Data, Datatype, TensorSpec};

/// One row, as the values of each input.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub inputs: Vec<Data>,
}

/// The part of `profile.json` that is needed here.
#[derive(Debug, Default, Deserialize)]
struct Profile {
    features: HashMap<String, Feature>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Feature {
    Numeric { quantiles: HashMap<String, f64> },
    Categorical { categories: Vec<Category> },
}

#[derive(Debug, Deserialize)]
struct Category {
    value: String,
}

impl Reference {
    /// The reference for a model whose rows are fixed numbers of values; `None` for any other.
    pub fn of(signature: &Signature, dir: &Path) -> Option<Self> {
        if !signature.batched {
            return None;
        }
        let profile = profile(dir);
        let inputs = signature.inputs.iter().map(|spec| Some(values(spec, spec.width()?, &profile)));
        inputs.collect::<Option<_>>().map(|inputs| Self { inputs })
    }
}

/// A profile that cannot be read is no reason not to serve.
fn profile(dir: &Path) -> Profile {
    let path = dir.join("profile.json");
    let Ok(text) = std::fs::read(&path) else { return Profile::default() };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(?path, %error, "explanations go without the profile");
        Profile::default()
    })
}

/// The median of a number, the most frequent category of a text; what stands for a missing value where the profile says
/// nothing.
fn values(spec: &TensorSpec, width: usize, profile: &Profile) -> Data {
    let names = spec.features(width);
    let features = names.iter().map(|name| profile.features.get(name));
    let numbers = features.clone().map(|feature| match feature {
        Some(Feature::Numeric { quantiles }) => quantiles.get("0.5").copied().unwrap_or(f64::NAN),
        Some(Feature::Categorical { .. }) | None => f64::NAN,
    });
    let text = |feature: Option<&Feature>| match feature {
        Some(Feature::Categorical { categories }) => categories.first().map(|category| category.value.clone()),
        Some(Feature::Numeric { .. }) | None => None,
    };
    match spec.datatype {
        Datatype::Fp16 => Data::Fp16(numbers.map(f16::from_f64).collect()),
        // The profile's numbers are the column's own.
        #[allow(clippy::cast_possible_truncation)]
        Datatype::Fp32 => Data::Fp32(numbers.map(|number| number as f32).collect()),
        Datatype::Fp64 => Data::Fp64(numbers.collect()),
        Datatype::Bytes => Data::Bytes(features.map(|feature| text(feature).unwrap_or_default()).collect()),
        // A profile knows columns of text and of floating-point numbers only.
        other => Data::blank(other, width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(shape: &[i64]) -> Signature {
        let spec = |name: &str, datatype| TensorSpec { name: name.into(), datatype, shape: shape.to_vec() };
        let inputs = vec![spec("mass", Datatype::Fp32), spec("sex", Datatype::Bytes), spec("age", Datatype::Fp64)];
        Signature { inputs, batched: true, ..Signature::default() }
    }

    #[test]
    fn a_profile_gives_medians_and_the_most_frequent_categories() {
        let dir = tempfile::tempdir().unwrap();
        let profile = r#"{"version": 1, "features": {
            "mass": {"type": "numeric", "count": 3, "quantiles": {"0.25": 1, "0.5": 4000.5}, "importance": 1},
            "sex": {"type": "categorical", "categories": [{"value": "f", "count": 2}, {"value": "m", "count": 1}]}}}"#;
        std::fs::write(dir.path().join("profile.json"), profile).unwrap();
        let reference = Reference::of(&signature(&[-1, 1]), dir.path()).unwrap();
        assert_eq!(reference.inputs[..2], [Data::Fp32(vec![4000.5]), Data::Bytes(vec!["f".into()])]);
        assert!(matches!(&reference.inputs[2], Data::Fp64(values) if values[0].is_nan()));
    }

    #[test]
    fn without_a_profile_the_reference_is_a_row_of_missing_values() {
        let dir = tempfile::tempdir().unwrap();
        for text in [None, Some("no profile")] {
            if let Some(text) = text {
                std::fs::write(dir.path().join("profile.json"), text).unwrap();
            }
            let reference = Reference::of(&signature(&[-1, 2]), dir.path()).unwrap();
            assert!(matches!(&reference.inputs[0], Data::Fp32(values) if values.iter().all(|value| value.is_nan())));
            assert_eq!(reference.inputs[1], Data::Bytes(vec![String::new(); 2]));
        }
        assert_eq!(Reference::of(&signature(&[-1, -1]), dir.path()), None);
    }
}
