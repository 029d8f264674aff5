//! `features`: learned of training rows, applied through ONNX Runtime. That the figures are scikit-learn's is shown by the trainer's tests, on the
//! tables and the artifact that the first test here makes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::evaluate::library;
use crate::support::{Files, Run, Stage, stage, table_of};

fn features() -> Stage {
    stage("features").variable("ORT_DYLIB_PATH", library())
}

/// A file of the trainer's tests.
fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../train-tabular/tests/features").join(name)
}

fn fitted(csv: &str, steps: Value) -> Run {
    let params = json!({"steps": steps});
    features().input("train", table_of(csv).output("data")).run(&params)
}

fn columns(run: &Run, table: &str) -> Vec<String> {
    run.table(table).columns.iter().map(|column| column.split(':').next().unwrap().to_owned()).collect()
}

fn numbers(run: &Run, table: &str, column: &str) -> Vec<Option<f32>> {
    run.table(table).column(column).into_iter().map(|text| text.parse().ok()).collect()
}

#[test]
fn what_is_learned_and_made_is_what_the_trainer_is_tested_with() {
    let params: Value = serde_json::from_str(&std::fs::read_to_string(shared("params.json")).unwrap()).unwrap();
    let run = features()
        .input("train", shared("train.parquet"))
        .input("test", shared("strange.parquet"))
        .run(&params["features"])
        .well();
    for file in ["features.json", "features.onnx"] {
        let (found, expected) = (run.output("features").join(file), shared(file));
        let same = std::fs::read(&found).unwrap() == std::fs::read(&expected).unwrap();
        assert!(same, "{file} is another one: run tests/features/make.py of the trainer, and its tests");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(shared("strange-features.parquet"), folder.path().join("part-00000.parquet")).unwrap();
    assert_eq!(run.table("test"), crate::support::Table::read(folder.path()));
    let metrics = run.numbers("metrics.json");
    assert_eq!(metrics["rows"], 1500.0);
    assert_eq!(metrics["dropped"], 2.0);
    assert_eq!(run.result("test_rows"), json!(4003));
    assert!(
        run.stdout.contains("left out: twin (its correlation with income is 1.0000, beyond 0.99)"),
        "{}",
        run.stdout
    );
    let page = run.text("report", "report.html");
    assert!(page.contains("<h2>Selection</h2>") && page.contains("its variance 0.000000 is not above 0"), "{page}");
}

#[test]
fn what_was_learned_is_applied_to_another_table_without_learning_again() {
    let steps = json!([{"impute": "mean"}, {"scale": "standard"}, {"encode": "onehot"}]);
    let params = json!({"steps": steps, "target": "y", "keep": ["id"]});
    let first = features()
        .input("train", table_of("id,x,c,y\n1,1,a,0\n2,3,b,1\n3,,a,0\n4,4,b,1\n").output("data"))
        .run(&params)
        .well();
    assert_eq!(columns(&first, "train"), ["id", "y", "x", "c_a", "c_b"]);
    // The mean of 1, 3, 4 is filled in; the standard deviation is that of all four.
    let spread = ((5.0_f32 / 3.0).powi(2) + (1.0_f32 / 3.0).powi(2) + (4.0_f32 / 3.0).powi(2)) / 4.0;
    let expected = [-(5.0_f32 / 3.0), 1.0 / 3.0, 0.0, 4.0 / 3.0].map(|x| x / spread.sqrt());
    for (found, expected) in numbers(&first, "train", "x").into_iter().zip(expected) {
        assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?}, expected {expected}");
    }
    // Other rows, other columns beside, no target: nothing of them changes what was learned.
    let other = table_of("extra,x,id,c\nz,8.5,9,zebra\nz,,8,b\n");
    let again = features()
        .input("features", first.output("features"))
        .input("data", other.output("data"))
        .run(&json!({}))
        .well();
    assert_eq!(columns(&again, "data"), ["id", "x", "c_a", "c_b"]);
    assert_eq!(again.table("data").column("c_a"), ["0.0", "0.0"]);
    assert_eq!(again.table("data").column("c_b"), ["0.0", "1.0"]);
    let x = numbers(&again, "data", "x");
    assert!((x[0].unwrap() - (8.5 - 8.0 / 3.0) / spread.sqrt()).abs() < 1e-5 && x[1].unwrap().abs() < 1e-6, "{x:?}");
    assert!(!again.output("features").exists());
    assert_eq!(again.result("data_rows"), json!(2));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let csv = "x,y,c\n1.5,2,a\n2.5,,b\n,7,a\n9,1,\n";
    let steps = json!([{"impute": "median", "addIndicator": true}, {"bin": "quantile", "bins": 2, "columns": ["x", "y"]}, {"encode": "onehot"}]);
    let (one, other) = (fitted(csv, steps.clone()).well(), fitted(csv, steps).well());
    for (output, file) in
        [("features", "features.json"), ("features", "features.onnx"), ("train", "part-00000.parquet")]
    {
        let read = |run: &Run| std::fs::read(run.output(output).join(file)).unwrap();
        assert!(read(&one) == read(&other), "{file}");
    }
}

