"""The input `features`: what the stage of that name has learned comes before the model, in one file that takes the raw columns.

`features/` has tables, and what the data image's program learned and made of them (`features/make.py`).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import KBinsDiscretizer, MaxAbsScaler, MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

from generated import table as generated
from millrace_train_tabular import features, target
from millrace_train_tabular.algorithms import CATALOG, CLASSIFICATION
from millrace_train_tabular.fitting import Rows, fit
from millrace_train_tabular.onnx.convert import convert
from millrace_train_tabular.params import Params
from millrace_train_tabular.parity import TOLERANCE, feeds, session
from millrace_train_tabular.table import Numbers, read_features
from stagecase import Stage
from written import made_table

HERE = Path(__file__).parent / "features"
FITTED = features.load(HERE)
TRAIN, STRANGE = pq.read_table(HERE / "train.parquet"), pq.read_table(HERE / "strange.parquet")


def made() -> dict[str, Any]:
    """The features of the strange rows, by name, as the graph makes them."""
    raw = read_features(STRANGE, list(FITTED.inputs), "test")
    columns = FITTED.apply(raw).columns
    return {n: c.values if isinstance(c, Numbers) else np.array(c.values, dtype=object)[c.codes] for n, c in columns.items()}


def numbers(table: pa.Table, name: str) -> Any:
    """A raw column as the served model gets it, for scikit-learn: float32 first, then double."""
    column = read_features(table, [name], "test").columns[name]
    assert isinstance(column, Numbers)
    return column.values.astype(np.float64)[:, None]


def texts(table: pa.Table, name: str) -> Any:
    return np.array([v or "" for v in table.column(name).to_pylist()], dtype=object)[:, None]


def close(found: Any, expected: Any) -> None:
    """Equal to float32's precision. Where a double is beyond float32 both are infinite."""
    with np.errstate(over="ignore"):
        expected = np.asarray(expected, dtype=np.float64).ravel().astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_the_stages_table_has_what_the_graph_makes() -> None:
    """4,003 rows with missing values, unknown texts and numbers far out."""
    written = pq.read_table(HERE / "strange-features.parquet")
    found = made()
    assert written.column_names == ["left", *FITTED.outputs]
    assert written.num_rows == STRANGE.num_rows > 4000
    for name, numeric in FITTED.outputs.items():
        column = written.column(name)
        if numeric:
            np.testing.assert_array_equal(column.to_numpy().astype(np.float32), found[name], err_msg=name)
        else:
            assert [v or "" for v in column.to_pylist()] == list(found[name]), name


def test_numbers_are_what_scikit_learn_makes_of_them() -> None:
    found = made()

    def imputed(name: str, **how: Any) -> tuple[Any, Any]:
        imputer = SimpleImputer(**how).fit(numbers(TRAIN, name))
        return imputer.transform(numbers(TRAIN, name)), imputer.transform(numbers(STRANGE, name))

    close(found["age_missing"], np.isnan(numbers(STRANGE, "age")))
    fit_on, asked = imputed("age", strategy="median")
    close(found["age"], StandardScaler().fit(fit_on).transform(asked))
    with np.errstate(over="ignore"):
        close(found["age_x_age"], asked.astype(np.float32) * asked.astype(np.float32))
    fit_on, asked = imputed("income", strategy="mean")
    close(found["income"], RobustScaler().fit(fit_on).transform(asked))
    fit_on, asked = imputed("score", strategy="constant", fill_value=-1)
    close(found["score"], MinMaxScaler(clip=True).fit(fit_on).transform(asked))
    close(found["top"], MaxAbsScaler().fit(numbers(TRAIN, "top")).transform(numbers(STRANGE, "top")))
    fit_on, asked = imputed("count", strategy="most_frequent")
    close(found["count"], KBinsDiscretizer(4, encode="ordinal", strategy="uniform", subsample=None).fit(fit_on).transform(asked))


