//! The query engine, bounded: its memory is a share of the cgroup's, and what does not fit spills to a temporary folder.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};

use crate::limits;
use crate::pool::SharedPool;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("failed to start the query engine")]
    Start(#[source] DataFusionError),
}

/// Spilled files that are merged at once.
const MERGED_FILES: usize = 8;

/// Threads that this process may use. The standard library reads the CPU quota of both versions of cgroups.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// An engine for this process's limits, with as many threads as it may use.
pub fn start() -> Result<SessionContext, EngineError> {
    start_with(pool_bytes(limits::memory_bytes()), threads())
}

/// An engine whose results come in the same order every time: with one partition there is no race between threads.
pub fn start_ordered() -> Result<SessionContext, EngineError> {
    start_with(pool_bytes(limits::memory_bytes()), 1)
}

/// The engine's share: what it does not count (batches in flight, the Parquet writer, ONNX Runtime) needs the rest.
fn pool_bytes(limit: u64) -> usize {
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

pub fn start_with(pool_bytes: usize, threads: usize) -> Result<SessionContext, EngineError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(SharedPool::new(pool_bytes)))
        // Merging takes a batch of each spilled file, and as many files at once as memory holds if nothing bounds it;
        // the operator that comes after it then finds none.
        .with_max_spill_merge_fan_in(MERGED_FILES)
        .build_arc()
        .map_err(EngineError::Start)?;
    let mut config = SessionConfig::new().with_target_partitions(threads).with_information_schema(false);
    let options = config.options_mut();
    // `SELECT Species` means the column `Species`: names are as the data has them, not folded to lower case.
    options.sql_parser.enable_ident_normalization = false;
    // Plain strings: readers of our Parquet files need not know views.
    options.execution.parquet.schema_force_view_types = false;
    // A sort must be able to start within a small pool.
    options.execution.sort_spill_reservation_bytes = (pool_bytes / 16).clamp(1 << 16, 10 << 20);
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// Plans one query that only reads: no statement that creates, writes or sets anything.
pub async fn query(context: &SessionContext, sql: &str) -> Result<DataFrame, DataFusionError> {
    let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    context.sql_with_options(sql, reading).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sort_larger_than_the_pool_spills_and_is_right() {
        let context = start_with(48 << 20, 2).unwrap();
        let frame = query(
            &context,
            "SELECT value, concat('some text to make the row wide ', value) AS t \
             FROM generate_series(1, 3000000) ORDER BY t DESC",
        )
        .await
        .unwrap();
        let mut rows = 0;
        let mut last: Option<String> = None;
        let mut stream = frame.execute_stream().await.unwrap();
        while let Some(batch) = futures::StreamExt::next(&mut stream).await {
            let batch = batch.unwrap();
            rows += batch.num_rows();
            let text = arrow::util::display::array_value_to_string(batch.column(1), 0).unwrap();
            assert!(last.is_none_or(|last| last > text), "rows are in order");
            last = Some(text);
        }
        assert_eq!(rows, 3_000_000);
    }

    #[tokio::test]
    async fn statements_that_write_are_refused() {
        let context = start_with(8 << 20, 1).unwrap();
        for sql in
            ["CREATE TABLE t AS SELECT 1", "COPY (SELECT 1) TO '/tmp/x.csv'", "SET datafusion.execution.batch_size = 1"]
        {
            assert!(query(&context, sql).await.is_err(), "{sql}");
        }
    }

    #[tokio::test]
    async fn a_files_name_is_no_table() {
        let context = start_with(8 << 20, 1).unwrap();
        assert!(query(&context, "SELECT * FROM '/etc/passwd'").await.is_err());
    }

    #[tokio::test]
    async fn names_keep_their_case() {
        let context = start_with(8 << 20, 1).unwrap();
        let frame =
            query(&context, "SELECT COUNT(*) AS Rows FROM (SELECT 1 AS Species) WHERE Species = 1").await.unwrap();
        assert_eq!(frame.schema().field(0).name(), "Rows");
    }
}
