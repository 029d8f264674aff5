//! Which columns are taken from the source: the checks that the three formats share.

use super::params::Params;
use crate::say;

#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("{name}: parameter {parameter}: there is no column `{column}`; the columns are: {known}")]
    MissingColumn { name: String, parameter: &'static str, column: String, known: String },
    #[error("parameter columns: `{column}` is named twice; name each column once")]
    NamedTwice { column: String },
    #[error("parameter columns: the list is empty; leave it out to keep all columns")]
    NoColumns,
    #[error(
        "{name}: the column `{column}` is there twice (columns {first} and {second}); give each column its own name"
    )]
    DuplicateColumn { name: String, column: String, first: usize, second: usize },
    #[error(
        "{name}: column {position} has no name; name it in the header, or set csv.header: false if the first line is data"
    )]
    NamelessColumn { name: String, position: usize },
}

/// The indexes of the columns to keep, in the order wanted. Checks that all that `columns` and `schema` name is there.
pub fn choose(name: &str, params: &Params, header: &[String]) -> Result<Vec<usize>, LayoutError> {
    let find = |column: &str| header.iter().position(|known| known == column);
    let missing = |parameter, column: &str| LayoutError::MissingColumn {
        name: name.into(),
        parameter,
        column: say::excerpt(column, 60),
        known: say::names(header),
    };
    for column in params.schema.iter().flat_map(|schema| schema.keys()) {
        find(column).ok_or_else(|| missing("schema", column))?;
    }
    let Some(wanted) = &params.columns else { return Ok((0..header.len()).collect()) };
    if wanted.is_empty() {
        return Err(LayoutError::NoColumns);
    }
    let mut chosen = Vec::with_capacity(wanted.len());
    for column in wanted {
        let index = find(column).ok_or_else(|| missing("columns", column))?;
        if chosen.contains(&index) {
            return Err(LayoutError::NamedTwice { column: column.clone() });
        }
        chosen.push(index);
    }
    Ok(chosen)
}

/// Every column has a name of its own.
pub fn check_names(name: &str, header: &[String]) -> Result<(), LayoutError> {
    for (index, column) in header.iter().enumerate() {
        if column.trim().is_empty() {
            return Err(LayoutError::NamelessColumn { name: name.into(), position: index + 1 });
        }
        if let Some(first) = header[..index].iter().position(|other| other == column) {
            return Err(LayoutError::DuplicateColumn {
                name: name.into(),
                column: say::excerpt(column, 60),
                first: first + 1,
                second: index + 1,
            });
        }
    }
    Ok(())
}