def test_bins_are_those_of_scikit_learn_and_what_is_missing_is_in_none() -> None:
    found = made()
    present = numbers(TRAIN, "depth")
    bins = KBinsDiscretizer(5, encode="onehot-dense", strategy="quantile", subsample=None, quantile_method="linear")
    bins.fit(present[~np.isnan(present)][:, None])
    asked = numbers(STRANGE, "depth")
    gone = np.isnan(asked).ravel()
    expected = bins.transform(np.nan_to_num(asked))
    expected[gone] = 0
    assert gone.sum() > 100
    for number in range(expected.shape[1]):
        close(found[f"depth_bin_{number}"], expected[:, number])
    edge = numbers(STRANGE, "edge").ravel()
    for number, inside in enumerate([edge < 18, (edge >= 18) & (edge < 65), edge >= 65]):
        close(found[f"edge_bin_{number}"], inside)


def test_categories_are_those_of_scikit_learn() -> None:
    found = made()
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.05, sparse_output=False).fit(texts(TRAIN, "city"))
    expected = encoder.transform(texts(STRANGE, "city"))
    named = [n.removeprefix("x0_").replace("infrequent_sklearn", "infrequent") or "missing" for n in encoder.get_feature_names_out()]
    assert "infrequent" in named and "missing" in named
    for name, column in zip(named, expected.T, strict=True):
        close(found[f"city_{name}"], column)
    region = np.where(texts(TRAIN, "region") == "", "nowhere", texts(TRAIN, "region"))
    asked = np.where(texts(STRANGE, "region") == "", "nowhere", texts(STRANGE, "region"))
    encoder = OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False).fit(region)
    with pytest.warns(UserWarning, match="unknown categories"):
        expected = encoder.transform(asked)
    for name, column in zip(encoder.get_feature_names_out(), expected.T, strict=True):
        close(found[name.replace("x0_", "region_")], column)
    code = numbers(STRANGE, "code").ravel()
    assert "code_1" not in found
    for value in range(2, 7):
        close(found[f"code_{value}"], code == value)
    place = {"low": 0, "mid": 1, "high": 2}
    close(found["grade"], [place.get(v, -7) for v in texts(STRANGE, "grade").ravel()])
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(texts(TRAIN, "kind"))
    close(found["kind"], encoder.transform(texts(STRANGE, "kind")))
    assert list(found["tag"]) == [v or "red" for v in texts(STRANGE, "tag").ravel()]


def test_a_categorys_mean_of_the_target_is_mixed_with_the_whole_mean() -> None:
    area, yes = texts(TRAIN, "area").ravel(), np.array([v == "yes" for v in TRAIN.column("left").to_pylist()])
    mean = yes.mean()
    of = {a: (yes[area == a].sum() + 5 * mean) / ((area == a).sum() + 5) for a in set(area)}
    close(made()["area"], [of.get(v, mean) for v in texts(STRANGE, "area").ravel()])


def test_words_are_counted_as_scikit_learn_does_between_spaces() -> None:
    found = made()
    names = [name for name in FITTED.outputs if name.startswith("note_")]
    assert len(names) == 5
    counter = CountVectorizer(lowercase=False, token_pattern=r"[^ ]+", vocabulary=[n.removeprefix("note_") for n in names])
    expected = counter.transform(texts(STRANGE, "note").ravel()).toarray()
    for name, column in zip(names, expected.T, strict=True):
        close(found[name], column)


def test_a_batch_of_empty_rows_is_as_those_rows_among_others() -> None:
    raw = read_features(STRANGE, list(FITTED.inputs), "test")
    empty = FITTED.apply(raw.take(np.array([4000, 4001]))).columns
    among = made()
    for name, column in empty.items():
        if isinstance(column, Numbers):
            np.testing.assert_array_equal(column.values, among[name][4000:4002], err_msg=name)


