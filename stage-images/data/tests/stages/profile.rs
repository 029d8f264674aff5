//! `profile`: figures held against NumPy's and pandas', on tables that the program itself wrote.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{Run, stage, table_of};

fn profile(csv: &str, params: &Value) -> Run {
    stage("profile").input("data", table_of(csv).output("data")).run(params)
}

fn report(run: &Run) -> Value {
    serde_json::from_str(&run.text("report", "profile.json")).unwrap()
}

fn column<'a>(report: &'a Value, name: &str) -> &'a Value {
    let columns = report["described"].as_array().unwrap();
    columns.iter().find(|column| column["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[track_caller]
fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found}, expected {expected}");
}

const BIRDS: &str = "mass,twice,species,male,seen,note\n\
    1,2,Adelie,true,2026-11-01,\n\
    2,4,Gentoo,false,2026-11-03,\n\
    2,4,Adelie,,2026-11-02,\n\
    3,6,Adelie,true,,\n\
    10,20,<b>,true,2026-11-02,\n\
    ,,Gentoo,false,2026-11-02,\n";

#[test]
fn each_column_is_described_by_its_type() {
    let run = profile(BIRDS, &json!({})).well();
    let report = report(&run);
    let mass = column(&report, "mass");
    assert_eq!((&mass["type"], &mass["count"], &mass["missing"]), (&json!("integer"), &json!(5), &json!(1)));
    close(&mass["missing_share"], 1.0 / 6.0);
    assert_eq!((&mass["distinct"], &mass["distinct_exact"]), (&json!(4), &json!(true)));
    let figures = &mass["number"];
    assert_eq!((&figures["min"], &figures["max"]), (&json!(1), &json!(10)));
    close(&figures["mean"], 3.6);
    // pandas: std(ddof=1), and quantile([.05, .25, .5, .75, .95]).
    close(&figures["std"], 3.646_916_505_762_094);
    for (share, expected) in [("0.05", 1.2), ("0.25", 2.0), ("0.5", 2.0), ("0.75", 3.0), ("0.95", 8.6)] {
        close(&figures["quantiles"][share], expected);
    }
    assert_eq!(figures["quantiles_exact"], json!(true));
    let counts: Vec<u64> =
        figures["histogram"]["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>(), counts[19]), (20, 5, 1));
    let species = column(&report, "species");
    assert_eq!(species["top"][0], json!({"value": "Adelie", "count": 3}));
    assert_eq!(species["length"], json!({"min": 3, "max": 6, "mean": 5.5}));
    let male = column(&report, "male");
    assert_eq!(male["top"], json!([{"value": "true", "count": 3}, {"value": "false", "count": 2}]));
    let seen = column(&report, "seen");
    assert_eq!(seen["range"], json!({"min": "2026-11-01", "max": "2026-11-03"}));
    assert_eq!((&seen["distinct"], &seen["missing"]), (&json!(3), &json!(1)));
}

#[test]
fn integers_that_are_the_same_double_are_different_values() {
    // 2^53 and the next integer, which a double cannot hold.
    let run = profile("id\n9007199254740992\n9007199254740993\n9007199254740993\n", &json!({})).well();
    let report = report(&run);
    let id = column(&report, "id");
    assert_eq!((&id["type"], &id["count"]), (&json!("integer"), &json!(3)));
    assert_eq!((&id["distinct"], &id["distinct_exact"]), (&json!(2), &json!(true)));
}

#[test]
fn the_page_stands_alone_and_what_the_data_says_is_text_in_it() {
    let run = profile(&BIRDS.replace("note", "<script>"), &json!({})).well();
    let page = run.text("report", "report.html");
    for there in ["&lt;b&gt;", "&lt;script&gt;", "<svg", "Correlation of the number columns", "default-src 'none'"] {
        assert!(page.contains(there), "{there}");
    }
    for absent in ["<b>", "<script", "src=", "href=", "NaN"] {
        assert!(!page.contains(absent), "{absent}");
    }
    // The only address is the name of SVG.
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("http://www.w3.org/2000/svg").count() + page.matches("http-equiv").count());
}

#[test]
fn the_figures_are_there_for_later_stages() {
    let run = profile(&format!("{BIRDS}1,2,Adelie,true,2026-11-01,\n"), &json!({})).well();
    let numbers = run.numbers("metrics.json");
    assert_eq!((numbers["rows"], numbers["columns"], numbers["duplicates"]), (7.0, 6.0, 1.0));
    // Of mass and twice 1, of male 1, of seen 1, of note all 7.
    assert!((numbers["missing_share"] - 11.0 / 42.0).abs() < 1e-12);
    let report = report(&run);
    assert_eq!(numbers["warnings"], report["warnings"].as_array().unwrap().len() as f64);
}

