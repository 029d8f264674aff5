//! A table's columns: the types of Delta, as its metadata has them in JSON, and those of Arrow.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde::Deserialize;
use serde_json::{Value, json};

use super::snapshot::Snapshot;
use super::{Table, TableError};
use crate::say;

/// A column as the metadata has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Value,
    #[serde(default = "yes")]
    pub nullable: bool,
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Struct {
    fields: Vec<Column>,
}

impl Table {
    /// The columns of a snapshot, and what they are here.
    pub(super) fn columns(&self, snapshot: &Snapshot) -> Result<(Vec<Column>, Schema), TableError> {
        let damaged = |source| TableError::Log { name: self.name.clone(), version: snapshot.version, source };
        let read: Struct = serde_json::from_str(&snapshot.metadata.schema_string).map_err(damaged)?;
        let fields = read.fields.iter().map(|column| field(column).ok_or(column));
        let fields = fields.collect::<Result<Vec<_>, _>>().map_err(|column| TableError::Unsupported {
            name: self.name.clone(),
            what: format!("a column of type {} ({})", column.kind, say::excerpt(&column.name, 60)),
        })?;
        Ok((read.fields, Schema::new(fields)))
    }

    /// The metadata's text for columns of a new table.
    pub(super) fn described(&self, schema: &Schema) -> Result<String, TableError> {
        let column = |field: &Arc<Field>| {
            if field.name().chars().any(|c| " ,;{}()\n\t=".contains(c)) {
                let column = say::excerpt(field.name(), 60);
                return Err(TableError::ColumnName { name: self.name.clone(), column });
            }
            let kind = described(field.data_type()).ok_or_else(|| TableError::Unsupported {
                name: self.name.clone(),
                what: format!("a column of type {} ({})", field.data_type(), say::excerpt(field.name(), 60)),
            })?;
            Ok(json!({ "name": field.name(), "type": kind, "nullable": true, "metadata": {} }))
        };
        let fields = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({ "type": "struct", "fields": fields }).to_string())
    }
}

fn field(column: &Column) -> Option<Field> {
    Some(Field::new(&column.name, arrow(&column.kind)?, column.nullable))
}

fn arrow(kind: &Value) -> Option<DataType> {
    let Some(name) = kind.as_str() else { return nested(kind) };
    Some(match name {
        "string" => DataType::Utf8,
        "long" => DataType::Int64,
        "integer" => DataType::Int32,
        "short" => DataType::Int16,
        "byte" => DataType::Int8,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => {
            let (precision, scale) = other.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

fn nested(kind: &Value) -> Option<DataType> {
    match kind.get("type")?.as_str()? {
        "array" => {
            let inside = arrow(kind.get("elementType")?)?;
            Some(DataType::List(Arc::new(Field::new("element", inside, true))))
        }
        "struct" => {
            let read: Struct = serde_json::from_value(kind.clone()).ok()?;
            Some(DataType::Struct(read.fields.iter().map(field).collect::<Option<Vec<_>>>()?.into()))
        }
        "map" => {
            let key = Field::new("key", arrow(kind.get("keyType")?)?, false);
            let value = Field::new("value", arrow(kind.get("valueType")?)?, true);
            let entry = DataType::Struct(vec![key, value].into());
            Some(DataType::Map(Arc::new(Field::new("key_value", entry, false)), false))
        }
        _ => None,
    }
}

fn described(kind: &DataType) -> Option<Value> {
    Some(match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => json!("string"),
        DataType::Int64 | DataType::UInt32 => json!("long"),
        DataType::Int32 | DataType::UInt16 => json!("integer"),
        DataType::Int16 | DataType::UInt8 => json!("short"),
        DataType::Int8 => json!("byte"),
        DataType::Float32 | DataType::Float16 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Boolean => json!("boolean"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("binary"),
        DataType::Date32 => json!("date"),
        // A time without a zone counts as one in UTC, as everywhere here.
        DataType::Timestamp(_, _) => json!("timestamp"),
        DataType::Decimal128(precision, scale) if *scale >= 0 => json!(format!("decimal({precision},{scale})")),
        DataType::Dictionary(_, value) => return described(value),
        DataType::List(inside) | DataType::LargeList(inside) => {
            json!({ "type": "array", "elementType": described(inside.data_type())?, "containsNull": true })
        }
        DataType::Struct(fields) => {
            let column = |field: &Arc<Field>| {
                let kind = described(field.data_type())?;
                Some(json!({ "name": field.name(), "type": kind, "nullable": true, "metadata": {} }))
            };
            json!({ "type": "struct", "fields": fields.iter().map(column).collect::<Option<Vec<_>>>()? })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_the_same_there_and_back() {
        for kind in [
            DataType::Utf8,
            DataType::Int64,
            DataType::Float64,
            DataType::Boolean,
            DataType::Date32,
            DataType::Decimal128(10, 2),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::List(Arc::new(Field::new("element", DataType::Int32, true))),
            DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into()),
        ] {
            assert_eq!(arrow(&described(&kind).unwrap()), Some(kind));
        }
        assert_eq!(arrow(&json!("variant")), None);
        assert_eq!(described(&DataType::UInt64), None);
    }
}