def test_the_graph_is_valid_and_goes_before_any_model_of_its_versions() -> None:
    graph = onnx.load(HERE / "features.onnx")
    onnx.checker.check_model(graph, full_check=True)
    width = len(FITTED.numbers())
    node = onnx.helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=1)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "mine",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", width])],
            [onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, ["batch", 1])],
            [onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")],
        ),
        opset_imports=graph.opset_import,
        ir_version=graph.ir_version,
    )
    whole = onnx.compose.merge_models(graph, model, io_map=[(features.NUMBERS, "x")], outputs=["total"])
    raw = read_features(TRAIN, list(FITTED.inputs), "test")
    given = session(whole.SerializeToString()).run(["total"], feeds(raw))[0]
    found = [c.values for c in FITTED.apply(raw).columns.values() if isinstance(c, Numbers)]
    np.testing.assert_allclose(given[:, 0], np.sum(found, axis=0), rtol=1e-3, atol=1e-3)


def test_what_selection_left_out_is_no_input_and_says_why() -> None:
    state = json.loads((HERE / "features.json").read_text())
    gone = {judged["feature"]: judged["reason"] for judged in state["selection"] if not judged["kept"]}
    assert gone.keys() == {"still", "twin"}
    assert "income" in gone["twin"]
    assert not {"still", "twin"} & FITTED.inputs.keys()


@pytest.mark.parametrize(
    "algorithm", ["logistic-regression", "random-forest", "lightgbm", "hist-gradient-boosting", "k-neighbors", "naive-bayes"]
)
def test_the_model_takes_raw_columns_and_answers_as_one_of_features(algorithm: str) -> None:
    """The graph before the model: raw rows into the file, against the estimator on the table that the stage wrote."""
    answers = target.read(TRAIN.column("left"), "left", CLASSIFICATION, "train")
    rows = Rows(read_features(TRAIN, list(FITTED.inputs), "train"), answers)
    pipeline = fit(algorithm, CLASSIFICATION, Params(target="left"), rows, None, threads=1, features=FITTED)
    model = convert(pipeline)
    assert [entry.name for entry in onnx.load_from_string(model).graph.input] == list(FITTED.inputs)
    raw = read_features(STRANGE, list(FITTED.inputs), "test")
    given = session(model).run(None, feeds(raw))
    matrix = pipeline.prepare(made_table(pq.read_table(HERE / "strange-features.parquet"), FITTED))
    # Squares of what is farther out are beyond a float32, and scikit-learn takes no infinity.
    near = (np.abs(np.nan_to_num(matrix)) < 1e12).all(axis=1)
    assert near.sum() > 2000
    matrix = matrix[near].astype(np.float64) if CATALOG[algorithm].wide else matrix[near]
    expected = np.asarray(pipeline.estimator.predict_proba(matrix), dtype=np.float32)
    assert np.max(np.abs(given[1][near] - expected)) <= TOLERANCE
    assert len(set(given[0].tolist())) == 2


def test_a_stage_with_features_writes_a_model_of_the_raw_columns(stage: Stage) -> None:
    validation = TRAIN.slice(1000)
    stage.succeeds(TRAIN.slice(0, 1000), validation, target="left", algorithm="lightgbm", features_from=HERE)
    signature, profile = stage.json("model/signature.json"), stage.json("model/profile.json")
    kinds = {entry["name"]: entry["datatype"] for entry in signature["inputs"]}
    assert kinds == {name: "FP32" if numeric else "BYTES" for name, numeric in FITTED.inputs.items()}
    assert list(profile["features"]) == list(FITTED.inputs)
    assert {c["value"] for c in profile["features"]["city"]["categories"]} >= {"Aachen", "Bonn"}
    assert profile["features"]["age"]["missing"] > 0.05
    assert profile["features"]["age"]["min"] >= 18
    # Whether somebody leaves depends on the age, whatever became of the column.
    shares = {name: feature["importance"] for name, feature in profile["features"].items()}
    assert shares["age"] == max(shares.values())
    assert stage.json("out/metrics.json")["validation_accuracy"] > 0.55
    assert (stage.folder / "out/results/features").read_text() == str(len(FITTED.inputs))


