//! How much is scored at once: what memory holds. It changes no result.

/// What a thread needs beside the model and a batch: a row group that is read, and one that is written.
const THREAD_BYTES: u64 = 128 << 20;
/// What ONNX Runtime needs for a model, relative to its file.
const MODEL_FACTOR: u64 = 4;
/// What a batch may always take: a model that leaves less than this does not fit anyway.
const BATCH_BYTES: u64 = 32 << 20;
/// What a value takes on its way: in the data, as the model's input, in the result, and while one is made of the other.
pub const VALUE_BYTES: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// Threads, each with a model of its own.
    pub workers: usize,
    pub batch_rows: usize,
}

/// As many rows as are asked for if half of the memory holds them beside one model, and as many threads as it holds then; one of
/// each at least.
pub fn at_once(memory: u64, threads: usize, model_bytes: u64, row_bytes: u64, batch_rows: usize) -> AtOnce {
    let half = memory / 2;
    let fixed = THREAD_BYTES + MODEL_FACTOR * model_bytes;
    let row_bytes = row_bytes.max(1);
    let fit = half.saturating_sub(fixed).max(BATCH_BYTES) / row_bytes;
    let batch_rows = (batch_rows as u64).min(fit).max(1);
    let each = fixed.saturating_add(batch_rows.saturating_mul(row_bytes));
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    AtOnce { workers: whole(half / each).clamp(1, threads), batch_rows: whole(batch_rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_threads_as_memory_holds_models() {
        let workers = |memory, threads, model| at_once(memory, threads, model, 100, 4096).workers;
        assert_eq!(workers(64 << 30, 16, 1 << 20), 16);
        assert_eq!(workers(1 << 30, 16, 1 << 20), 3);
        assert_eq!(workers(1 << 30, 2, 1 << 20), 2);
        assert_eq!(workers(256 << 20, 16, 1 << 30), 1);
    }

    #[test]
    fn a_batch_is_counted_and_cut_to_what_memory_holds() {
        // A million rows of 100 bytes are 95 MiB for each thread.
        assert_eq!(at_once(2 << 30, 16, 1 << 20, 100, 1_000_000), AtOnce { workers: 4, batch_rows: 1_000_000 });
        // A million of 10,000 are more than there is: 512 - 132 MiB hold fewer, for one thread.
        assert_eq!(at_once(1 << 30, 16, 1 << 20, 10_000, 1_000_000), AtOnce { workers: 1, batch_rows: 39_845 });
        // The default of rows that are a megabyte each.
        assert_eq!(at_once(256 << 20, 16, 1 << 20, 1 << 20, 4096).batch_rows, 32);
        assert_eq!(at_once(256 << 20, 16, 1 << 20, 1 << 30, 4096), AtOnce { workers: 1, batch_rows: 1 });
    }
}
