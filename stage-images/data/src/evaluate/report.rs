//! The report of an evaluation: a page, drawings, and all figures as JSON.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::figures::{self, Series};
use super::ranking::{calibration, precision_recall_curve, roc_curve};
use super::score::{Classes, Scored};
use super::scorecard::{Metrics, SliceTable, compared};
use super::tally::Confusion;
use crate::html::{escape, page, table};
use crate::workplace::{WorkplaceError, json_number, write_file};

/// One model's results.
pub struct Judged {
    pub scored: Scored,
    pub metrics: Metrics,
    pub slices: Vec<SliceTable>,
}

pub struct Report<'a> {
    pub target: &'a str,
    /// The index of the positive label.
    pub positive: Option<usize>,
    pub candidate: &'a Judged,
    pub champion: Option<&'a Judged>,
}

/// A matrix or a chart of more classes than this says nothing.
const MOST_CLASSES: usize = 30;
const MOST_LINES: usize = 8;

impl Report<'_> {
    pub fn write(&self, folder: &Path) -> Result<(), WorkplaceError> {
        let figures = self.figures();
        for (name, drawing) in &figures {
            write_file(&folder.join(name), drawing.as_bytes())?;
        }
        let json = format!("{:#}\n", self.as_json());
        write_file(&folder.join("metrics.json"), json.as_bytes())?;
        write_file(&folder.join("report.html"), self.as_html(&figures).as_bytes())
    }

    fn figures(&self) -> Vec<(&'static str, String)> {
        match &self.candidate.scored {
            Scored::Values(values) => vec![("residuals.svg", figures::residuals(&values.truth, &values.predicted))],
            Scored::Classes(classes) => {
                let mut drawings = Vec::new();
                if classes.labels.len() <= MOST_CLASSES {
                    drawings.push(("confusion.svg", figures::confusion(&classes.labels, &tally(classes))));
                }
                if classes.probabilities.is_some() {
                    let (roc, pr, bins) = self.curves(classes);
                    drawings.push((
                        "roc.svg",
                        figures::chart("ROC", "false positive rate", "true positive rate", &roc, true),
                    ));
                    drawings.push((
                        "precision-recall.svg",
                        figures::chart("Precision and recall", "recall", "precision", &pr, false),
                    ));
                    drawings.push((
                        "calibration.svg",
                        figures::chart("Calibration", "predicted probability", "share of positives", &bins, true),
                    ));
                }
                drawings
            }
        }
    }

    /// Of two classes the positive one, candidate and champion; of more each class of the candidate.
    fn curves(&self, classes: &Classes) -> (Vec<Series>, Vec<Series>, Vec<Series>) {
        let champion = self.champion.and_then(|judged| match &judged.scored {
            Scored::Classes(classes) => Some(classes),
            Scored::Values(_) => None,
        });
        let lines: Vec<(String, &Classes, usize)> = match self.positive {
            Some(positive) => {
                let label = classes.labels[positive].as_str();
                let of_champion = champion.and_then(|classes| {
                    let index = classes.labels.iter().position(|other| other == label)?;
                    Some(("champion".to_owned(), classes, index))
                });
                [Some(("candidate".to_owned(), classes, positive)), of_champion].into_iter().flatten().collect()
            }
            None => (0..classes.labels.len().min(MOST_LINES))
                .map(|label| (classes.labels[label].clone(), classes, label))
                .collect(),
        };
        let (mut roc, mut pr, mut bins) = (Vec::new(), Vec::new(), Vec::new());
        for (name, classes, label) in lines {
            let (scores, positive) = classes.against_rest(label);
            roc.push(Series { name: name.clone(), points: roc_curve(&scores, &positive) });
            pr.push(Series { name: name.clone(), points: precision_recall_curve(&scores, &positive) });
            bins.push(Series { name, points: calibration(&scores, &positive) });
        }
        (roc, pr, bins)
    }

    fn as_json(&self) -> Value {
        let Self { target, positive, candidate, champion } = self;
        let task = match &candidate.scored {
            Scored::Classes(_) => "classification",
            Scored::Values(_) => "regression",
        };
        let label = |index: &usize| match &candidate.scored {
            Scored::Classes(classes) => json!(classes.labels[*index]),
            Scored::Values(_) => Value::Null,
        };
        json!({
            "task": task,
            "target": target,
            "positive": positive.as_ref().map(label),
            "candidate": judged_json(candidate),
            "champion": champion.map(judged_json),
        })
    }

    fn as_html(&self, figures: &[(&str, String)]) -> String {
        let rows = self.candidate.metrics.get("rows").copied().unwrap_or_default();
        let mut body = format!("<p>Target <code>{}</code>, {rows} rows.</p>\n<h2>Metrics</h2>\n", escape(self.target));
        body.push_str(&self.metrics_html());
        body.push_str(&self.classes_html());
        if !figures.is_empty() {
            body.push_str("<h2>Figures</h2>\n<div class=\"figures\">\n");
            for (_, drawing) in figures {
                body.push_str("<figure>\n");
                body.push_str(drawing);
                body.push_str("</figure>\n");
            }
            body.push_str("</div>\n");
        }
        body.push_str(&self.slices_html());
        page("Evaluation", &body)
    }

    fn metrics_html(&self) -> String {
        let cells = |(name, value): (&String, &f64)| {
            let mut row = vec![escape(name), number(*value)];
            if let Some(champion) = self.champion {
                let other = champion.metrics.get(name);
                row.push(other.map_or_else(dash, |other| number(*other)));
                row.push(other.map_or_else(dash, |other| format!("{:+.4}", value - other)));
            }
            row
        };
        let header: &[&str] =
            if self.champion.is_some() { &["", "candidate", "champion", "difference"] } else { &["", "candidate"] };
        table(header, &self.candidate.metrics.iter().map(cells).collect::<Vec<_>>())
    }

    fn classes_html(&self) -> String {
        let Scored::Classes(classes) = &self.candidate.scored else { return String::new() };
        let confusion = tally(classes);
        let row = |(index, label): (usize, &String)| {
            let score = confusion.label(index);
            let numbers = [score.precision, score.recall, score.f1].map(number);
            let mut row = vec![escape(label)];
            row.extend(numbers);
            row.extend([score.support.to_string(), score.predicted.to_string()]);
            row
        };
        let rows: Vec<Vec<String>> = classes.labels.iter().enumerate().map(row).collect();
        format!("<h2>Classes</h2>\n{}", table(&["class", "precision", "recall", "F1", "rows", "predicted"], &rows))
    }

    fn slices_html(&self) -> String {
        let by = compared(&self.candidate.scored);
        let widest = self.candidate.slices.iter().map(|table| table.gap).fold(0.0, f64::max);
        let mut html = String::new();
        for slices in &self.candidate.slices {
            let shown: &[&str] = if by == "rmse" { &["rmse", "mae", "r2"] } else { &["accuracy", "f1", "roc_auc"] };
            let mut header = vec!["value", "rows"];
            header.extend(shown);
            let worst_gap = slices.gap > 0.0 && slices.gap >= widest;
            let rows: Vec<Vec<String>> = slices
                .slices
                .iter()
                .enumerate()
                .map(|(index, slice)| {
                    let value = escape(&slice.value);
                    let value = if worst_gap && index == 0 {
                        format!("<span class=\"fail\">{value} (worst)</span>")
                    } else {
                        value
                    };
                    let rows = slice.metrics.get("rows").copied().unwrap_or_default();
                    let mut row = vec![value, rows.to_string()];
                    row.extend(
                        shown.iter().map(|name| slice.metrics.get(*name).map_or_else(dash, |value| number(*value))),
                    );
                    row
                })
                .collect();
            let class = if worst_gap { "fail" } else { "soft" };
            let _ = write!(
                html,
                "<h2>By {}</h2>\n<p>Gap in {by} between the best and the worst: <span class=\"{class}\">{}</span>{}</p>\n{}",
                escape(&slices.column),
                number(slices.gap),
                if slices.left_out > 0 {
                    format!("; {} smaller values are left out", slices.left_out)
                } else {
                    String::new()
                },
                table(&header, &rows)
            );
        }
        html
    }
}

