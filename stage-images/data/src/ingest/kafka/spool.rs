//! Messages on disk, a line each, until all are read and their types are known. Beside the lines stands where each message was.

use std::fs::File;
use std::io::{BufWriter, Read, Result, Seek, SeekFrom, Write};
use std::path::PathBuf;

use tempfile::TempDir;

/// A partition as 4 bytes and an offset as 8, for each line.
const MARK: usize = 12;

pub struct Spool {
    folder: TempDir,
    lines: BufWriter<File>,
    marks: BufWriter<File>,
    pub bytes: u64,
    pub count: u64,
}

/// All messages, written.
pub struct Spooled {
    folder: TempDir,
}

impl Spool {
    pub fn create() -> Result<Self> {
        let folder = TempDir::new()?;
        let file = |name: &str| File::create(folder.path().join(name)).map(BufWriter::new);
        let (lines, marks) = (file("lines")?, file("marks")?);
        Ok(Self { folder, lines, marks, bytes: 0, count: 0 })
    }

    /// Takes the line of a message, with its end.
    pub fn push(&mut self, partition: i32, offset: i64, line: &[u8]) -> Result<()> {
        self.lines.write_all(line)?;
        self.marks.write_all(&partition.to_le_bytes())?;
        self.marks.write_all(&offset.to_le_bytes())?;
        self.bytes += line.len() as u64;
        self.count += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<Spooled> {
        self.lines.flush()?;
        self.marks.flush()?;
        Ok(Spooled { folder: self.folder })
    }
}

impl Spooled {
    pub fn lines(&self) -> PathBuf {
        self.folder.path().join("lines")
    }

    /// Partition and offset of the message on a line, counted from 1.
    pub fn place(&self, line: u64) -> Result<(i32, i64)> {
        let mut marks = File::open(self.folder.path().join("marks"))?;
        marks.seek(SeekFrom::Start(line.saturating_sub(1) * MARK as u64))?;
        let (mut partition, mut offset) = ([0; 4], [0; 8]);
        marks.read_exact(&mut partition)?;
        marks.read_exact(&mut offset)?;
        Ok((i32::from_le_bytes(partition), i64::from_le_bytes(offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_leads_back_to_its_message() {
        let mut spool = Spool::create().unwrap();
        for (partition, offset, line) in [(0, 7, "{}\n"), (0, 9, "{\"a\":1}\n"), (12, i64::MAX, "{}\n")] {
            spool.push(partition, offset, line.as_bytes()).unwrap();
        }
        assert_eq!((spool.bytes, spool.count), (14, 3));
        let spooled = spool.finish().unwrap();
        assert_eq!(std::fs::read_to_string(spooled.lines()).unwrap(), "{}\n{\"a\":1}\n{}\n");
        assert_eq!(spooled.place(1).unwrap(), (0, 7));
        assert_eq!(spooled.place(2).unwrap(), (0, 9));
        assert_eq!(spooled.place(3).unwrap(), (12, i64::MAX));
        assert!(spooled.place(4).is_err());
    }
}
