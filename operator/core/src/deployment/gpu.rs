//! Whether a model server's pod has a GPU of NVIDIA: then it is the server that can use one.

use crate::api::PodSettings;
use crate::pod;

/// Whether the resources ask for one. What NVIDIA's device plugin calls them: whole ones, shared ones, and slices of one.
pub(super) fn is_asked_for(settings: &PodSettings) -> bool {
    let mut limits = settings.resources.iter().flat_map(|resources| &resources.limits);
    limits.any(|(name, value)| is_gpu(name) && pod::amount(value).is_some_and(|count| count > 0.0))
}

/// Network cards have names of the same domain.
fn is_gpu(resource: &str) -> bool {
    resource
        .strip_prefix("nvidia.com/")
        .is_some_and(|kind| kind == "gpu" || kind.starts_with("gpu.") || kind.starts_with("mig-"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gpu_is_known_by_the_names_of_nvidias_device_plugin() {
        for (limits, expected) in [
            (json!({ "nvidia.com/gpu": 1 }), true),
            (json!({ "nvidia.com/gpu": "2", "memory": "1Gi" }), true),
            (json!({ "nvidia.com/gpu.shared": 1 }), true),
            (json!({ "nvidia.com/mig-1g.5gb": 1 }), true),
            (json!({ "nvidia.com/gpu": 0 }), false),
            (json!({ "nvidia.com/hostdev": 1 }), false),
            (json!({ "amd.com/gpu": 1 }), false),
            (json!({ "cpu": 1 }), false),
            (json!({}), false),
        ] {
            let settings = serde_json::from_value(json!({ "resources": { "limits": limits } })).unwrap();
            assert_eq!(is_asked_for(&settings), expected, "{limits}");
        }
        assert!(!is_asked_for(&PodSettings::default()));
    }
}
