//! Memory stays bounded whatever the size of the data. The limit is the process's address space: beyond it allocation
//! fails and the run with it.

use std::io::Write;
use std::process::Command;

/// Peak resident bytes of one ingest of a CSV file with so many rows.
fn peak(rows: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    writeln!(file, "id,name,value").unwrap();
    for row in 0..rows {
        writeln!(file, "{row},name of row {row} which is rather long,{}.5", row * 3).unwrap();
    }
    file.flush().unwrap();
    let params = serde_json::json!({"source": path.display().to_string()}).to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-data"))
        .args(["ingest", "--params", &params])
        .env("MILLRACE_OUTPUT_DATA", folder.path().join("data"))
        .env("MILLRACE_OUT", folder.path().join("out"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        peak = peak.max(kilobytes * 1024);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn ten_times_the_rows_take_no_more_than_a_row_groups_memory_more() {
    let (small, large) = (peak(100_000), peak(1_500_000));
    assert!(large < small + (96 << 20), "{} MiB, then {} MiB", small >> 20, large >> 20);
}