#[test]
fn what_is_odd_is_told() {
    let mut csv = "constant,empty,identifier,a,b,c\n".to_owned();
    for row in 0..60 {
        writeln!(csv, "same,,id {row},{row},{},{}", 100 - row, (row * 37) % 11).unwrap();
    }
    csv.push_str("same,,id 59,59,41,5\n");
    let run = profile(&csv, &json!({})).well();
    let report = report(&run);
    let told: Vec<(&str, String)> = report["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| (warning["kind"].as_str().unwrap(), warning["columns"].to_string()))
        .collect();
    let expected = [
        ("constant", r#"["constant"]"#),
        ("empty", r#"["empty"]"#),
        ("cardinality", r#"["identifier"]"#),
        ("correlated", r#"["a","b"]"#),
        ("duplicates", "[]"),
    ];
    assert_eq!(told, expected.map(|(kind, columns)| (kind, columns.to_owned())));
    close(&report["correlations"]["values"][0][1], -1.0);
    assert!(run.stdout.contains("WARN  a and b say nearly the same: their correlation is -1.000"), "{}", run.stdout);
    let lax = profile(&csv, &json!({"correlated": 1, "columns": ["a", "c"]})).well();
    assert_eq!(lax.numbers("metrics.json")["warnings"], 1.0);
}

#[test]
fn what_is_no_number_is_in_no_figure() {
    let sql =
        "SELECT CAST(x AS DOUBLE) AS x, CAST(x AS BYTEA) AS raw FROM (VALUES ('NaN'), ('inf'), ('1'), ('3')) AS t(x)";
    let made = stage("transform").input("data", table_of("a\n1\n").output("data")).run(&json!({"sql": sql})).well();
    let run = stage("profile").input("data", made.output("data")).run(&json!({})).well();
    let report = report(&run);
    let x = column(&report, "x");
    assert_eq!((&x["count"], &x["missing"], &x["infinite"]), (&json!(3), &json!(1), &json!(1)));
    assert_eq!((&x["number"]["max"], &x["number"]["mean"]), (&json!(3), &json!(2)));
    assert_eq!(column(&report, "raw")["distinct"], json!(null));
    assert!(!run.numbers("metrics.json").contains_key("duplicates"));
    assert!(report["bounds"][0].as_str().unwrap().starts_with("Duplicate rows are not counted: raw is of type"));
}

#[test]
fn many_values_are_estimated_and_that_is_said() {
    let sql = "SELECT value AS id, concat('name ', value) AS name FROM generate_series(1, 1500000)";
    let made = stage("transform").input("data", table_of("a\n1\n").output("data")).run(&json!({"sql": sql})).well();
    let run = stage("profile").input("data", made.output("data")).run(&json!({})).well();
    let report = report(&run);
    let id = column(&report, "id");
    assert_eq!((&id["distinct_exact"], &id["number"]["quantiles_exact"]), (&json!(false), &json!(false)));
    let distinct = id["distinct"].as_f64().unwrap();
    assert!((distinct / 1.5e6 - 1.0).abs() < 0.05, "{distinct}");
    let median = id["number"]["quantiles"]["0.5"].as_f64().unwrap();
    assert!((median / 750_000.0 - 1.0).abs() < 0.01, "{median}");
    // The histogram is exact.
    let counts = id["number"]["histogram"]["counts"].as_array().unwrap();
    assert_eq!(counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 1_500_000);
    assert!(column(&report, "name").get("top").is_none());
    assert!(report["bounds"][0].as_str().unwrap().contains("are estimates"));
    assert_eq!(report["duplicates"], json!(0));
    assert!(run.text("report", "report.html").contains("≈ "));
}

#[test]
fn columns_beyond_the_bound_are_left_out_and_that_is_said() {
    let names: Vec<String> = (0..210).map(|number| format!("c{number}")).collect();
    let row: Vec<String> = (0..210).map(|number| number.to_string()).collect();
    let csv = format!("{}\n{}\n", names.join(","), row.join(","));
    let report_of = |params: &Value| report(&profile(&csv, params).well());
    let all = report_of(&json!({}));
    assert_eq!((all["columns"].as_u64(), all["described"].as_array().unwrap().len()), (Some(210), 200));
    assert!(all["bounds"][0].as_str().unwrap().starts_with("200 of 210 columns are described"));
    assert!(all["bounds"][1].as_str().unwrap().contains("The first 50 number columns are correlated, 150 more"));
    let one = report_of(&json!({"columns": ["c209"]}));
    assert_eq!(column(&one, "c209")["number"]["min"], json!(209));
}

#[test]
fn odd_names_and_no_rows_are_no_trouble() {
    let odd = report(&profile("\"a \"\"b\"\"\",Ä,select\n1,x,2\n", &json!({})).well());
    assert_eq!(column(&odd, "a \"b\"")["number"]["mean"], json!(1));
    let sql = json!({"sql": "SELECT * FROM data WHERE mass > 100", "allowEmpty": true});
    let none = stage("transform").input("data", table_of(BIRDS).output("data")).run(&sql).well();
    let run = stage("profile").input("data", none.output("data")).run(&json!({})).well();
    assert_eq!(run.numbers("metrics.json")["rows"], 0.0);
    assert!(!run.text("report", "report.html").contains("NaN"));
}

#[test]
fn wrong_parameters_are_told() {
    for (params, words) in [
        (json!({"columns": []}), "parameter columns: the list is empty"),
        (
            json!({"columns": ["x"]}),
            "parameter columns: the data has no column `x`; its columns are: mass, twice, species",
        ),
        (json!({"columns": ["mass", "mass"]}), "parameter columns: `mass` is named twice"),
        (json!({"correlated": 2}), "parameter correlated: found 2, expected a number from 0 to 1"),
        (json!({"correlated": "much"}), "profile: parameter correlated: invalid type: string \"much\""),
    ] {
        let error = profile(BIRDS, &params).error();
        assert!(error.contains(words), "{params}: {error}");
    }
}
