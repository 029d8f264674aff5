//! What there is before the first step: which columns may become features, and which of them have values.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;

use super::{FitError, Fitter, Workshop};
use crate::features::op::{Column, Kind};
use crate::features::params::Params;
use crate::say;
use crate::types::{ColumnType, word};

impl<'a> Fitter<'a> {
    pub(super) async fn begin(workshop: Workshop<'a>, params: &Params, schema: &Schema) -> Result<Self, FitError> {
        let known = || say::names(schema.fields().iter().map(|field| field.name()));
        let no_column = |option: &'static str, column: &String| FitError::NoColumn {
            option,
            column: say::excerpt(column, 60),
            known: known(),
        };
        let mut target = None;
        if let Some(name) = &params.target {
            let field = schema.field_with_name(name).map_err(|_| no_column("target", name))?;
            let kind = ColumnType::of(field.data_type())
                .ok_or_else(|| FitError::Target { column: name.clone(), found: word(field.data_type()) })?;
            target = Some((name.clone(), kind));
        }
        for name in params.keep.iter().flatten() {
            schema.field_with_name(name).map_err(|_| no_column("keep", name))?;
            if params.target.as_ref() == Some(name) {
                return Err(FitError::KeepsTarget { column: name.clone() });
            }
        }
        let (mut kept, mut raw) = (Vec::new(), Vec::new());
        for field in schema.fields() {
            let name = field.name().clone();
            let asked = params.target.as_ref() == Some(&name) || params.keep.iter().flatten().any(|keep| *keep == name);
            let kind = match ColumnType::of(field.data_type()) {
                Some(ColumnType::Integer | ColumnType::Number | ColumnType::Boolean) => Some(Kind::Number),
                Some(ColumnType::String) => Some(Kind::Text),
                Some(ColumnType::Date | ColumnType::Timestamp) | None => None,
            };
            match kind.filter(|_| !asked) {
                Some(kind) => raw.push(Column { from: BTreeSet::from([name.clone()]), name, kind }),
                None => {
                    if !asked {
                        let kind = word(field.data_type());
                        say::line(format!("{name} is of type {kind}: it stays in the tables and is no feature"));
                    }
                    kept.push(name);
                }
            }
        }
        let mut fitter = Self {
            workshop,
            rows: 0,
            target,
            kept,
            columns: raw.clone(),
            raw,
            ops: Vec::new(),
            changed: BTreeSet::new(),
            named: BTreeSet::new(),
            selection: Vec::new(),
            tables: 0,
        };
        fitter.register(fitter.workshop.source).await?;
        fitter.rows = fitter.sample().rows().await?;
        if fitter.rows == 0 {
            return Err(FitError::NoRows);
        }
        fitter.look().await?;
        Ok(fitter)
    }

    /// Refuses infinite numbers, and leaves out columns without any value: nothing can be learned of either.
    async fn look(&mut self) -> Result<(), FitError> {
        let numbers = self.of_kind(Kind::Number);
        let mut empty = Vec::new();
        for (name, figures) in numbers.iter().zip(self.sample().figures(&numbers).await?) {
            if figures.infinite > 0 {
                return Err(FitError::Infinite { column: say::excerpt(name, 60), count: figures.infinite });
            }
            if figures.present == 0 {
                empty.push(name.clone());
            }
        }
        let texts = self.of_kind(Kind::Text);
        for (name, present) in texts.iter().zip(self.sample().texts(&texts).await?) {
            if present == 0 {
                empty.push(name.clone());
            }
        }
        for name in empty {
            self.judge(&name, "empty", None, false, format!("all its {} values are missing", self.rows));
            self.remove(&name);
        }
        Ok(())
    }
}
