//! What lies beside the program agrees with it: the `StageTemplate`s, and the pins of ONNX Runtime.

use std::path::Path;

use serde_json::json;

use crate::support::{fixture, stage};

/// The parameters that a template declares: the keys below `params:`.
fn parameters(template: &str) -> Vec<String> {
    let text = std::fs::read_to_string(fixture("../stages").join(template)).unwrap();
    text.lines()
        .skip_while(|line| *line != "  params:")
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .filter(|line| !line.starts_with("     "))
        .map(|line| line.trim().split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_parameter_of_a_template_is_one_of_the_program() {
    for (name, least) in [
        ("ingest", 8),
        ("validate", 1),
        ("transform", 3),
        ("features", 5),
        ("profile", 2),
        ("evaluate", 5),
        ("predict", 3),
    ] {
        let declared = parameters(&format!("{name}.yaml"));
        assert!(declared.len() >= least, "{name}: {declared:?}");
        for parameter in declared {
            let error = stage(name).run(&json!({ parameter.as_str(): {} })).error();
            assert!(!error.contains("unknown field"), "{error}");
        }
        let error = stage(name).run(&json!({"nonsense": {}})).error();
        assert!(error.contains("unknown field `nonsense`"), "{error}");
    }
}

#[test]
fn the_images_and_the_tests_load_the_same_onnx_runtime() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let fetch = read("dev/onnxruntime/fetch");
    let version = fetch.lines().find_map(|line| line.strip_prefix("version=")).unwrap();
    let digests: Vec<&str> = fetch.split("sha256=").skip(1).map(|rest| &rest[..64]).collect();
    assert_eq!(digests.len(), 2);
    for image in ["data", "server"] {
        let file = read(&format!("stage-images/{image}/Dockerfile"));
        assert!(file.contains(&format!("ARG ONNXRUNTIME={version}\n")), "{image}");
        assert!(digests.iter().all(|digest| file.contains(digest)), "{image}");
    }
    let for_cuda = read("stage-images/server-cuda/requirements.txt");
    assert!(for_cuda.contains(&format!("\nonnxruntime-gpu=={version} ")), "server-cuda");
}
