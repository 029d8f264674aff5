"""What the stage hands back: the model folder, metrics and results, the same for the same seed and data."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest

from generated import table
from millrace_train_tabular.__main__ import main
from millrace_train_tabular.algorithms import CATALOG
from millrace_train_tabular.parity import session
from stagecase import Stage

SMALL: dict[str, Any] = {"algorithm": "random-forest", "hyperparameters": {"n_estimators": 10}}


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("algorithm", [name for name, entry in CATALOG.items() if "classification" in entry.tasks])
def test_the_same_seed_and_data_give_the_same_bytes(algorithm: str, stage: Stage) -> None:
    drawn = table(300, seed=1)
    stage.succeeds(drawn, algorithm=algorithm, seed=7)
    first = digest(stage.model)
    stage.succeeds(drawn, algorithm=algorithm, seed=7)
    assert digest(stage.model) == first
    assert set(first) == {"model.onnx", "signature.json", "profile.json"}


def test_another_seed_gives_another_forest(stage: Stage) -> None:
    drawn = table(300, seed=1)
    stage.succeeds(drawn, seed=1, **SMALL)
    first = digest(stage.model)
    stage.succeeds(drawn, seed=2, **SMALL)
    assert digest(stage.model)["model.onnx"] != first["model.onnx"]


def test_the_signature_is_that_of_the_file(stage: Stage) -> None:
    stage.succeeds(table(300, seed=1), **SMALL, features=["city", "wide", "flag"])
    signature = stage.json("model/signature.json")
    assert signature == {
        "task": "classification",
        "inputs": [
            {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "wide", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "flag", "datatype": "FP32", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1], "classes": ["kind-0", "kind-1", "kind-2"]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3], "classes": ["kind-0", "kind-1", "kind-2"]},
        ],
    }
    model = onnx.load(str(stage.model / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == {"millrace.signature": signature}
    opened = session((stage.model / "model.onnx").read_bytes())
    assert [given.name for given in opened.get_inputs()] == ["city", "wide", "flag"]
    assert [(out.name, out.type) for out in opened.get_outputs()] == [("label", "tensor(string)"), ("probabilities", "tensor(float)")]


def test_a_boolean_target_gives_whole_number_labels(stage: Stage) -> None:
    stage.succeeds(table(300, seed=1), target="wins", features=["wide", "city"], **SMALL)
    outputs = stage.json("model/signature.json")["outputs"]
    assert outputs[0] == {"name": "label", "datatype": "INT64", "shape": [-1], "classes": [0, 1]}
    answers = session((stage.model / "model.onnx").read_bytes()).run(
        None, {"wide": np.zeros((2, 1), np.float32), "city": np.array([["Bonn"], [""]], dtype=object)}
    )
    assert answers[0].dtype == np.int64


def test_a_regression_has_one_output(stage: Stage) -> None:
    stage.succeeds(table(300, seed=1), target="size", algorithm="ridge", features=["wide", "steps"])
    assert stage.json("model/signature.json")["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}]
    assert set(stage.json("out/metrics.json")) == {"train_rmse", "train_mae", "train_r2"}


def test_metrics_and_results_fit_the_contract(stage: Stage) -> None:
    stage.succeeds(table(300, seed=1), table(100, seed=2), crossValidation={"folds": 3, "metric": "roc_auc"}, **SMALL)
    metrics = stage.json("out/metrics.json")
    assert 0.5 < metrics["cv_mean"] < 1
    assert metrics["cv_std"] > 0
    assert metrics["validation_accuracy"] > 0.5
    names = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "log_loss", "roc_auc")
    assert set(metrics) == {"cv_mean", "cv_std", *(f"{part}_{name}" for part in ("train", "validation") for name in names)}
    results = {file.name: file.read_text() for file in (stage.folder / "out" / "results").iterdir()}
    assert results == {"rows": "300", "features": "9", "algorithm": "random-forest", "cv_metric": "roc_auc"}
    assert all(re.fullmatch("[a-z][a-z0-9_]{0,62}", name) for name in [*metrics, *results])
    assert len(json.dumps({"metrics": metrics, "results": results})) <= 1024


def test_every_metric_is_in_the_stage_template(stage: Stage) -> None:
    template = (Path(__file__).parents[1] / "stages" / "train-tabular.yaml").read_text()
    stage.succeeds(table(300, seed=1), table(100, seed=2), crossValidation={"folds": 2}, **SMALL)
    found = set(stage.json("out/metrics.json"))
    stage.succeeds(table(300, seed=1), table(100, seed=2), target="size", **SMALL)
    found |= set(stage.json("out/metrics.json"))
    declared = set(re.findall(r"^    ([a-z0-9_]+): \{", template.split("  metrics:")[1].split("  container:")[0], re.MULTILINE))
    assert found == declared


def test_the_stage_template_offers_every_algorithm() -> None:
    template = (Path(__file__).parents[1] / "stages" / "train-tabular.yaml").read_text()
    listed = re.search(r"algorithm:.*?enum: \[(.*?)\]", template, re.DOTALL)
    assert listed is not None
    assert set(re.split(r",\s*", listed.group(1))) == {"auto", "linear", *CATALOG}


def test_the_profile_describes_the_training_rows(stage: Stage) -> None:
    drawn = table(500, seed=1)
    stage.succeeds(drawn, features=["wide", "city", "flag"], **SMALL)
    profile = stage.json("model/profile.json")
    wide = np.array([v for v in drawn.column("wide").to_pylist() if v is not None], dtype=np.float32)
    described = profile["features"]["wide"]
    assert profile["rows"] == 500
    assert described["count"] == wide.size
    assert described["missing"] == pytest.approx(1 - wide.size / 500)
    assert described["mean"] == pytest.approx(wide.mean(dtype=np.float64))
    assert described["quantiles"]["0.5"] == pytest.approx(np.quantile(wide, 0.5), rel=1e-6)
    assert sum(described["histogram"]["counts"]) == wide.size
    assert len(described["histogram"]["edges"]) == len(described["histogram"]["counts"]) + 1
    city = profile["features"]["city"]
    assert city["categories"][0]["value"] == "Aachen"
    assert city["count"] == sum(entry["count"] for entry in city["categories"]) + city["other"]
    assert profile["features"]["flag"]["histogram"]["counts"]
    assert sum(feature["importance"] for feature in profile["features"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(label["count"] for label in profile["predictions"]["categories"]) == 500


def test_a_folder_of_files_is_read_as_one_table(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = table(300, seed=1)
    stage.succeeds(drawn, **SMALL)
    whole = digest(stage.model)
    parts = stage.folder / "parts"
    parts.mkdir()
    pq.write_table(drawn.slice(0, 100), parts / "part-0.parquet")
    pq.write_table(drawn.slice(100), parts / "part-1.parquet")
    (parts / "_temporary").mkdir()
    pq.write_table(drawn, parts / "_temporary" / "part-0.parquet")
    monkeypatch.setenv("MILLRACE_INPUT_TRAIN", str(parts))
    assert main(["--params", json.dumps({"target": "kind", **SMALL})]) == 0
    assert digest(stage.model) == whole


def test_dictionary_encoded_text_is_text(stage: Stage) -> None:
    drawn = table(300, seed=1)
    stage.succeeds(drawn, **SMALL)
    plain = digest(stage.model)
    for name in ("city", "kind"):
        position = drawn.column_names.index(name)
        drawn = drawn.set_column(position, name, drawn.column(name).dictionary_encode())
    stage.succeeds(drawn, **SMALL)
    assert digest(stage.model) == plain


def test_class_weights_favour_the_weighted_class(stage: Stage) -> None:
    drawn = table(400, seed=1)
    params: dict[str, Any] = {"algorithm": "logistic-regression", "features": ["tiny", "steps"]}
    stage.succeeds(drawn, **params)
    before = stage.json("model/profile.json")["predictions"]["categories"][1]["count"]
    stage.succeeds(drawn, classWeights={"kind-1": 10}, **params)
    assert stage.json("model/profile.json")["predictions"]["categories"][1]["count"] > before


def test_columns_may_have_any_name(stage: Stage) -> None:
    drawn = table(200, seed=1).rename_columns({"wide": "Größe (mm)", "city": "prediction", "steps": "node_1"})
    stage.succeeds(drawn.drop_columns(["size", "wins"]), **SMALL)
    names = [given["name"] for given in stage.json("model/signature.json")["inputs"]]
    assert names[:2] == ["node_1", "Größe (mm)"]