#[test]
fn what_is_missing_stays_missing_where_no_step_fills_it() {
    let run = fitted("x,c\n1,a\n,\n3,b\n", json!([{"scale": "minmax", "columns": ["x"]}])).well();
    assert_eq!(run.table("train").rows, [["0.0", "a"], ["NULL", "NULL"], ["1.0", "b"]]);
}

#[test]
fn a_later_step_learns_of_what_the_earlier_ones_made() {
    // After imputing with 100 the largest is 100.
    let csv = "x,y\n0,1\n50,2\n,3\n";
    let run = fitted(csv, json!([{"impute": "constant", "fill": 100}, {"scale": "minmax"}])).well();
    assert_eq!(run.table("train").column("x"), ["0.0", "0.5", "1.0"]);
    // A missing text that was filled is a category; products are scaled as products.
    let csv = "a,b,c\n1,2,u\n2,3,\n3,4,u\n";
    let steps = json!([
        {"interact": "product", "columns": ["a", "b"], "squares": true},
        {"scale": "maxabs", "columns": ["a_x_b"]},
        {"impute": "constant", "fill": "none", "columns": ["c"]},
        {"encode": "onehot", "columns": ["c"]},
    ]);
    let run = fitted(csv, steps).well();
    assert_eq!(columns(&run, "train"), ["a", "b", "c_none", "c_u", "a_x_a", "a_x_b", "b_x_b"]);
    assert_eq!(run.table("train").column("a_x_b"), ["0.16666667", "0.5", "1.0"]);
    assert_eq!(run.table("train").column("c_none"), ["0.0", "1.0", "0.0"]);
}

#[test]
fn zero_is_one_category_whatever_its_sign() {
    let csv = "x,y\n0.0,1\n-0.0,2\n1.5,3\n0.0,4\n";
    let steps = json!([{"encode": "onehot", "columns": ["x"], "handleUnknown": "infrequent_if_exist"}]);
    let run = fitted(csv, steps).well();
    assert_eq!(columns(&run, "train"), ["x_0", "x_1.5", "y"]);
    assert_eq!(run.table("train").column("x_0"), ["1.0", "1.0", "0.0", "1.0"]);
}

