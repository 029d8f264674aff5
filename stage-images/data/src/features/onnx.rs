//! Writes ONNX files: the few messages of `onnx.proto` that a graph of features needs, field by field.
//!
//! The same graph gives the same bytes. The numbers are those of the format: <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

/// Old enough for every runtime since 2022, as the trainer's; word counts need a later one.
pub const OPSET: i64 = 17;
pub const OPSET_WITH_WORDS: i64 = 20;
const ML_OPSET: i64 = 3;
const IR_VERSION: i64 = 8;

/// Types of elements, as the format numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Float = 1,
    Int64 = 7,
    String = 8,
    Bool = 9,
}

/// A message in the making.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn whole(&mut self, field: u64, value: i64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value.cast_unsigned());
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }
}

/// What a node is told.
pub enum Attribute<'a> {
    Whole(i64),
    Float(f32),
    Wholes(&'a [i64]),
    Floats(&'a [f32]),
    Text(&'a str),
    Texts(&'a [String]),
}

/// The values of a constant.
pub enum Constant<'a> {
    Floats(&'a [f32]),
    Wholes(&'a [i64]),
    Text(&'a str),
}

/// A graph in the making.
#[derive(Debug)]
pub struct Graph {
    message: Message,
    inputs: Message,
    outputs: Message,
    count: usize,
    opset: i64,
}

impl Graph {
    pub fn new() -> Self {
        let (message, inputs, outputs) = <(Message, Message, Message)>::default();
        Self { message, inputs, outputs, count: 0, opset: OPSET }
    }

    /// Takes operators of a later version.
    pub fn needs(&mut self, opset: i64) {
        self.opset = self.opset.max(opset);
    }

    /// A name that no column has: names are counted.
    fn name(&mut self, stem: &str) -> String {
        self.count += 1;
        format!("features/{stem}_{}", self.count)
    }

    /// A raw column: one value a row.
    pub fn input(&mut self, name: &str, element: Element) {
        value_info(&mut self.inputs, 11, name, element, 1);
    }

    pub fn constant(&mut self, values: &Constant, shape: &[usize]) -> String {
        let name = self.name("constant");
        let mut tensor = Message::default();
        for size in shape {
            tensor.whole(1, i64::try_from(*size).unwrap_or(i64::MAX));
        }
        match values {
            Constant::Floats(floats) => {
                let raw: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
                tensor.whole(2, Element::Float as i64).bytes(9, &raw);
            }
            Constant::Wholes(wholes) => {
                let raw: Vec<u8> = wholes.iter().flat_map(|whole| whole.to_le_bytes()).collect();
                tensor.whole(2, Element::Int64 as i64).bytes(9, &raw);
            }
            Constant::Text(text) => {
                tensor.whole(2, Element::String as i64).text(6, text);
            }
        }
        tensor.text(8, &name);
        self.message.message(5, &tensor);
        name
    }

    /// A node with one output, whose name it gives.
    pub fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = self.name(&operator.to_ascii_lowercase());
        self.add("", operator, inputs, &[&output], attributes);
        output
    }

    /// One of the operators of the domain `ai.onnx.ml`.
    pub fn ml_node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = self.name(&operator.to_ascii_lowercase());
        self.add("ai.onnx.ml", operator, inputs, &[&output], attributes);
        output
    }

    /// The first of a node's two outputs.
    pub fn first_of_two(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let (first, second) = (self.name(&operator.to_ascii_lowercase()), self.name("unused"));
        self.add("", operator, inputs, &[&first, &second], attributes);
        first
    }

    pub fn cast(&mut self, value: &str, to: Element) -> String {
        self.node("Cast", &[value], &[("to", Attribute::Whole(to as i64))])
    }

    /// Gives a value out by a name.
    pub fn output(&mut self, value: &str, name: &str, element: Element, width: usize) {
        self.add("", "Identity", &[value], &[name], &[]);
        value_info(&mut self.outputs, 12, name, element, width);
    }

    fn add(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) {
        let name = self.name("node");
        let mut node = Message::default();
        for input in inputs {
            node.text(1, input);
        }
        for output in outputs {
            node.text(2, output);
        }
        node.text(3, &name).text(4, operator);
        for (name, value) in attributes {
            node.message(5, &attribute(name, value));
        }
        if !domain.is_empty() {
            node.text(7, domain);
        }
        self.message.message(1, &node);
    }

    /// The bytes of the file.
    pub fn finish(mut self) -> Vec<u8> {
        self.message.text(2, "features");
        self.message.0.extend(self.inputs.0);
        self.message.0.extend(self.outputs.0);
        let mut model = Message::default();
        model.whole(1, IR_VERSION).text(2, "millrace-data").message(7, &self.message);
        for (domain, version) in [("", self.opset), ("ai.onnx.ml", ML_OPSET)] {
            let mut opset = Message::default();
            opset.text(1, domain).whole(2, version);
            model.message(8, &opset);
        }
        model.0
    }
}

fn attribute(name: &str, value: &Attribute) -> Message {
    let mut attribute = Message::default();
    attribute.text(1, name);
    let kind = match value {
        Attribute::Float(float) => {
            attribute.float(2, *float);
            1
        }
        Attribute::Whole(whole) => {
            attribute.whole(3, *whole);
            2
        }
        Attribute::Text(text) => {
            attribute.text(4, text);
            3
        }
        Attribute::Floats(floats) => {
            for float in *floats {
                attribute.float(7, *float);
            }
            6
        }
        Attribute::Wholes(wholes) => {
            for whole in *wholes {
                attribute.whole(8, *whole);
            }
            7
        }
        Attribute::Texts(texts) => {
            for text in *texts {
                attribute.text(9, text);
            }
            8
        }
    };
    attribute.whole(20, kind);
    attribute
}

/// `[batch, width]`.
fn value_info(into: &mut Message, field: u64, name: &str, element: Element, width: usize) {
    let (mut batch, mut columns, mut shape) = <(Message, Message, Message)>::default();
    batch.text(2, "batch");
    columns.whole(1, i64::try_from(width).unwrap_or(i64::MAX));
    shape.message(1, &batch).message(1, &columns);
    let (mut tensor, mut kind, mut info) = <(Message, Message, Message)>::default();
    tensor.whole(1, element as i64).message(2, &shape);
    kind.message(1, &tensor);
    info.text(1, name).message(2, &kind);
    into.message(field, &info);
}
