"""Makes the golden vectors and the models of the tests, with scikit-learn.

Run by hand when a case is added; what it writes is committed:

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install scikit-learn==1.8.0 skl2onnx==1.20.0 onnxruntime==1.23.2 pandas
    /tmp/golden/bin/python stage-images/data/tests/golden/make.py
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from onnx import StringStringEntryProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

HERE = Path(__file__).resolve().parent
# Undefined metrics are what some of the cases are about.
warnings.filterwarnings("ignore")


def number(value):
    """A metric as JSON has it: null where it is not defined."""
    return None if math.isnan(value) else float(value)


def classification(truth, predicted, probabilities, classes, positive):
    """scikit-learn's figures for one set of rows. Labels are 0, 1, …; probabilities are doubles."""
    labels = list(range(classes))
    expected = {"rows": len(truth), "accuracy": metrics.accuracy_score(truth, predicted)}
    for average in ("macro", "micro", "weighted"):
        three = metrics.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), three):
            expected[f"{name}_{average}"] = value
    if positive is None:
        for name in ("precision", "recall", "f1"):
            expected[name] = expected[f"{name}_macro"]
    else:
        three = metrics.precision_recall_fscore_support(
            truth, predicted, labels=[positive], average="macro", zero_division=0
        )
        expected.update(zip(("precision", "recall", "f1"), three))
    expected["log_loss"] = metrics.log_loss(truth, probabilities, labels=labels)
    if positive is not None:
        expected["roc_auc"] = metrics.roc_auc_score(np.asarray(truth) == positive, probabilities[:, positive])
    else:
        for name, average in (("roc_auc", "macro"), ("roc_auc_weighted", "weighted")):
            expected[name] = metrics.roc_auc_score(
                truth, probabilities, multi_class="ovr", average=average, labels=labels
            )
    return {name: number(value) for name, value in expected.items()}


def classification_cases(random):
    cases = []
    for case in range(160):
        classes = 2 if case % 3 == 0 else int(random.integers(3, 7))
        rows = int(random.choice([1, 2, 3, 5, 12, 40]))
        # Small whole weights make ties and exact zeros and ones; large ones make neither.
        top = int(random.choice([1, 2, 5, 10_000]))
        weights = random.integers(0, top + 1, size=(rows, classes)).astype(float)
        weights[weights.sum(axis=1) == 0, 0] = 1
        single = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        probabilities = single.astype(np.float64)
        # Few labels among many classes: some are absent from the truth, from the predictions, or from both.
        used = random.permutation(classes)[: int(random.integers(1, classes + 1))]
        truth = random.choice(used, size=rows)
        predicted = probabilities.argmax(axis=1) if case % 2 else random.integers(0, classes, size=rows)
        positive = int(random.integers(0, 2)) if classes == 2 else None
        cases.append({
            "classes": classes,
            "positive": positive,
            "truth": truth.tolist(),
            "predicted": predicted.tolist(),
            "probabilities": [float(value) for value in single.ravel()],
            "expected": classification(truth, predicted, probabilities, classes, positive),
        })
    return cases


def regression(truth, predicted):
    return {name: number(value) for name, value in {
        "rows": len(truth),
        "rmse": metrics.root_mean_squared_error(truth, predicted),
        "mae": metrics.mean_absolute_error(truth, predicted),
        "max_error": metrics.max_error(truth, predicted),
        "r2": metrics.r2_score(truth, predicted),
    }.items()}


def regression_cases(random):
    cases = []
    for case in range(80):
        rows = int(random.choice([1, 2, 3, 10, 50]))
        scale, offset = float(random.choice([1e-3, 1.0, 1e6])), float(random.choice([0.0, 5.0, 1e5]))
        truth = random.normal(size=rows) * scale + offset
        predicted = (truth + random.normal(size=rows) * scale * 0.3).astype(np.float32).astype(np.float64)
        if case % 8 == 0:
            truth = np.full(rows, float(np.float32(offset)))
            predicted = truth.copy() if case % 16 == 0 else predicted
        cases.append({
            # As text: not every JSON reader rounds the last bit right, and here it counts.
            "truth": [repr(value) for value in truth.tolist()],
            "predicted": [repr(value) for value in predicted.tolist()],
            "expected": regression(truth, predicted),
        })
    return cases


