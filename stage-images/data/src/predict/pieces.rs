//! A table in pieces that can be scored apart. Where a piece ends follows from the files alone, not from threads or memory: the same data
//! gives the same files.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::RowGroupMetaData;

use super::params::Part;
use crate::dataset::{self, DatasetError};

/// Rows after which a piece ends, at the end of a row group. Of a table in parts every row group is a piece.
const PIECE_ROWS: u64 = 1 << 19;

/// Some row groups of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number in the table.
    pub number: usize,
    pub file: usize,
    pub groups: Vec<usize>,
    /// The number of its first row in the table.
    pub from: u64,
    pub rows: u64,
}

/// A Parquet file that was opened once; its metadata is read again by nobody.
pub struct Opened {
    pub path: PathBuf,
    pub metadata: ArrowReaderMetadata,
}

impl Opened {
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The bytes of a row in these columns, of the row group where they are most: decoded, where the file says it, for a text that
    /// is there often is stored once.
    pub fn row_bytes(&self, needed: impl Fn(&str) -> bool) -> u64 {
        let of_group = |group: &RowGroupMetaData| {
            let columns = group.columns().iter();
            let columns =
                columns.filter(|column| column.column_path().parts().first().is_some_and(|root| needed(root)));
            let bytes = columns.map(|column| {
                let decoded = column.unencoded_byte_array_data_bytes().unwrap_or_default();
                column.uncompressed_size().max(decoded).unsigned_abs()
            });
            bytes.sum::<u64>().div_ceil(group.num_rows().unsigned_abs().max(1))
        };
        self.metadata.metadata().row_groups().iter().map(of_group).max().unwrap_or_default()
    }
}

/// Opens all files of a table.
pub fn open(path: &Path) -> Result<Vec<Opened>, DatasetError> {
    let open = |path: PathBuf| {
        dataset::check_magic(&path)?;
        let file = File::open(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())
            .map_err(|source| DatasetError::Damaged { path: path.clone(), source })?;
        Ok(Opened { path, metadata })
    };
    dataset::files(path)?.into_iter().map(open).collect()
}

/// The pieces of one of so many parts of a table, in its order. Files without rows have none.
pub fn pieces(files: &[Opened], part: Part) -> Vec<Piece> {
    let rows = |file: &Opened| -> Vec<u64> {
        file.metadata.metadata().row_groups().iter().map(|group| group.num_rows().unsigned_abs()).collect()
    };
    let rows: Vec<Vec<u64>> = files.iter().map(rows).collect();
    if part.of.get() == 1 { cut(&rows, PIECE_ROWS) } else { of_part(cut(&rows, 1), part) }
}

/// `files` has the rows of each row group of each file.
fn cut(files: &[Vec<u64>], most: u64) -> Vec<Piece> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for (file, groups) in files.iter().enumerate() {
        let empty = |number: usize, from: u64| Piece { number, file, groups: Vec::new(), from, rows: 0 };
        let mut piece = empty(pieces.len(), from);
        for (group, rows) in groups.iter().enumerate().filter(|(_, rows)| **rows > 0) {
            piece.groups.push(group);
            piece.rows += rows;
            from += rows;
            if piece.rows >= most {
                let next = empty(pieces.len() + 1, from);
                pieces.push(std::mem::replace(&mut piece, next));
            }
        }
        if piece.rows > 0 {
            pieces.push(piece);
        }
    }
    pieces
}

/// The pieces of one of so many parts of a table: neighbours, with about as many rows as those of any other part.
fn of_part(mut pieces: Vec<Piece>, part: Part) -> Vec<Piece> {
    let rows: u64 = pieces.iter().map(|piece| piece.rows).sum();
    let middle = |piece: &Piece| u128::from(piece.from + piece.rows / 2);
    pieces.retain(|piece| middle(piece) * u128::from(part.of.get()) / u128::from(rows) == u128::from(part.number));
    pieces
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn pieces_hold_every_row_once_in_order_and_end_with_their_file() {
        let large = vec![PIECE_ROWS / 4; 9];
        let pieces = cut(&[large, vec![], vec![5, 0, 7], vec![2 * PIECE_ROWS, 1]], PIECE_ROWS);
        let shape: Vec<(usize, usize)> = pieces.iter().map(|piece| (piece.file, piece.groups.len())).collect();
        assert_eq!(shape, [(0, 4), (0, 4), (0, 1), (2, 2), (3, 1), (3, 1)]);
        assert_eq!(pieces[3].groups, [0, 2]);
        let mut next = 0;
        for piece in &pieces {
            assert_eq!(piece.from, next);
            next += piece.rows;
        }
        assert_eq!(next, 9 * (PIECE_ROWS / 4) + 12 + 2 * PIECE_ROWS + 1);
    }

    #[test]
    fn parts_hold_every_piece_once_in_order_and_are_of_a_size() {
        let pieces = cut(&[vec![PIECE_ROWS; 5], vec![3], vec![PIECE_ROWS / 2; 9], vec![1; 4]], 1);
        for of in [1, 2, 3, 7, 100] {
            let part = |number| of_part(pieces.clone(), Part { number, of: NonZeroU32::new(of).unwrap() });
            let parts: Vec<Vec<Piece>> = (0..of).map(part).collect();
            assert_eq!(parts.concat(), pieces, "{of}");
            let rows: Vec<u64> = parts.iter().map(|part| part.iter().map(|piece| piece.rows).sum()).collect();
            let even = rows.iter().sum::<u64>() / u64::from(of);
            assert!(rows.iter().all(|rows| rows.abs_diff(even) <= PIECE_ROWS), "{of}: {rows:?}");
        }
        assert_eq!(of_part(Vec::new(), Part { number: 1, of: NonZeroU32::new(2).unwrap() }), []);
    }
}
