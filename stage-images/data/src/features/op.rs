//! What the steps have become: operations on columns with everything in them that was learned. They are the fitted state, and the graph
//! is made of them alone.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a column holds, as a model takes it: numbers are FP32 (missing is NaN), texts BYTES (missing is empty).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "FP32")]
    Number,
    #[serde(rename = "BYTES")]
    Text,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "numbers",
            Self::Text => "text",
        }
    }
}

/// A column as the graph has it at some step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "datatype")]
    pub kind: Kind,
    /// The raw columns that it is made of.
    pub from: BTreeSet<String>,
}

/// Values that are looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Keys {
    Texts(Vec<String>),
    Numbers(Vec<f32>),
}

/// A column of zeros and ones: one where the code is this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    pub code: i64,
    pub name: String,
}

/// One fitted operation. Lists of one operation that belong together are of the same length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", deny_unknown_fields)]
pub enum Op {
    /// Missing numbers become these.
    Fill { columns: Vec<String>, values: Vec<f32> },
    /// Missing text becomes this.
    FillText { column: String, value: String },
    /// New columns: 1 where a number is missing.
    Indicate { columns: Vec<String>, names: Vec<String> },
    /// `(x - shift) / scale`, and what lies outside of `clip` becomes its end.
    Scale {
        columns: Vec<String>,
        shift: Vec<f32>,
        scale: Vec<f32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clip: Option<[f32; 2]>,
    },
    /// A value becomes the number at its place in `values`; one that is not known becomes `unknown`.
    Replace { column: String, keys: Keys, values: Vec<f32>, unknown: f32 },
    /// A value becomes a code, the code a column for each flag; a code without one is zeros.
    OneHot { column: String, keys: Keys, codes: Vec<i64>, unknown: i64, flags: Vec<Flag> },
    /// A number becomes how many edges are not above it; a missing one stays missing. With flags a column for each.
    Bin {
        column: String,
        edges: Vec<f32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flags: Option<Vec<Flag>>,
    },
    /// New columns: the products of two.
    Product { left: Vec<String>, right: Vec<String>, names: Vec<String> },
    /// How often each word is in a text; `code` is its place in `words`.
    Words { column: String, words: Vec<String>, flags: Vec<Flag> },
}

impl Op {
    /// What comes of the columns. An operation in place keeps a column's place, what is made of one column stands in its place, and new
    /// columns come last.
    pub fn follow(&self, columns: &mut Vec<Column>) {
        match self {
            Self::Fill { .. } | Self::FillText { .. } | Self::Scale { .. } | Self::Bin { flags: None, .. } => {}
            Self::Replace { column, .. } => {
                for known in columns.iter_mut().filter(|known| known.name == *column) {
                    known.kind = Kind::Number;
                }
            }
            Self::OneHot { column, flags, .. }
            | Self::Bin { column, flags: Some(flags), .. }
            | Self::Words { column, flags, .. } => {
                let Some(at) = columns.iter().position(|known| known.name == *column) else { return };
                let from = columns.remove(at).from;
                let made =
                    flags.iter().map(|flag| Column { name: flag.name.clone(), kind: Kind::Number, from: from.clone() });
                columns.splice(at..at, made);
            }
            Self::Indicate { columns: of, names } => {
                for (of, name) in of.iter().zip(names) {
                    let from = sources(columns, &[of]);
                    columns.push(Column { name: name.clone(), kind: Kind::Number, from });
                }
            }
            Self::Product { left, right, names } => {
                for ((left, right), name) in left.iter().zip(right).zip(names) {
                    let from = sources(columns, &[left, right]);
                    columns.push(Column { name: name.clone(), kind: Kind::Number, from });
                }
            }
        }
    }

    /// The columns that it makes or changes.
    pub fn writes(&self) -> Vec<&str> {
        match self {
            Self::Fill { columns, .. } | Self::Scale { columns, .. } => columns.iter().map(String::as_str).collect(),
            Self::FillText { column, .. } | Self::Replace { column, .. } | Self::Bin { column, flags: None, .. } => {
                vec![column]
            }
            Self::OneHot { flags, .. } | Self::Bin { flags: Some(flags), .. } | Self::Words { flags, .. } => {
                flags.iter().map(|flag| flag.name.as_str()).collect()
            }
            Self::Indicate { names, .. } | Self::Product { names, .. } => names.iter().map(String::as_str).collect(),
        }
    }

    fn reads(&self) -> Vec<&str> {
        match self {
            Self::Fill { columns, .. } | Self::Scale { columns, .. } | Self::Indicate { columns, .. } => {
                columns.iter().map(String::as_str).collect()
            }
            Self::FillText { column, .. }
            | Self::Replace { column, .. }
            | Self::OneHot { column, .. }
            | Self::Bin { column, .. }
            | Self::Words { column, .. } => vec![column],
            Self::Product { left, right, .. } => left.iter().chain(right).map(String::as_str).collect(),
        }
    }