def test_cross_validation_and_early_stopping_go_with_features(stage: Stage) -> None:
    stage.succeeds(
        TRAIN, target="left", algorithm="lightgbm", features_from=HERE, crossValidation={"folds": 3}, earlyStopping={"rounds": 5}
    )
    assert 0.5 < stage.json("out/metrics.json")["cv_mean"] < 1


def test_a_feature_that_says_nothing_here_is_left_out_and_its_column_still_asked_for(stage: Stage) -> None:
    same = TRAIN.set_column(TRAIN.column_names.index("edge"), "edge", pa.array([50] * TRAIN.num_rows))
    printed = stage.succeeds(same, target="left", algorithm="decision-tree", features_from=HERE)
    assert "column 'edge_bin_0' is left out" in printed
    assert "edge" in {entry["name"] for entry in stage.json("model/signature.json")["inputs"]}


def test_what_does_not_go_together_is_told(stage: Stage, tmp_path: Path) -> None:
    written = pq.read_table(HERE / "strange-features.parquet")
    told = stage.fails(written, target="left", features_from=HERE)
    assert "with the input features, train is the table before the stage features" in told
    told = stage.fails(TRAIN.drop_columns(["income"]), target="left", features_from=HERE)
    assert "input train: there is no column 'income', which the features are made of" in told
    told = stage.fails(TRAIN, target="left", features=["age"], features_from=HERE)
    assert "params.features does nothing with the input features" in told
    told = stage.fails(TRAIN, target="grade", features_from=HERE)
    assert "makes features of the target 'grade'" in told
    other = TRAIN.append_column("gone", TRAIN.column("left"))
    told = stage.fails(other, target="gone", features_from=HERE)
    assert "fitted with the target 'left', and params.target is 'gone'" in told
    wrong = TRAIN.set_column(TRAIN.column_names.index("age"), "age", pa.array(["old"] * TRAIN.num_rows))
    told = stage.fails(wrong, target="left", features_from=HERE)
    assert "column 'age' is of type string, and the features are made of numbers there" in told
    told = stage.fails(TRAIN, target="left", features_from=HERE, preprocessing={"columns": {"city": {"encode": "ordinal"}}})
    assert "params.preprocessing.columns.city is not among the features" in told
    told = stage.fails(generated(100, seed=1), features_from=tmp_path / "nothing")
    assert "there is no features.json" in told
    gone = TRAIN.set_column(TRAIN.column_names.index("age"), "age", pa.array([None] * TRAIN.num_rows, pa.float64()))
    assert "column 'age' has no value in any row" in stage.fails(gone, target="left", features_from=HERE)


def test_an_artifact_of_another_form_and_a_window_that_is_missing_are_told(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "fitted"
    folder.mkdir()
    shutil.copy(HERE / "features.onnx", folder)
    state = json.loads((HERE / "features.json").read_text())
    window = {"name": "age_mean_7", "column": "age", "function": "mean", "by": [], "order": "edge", "rows": 7, "current": True}
    asked = {"name": "age_mean_7", "datatype": "FP32", "from": ["age_mean_7"]}
    (folder / "features.json").write_text(json.dumps({**state, "windows": [window], "inputs": [*state["inputs"], asked]}))
    told = stage.fails(TRAIN, target="left", features_from=folder)
    assert "'age_mean_7', a window that the stage features makes of several rows; give its output train with write: raw" in told
    (folder / "features.json").write_text(json.dumps({**state, "version": 2}))
    assert "has the version 2, and this stage knows 1" in stage.fails(TRAIN, target="left", features_from=folder)
    (folder / "features.json").write_text("{")
    assert "is not as the stage features writes it" in stage.fails(TRAIN, target="left", features_from=folder)
