//! Logs are what the program printed, in order, byte for byte.

use std::io::Read;
use std::time::{Duration, Instant};

use millrace_contract::{Outcome, ReportReason};

use crate::support::Stage;

#[test]
fn standard_output_and_error_keep_their_order() {
    let ran = Stage::new().sh("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done");
    let expected = ["out 1\nerr 1", "out 2\nerr 2", "out 3\nerr 3", "out 4\nerr 4", "out 5\nerr 5\n"].join("\n");
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), expected);
    assert_eq!(ran.stderr, "");
    assert_eq!((ran.report.outcome, ran.report.reason), (Outcome::Succeeded, ReportReason::Completed));
}

#[test]
fn bytes_that_are_no_text_and_a_missing_line_end_come_through() {
    let ran = Stage::new().sh(r"printf '\000\377\r\n\033[31mno line end'");
    assert_eq!(ran.stdout, b"\x00\xff\r\n\x1b[31mno line end");
}

#[test]
fn a_failed_command_has_its_last_lines_in_the_report_and_a_good_one_has_not() {
    let ran = Stage::new().sh("seq 1 1000; echo 'no such column: specis' >&2; exit 3");
    assert_eq!((ran.status, ran.report.exit_code, ran.report.reason), (3, Some(3), ReportReason::Error));
    assert!(ran.report.tail.ends_with("1000\nno such column: specis"), "{}", ran.report.tail);
    assert!(ran.report.tail.len() <= 1024 && !ran.report.tail.starts_with('\n'));
    assert!(ran.report.message.contains("exit status 3"), "{}", ran.report.message);
    assert_eq!(Stage::new().sh("echo fine").report.tail, "");
}

#[test]
fn what_is_printed_shows_while_the_command_runs() {
    let stage = Stage::new();
    let mut child =
        stage.start(&["sh", "-c", "printf 'no line end'; while [ ! -e $MILLRACE_OUT/go ]; do sleep 0.05; done"]);
    let mut seen = [0; 11];
    child.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"no line end");
    std::fs::write(stage.path("stage/attempts/1/out/go"), "").unwrap();
    assert_eq!(stage.ended(child.wait_with_output().unwrap()).status, 0);
}

#[test]
fn a_daemon_that_keeps_the_output_open_does_not_keep_the_stage_open() {
    let began = Instant::now();
    let ran = Stage::new().sh("setsid sh -c 'echo daemon; exec sleep 60' & sleep 0.3; echo main");
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), "daemon\nmain\n");
    assert_eq!(ran.report.outcome, Outcome::Succeeded);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn nothing_that_the_command_started_outlives_the_attempt() {
    let stage = Stage::new();
    let ran = stage.sh("(setsid sleep 61 & echo $! ) ; (sleep 62 & echo $!); sleep 63 & echo $!");
    let pids: Vec<i32> = String::from_utf8(ran.stdout).unwrap().lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    for pid in pids {
        let alive = std::path::Path::new(&format!("/proc/{pid}")).exists();
        assert!(!alive, "process {pid} is still there");
    }
}

#[test]
fn a_hundred_megabytes_come_through_in_bounded_memory() {
    let stage = Stage::new();
    let mut child = stage.start(&["sh", "-c", "head -c 104857600 /dev/zero | tr '\\0' 'x'"]);
    let pid = child.id();
    let mut out = child.stdout.take().unwrap();
    let (mut chunk, mut total, mut peak) = (vec![0; 1 << 20], 0_usize, 0_usize);
    loop {
        let length = out.read(&mut chunk).unwrap();
        if length == 0 {
            break;
        }
        assert!(chunk[..length].iter().all(|byte| *byte == b'x'));
        total += length;
        peak = peak.max(peak_kib(pid).unwrap_or(0));
    }
    assert_eq!(total, 104_857_600);
    assert!(peak > 0 && peak < 16 * 1024, "the agent had {peak} KiB");
    assert_eq!(stage.ended(child.wait_with_output().unwrap()).status, 0);
}

fn peak_kib(pid: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}

#[test]
fn a_log_reader_that_goes_away_does_not_stop_the_command() {
    let stage = Stage::new();
    let mut child = stage.start(&["sh", "-c", "seq 1 100000; echo 7 > $MILLRACE_OUT/results/answer"]);
    drop(child.stdout.take());
    let ran = stage.ended(child.wait_with_output().unwrap());
    assert_eq!(ran.report.results["answer"], 7);
}
