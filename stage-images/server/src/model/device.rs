//! What models run on: an NVIDIA GPU by ONNX Runtime's CUDA provider, or the processor.
//!
//! It is settled once, before a model is loaded, by running a graph of one operator: that a library has the provider says nothing
//! of a driver, of a device, or of kernels for it.

use std::path::Path;

use clap::ValueEnum;
use ort::environment::Environment;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProvider as _};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::TensorRef;

use super::LoadError;

/// Adds its input to itself; `tests/models/make.py` makes it.
const PROBE: &[u8] = include_bytes!("../../tests/models/probe/model.onnx");
/// What ONNX Runtime says begins with where in its sources it failed; the reason begins with one of these.
const REASONS: [&str; 4] = ["Failed to load library", "CUDA failure", "CUDNN failure", "CUBLAS failure"];
/// What follows the reason.
const DETAILS: &str = " ; GPU=";
/// Characters that are told.
const LONGEST: usize = 400;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A GPU where one can be used, else the processor
    Auto,
    /// The processor
    Cpu,
    /// A GPU; where none can be used the server ends
    Gpu,
}

/// What runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// ONNX Runtime's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}

/// What can be had of what is asked for. A GPU that was asked for and cannot be used is an error, so that nothing is slow in silence.
pub fn choose(environment: &Environment, library: &Path, device: Device) -> Result<Provider, LoadError> {
    if device == Device::Cpu {
        return Ok(Provider::Cpu);
    }
    let why = match CUDA::is_available().and_then(|there| there.then(|| probe(environment)).transpose()) {
        Ok(Some(())) => return Ok(Provider::Cuda),
        // The library is for processors alone: nobody expects a GPU of it.
        Ok(None) if device == Device::Auto => return Ok(Provider::Cpu),
        Ok(None) => format!("{} is a build without the CUDA provider", library.display()),
        Err(error) => reason(error.message()),
    };
    if device == Device::Gpu {
        return Err(LoadError::NoGpu { why });
    }
    tracing::warn!("no GPU can be used, so models run on the processor: {why}");
    Ok(Provider::Cpu)
}

/// Makes a session of this builder run on the provider, as far as there are kernels for its operators.
pub(super) fn on(provider: Provider, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    if provider == Provider::Cpu {
        return Ok(builder);
    }
    // With the log level, ONNX Runtime says when operators of a model are left to the processor.
    let mut builder = builder.with_log_level(LogLevel::Warning).map_err(|error| ort::Error::new(error.message()))?;
    // Each size of a batch is a shape of its own: a search by trying all would stop the first request of each. The largest batch
    // runs before the first request, so memory that doubles when it grows would be memory for nothing.
    CUDA::default()
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .register(&mut builder)?;
    Ok(builder)
}

/// Runs the smallest graph on the GPU, and nowhere else.
fn probe(environment: &Environment) -> ort::Result<()> {
    let mut session = on(Provider::Cuda, Session::builder(environment)?)?
        .with_config_entry("session.disable_cpu_ep_fallback", "1")
        .map_err(|error| ort::Error::new(error.message()))?
        .commit_from_memory(PROBE)?;
    let input = TensorRef::from_array_view(([2_usize], &[1_i32, 20][..]))?;
    let outputs = session.run(ort::inputs![input])?;
    let (_, sums) = outputs[0].try_extract_tensor::<i32>()?;
    if sums == [2, 40] { Ok(()) } else { Err(ort::Error::new(format!("1 + 1 and 20 + 20 are {sums:?} on it"))) }
}

/// Why it failed, on one line, of what ONNX Runtime says.
fn reason(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let begin = REASONS.iter().filter_map(|reason| line.find(reason)).min().unwrap_or(0);
    let told = line[begin..].split(DETAILS).next().unwrap_or_default();
    match told.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &told[..end]),
        None => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_onnx_runtime_says_the_reason_is_told() {
        let said = "/src/cuda_call.cc:129 void onnxruntime::CudaCall()\n/src/cuda_call.cc:121 CUDA failure 35: the driver is \
                    too old ; GPU=-1 ; hostname=h ; expr=cudaSetDevice(0);";
        assert_eq!(reason(said), "CUDA failure 35: the driver is too old");
        let said =
            "/src/bridge.cc:1844 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library x.so with error: y";
        assert_eq!(reason(said), "Failed to load library x.so with error: y");
        assert_eq!(reason("something\n else"), "something else");
    }

    #[test]
    fn long_words_are_cut() {
        let cut = reason(&"ä".repeat(LONGEST + 1));
        assert_eq!(cut.chars().count(), LONGEST + 2);
        assert!(cut.ends_with("ä …"));
    }
}
