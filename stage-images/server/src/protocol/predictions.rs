//! The v1 form of an answer: `predictions`, one for each instance, or `outputs`, whole tensors.

use super::Slice;
use super::check::RequestError;
use super::json::{Json, string};
use super::predict::Form;
use crate::tensor::each_data;

/// The body of an answer. A model of one output gives its values, one of several an object of them by name.
pub fn write_predictions(form: Form, outputs: &[Slice]) -> Result<Vec<u8>, RequestError> {
    let mut body = Vec::with_capacity(64 + outputs.iter().map(|slice| slice.values().len() * 16).sum::<usize>());
    match form {
        Form::Columns => {
            body.extend_from_slice(b"{\"outputs\":");
            tensors(&mut body, outputs, None);
        }
        Form::Rows { instances } => {
            let is_row =
                |slice: &&Slice| slice.shape().next().is_none_or(|rows| usize::try_from(rows) != Ok(instances));
            if let Some(slice) = outputs.iter().find(is_row) {
                return Err(RequestError::NotRows { name: slice.spec.name.clone() });
            }
            body.extend_from_slice(b"{\"predictions\":[");
            for row in 0..instances {
                comma(&mut body, row);
                tensors(&mut body, outputs, Some((row, instances)));
            }
            body.push(b']');
        }
    }
    body.push(b'}');
    Ok(body)
}

/// All outputs, or one row of so many.
fn tensors(body: &mut Vec<u8>, outputs: &[Slice], row: Option<(usize, usize)>) {
    if let [only] = outputs {
        return tensor(body, only, row);
    }
    body.push(b'{');
    for (index, slice) in outputs.iter().enumerate() {
        comma(body, index);
        string(body, &slice.spec.name);
        body.push(b':');
        tensor(body, slice, row);
    }
    body.push(b'}');
}

fn tensor(body: &mut Vec<u8>, slice: &Slice, row: Option<(usize, usize)>) {
    let mut shape: Vec<usize> = slice.shape().map(|size| usize::try_from(size).unwrap_or(0)).collect();
    let mut values = slice.values();
    if let Some((row, rows)) = row {
        let width = values.len() / rows;
        values = values.start + row * width..values.start + (row + 1) * width;
        shape.remove(0);
    }
    each_data!(&slice.tensor.data, all => nested(body, &shape, all.get(values).unwrap_or_default()));
}

/// Values in brackets, one level for each dimension.
fn nested<T: Json>(body: &mut Vec<u8>, shape: &[usize], values: &[T]) {
    let Some((&size, inner)) = shape.split_first() else {
        return values.iter().for_each(|value| value.json(body));
    };
    body.push(b'[');
    let width = values.len() / size.max(1);
    for index in 0..size {
        comma(body, index);
        nested(body, inner, &values[index * width..(index + 1) * width]);
    }
    body.push(b']');
}

fn comma(body: &mut Vec<u8>, index: usize) {
    if index > 0 {
        body.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tensor::{Data, Datatype, Tensor, TensorSpec};

    fn spec(name: &str) -> TensorSpec {
        TensorSpec { name: name.into(), datatype: Datatype::Int64, shape: vec![-1] }
    }

    fn tensor(shape: &[i64]) -> Tensor {
        Tensor { shape: shape.to_vec(), data: Data::Int64((0..shape.iter().product()).collect()) }
    }

    fn written(form: Form, outputs: &[Slice]) -> Value {
        serde_json::from_slice(&write_predictions(form, outputs).unwrap()).unwrap()
    }

    #[test]
    fn one_output_is_its_values_and_several_are_an_object() {
        let (matrix, vector) = (tensor(&[3, 2]), tensor(&[3]));
        let (a, b) = (spec("a"), spec("b"));
        let a = || Slice { spec: &a, tensor: &matrix, rows: Some(1..3) };
        let b = Slice { spec: &b, tensor: &vector, rows: Some(1..3) };
        let rows = Form::Rows { instances: 2 };
        assert_eq!(written(rows, &[a()]), json!({"predictions": [[2, 3], [4, 5]]}));
        assert_eq!(written(Form::Columns, &[a()]), json!({"outputs": [[2, 3], [4, 5]]}));
        let both = [a(), b];
        assert_eq!(written(rows, &both), json!({"predictions": [{"a": [2, 3], "b": 1}, {"a": [4, 5], "b": 2}]}));
        assert_eq!(written(Form::Columns, &both), json!({"outputs": {"a": [[2, 3], [4, 5]], "b": [1, 2]}}));
    }

    #[test]
    fn an_output_without_a_row_for_each_instance_is_refused() {
        let (name, whole) = (spec("total"), tensor(&[1]));
        let outputs = [Slice { spec: &name, tensor: &whole, rows: None }];
        assert!(write_predictions(Form::Rows { instances: 2 }, &outputs).is_err());
        assert_eq!(written(Form::Columns, &outputs), json!({"outputs": [0]}));
    }
}
