//! The stock StageTemplates of this version, as the chart brings them.

const FILES: [&str; 8] = [
    include_str!("../../../stage-images/data/stages/ingest.yaml"),
    include_str!("../../../stage-images/data/stages/validate.yaml"),
    include_str!("../../../stage-images/data/stages/transform.yaml"),
    include_str!("../../../stage-images/data/stages/features.yaml"),
    include_str!("../../../stage-images/data/stages/profile.yaml"),
    include_str!("../../../stage-images/data/stages/evaluate.yaml"),
    include_str!("../../../stage-images/data/stages/predict.yaml"),
    include_str!("../../../stage-images/train-tabular/stages/train-tabular.yaml"),
];

/// Their objects.
pub fn texts() -> [&'static str; 8] {
    FILES
}