    /// The operation without what nobody needs any more; none if nothing is left.
    fn only(&self, live: &BTreeSet<String>) -> Option<Self> {
        let flags = |flags: &[Flag]| -> Option<Vec<Flag>> {
            let left: Vec<Flag> = flags.iter().filter(|flag| live.contains(&flag.name)).cloned().collect();
            (!left.is_empty()).then_some(left)
        };
        let some = |names: &[String]| -> Option<Vec<usize>> {
            let left: Vec<usize> = (0..names.len()).filter(|at| live.contains(&names[*at])).collect();
            (!left.is_empty()).then_some(left)
        };
        let mut op = self.clone();
        match &mut op {
            Self::Fill { columns, values } => {
                let left = some(columns)?;
                (*columns, *values) = (at(columns, &left), at(values, &left));
            }
            Self::Scale { columns, shift, scale, .. } => {
                let left = some(columns)?;
                (*shift, *scale, *columns) = (at(shift, &left), at(scale, &left), at(columns, &left));
            }
            Self::Indicate { columns, names } => {
                let left = some(names)?;
                (*columns, *names) = (at(columns, &left), at(names, &left));
            }
            Self::Product { left, right, names } => {
                let keep = some(names)?;
                (*left, *right, *names) = (at(left, &keep), at(right, &keep), at(names, &keep));
            }
            Self::OneHot { flags: all, .. } | Self::Bin { flags: Some(all), .. } | Self::Words { flags: all, .. } => {
                *all = flags(all)?;
            }
            Self::FillText { column, .. } | Self::Replace { column, .. } | Self::Bin { column, flags: None, .. } => {
                if !live.contains(column.as_str()) {
                    return None;
                }
            }
        }
        Some(op)
    }
}

fn at<T: Clone>(all: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|place| all[*place].clone()).collect()
}

fn sources(columns: &[Column], names: &[&String]) -> BTreeSet<String> {
    columns.iter().filter(|column| names.contains(&&column.name)).flat_map(|column| column.from.clone()).collect()
}

/// The operations that the outputs need, and the raw columns that they need, by name.
pub fn prune(ops: &[Op], outputs: &[Column]) -> (Vec<Op>, BTreeSet<String>) {
    let mut live: BTreeSet<String> = outputs.iter().map(|column| column.name.clone()).collect();
    let mut kept = Vec::new();
    for op in ops.iter().rev() {
        let Some(op) = op.only(&live) else { continue };
        for name in op.writes() {
            live.remove(name);
        }
        live.extend(op.reads().into_iter().map(ToOwned::to_owned));
        kept.push(op);
    }
    kept.reverse();
    (kept, live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), kind, from: BTreeSet::from([name.to_owned()]) }
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn some() -> Vec<Op> {
        let flag = |code: i64, name: &str| Flag { code, name: name.into() };
        vec![
            Op::Indicate { columns: strings(&["a", "b"]), names: strings(&["a_missing", "b_missing"]) },
            Op::Fill { columns: strings(&["a", "b"]), values: vec![1.0, 2.0] },
            Op::Product { left: strings(&["a"]), right: strings(&["b"]), names: strings(&["a_x_b"]) },
            Op::OneHot {
                column: "c".into(),
                keys: Keys::Texts(strings(&["u", "v"])),
                codes: vec![0, 1],
                unknown: -1,
                flags: vec![flag(0, "c_u"), flag(1, "c_v")],
            },
        ]
    }

    #[test]
    fn columns_keep_their_place_and_new_ones_come_last() {
        let mut columns = vec![column("c", Kind::Text), column("a", Kind::Number), column("b", Kind::Number)];
        for op in some() {
            op.follow(&mut columns);
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["c_u", "c_v", "a", "b", "a_missing", "b_missing", "a_x_b"]);
        assert_eq!(columns[6].from, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(columns[0].from, BTreeSet::from(["c".to_owned()]));
    }

    #[test]
    fn what_no_output_needs_is_left_out_and_so_are_its_raw_columns() {
        let (ops, raw) = prune(&some(), &[column("c_v", Kind::Number), column("b_missing", Kind::Number)]);
        assert_eq!(raw, BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[0], Op::Indicate { columns: strings(&["b"]), names: strings(&["b_missing"]) });
        assert!(matches!(&ops[1], Op::OneHot { flags, codes, .. } if flags.len() == 1 && codes.len() == 2));
        // Only the product: both of its sources stay, filled.
        let (ops, raw) = prune(&some(), &[column("a_x_b", Kind::Number)]);
        assert_eq!((ops.len(), raw.len()), (2, 2));
    }
}