def frame(random, rows):
    """A small table with what models meet: numbers, texts, missing values, a boolean."""
    data = pd.DataFrame({
        "size": random.normal(10, 3, rows).round(2),
        "weight": random.normal(50, 20, rows).round(1),
        "colour": random.choice(["red", "green", "blue & <b>bold</b>", "größer"], rows),
    })
    score = data["size"] / 3 + data["weight"] / 20 + (data["colour"] == "red") * 2 + random.normal(0, 1.2, rows)
    data["kind"] = np.select([score < 5, score < 7.5], ["low", "middle"], "high")
    data["passed"] = np.where(score < 6, "no", "yes")
    data["grade"] = (score > 6).astype(int)
    data["price"] = (score * 11.5 + random.normal(0, 3, rows)).round(3)
    return data


FEATURES = ["size", "weight", "colour"]


def save(folder, model, data, target, task):
    """A model folder as the stage contract has it."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(name, StringTensorType([None, 1]) if name == "colour" else FloatTensorType([None, 1])) for name in FEATURES]
    options = {id(model): {"zipmap": False}} if task == "classification" else None
    onnx = to_onnx(model, initial_types=kinds, options=options, target_opset=17)
    names = ["label", "probabilities"] if task == "classification" else ["prediction"]
    for output, name in zip(onnx.graph.output, names):
        for node in onnx.graph.node:
            node.output[:] = [name if given == output.name else given for given in node.output]
        output.name = name
    inputs = [
        {"name": name, "datatype": "BYTES" if name == "colour" else "FP32", "shape": [-1, 1]} for name in FEATURES
    ]
    if task == "classification":
        classes = model.classes_.tolist()
        kind = "INT64" if isinstance(classes[0], int) else "BYTES"
        outputs = [
            {"name": "label", "datatype": kind, "shape": [-1], "classes": classes},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(classes)], "classes": classes},
        ]
    else:
        outputs = [{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}]
    signature = json.dumps({"task": task, "inputs": inputs, "outputs": outputs})
    onnx.metadata_props.append(StringStringEntryProto(key="millrace.signature", value=signature))
    (folder / "model.onnx").write_bytes(onnx.SerializeToString())
    (folder / "signature.json").write_text(signature + "\n")
    return expected_of(folder, data, target, task)


def expected_of(folder, data, target, task):
    """The figures of the saved model on the table: ONNX Runtime scores, scikit-learn judges."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    feed = {
        name: data[[name]].to_numpy(dtype=object if name == "colour" else np.float32) for name in FEATURES
    }
    answer = session.run(None, feed)
    if task == "regression":
        return regression(data[target].to_numpy(), answer[0].ravel().astype(np.float64))
    classes = json.loads((folder / "signature.json").read_text())["outputs"][0]["classes"]
    place = {label: index for index, label in enumerate(classes)}
    truth = np.array([place[label] for label in data[target]])
    predicted = np.array([place[label] for label in answer[0].ravel().tolist()])
    probabilities = answer[1].astype(np.float64)
    return classification(truth, predicted, probabilities, len(classes), 1 if len(classes) == 2 else None)


def models(random):
    """Models trained on one table, judged on another."""
    train, test = frame(random, 300), frame(random, 120)
    folder = HERE.parent / "models"
    folder.mkdir(exist_ok=True)
    test.to_csv(folder / "test.csv", index=False)

    def pipeline(estimator):
        prepare = ColumnTransformer([
            ("numbers", StandardScaler(), ["size", "weight"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        ])
        return make_pipeline(prepare, estimator)

    expected = {}
    for name, target, task, part in [
        ("many", "kind", "classification", train),
        ("many-champion", "kind", "classification", train.head(25)),
        ("two", "passed", "classification", train),
        ("grades", "grade", "classification", train),
        ("numbers", "price", "regression", train),
    ]:
        estimator = LinearRegression() if task == "regression" else LogisticRegression(max_iter=500)
        model = pipeline(estimator).fit(part[FEATURES], part[target])
        expected[name] = save(folder / name, model, test, target, task)
        if name == "many":
            expected["many by colour"] = {
                colour: expected_of(folder / name, rows, target, task) for colour, rows in test.groupby("colour")
            }
    return expected


def main():
    random = np.random.default_rng(20261121)
    write = lambda name, value: (HERE / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")
    write("classification.json", classification_cases(random))
    write("regression.json", regression_cases(random))
    write("models.json", models(random))


if __name__ == "__main__":
    main()