#[test]
fn columns_that_no_step_names_pass_or_are_dropped() {
    let table = table_of("a,b,day,c\n1,2,2024-01-01,x\n3,4,2024-01-02,y\n");
    let run = |remainder: &str| {
        let params =
            json!({"remainder": remainder, "steps": [{"scale": "standard", "columns": ["a"]}, {"select": "variance"}]});
        features().input("train", table.output("data")).run(&params).well()
    };
    let passed = run("passthrough");
    assert_eq!(columns(&passed, "train"), ["day", "a", "b", "c"]);
    assert!(passed.stdout.contains("day is of type date: it stays in the tables and is no feature"));
    let state: Value = serde_json::from_str(&run("drop").text("features", "features.json")).unwrap();
    let names = |key: &str| {
        state[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!((names("inputs"), names("outputs")), (vec!["a".to_owned()], vec!["a".to_owned()]));
}

#[test]
fn windows_look_at_earlier_rows_and_the_rows_keep_their_order() {
    let csv =
        "who,day,x\nb,2024-01-03,30\na,2024-01-02,2\nb,2024-01-01,10\na,2024-01-01,1\nb,2024-01-02,20\na,2024-01-03,\n";
    let steps = json!([
        {"window": "lag", "columns": ["x"], "by": ["who"], "order": "day"},
        {"window": "mean", "columns": ["x"], "by": ["who"], "order": "day", "rows": 2},
        {"window": "sum", "columns": ["x"], "by": ["who"], "order": "day", "rows": 2, "current": false},
        {"impute": "constant", "fill": -1, "columns": ["x_lag_1"]},
    ]);
    let table = table_of(csv);
    let params = |write: &str| json!({"keep": ["who", "day"], "steps": steps, "write": write});
    let run = features().input("train", table.output("data")).run(&params("features")).well();
    assert_eq!(columns(&run, "train"), ["who", "day", "x", "x_lag_1", "x_mean_2", "x_sum_2"]);
    let made = run.table("train");
    assert_eq!(made.column("who"), ["b", "a", "b", "a", "b", "a"]);
    assert_eq!(made.column("x_lag_1"), ["20.0", "1.0", "-1.0", "-1.0", "10.0", "2.0"]);
    assert_eq!(made.column("x_mean_2"), ["25.0", "1.5", "10.0", "1.0", "15.0", "2.0"]);
    assert_eq!(made.column("x_sum_2"), ["30.0", "1.0", "NULL", "NULL", "10.0", "3.0"]);
    // A served model is asked with the windows: they are raw columns, and in the tables with `write: raw`.
    let raw = features().input("train", table.output("data")).run(&params("raw")).well();
    assert_eq!(columns(&raw, "train"), ["who", "day", "x", "x_lag_1", "x_mean_2", "x_sum_2"]);
    assert_eq!(raw.table("train").column("x_lag_1"), ["20", "1", "NULL", "NULL", "10", "2"]);
    let state: Value = serde_json::from_str(&raw.text("features", "features.json")).unwrap();
    let inputs: Vec<&str> =
        state["inputs"].as_array().unwrap().iter().map(|input| input["name"].as_str().unwrap()).collect();
    assert_eq!(inputs, ["x", "x_lag_1", "x_mean_2", "x_sum_2"]);
    // Applied to another table they are made of its rows.
    let other = table_of("who,day,x\na,2024-02-01,5\na,2024-02-02,7\n");
    let again =
        features().input("features", run.output("features")).input("data", other.output("data")).run(&json!({})).well();
    assert_eq!(again.table("data").column("x_mean_2"), ["5.0", "6.0"]);
    let error = features()
        .input("features", run.output("features"))
        .input("data", table_of("who,x\na,5\n").output("data"))
        .run(&json!({}))
        .error();
    assert!(error.contains("the input `data`: it has no column `day`, which the features are made of"), "{error}");
}

/// What a window is of: who, the day, and a value that may be missing.
type Seen = (usize, usize, Option<f64>);

#[test]
fn every_window_is_what_its_rows_say() {
    // Two rows of a person may have the same day.
    let rows: Vec<Seen> = (0..240)
        .map(|row| {
            let value = (row % 11 != 0).then(|| f64::from(u32::try_from((row * 7919) % 101).unwrap()) / 4.0);
            ((row * 31) % 5, (row * 17) % 60, value)
        })
        .collect();
    let mut csv = String::from("who,day,x\n");
    for (who, day, x) in &rows {
        let day = jiff::civil::date(2024, 1, 1).saturating_add(jiff::Span::new().days(i64::try_from(*day).unwrap()));
        writeln!(csv, "{who},{day},{}", x.map_or(String::new(), |x| x.to_string())).unwrap();
    }
    let window = |what: &str, extent: (&str, Value), current: bool| json!({"window": what, "columns": ["x"], "by": ["who"], "order": "day", extent.0: extent.1, "current": current});
    let some = |xs: &[f64], of: f64| (!xs.is_empty()).then_some(of);
    let mean = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len() as f64;
    let measure = |what: &str, xs: &[f64]| match what {
        "mean" => some(xs, mean(xs)),
        "sum" => some(xs, xs.iter().sum()),
        "min" => some(xs, xs.iter().copied().fold(f64::INFINITY, f64::min)),
        "max" => some(xs, xs.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "std" => (xs.len() > 1).then(|| {
            let squares: f64 = xs.iter().map(|x| (x - mean(xs)).powi(2)).sum();
            (squares / (xs.len() - 1) as f64).sqrt()
        }),
        _ => Some(xs.len() as f64),
    };
    let table = table_of(&csv);
    for current in [true, false] {
        for (extent, name) in [(("rows", json!(4)), "4"), (("range", json!("9d")), "9d")] {
            let kinds = ["mean", "sum", "min", "max", "std", "count"];
            let steps: Vec<Value> = kinds.iter().map(|what| window(what, extent.clone(), current)).collect();
            let run = features()
                .input("train", table.output("data"))
                .run(&json!({"keep": ["who", "day"], "steps": steps}))
                .well();
            let made = run.table("train");
            for what in kinds {
                let column = format!("x_{what}_{name}");
                for (at, found) in made.column(&column).into_iter().enumerate() {
                    let (who, day, _) = rows[at];
                    // The rows of the same person, in their order: by day, and as they came.
                    let mut own: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].0 == who).collect();
                    own.sort_by_key(|row| (rows[*row].1, *row));
                    let place = own.iter().position(|row| *row == at).unwrap();
                    let inside: Vec<usize> = if name == "4" {
                        let end = if current { place + 1 } else { place };
                        own[end.saturating_sub(4)..end].to_vec()
                    } else {
                        let in_time = |row: &usize| {
                            let other = rows[*row].1;
                            if current { other <= day && other + 9 > day } else { other < day && other + 9 >= day }
                        };
                        own.into_iter().filter(in_time).collect()
                    };
                    let values: Vec<f64> = inside.into_iter().filter_map(|row| rows[row].2).collect();
                    let expected = measure(what, &values);
                    let near = match (found.parse::<f64>().ok(), expected) {
                        (Some(found), Some(expected)) => (found - expected).abs() < 1e-4,
                        (found, expected) => found.is_none() && expected.is_none(),
                    };
                    assert!(near, "{column}, current {current}, row {at}: {found}, expected {expected:?}");
                }
            }
        }
    }
}

#[test]
fn selection_by_what_a_feature_tells_of_the_target_keeps_the_best() {
    let mut csv = String::from("good,bad,half,kind\n");
    for row in 0..400_u32 {
        let kind = if row % 2 == 0 { "even" } else { "odd" };
        let half = if row % 8 == 0 { (row + 1) % 2 } else { row % 2 };
        writeln!(csv, "{},{},{half},{kind}", row % 2, (row * 7919) % 400 / 2).unwrap();
    }
    let steps = json!([{"select": "mutual_information", "k": 2}]);
    let run =
        features().input("train", table_of(&csv).output("data")).run(&json!({"target": "kind", "steps": steps})).well();
    assert_eq!(columns(&run, "train"), ["kind", "good", "half"]);
    let state: Value = serde_json::from_str(&run.text("features", "features.json")).unwrap();
    let of = |name: &str| {
        let judged = state["selection"].as_array().unwrap().iter().find(|judged| judged["feature"] == name).unwrap();
        judged["value"].as_f64().unwrap()
    };
    // All of a fair coin's information, and most of it.
    assert!((of("good") - std::f64::consts::LN_2).abs() < 1e-9);
    assert!(of("half") > 0.3 && of("half") < 0.6 && of("bad") < 0.1, "{state}");
    assert_eq!(state["inputs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_column_without_any_value_is_left_out_and_said() {
    let files = Files::new(&[("t.csv", b"a,b\n1,\n2,\n3,\n".as_slice())]);
    let ingest = json!({"source": files.path("t.csv"), "schema": {"b": "number"}});
    let table = stage("ingest").run(&ingest).well();
    let run = features().input("train", table.output("data")).run(&json!({"steps": [{"impute": "mean"}]})).well();
    assert!(run.stdout.contains("left out: b (all its 3 values are missing)"), "{}", run.stdout);
    assert_eq!(columns(&run, "train"), ["a"]);
    let params = json!({"steps": [{"impute": "mean", "columns": ["b"]}]});
    let error = features().input("train", table.output("data")).run(&params).error();
    assert!(error.contains("`b` was left out before this step: all its 3 values are missing"), "{error}");
}

#[test]
fn a_large_table_is_learned_and_made_in_little_memory() {
    let sql = "SELECT a.value * 0.5 AS x, concat('city ', CAST(a.value % 40 AS VARCHAR)) AS c, a.value % 3 AS y \
               FROM generate_series(1, 600000) AS a";
    let large = stage("transform").input("data", table_of("a\n1\n").output("data")).run(&json!({"sql": sql})).well();
    let steps = json!([{"impute": "median"}, {"scale": "robust", "columns": ["x"]}, {"encode": "onehot"}]);
    let params = json!({"target": "y", "steps": steps});
    let run = features().input("train", large.output("data")).run(&params).well();
    let state: Value = serde_json::from_str(&run.text("features", "features.json")).unwrap();
    assert_eq!(state["rows"], json!(600_000));
    // Of 0.5, 1.0 … 300000.0: the median and the quartiles' distance.
    let scale = &state["ops"][1];
    assert_eq!((scale["shift"][0].as_f64().unwrap(), scale["scale"][0].as_f64().unwrap()), (150_000.25, 149_999.75));
    assert_eq!(run.result("train_rows"), json!(600_000));
    assert_eq!(columns(&run, "train").len(), 42);
}

#[test]
fn mistakes_are_told_with_the_step_and_what_to_write() {
    let table = table_of("age,city,when,left\n1,Bonn,2024-01-01,no\n2,Ulm,2024-01-02,yes\n,Bonn,2024-01-03,no\n");
    let run = |params: Value| features().input("train", table.output("data")).run(&params).error();
    let steps = |steps: Value| json!({"target": "left", "steps": steps});
    for (given, words) in [
        (json!({}), "parameter steps is missing"),
        (
            json!({"steps": [], "target": "gone"}),
            "parameter target: the data has no column `gone`; its columns are: age, city, when, left",
        ),
        (json!({"steps": [], "keep": ["x"]}), "parameter keep: the data has no column `x`"),
        (json!({"steps": [], "keep": ["left"], "target": "left"}), "parameter keep: `left` is the target"),
        (json!({"steps": [], "remainder": "pass"}), "unknown variant `pass`, expected `passthrough` or `drop`"),
        (
            steps(json!([{"impute": "mean", "columns": ["agee"]}])),
            "steps[0].columns: there is no column `agee` at this step; its columns are: age, city",
        ),
        (
            steps(json!([{"scale": "standard", "columns": ["city"]}])),
            "`city` is text, and scale takes numbers; encode it in a step before",
        ),
        (steps(json!([{"scale": "standard", "columns": ["left"]}])), "`left` is the target, which is no feature"),
        (steps(json!([{"impute": "mean", "columns": ["when"]}])), "`when` is only kept and no feature"),
        (steps(json!([{"scale": "standard", "clip": true}])), "steps[0].clip: it goes with scale: minmax"),
        (steps(json!([{"impute": "constant"}])), "steps[0].fill: it is missing"),
        (steps(json!([{"impute": "mean", "fill": 1}])), "steps[0].fill: it does nothing here"),
        (
            steps(json!([{"impute": "most_frequent", "columns": ["city"], "addIndicator": true}])),
            "steps[0].addIndicator: it is of numbers",
        ),
        (
            steps(json!([{"encode": "onehot", "handleUnknown": "error"}])),
            "a served model cannot refuse one row of a batch; write ignore",
        ),
        (steps(json!([{"encode": "ordinal", "handleUnknown": "ignore"}])), "with ordinal write unknownValue"),
        (
            steps(json!([{"encode": "onehot", "categories": [1, 2]}])),
            "steps[0].categories: found a number, but `city` is text",
        ),
        (
            steps(json!([{"encode": "onehot", "minFrequency": 3}])),
            "none of the 2 categories of `city` is in 3 rows or more",
        ),
        (json!({"steps": [{"encode": "target", "columns": ["city"]}]}), "encode: target needs the parameter target"),
        (
            json!({"target": "city", "steps": [{"encode": "target", "columns": ["age"], "categories": [1]}]}),
            "with encode: target, categories",
        ),
        (steps(json!([{"bin": "edges"}])), "steps[0].edges: it is missing"),
        (
            steps(json!([{"bin": "edges", "edges": [3, 2]}])),
            "steps[0].edges: expected 1 to 999 numbers, each larger than the one before",
        ),
        (steps(json!([{"bin": "uniform", "bins": 1}])), "steps[0].bins: found 1, expected a number from 2 to 1000"),
        (steps(json!([{"interact": "product"}])), "steps[0].columns: it is missing"),
        (steps(json!([{"interact": "product", "columns": ["age"]}])), "write squares: true"),
        (steps(json!([{"select": "mutual_information"}])), "write either k, how many features stay, or threshold"),
        (steps(json!([{"select": "variance", "k": 3}])), "steps[0].k: it goes with select: mutual_information"),
        (
            steps(json!([{"drop": ["age", "city"]}])),
            "no feature is left; the steps and their selection drop all columns: age, city",
        ),
        (
            steps(json!([{"drop": ["age"]}, {"scale": "standard"}])),
            "steps[1].columns: there is no column of numbers at this step",
        ),
        (
            steps(json!([{"scale": "standard"}, {"window": "lag", "columns": ["age"], "order": "when"}])),
            "steps[1]: a window sees the rows as they came",
        ),
        (steps(json!([{"window": "mean", "columns": ["age"], "order": "when"}])), "steps[0].rows is missing"),
        (
            steps(json!([{"window": "sum", "columns": ["age"], "order": "when", "range": "7"}])),
            "steps[0].range: found 7, expected a time like 7d",
        ),
        (
            steps(json!([{"window": "sum", "columns": ["age"], "order": "age", "range": "7d"}])),
            "steps[0].range: it needs an order by date or timestamp, and `age` is of type integer",
        ),
        (
            steps(json!([{"window": "sum", "columns": ["age"], "order": "when", "range": "7d", "rows": 7}])),
            "steps[0].range: rows is given too",
        ),
        (
            steps(json!([{"window": "mean", "columns": ["city"], "order": "when", "rows": 2}])),
            "`city` is of type string, and window: mean needs numbers",
        ),
        (
            steps(json!([{"window": "std", "columns": ["age"], "order": "when", "rows": 1}])),
            "steps[0].rows: found 1, expected at least 2",
        ),
    ] {
        let error = run(given.clone());
        assert!(error.contains(words), "{given}: {error}");
    }
    let clash = table_of("c,c_a\na,1\nb,2\n");
    let error = features().input("train", clash.output("data")).run(&json!({"steps": [{"encode": "onehot"}]})).error();
    assert!(error.contains("two columns would be named `c_a`; rename one in the stage before"), "{error}");
    let error = features().run(&json!({"steps": []})).error();
    assert!(error.contains("neither the input `train`, to learn of, nor the input `features`"), "{error}");
}

#[test]
fn text_that_is_no_category_and_numbers_without_end_are_refused() {
    let csv: String =
        std::iter::once("name,x\n".to_owned()).chain((0..60).map(|row| format!("n{row},{row}\n"))).collect();
    let error = fitted(&csv, json!([{"encode": "onehot"}])).error();
    assert!(error.contains("`name` has 60 different values in 60 rows, which is no category; leave it out, or keep the frequent ones with maxCategories: 50"), "{error}");
    let run =
        fitted(&csv, json!([{"encode": "onehot", "maxCategories": 3, "handleUnknown": "infrequent_if_exist"}])).well();
    assert_eq!(columns(&run, "train"), ["name_n0", "name_n1", "name_n10", "name_infrequent", "x"]);
    let error = fitted("x\n1\n1e300\n", json!([{"impute": "mean"}])).error();
    assert!(error.contains("column x has 1 infinite values (or beyond the range of FP32)"), "{error}");
}

#[test]
fn an_artifact_that_is_none_is_refused_and_so_are_parameters_beside_it() {
    let fitted = fitted("x\n1\n2\n", json!([{"scale": "standard"}])).well();
    let apply = |folder: &Path, params: Value| {
        features().input("features", folder).input("data", table_of("x\n1\n").output("data")).run(&params).error()
    };
    let error = apply(&fitted.output("features"), json!({"steps": [{"impute": "mean"}]}));
    assert!(error.contains("parameter steps: the input `features` says how features are made"), "{error}");
    let error = apply(&fitted.output("train"), json!({}));
    assert!(error.contains("the input `features` has no features.json"), "{error}");
    let state = fitted.text("features", "features.json");
    let broken = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(fitted.output("features").join("features.onnx"), folder.path().join("features.onnx")).unwrap();
        std::fs::write(folder.path().join("features.json"), text).unwrap();
        apply(folder.path(), json!({}))
    };
    assert!(
        broken(&state.replace("\"version\": 1", "\"version\": 9"))
            .contains("has the version 9, and this stage knows 1")
    );
    assert!(broken("{}").contains("is not as it should be"));
    let wrong = table_of("x\nold\n");
    let error = features()
        .input("features", fitted.output("features"))
        .input("data", wrong.output("data"))
        .run(&json!({}))
        .error();
    assert!(
        error.contains("the input `data`: column x is of type string, but the fitted graph needs number"),
        "{error}"
    );
    let error = features().input("features", fitted.output("features")).run(&json!({})).error();
    assert!(error.contains("and no table; give it one of `data`"), "{error}");
}