fn judged_json(judged: &Judged) -> Value {
    let slices: Vec<Value> = judged
        .slices
        .iter()
        .map(|table| {
            let slices: Vec<Value> = table
                .slices
                .iter()
                .map(|slice| json!({"value": slice.value, "metrics": numbers(&slice.metrics)}))
                .collect();
            json!({"column": table.column, "gap": table.gap, "slices": slices, "leftOut": table.left_out})
        })
        .collect();
    let mut object =
        Map::from_iter([("metrics".to_owned(), numbers(&judged.metrics)), ("slices".to_owned(), Value::Array(slices))]);
    if let Scored::Classes(classes) = &judged.scored {
        let confusion = tally(classes);
        let labels = 0..classes.labels.len();
        let per_class: Vec<Value> = labels
            .clone()
            .map(|label| {
                let score = confusion.label(label);
                json!({
                    "label": classes.labels[label], "precision": score.precision, "recall": score.recall,
                    "f1": score.f1, "rows": score.support, "predicted": score.predicted,
                })
            })
            .collect();
        object.insert("classes".into(), Value::Array(per_class));
        if classes.labels.len() <= MOST_CLASSES {
            let matrix: Vec<Vec<u64>> = labels
                .clone()
                .map(|truth| labels.clone().map(|predicted| confusion.at(truth, predicted)).collect())
                .collect();
            object.insert("confusion".into(), json!(matrix));
        }
    }
    Value::Object(object)
}

fn numbers(metrics: &Metrics) -> Value {
    Value::Object(
        metrics.iter().filter_map(|(name, value)| Some((name.clone(), Value::Number(json_number(*value)?)))).collect(),
    )
}

fn tally(classes: &Classes) -> Confusion {
    Confusion::count(classes.labels.len(), &classes.truth, &classes.predicted)
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() >= 2.0 { format!("{value}") } else { format!("{value:.4}") }
}

fn dash() -> String {
    "–".to_owned()
}
