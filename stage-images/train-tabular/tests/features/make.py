"""Makes what the tests of the input `features` take: tables, and what the stage `features` of the data image learns and makes of them.

Run by hand when a step changes what it learns. What it writes is committed, and the data image's tests compare it with what its
program writes:

    "$MILLRACE_CACHE/venv/train-tabular/bin/python" stage-images/train-tabular/tests/features/make.py PATH/OF/millrace-data
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CITIES = ("Aachen", "Bonn", "Köln", "Zürich", "東京", "Ulm", "O'Hara", "Hof")
WORDS = ("late", "good", "broken", "thanks", "blue", "again", "refund", "fine")


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with some of everything missing."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        income = float(np.round(np.exp(draw.normal(8, 1)), 3))
        age = int(draw.integers(18, 90))
        city = CITIES[draw.choice(8, p=[0.3, 0.25, 0.2, 0.15, 0.06, 0.02, 0.01, 0.01])]
        likely = 1 / (1 + np.exp(-((age - 50) / 15 + (city == "Bonn") - (income > 4000))))
        row = {
            "age": age,
            "income": income,
            "twin": round(income * 2 + 1, 3),
            "score": round(float(draw.normal(0, 100)), 2),
            "count": int(draw.poisson(3)),
            "depth": float(draw.integers(-8, 8)) / 4,
            "edge": int(draw.integers(0, 101)),
            "top": round(float(draw.uniform(-5, 3)), 3),
            "code": int(draw.integers(1, 7)),
            "flag": bool(draw.random() < 0.3),
            "still": 7,
            "city": city,
            "region": ("north", "south", "west")[draw.integers(3)],
            "grade": ("low", "mid", "high")[draw.integers(3)],
            "kind": f"kind {draw.integers(5)}",
            "area": f"area-{draw.integers(12)}",
            "tag": ("red", "green")[int(draw.random() < 0.3)],
            "note": " ".join(draw.choice(WORDS, size=draw.integers(0, 6))),
            "left": "yes" if draw.random() < likely else "no",
        }
        for name in ("age", "income", "score", "count", "depth", "top", "flag", "city", "region", "kind", "tag"):
            if draw.random() < 0.1:
                row[name] = None
        if row["income"] is None:
            row["twin"] = None
        made.append(row)
    return made


def strange(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows as training never saw them: unknown texts, numbers far out and on the edges, everything missing."""
    draw, made = np.random.default_rng(seed), rows(count, seed)
    far = (1e30, -1e30, 3.4e38, -3.4e38, 1e-30, 0.0, -0.0, 16777217.0)
    for row in made:
        for name in ("age", "income", "score", "depth", "top"):
            if draw.random() < 0.15:
                row[name] = float(draw.choice(far))
        for name in ("count", "edge", "code"):
            if draw.random() < 0.15:
                row[name] = int(draw.choice((-3, 0, 18, 65, 99, 1_000_000_007)))
        for name in ("city", "region", "grade", "kind", "area", "tag"):
            if draw.random() < 0.15:
                row[name] = str(draw.choice(("Atlantis", " Bonn", "bonn", "ß", "NaN")))
        if draw.random() < 0.15:
            row["note"] = str(draw.choice((" late  late\tgood ", "unheard", "LATE", "late,", "again\u00a0again", "")))
        for name in row:
            if name != "left" and draw.random() < 0.1:
                row[name] = None
    # A batch, later on, in which nothing has a value.
    made += [{name: None if name != "left" else "no" for name in made[0]} for _ in range(3)]
    return made


def write(path: Path, table: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "NA" if value is None else value for name, value in row.items()} for row in table)


def run(program: str, stage: str, params: dict[str, Any], inputs: dict[str, Path], outputs: dict[str, Path], out: Path) -> None:
    paths = {f"MILLRACE_INPUT_{name.upper()}": str(path) for name, path in inputs.items()}
    paths |= {f"MILLRACE_OUTPUT_{name.upper()}": str(path) for name, path in outputs.items()}
    environment = {**os.environ, **paths, "MILLRACE_OUT": str(out)}
    subprocess.run([program, stage, "--params", json.dumps(params)], env=environment, check=True)


def main(program: str) -> None:
    params = json.loads((HERE / "params.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, table in (("train", rows(1500, seed=1)), ("strange", strange(4000, seed=2))):
            write(work / f"{name}.csv", table)
            ingest = {**params["ingest"], "source": str(work / f"{name}.csv")}
            run(program, "ingest", ingest, {}, {"data": work / name}, work / "out")
            shutil.copy(work / name / "part-00000.parquet", HERE / f"{name}.parquet")
        outputs = {name: work / "made" / name for name in ("features", "report", "train", "test")}
        inputs = {"train": work / "train", "test": work / "strange"}
        run(program, "features", params["features"], inputs, outputs, work / "out")
        for file in ("features.json", "features.onnx"):
            shutil.copy(work / "made" / "features" / file, HERE / file)
        shutil.copy(work / "made" / "test" / "part-00000.parquet", HERE / "strange-features.parquet")
    served()


def served() -> None:
    """A model for the tests of the server and of predict, and what it has to answer: the estimator on the stage's table, without ONNX."""
    sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]
    import pyarrow.parquet as pq

    from millrace_train_tabular import features, target
    from millrace_train_tabular.fitting import Rows, fit
    from millrace_train_tabular.onnx.convert import convert
    from millrace_train_tabular.params import Params
    from millrace_train_tabular.profile import profile
    from millrace_train_tabular.signature import signature
    from millrace_train_tabular.table import read_features
    from written import made_table

    fitted, train = features.load(HERE), pq.read_table(HERE / "train.parquet")
    answers = target.read(train.column("left"), "left", "classification", "train")
    rows = Rows(read_features(train, list(fitted.inputs), "train"), answers)
    pipeline = fit("decision-tree", "classification", Params(target="left", hyperparameters={"max_depth": 5}), rows, None, 1, fitted)
    written = pq.read_table(HERE / "strange-features.parquet")
    matrix = pipeline.prepare(made_table(written, fitted))
    # Not those with a product beyond float32: scikit-learn takes none.
    asked = [int(row) for row in np.flatnonzero(np.isfinite(matrix).all(axis=1)) if row >= 3400]
    likely = pipeline.estimator.predict_proba(matrix[asked])
    folder = HERE.parents[2] / "server" / "tests" / "models" / "raw-columns"
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(convert(pipeline))
    for name, content in (("signature", signature(pipeline)), ("profile", profile(pipeline, rows, 0))):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    strange = pq.read_table(HERE / "strange.parquet").take(asked)
    inputs = []
    for name, numeric in fitted.inputs.items():
        values = strange.column(name).to_pylist()
        data = [None if v is None else float(v) for v in values] if numeric else [v or "" for v in values]
        inputs.append({"name": name, "datatype": "FP32" if numeric else "BYTES", "shape": [len(asked), 1], "data": data})
    label = [pipeline.classes[place] for place in likely.argmax(axis=1)]
    expected = {"rows": asked, "request": {"inputs": inputs}, "label": label, "probabilities": likely.tolist()}
    (folder / "strange.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
