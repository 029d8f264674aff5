//! What models run on. The tests that need ONNX Runtime's build for CUDA are run by hand, as docs/gpus.md says; each of them says
//! whether it needs a GPU too.

use crate::support::{Server, model_dir};

/// The path of `libonnxruntime.so` of the build for CUDA, with the libraries of NVIDIA where the loader finds them.
fn cuda_build() -> String {
    let set = std::env::var("ORT_CUDA_DYLIB_PATH");
    set.unwrap_or_else(|_| panic!("set ORT_CUDA_DYLIB_PATH to the libonnxruntime.so of the build for CUDA"))
}

fn provider(server: &Server) -> String {
    let said = server.caller().get("/v2/models/m").json()["properties"]["execution_provider"].clone();
    let said = said.as_str().unwrap().to_owned();
    let series = format!("millrace_server_model_info{{name=\"m\",version=\"3\",execution_provider=\"{said}\"}}");
    server.wait_for_metric(&series, 1.0);
    assert!(server.stderr().contains(&format!("execution_provider=\"{said}\"")), "{}", server.stderr());
    said
}

#[test]
fn the_plain_build_runs_models_on_the_processor_without_a_word_of_gpus() {
    for flags in [&[][..], &["--device", "auto"], &["--device", "cpu"]] {
        let server = Server::ready("product", flags);
        assert_eq!(provider(&server), "CPUExecutionProvider");
        assert!(!server.stderr().contains("GPU"), "{}", server.stderr());
    }
}

#[test]
fn a_gpu_that_was_asked_for_and_is_not_there_ends_the_server() {
    let (status, stderr) = Server::fails(&model_dir("product"), &["--device", "gpu"]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    for words in ["no GPU can be used, and --device=gpu asks for one", "is a build without the CUDA provider"] {
        assert!(stderr.contains(words), "{stderr}");
    }
    assert!(!stderr.contains("ready model="), "{stderr}");
}

#[test]
fn another_device_is_refused_with_those_that_there_are() {
    let (status, stderr) = Server::fails(&model_dir("product"), &["--device", "tpu"]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("possible values: auto, cpu, gpu"), "{stderr}");
}

#[test]
#[ignore = "needs ONNX Runtime's build for CUDA, and a machine without a GPU"]
fn the_build_for_cuda_falls_back_to_the_processor_and_says_why() {
    let server = Server::ready("product", &["--onnxruntime", &cuda_build()]);
    assert_eq!(provider(&server), "CPUExecutionProvider");
    assert!(server.stderr().contains("no GPU can be used, so models run on the processor: "), "{}", server.stderr());
    // Nobody asked for a GPU here, so there is nothing to say.
    let server = Server::ready("product", &["--onnxruntime", &cuda_build(), "--device", "cpu"]);
    assert_eq!(provider(&server), "CPUExecutionProvider");
    assert!(!server.stderr().contains("GPU"), "{}", server.stderr());
}

#[test]
#[ignore = "needs ONNX Runtime's build for CUDA, and a machine without a GPU"]
fn the_build_for_cuda_ends_without_the_gpu_that_was_asked_for() {
    let (status, stderr) = Server::fails(&model_dir("product"), &["--onnxruntime", &cuda_build(), "--device", "gpu"]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no GPU can be used, and --device=gpu asks for one"), "{stderr}");
    assert!(!stderr.contains("is a build without"), "{stderr}");
}

#[test]
#[ignore = "needs ONNX Runtime's build for CUDA, and an NVIDIA GPU"]
fn the_build_for_cuda_runs_models_on_the_gpu() {
    let on_processor = Server::ready("product", &[]);
    for device in ["auto", "gpu"] {
        let server = Server::ready("product", &["--onnxruntime", &cuda_build(), "--device", device]);
        assert_eq!(provider(&server), "CUDAExecutionProvider");
        let [a, b, c] = ["a", "b", "c"]
            .map(|name| serde_json::json!({"name": name, "datatype": "FP32", "shape": [2, 1], "data": [1.5, -2.0]}));
        let request = serde_json::json!({ "inputs": [a, b, c] }).to_string();
        let path = "/v2/models/m/infer";
        assert_eq!(
            server.caller().post(path, &request).json()["outputs"],
            on_processor.caller().post(path, &request).json()["outputs"]
        );
    }
}
