//! Waiting events as a Parquet file with a column for each attribute.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::event::Event;

/// Events that are columns at once, and bytes of their lines.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: ParquetError,
    },
    #[error("failed to make columns of events")]
    Columns(#[source] ArrowError),
}

/// What a file was made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Staged {
    pub rows: u64,
    /// Lines that are no events: the program was killed as it wrote them, and nobody was told that they are taken.
    pub torn: u64,
}

/// Writes the events of some files of lines to a folder, as one Parquet file.
pub fn stage(lines: &[PathBuf], folder: &Path) -> Result<Staged, StageError> {
    let path = folder.join("events.parquet");
    let create = |source| StageError::Create { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(create)?;
    let file = File::create(&path).map_err(create)?;
    let failed = |source| StageError::Write { path: path.clone(), source };
    let schema = Arc::new(schema());
    let mut writer = ArrowWriter::try_new(file, schema.clone(), None).map_err(failed)?;
    let mut staged = Staged::default();
    let mut events = Vec::new();
    let mut bytes = 0;
    let mut line = Vec::new();
    for path in lines {
        let unread = |source| StageError::Read { path: path.clone(), source };
        let mut reader = BufReader::new(File::open(path).map_err(unread)?);
        while reader.read_until(b'\n', &mut line).map_err(unread)? > 0 {
            let event = line.strip_suffix(b"\n").and_then(Event::of_line);
            staged.torn += u64::from(event.is_none());
            staged.rows += u64::from(event.is_some());
            events.extend(event);
            bytes += line.len();
            line.clear();
            if events.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                writer.write(&batch(&events, &schema).map_err(StageError::Columns)?).map_err(failed)?;
                events.clear();
                bytes = 0;
            }
        }
    }
    writer.write(&batch(&events, &schema).map_err(StageError::Columns)?).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(staged)
}

/// The columns of the table.
fn schema() -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int32, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Schema::new(vec![
        text("id").with_nullable(false),
        text("type").with_nullable(false),
        text("source"),
        text("subject"),
        Field::new("time", time, false),
        text("requestid"),
        text("callerid"),
        text("namespace"),
        text("modeldeployment"),
        text("model"),
        Field::new("modelversion", DataType::Int64, true),
        text("modeldigest"),
        text("revision"),
        number("statuscode"),
        number("durationms"),
        text("datacontenttype"),
        text("contentencoding"),
        number("datalength"),
        text("dataomitted"),
        text("data"),
        Field::new("data_bytes", DataType::Binary, true),
    ])
}

fn batch(events: &[Event], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let text =
        |of: fn(&Event) -> Option<&str>| -> ArrayRef { Arc::new(events.iter().map(of).collect::<StringArray>()) };
    let number =
        |of: fn(&Event) -> Option<i32>| -> ArrayRef { Arc::new(events.iter().map(of).collect::<Int32Array>()) };
    let time: TimestampMicrosecondArray = events.iter().map(Event::at).collect();
    let version: Int64Array = events.iter().map(|event| event.modelversion).collect();
    let json: StringArray = events.iter().map(Event::text).collect();
    let bytes: BinaryArray = events.iter().map(|event| event.bytes().ok().flatten()).collect();
    let columns = vec![
        text(|event| Some(&event.id)),
        text(|event| Some(&event.kind)),
        text(|event| event.source.as_deref()),
        text(|event| event.subject.as_deref()),
        Arc::new(time.with_timezone("UTC")),
        text(|event| event.requestid.as_deref()),
        text(|event| event.callerid.as_deref()),
        text(|event| event.namespace.as_deref()),
        text(|event| event.modeldeployment.as_deref()),
        text(|event| event.model.as_deref()),
        Arc::new(version),
        text(|event| event.modeldigest.as_deref()),
        text(|event| event.revision.as_deref()),
        number(|event| event.statuscode),
        number(|event| event.durationms),
        text(|event| event.datacontenttype.as_deref()),
        text(|event| event.contentencoding.as_deref()),
        number(|event| event.datalength),
        text(|event| event.dataomitted.as_deref()),
        Arc::new(json),
        Arc::new(bytes),
    ];
    RecordBatch::try_new(schema.clone(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset;
    use crate::payload_log::event::lines;

    #[test]
    fn lines_that_were_cut_as_they_were_written_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = Vec::new();
        for number in 0..2000 {
            let event =
                format!(r#"{{"id": "{number}", "type": "t", "time": "2026-11-01T12:00:00Z", "data": [{number}]}}"#);
            lines(event.as_bytes(), false, &mut written).unwrap();
        }
        let (one, other) = (folder.path().join("1"), folder.path().join("2"));
        // Also where only the end of the line is missing: it was not all that was to be written.
        std::fs::write(&one, &written[..written.len() - 1]).unwrap();
        std::fs::write(&other, &written[..written.len() - 7]).unwrap();
        let to = folder.path().join("to");
        assert_eq!(stage(&[one, other], &to).unwrap(), Staged { rows: 3998, torn: 2 });
        let batches: Vec<RecordBatch> = dataset::batches(&to, 10_000).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3998);
        assert_eq!(dataset::schema(&to).unwrap().fields(), schema().fields());
    }
}
