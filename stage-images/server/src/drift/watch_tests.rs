use super::*;
use crate::tensor::{Data, Datatype, TensorSpec};

const HOUR: Duration = Duration::from_hours(1);

/// A classifier of `mass` and `sex`, with a profile of both and of its labels.
fn watch() -> Watch {
    let dir = tempfile::tempdir().unwrap();
    let profile = r#"{"version": 1, "rows": 100, "features": {
        "mass": {"type": "numeric", "count": 100, "missing": 0, "importance": 0.7,
                 "histogram": {"edges": [3000, 4000, 5000], "counts": [50, 50]}},
        "sex": {"type": "categorical", "count": 100, "missing": 0, "other": 0, "importance": 0.3,
                "categories": [{"value": "f", "count": 60}, {"value": "m", "count": 40}]},
        "age": {"type": "numeric", "count": 1, "histogram": {"edges": [1], "counts": [1]}}},
        "predictions": {"type": "categorical", "count": 100, "categories": [
            {"value": "heavy", "count": 50, "meanProbability": 0.5},
            {"value": "light", "count": 50, "meanProbability": 0.5}]}}"#;
    std::fs::write(dir.path().join("profile.json"), profile).unwrap();
    Watch::of("m", &signature(), dir.path(), Arc::new(Metrics::new()))
}

fn signature() -> Signature {
    let spec = |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.into(), datatype, shape: shape.to_vec() };
    Signature {
        inputs: vec![spec("sex", Datatype::Bytes, &[-1, 1]), spec("mass", Datatype::Fp32, &[-1, 1])],
        outputs: vec![spec("label", Datatype::Bytes, &[-1]), spec("probabilities", Datatype::Fp32, &[-1, 2])],
        batched: true,
        ..Signature::default()
    }
}

fn tensor(rows: usize, width: usize, data: Data) -> Tensor {
    Tensor { shape: [rows, width].map(|size| i64::try_from(size).unwrap()).to_vec(), data }
}

fn texts(values: &[&str]) -> Data {
    Data::Bytes(values.iter().map(|value| (*value).to_owned()).collect())
}

/// Three rows: one like those of the training, one with a large mass and a missing sex, one of a new category.
fn rows() -> ([Tensor; 2], [Tensor; 2]) {
    let inputs = [tensor(3, 1, texts(&["f", "", "x"])), tensor(3, 1, Data::Fp32(vec![3500.0, 9000.0, f32::NAN]))];
    let outputs = [
        tensor(3, 1, texts(&["light", "heavy", "heavy"])),
        tensor(3, 2, Data::Fp32(vec![0.1, 0.9, 0.8, 0.2, 0.6, 0.4])),
    ];
    (inputs, outputs)
}

#[test]
fn rows_are_counted_in_the_bins_of_the_profile() {
    let (watch, now, (inputs, outputs)) = (watch(), Instant::now(), rows());
    watch.counts("m", "3", HOUR, now);
    watch.count(&Served { inputs: &inputs, outputs: &outputs, rows: 0..3, answered: 0 }, now);
    let counts = watch.counts("m", "3", HOUR, now);
    assert_eq!((counts.model.as_str(), counts.version.as_str()), ("m", "3"));
    assert_eq!((counts.rows, counts.outliers), (3, 2));
    let [mass, sex] = counts.features.as_slice() else { panic!("{counts:?}") };
    assert_eq!((mass.name.as_str(), mass.counts.as_slice(), mass.strange), ("mass", [1, 1, 1].as_slice(), 1));
    assert_eq!((mass.reference.as_slice(), mass.importance), ([0, 50, 50].as_slice(), 0.7));
    assert_eq!((sex.name.as_str(), sex.counts.as_slice(), sex.strange), ("sex", [1, 1, 0, 1].as_slice(), 1));
    let predictions = counts.predictions.unwrap();
    assert_eq!(predictions.counts, [0, 2, 1, 0]);
    assert_eq!(predictions.reference_probabilities, [500_000, 500_000]);
    assert_eq!(predictions.probabilities, [1_500_000, 1_500_000]);
}

#[test]
fn a_part_of_a_batch_is_counted_with_its_own_answers() {
    let (watch, now, (inputs, outputs)) = (watch(), Instant::now(), rows());
    watch.counts("m", "3", HOUR, now);
    // The last row alone: its answer is the first of its own outputs.
    watch.count(&Served { inputs: &inputs, outputs: &outputs, rows: 2..3, answered: 0 }, now);
    let counts = watch.counts("m", "3", HOUR, now);
    assert_eq!(counts.features[1].counts, [0, 0, 0, 1]);
    let predictions = counts.predictions.unwrap();
    assert_eq!((predictions.counts.as_slice(), predictions.probabilities[1]), ([0, 0, 1, 0].as_slice(), 900_000));
}

#[test]
fn it_counts_only_while_somebody_asks() {
    let (watch, start, (inputs, outputs)) = (watch(), Instant::now(), rows());
    let serve = |now| watch.count(&Served { inputs: &inputs, outputs: &outputs, rows: 0..3, answered: 0 }, now);
    serve(start);
    assert_eq!(watch.counts("m", "3", HOUR, start).rows, 0, "nobody had asked");
    serve(start);
    assert_eq!(watch.counts("m", "3", HOUR, start).rows, 3);
    assert_eq!(watch.counts("m", "3", 2 * HOUR, start).rows, 0, "another window");
    serve(start);
    let later = start + 2 * HOUR + Duration::from_secs(1);
    serve(later);
    assert!(!watch.is_on());
    assert_eq!(watch.counts("m", "3", 2 * HOUR, later).rows, 0);
}

#[test]
fn what_cannot_be_counted_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = |signature: &Signature| {
        let watch = Watch::of("m", signature, dir.path(), Arc::new(Metrics::new()));
        let counts = watch.counts("m", "3", HOUR, Instant::now());
        assert!(!watch.is_on() && counts.features.is_empty());
        counts.nothing.unwrap()
    };
    assert_eq!(nothing(&signature()), "the model has no profile.json");
    std::fs::write(dir.path().join("profile.json"), r#"{"features": {"mass": {"quantiles": {"0.5": 1}}}}"#).unwrap();
    assert_eq!(nothing(&signature()), "profile.json has bins of none of the model's inputs");
    let images = Signature { batched: false, ..signature() };
    assert_eq!(nothing(&images), "the model is not tabular: its rows are not fixed numbers of values");
}

#[test]
fn a_column_of_a_wide_input_is_found_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let profile = r#"{"features": {"x[1]": {"count": 2, "histogram": {"edges": [0, 1, 2], "counts": [1, 1]}}}}"#;
    std::fs::write(dir.path().join("profile.json"), profile).unwrap();
    let wide = TensorSpec { name: "x".into(), datatype: Datatype::Fp64, shape: vec![-1, 3] };
    let signature = Signature { inputs: vec![wide], batched: true, ..Signature::default() };
    let (watch, now) = (Watch::of("m", &signature, dir.path(), Arc::new(Metrics::new())), Instant::now());
    watch.counts("m", "3", HOUR, now);
    let inputs = [tensor(2, 3, Data::Fp64(vec![9.0, 0.5, 9.0, 9.0, 1.5, 9.0]))];
    watch.count(&Served { inputs: &inputs, outputs: &[], rows: 0..2, answered: 0 }, now);
    assert_eq!(watch.counts("m", "3", HOUR, now).features[0].counts, [0, 1, 1]);
}
