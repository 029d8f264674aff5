//! The graph of fitted operations: raw columns in, one matrix of all number features out, and each text feature by itself.
//!
//! Columns lie side by side in tensors of several, so that an operation on many columns is one node.

use std::collections::BTreeMap;

use super::onnx::{Attribute, Constant, Element, Graph, OPSET_WITH_WORDS};
use super::op::{Column, Flag, Keys, Kind, Op};

/// The output with all number features, `[rows, features]`.
pub const NUMBERS: &str = "features/numbers";

/// The output with a text feature, `[rows, 1]`.
pub fn text_output(name: &str) -> String {
    format!("features/text/{name}")
}

/// The bytes of the ONNX file that makes `outputs` of `inputs`.
pub fn build(inputs: &[Column], ops: &[Op], outputs: &[Column]) -> Vec<u8> {
    let mut builder = Builder { graph: Graph::new(), places: BTreeMap::new() };
    for input in inputs {
        let element = if input.kind == Kind::Number { Element::Float } else { Element::String };
        builder.graph.input(&input.name, element);
        builder.places.insert(input.name.clone(), Place { tensor: input.name.clone(), index: 0, width: 1 });
    }
    for op in ops {
        builder.emit(op);
    }
    let (numbers, texts): (Vec<&Column>, Vec<&Column>) = outputs.iter().partition(|column| column.kind == Kind::Number);
    if !numbers.is_empty() {
        let matrix = builder.gather(&numbers.iter().map(|column| column.name.as_str()).collect::<Vec<_>>());
        builder.graph.output(&matrix, NUMBERS, Element::Float, numbers.len());
    }
    for text in texts {
        let value = builder.gather(&[&text.name]);
        builder.graph.output(&value, &text_output(&text.name), Element::String, 1);
    }
    builder.graph.finish()
}

/// Where a column is: in a tensor of so many.
#[derive(Clone, Debug)]
struct Place {
    tensor: String,
    index: usize,
    width: usize,
}

struct Builder {
    graph: Graph,
    places: BTreeMap<String, Place>,
}

impl Builder {
    /// The columns side by side as one tensor.
    fn gather(&mut self, names: &[&str]) -> String {
        let places: Vec<Place> = names.iter().filter_map(|name| self.places.get(*name).cloned()).collect();
        let mut parts = Vec::new();
        for run in places.chunk_by(|one, next| one.tensor == next.tensor) {
            let indices: Vec<i64> = run.iter().map(|place| i64::try_from(place.index).unwrap_or(i64::MAX)).collect();
            let whole =
                run.len() == run[0].width && indices.iter().zip(0..).all(|(index, expected)| *index == expected);
            parts.push(if whole { run[0].tensor.clone() } else { self.pick(&run[0].tensor, &indices) });
        }
        if let [only] = parts.as_slice() {
            return only.clone();
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.graph.node("Concat", &parts, &[("axis", Attribute::Whole(1))])
    }

    fn pick(&mut self, tensor: &str, indices: &[i64]) -> String {
        let indices = self.graph.constant(&Constant::Wholes(indices), &[indices.len()]);
        self.graph.node("Gather", &[tensor, &indices], &[("axis", Attribute::Whole(1))])
    }

    fn put<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a String>, tensor: &str) {
        let width = names.len();
        for (index, name) in names.enumerate() {
            self.places.insert(name.clone(), Place { tensor: tensor.into(), index, width });
        }
    }

