//! The command line. Every flag is also an environment variable.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use millrace_files::digest::is_digest;

use crate::model::Device;

/// Serves ONNX models over the Open Inference Protocol v2.
#[derive(Clone, Debug, Parser)]
#[command(name = "millrace-server", version)]
pub struct Config {
    /// Folder with model.onnx (and signature.json), or with one .onnx file
    #[arg(long, env = "MILLRACE_MODEL_DIR", default_value = "/mnt/models")]
    pub model_dir: PathBuf,
    /// The model's name in URLs and answers; without it the server begins with the models of --load
    #[arg(long, env = "MILLRACE_MODEL_NAME", required_unless_present = "model_repository")]
    pub model_name: Option<String>,
    /// The model's version in URLs and answers
    #[arg(long, env = "MILLRACE_MODEL_VERSION", default_value = "1")]
    pub model_version: String,
    /// What the files of --model-dir must be: the digest of the registered model, sha256:<hex>. A model that differs is not
    /// served. Without it whatever is there is
    #[arg(long, env = "MILLRACE_MODEL_DIGEST", value_parser = digest, requires = "model_name")]
    pub model_digest: Option<String>,
    /// Folder of folders, each a model that callers may load and unload. Without it they may not
    #[arg(long, env = "MILLRACE_MODEL_REPOSITORY")]
    pub model_repository: Option<PathBuf>,
    /// Models of the repository to begin with
    #[arg(long, env = "MILLRACE_LOAD", value_delimiter = ',', requires = "model_repository")]
    pub load: Vec<String>,
    /// Models at a time
    #[arg(long, env = "MILLRACE_MAX_MODELS", default_value = "8", value_parser = positive)]
    pub max_models: usize,
    #[arg(long, env = "MILLRACE_HOST", default_value = "0.0.0.0")]
    pub host: IpAddr,
    /// 0 takes any free port; the log line "listening" has it
    #[arg(long, env = "MILLRACE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Another port, for the operator alone: what was counted for drift. Without it nothing is counted
    #[arg(long, env = "MILLRACE_ADMIN_PORT")]
    pub admin_port: Option<u16>,
    /// Rows that run together at most; a request with more rows runs alone. 1 turns batching off
    #[arg(long, env = "MILLRACE_MAX_BATCH_SIZE", default_value = "32", value_parser = positive)]
    pub max_batch_size: usize,
    /// How long a request waits for others when the model is free and its batch is not full
    #[arg(long, env = "MILLRACE_MAX_DELAY", default_value = "0ms", value_parser = duration)]
    pub max_delay: Duration,
    /// Rows that the model is asked for at most to explain one
    #[arg(long, env = "MILLRACE_EXPLAIN_BUDGET", default_value = "2048", value_parser = positive)]
    pub explain_budget: usize,
    /// Requests that wait for the model at most; more are answered 503
    #[arg(long, env = "MILLRACE_MAX_QUEUE", default_value = "1024", value_parser = positive)]
    pub max_queue: usize,
    /// Bytes of a request's body at most (suffixes Ki, Mi, Gi); more is answered 413
    #[arg(long, env = "MILLRACE_MAX_BODY", default_value = "8Mi", value_parser = size)]
    pub max_body: usize,
    /// Bytes that all requests hold at most, bodies and values; more are answered 503. By default an eighth of the memory
    /// limit, up to 1Gi, but never less than one body
    #[arg(long, env = "MILLRACE_MAX_BUFFERED", value_parser = size)]
    pub max_buffered: Option<usize>,
    /// Open connections at most; more are answered 503
    #[arg(long, env = "MILLRACE_MAX_CONNECTIONS", default_value = "4096", value_parser = positive)]
    pub max_connections: usize,
    /// Threads of one inference, and threads that serve sockets. By default the CPU limit
    #[arg(long, env = "MILLRACE_THREADS", value_parser = positive)]
    pub threads: Option<usize>,
    /// What models run on
    #[arg(long, env = "MILLRACE_DEVICE", value_enum, default_value = "auto")]
    pub device: Device,
    /// From a request's last byte to its answer at most; then it is answered 504
    #[arg(long, env = "MILLRACE_REQUEST_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub request_timeout: Duration,
    /// A caller has this long to send a request's head once it has begun; then it is answered 408
    #[arg(long, env = "MILLRACE_HEAD_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub head_timeout: Duration,
    /// A caller has this long to send a request's body; then it is answered 408
    #[arg(long, env = "MILLRACE_BODY_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub body_timeout: Duration,
    /// A connection without a request is closed after this
    #[arg(long, env = "MILLRACE_IDLE_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub idle_timeout: Duration,
    /// After SIGTERM the server answers as before for this long, and asks callers to close their connections
    #[arg(long, env = "MILLRACE_DRAIN", default_value = "15s", value_parser = duration)]
    pub drain: Duration,
    /// After the drain, requests in flight have this long to end
    #[arg(long, env = "MILLRACE_GRACE", default_value = "30s", value_parser = duration)]
    pub grace: Duration,
    /// ONNX Runtime's shared library
    #[arg(long, env = "ORT_DYLIB_PATH", default_value = "/usr/lib/libonnxruntime.so")]
    pub onnxruntime: PathBuf,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number of at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// `512`, `64Ki`, `8Mi`, `1Gi`.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || "write bytes, with Ki, Mi or Gi if you like: 8Mi".to_owned();
    let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    let unit = units.into_iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)));
    let (digits, factor) = unit.unwrap_or((text, 1));
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

fn digest(text: &str) -> Result<String, String> {
    if is_digest(text) {
        Ok(text.to_owned())
    } else {
        Err("write sha256: and 64 hexadecimal digits in lower case, as spec.artifact.digest of the ModelVersion, or spec.model.digest of the ModelDeployment, has them".to_owned())
    }
}

/// `250ms`, `15s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration with its unit, ms, s or m: 15s".to_owned();
    let units = [("ms", 1_u64), ("s", 1000), ("m", 60_000)];
    let unit = units.into_iter().find_map(|(suffix, millis)| Some((text.strip_suffix(suffix)?, millis)));
    let (digits, millis) = unit.ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_a_binary_suffix() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64Ki"), Ok(65_536));
        assert_eq!(size("8Mi"), Ok(8_388_608));
        for wrong in ["", "Mi", "8M", "-1", "0", "1.5Mi", "99999999999999999999", "18446744073709551615Gi"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_digest_is_that_of_the_model_with_a_name() {
        let digest = format!("--model-digest=sha256:{}", "0".repeat(64));
        let parse = |flags: &[&str]| Config::try_parse_from([&["millrace-server", digest.as_str()], flags].concat());
        let found = parse(&["--model-name=m"]).unwrap().model_digest;
        assert_eq!(found.as_deref(), digest.strip_prefix("--model-digest="));
        let error = parse(&["--model-repository=/models"]).unwrap_err().to_string();
        assert!(error.contains("--model-name"), "{error}");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["", "15", "s", "1h", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
