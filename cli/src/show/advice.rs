//! What stages should ask for, as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::style::{BAD, DIM, GOOD, PLAIN, STRONG, WAITS, paint};
use super::table::{Cell, table};
use crate::advise::{Advice, Change, Figures, mebibytes, millicores};

pub fn text(runs: &[String], advice: &BTreeMap<String, Advice>) -> String {
    let mut text = match runs {
        [run] => format!("Of one run, {}\n", paint(run, STRONG)),
        runs => format!("Of {} runs\n", runs.len()),
    };
    let rows = advice.iter().map(|(stage, advice)| {
        let [memory_now, memory_used, memory] = cells(&advice.memory, mebibytes);
        let [cpu_now, cpu_used, cpu] = cells(&advice.cpu, millicores);
        [stage.as_str().into(), advice.runs.to_string().into(), memory_now, memory_used, memory, cpu_now, cpu_used, cpu]
    });
    let heading = ["STAGE", "RUNS", "MEMORY", "USED", "PROPOSED", "CPU", "USED", "PROPOSED"];
    text.push_str(&table("", heading, rows));
    for (stage, advice) in advice {
        for (name, seconds) in &advice.device_seconds {
            let _ = writeln!(text, "{stage}: had {name} for {:.2} h", seconds / 3600.0);
        }
        for note in &advice.notes {
            let _ = writeln!(text, "{stage}: {}", paint(note, DIM));
        }
    }
    text
}

/// Asked as request and limit, used, and proposed with what that means.
fn cells(figures: &Figures, written: fn(f64) -> String) -> [Cell; 3] {
    let or_none = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), written);
    let now = match (figures.request, figures.limit) {
        (None, None) => "-".to_owned(),
        (request, limit) => format!("{}/{}", or_none(request), or_none(limit)),
    };
    let (word, style) = match figures.change {
        Change::Unknown => ("", DIM),
        Change::Keep => ("", GOOD),
        Change::Set => ("set ", WAITS),
        Change::Raise => ("raise to ", BAD),
        Change::Lower => ("lower to ", WAITS),
    };
    [
        now.into(),
        or_none(figures.used).into(),
        Cell::new(
            figures.proposed.map_or_else(|| "-".to_owned(), |value| format!("{word}{}", written(value))),
            if figures.change == Change::Unknown { PLAIN } else { style },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::style::stripped;
    use super::*;
    use crate::advise::{Sample, of};

    #[test]
    fn a_row_says_what_is_asked_used_and_proposed() {
        let usage = json!({ "cpuSeconds": 5, "peakMemoryBytes": 100 << 20, "wallSeconds": 10, "deviceSeconds": { "nvidia.com/gpu": 7200.0 } });
        let sample = Sample { usage: serde_json::from_value(usage).unwrap(), out_of_memory: false };
        let asked = json!({ "requests": { "memory": "1Gi" }, "limits": { "memory": "2Gi", "nvidia.com/gpu": 1 } });
        let advice = of(&[sample], &serde_json::from_value(asked).unwrap());
        let said = stripped(&text(&["r".to_owned()], &[("train".to_owned(), advice)].into()));
        let words: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[2], ["train", "1", "1Gi/2Gi", "100Mi", "lower", "to", "120Mi", "-", "500m", "set", "580m"]);
        assert_eq!(said.lines().nth(3), Some("train: had nvidia.com/gpu for 2.00 h"));
    }
}