    fn together(&mut self, names: &[String]) -> String {
        self.gather(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A row of constants, for all rows.
    fn row(&mut self, values: &[f32]) -> String {
        self.graph.constant(&Constant::Floats(values), &[1, values.len()])
    }

    fn emit(&mut self, op: &Op) {
        match op {
            Op::Fill { columns, values } => {
                let value = self.together(columns);
                let missing = self.graph.node("IsNaN", &[&value], &[]);
                let fill = self.row(values);
                let filled = self.graph.node("Where", &[&missing, &fill, &value], &[]);
                self.put(columns.iter(), &filled);
            }
            Op::FillText { column, value } => self.fill_text(column, value),
            Op::Indicate { columns, names } => {
                let value = self.together(columns);
                let missing = self.graph.node("IsNaN", &[&value], &[]);
                let indicated = self.graph.cast(&missing, Element::Float);
                self.put(names.iter(), &indicated);
            }
            Op::Scale { columns, shift, scale, clip } => self.scale(columns, shift, scale, *clip),
            Op::Replace { column, keys, values, unknown } => {
                let value = self.gather(&[column]);
                let looked_up = lookup(&mut self.graph, &value, keys, &Found::Numbers(values, *unknown));
                self.put([column].into_iter(), &looked_up);
            }
            Op::OneHot { column, keys, codes, unknown, flags } => {
                let value = self.gather(&[column]);
                let code = lookup(&mut self.graph, &value, keys, &Found::Codes(codes, *unknown));
                let wanted: Vec<i64> = flags.iter().map(|flag| flag.code).collect();
                let wanted = self.graph.constant(&Constant::Wholes(&wanted), &[1, wanted.len()]);
                self.flag(&code, &wanted, flags);
            }
            Op::Bin { column, edges, flags } => self.bin(column, edges, flags.as_deref()),
            Op::Product { left, right, names } => {
                let (left, right) = (self.together(left), self.together(right));
                let product = self.graph.node("Mul", &[&left, &right], &[]);
                self.put(names.iter(), &product);
            }
            Op::Words { column, words, flags } => self.words(column, words, flags),
        }
    }

    /// By a lookup: texts are not compared before version 19 of the operators.
    fn fill_text(&mut self, column: &String, fill: &str) {
        let value = self.gather(&[column]);
        let empty = Keys::Texts(vec![String::new()]);
        let missing = lookup(&mut self.graph, &value, &empty, &Found::Codes(&[1], 0));
        let missing = self.graph.cast(&missing, Element::Bool);
        let fill = self.graph.constant(&Constant::Text(fill), &[1, 1]);
        let filled = self.graph.node("Where", &[&missing, &fill, &value], &[]);
        self.put([column].into_iter(), &filled);
    }

    fn scale(&mut self, columns: &[String], shift: &[f32], scale: &[f32], clip: Option<[f32; 2]>) {
        let value = self.together(columns);
        let (shift, scale) = (self.row(shift), self.row(scale));
        let shifted = self.graph.node("Sub", &[&value, &shift], &[]);
        let mut scaled = self.graph.node("Div", &[&shifted, &scale], &[]);
        if let Some(ends) = clip {
            let [low, high] = ends.map(|end| self.graph.constant(&Constant::Floats(&[end]), &[]));
            scaled = self.graph.node("Clip", &[&scaled, &low, &high], &[]);
        }
        self.put(columns.iter(), &scaled);
    }

    fn bin(&mut self, column: &String, edges: &[f32], flags: Option<&[Flag]>) {
        let value = self.gather(&[column]);
        let row = self.row(edges);
        let above = self.graph.node("GreaterOrEqual", &[&value, &row], &[]);
        let above = self.graph.cast(&above, Element::Float);
        let axis = self.graph.constant(&Constant::Wholes(&[1]), &[1]);
        let code = self.graph.node("ReduceSum", &[&above, &axis], &[("keepdims", Attribute::Whole(1))]);
        // No edge is at or below what is missing: it would be in the first bin.
        let missing = self.graph.node("IsNaN", &[&value], &[]);
        let code = self.graph.node("Where", &[&missing, &value, &code], &[]);
        match flags {
            None => self.put([column].into_iter(), &code),
            Some(flags) => {
                let wanted: Vec<f32> = flags.iter().map(|flag| flag.code as f32).collect();
                let wanted = self.row(&wanted);
                self.flag(&code, &wanted, flags);
            }
        }
    }

    fn flag(&mut self, code: &str, wanted: &str, flags: &[Flag]) {
        let same = self.graph.node("Equal", &[code, wanted], &[]);
        let same = self.graph.cast(&same, Element::Float);
        self.put(flags.iter().map(|flag| &flag.name), &same);
    }

    /// The words of a text are what stands between spaces. The places that are left in rows with fewer words hold the empty
    /// text, which is no word.
    fn words(&mut self, column: &str, words: &[String], flags: &[Flag]) {
        self.graph.needs(OPSET_WITH_WORDS);
        let value = self.gather(&[column]);
        let flat = self.graph.constant(&Constant::Wholes(&[-1]), &[1]);
        let value = self.graph.node("Reshape", &[&value, &flat], &[]);
        let split = self.graph.first_of_two("StringSplit", &[&value], &[]);
        let indexes: Vec<i64> = (0..).take(words.len()).collect();
        let counts = self.graph.node(
            "TfIdfVectorizer",
            &[&split],
            &[
                ("mode", Attribute::Text("TF")),
                ("min_gram_length", Attribute::Whole(1)),
                ("max_gram_length", Attribute::Whole(1)),
                ("max_skip_count", Attribute::Whole(0)),
                ("ngram_counts", Attribute::Wholes(&[0])),
                ("ngram_indexes", Attribute::Wholes(&indexes)),
                ("pool_strings", Attribute::Texts(words)),
            ],
        );
        let codes: Vec<i64> = flags.iter().map(|flag| flag.code).collect();
        let wanted = if codes == indexes { counts } else { self.pick(&counts, &codes) };
        self.put(flags.iter().map(|flag| &flag.name), &wanted);
    }
}

/// What values become that are looked up.
enum Found<'a> {
    Codes(&'a [i64], i64),
    Numbers(&'a [f32], f32),
}

fn lookup(graph: &mut Graph, value: &str, keys: &Keys, found: &Found) -> String {
    let keys = match keys {
        Keys::Texts(texts) => ("keys_strings", Attribute::Texts(texts)),
        Keys::Numbers(numbers) => ("keys_floats", Attribute::Floats(numbers)),
    };
    let (values, default) = match *found {
        Found::Codes(codes, unknown) => {
            (("values_int64s", Attribute::Wholes(codes)), ("default_int64", Attribute::Whole(unknown)))
        }
        Found::Numbers(numbers, unknown) => {
            (("values_floats", Attribute::Floats(numbers)), ("default_float", Attribute::Float(unknown)))
        }
    };
    graph.ml_node("LabelEncoder", &[value], &[keys, values, default])
}
