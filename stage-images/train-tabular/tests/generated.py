"""Tables for the tests: numbers of several kinds, texts, missing values, all from a seed."""

from typing import Any

import numpy as np
import pyarrow as pa

CITIES = ("Aachen", "Bonn", "Köln", "Zürich", "São Paulo", "東京")


def table(rows: int, seed: int, classes: int = 3, missing: bool = True) -> pa.Table:
    """Columns of all types, and the targets `kind` (text), `size` (number), `wins` (boolean)."""
    generator = np.random.default_rng(seed)
    # Float32 grid points and ties: values that lie on thresholds.
    steps = generator.integers(-8, 8, rows) / 4
    wide = generator.normal(size=rows) * 1000 + 5000.123456789
    tiny = generator.normal(size=rows) * 1e-4
    # Neighbouring float32 numbers: a threshold between two is a double, and rounded to float32 it is one of them.
    near = generator.integers(0, 24, rows)
    ulps = np.float32(1) + near.astype(np.float32) * np.finfo(np.float32).eps
    whole = generator.integers(0, 100, rows)
    flag = generator.random(rows) < 0.3
    city = generator.choice(len(CITIES), rows, p=[0.4, 0.2, 0.2, 0.1, 0.06, 0.04])
    score = steps + (wide - 5000) / 1000 + tiny * 5000 + whole / 50 + flag + near / 8 + city * 0.4 + generator.normal(size=rows) * 0.3
    kind = np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]))
    gone = generator.random((rows, 4)) < 0.1 if missing else np.zeros((rows, 4), dtype=bool)
    texts = np.array(CITIES, dtype=object)[city]
    return pa.table(
        {
            "steps": pa.array(steps, mask=gone[:, 0]),
            "wide": pa.array(wide, mask=gone[:, 1]),
            "tiny": pa.array(tiny.astype(np.float32)),
            "ulps": pa.array(ulps),
            "whole": pa.array(whole, mask=gone[:, 2]),
            "flag": pa.array(flag),
            "city": pa.array(texts, mask=gone[:, 3]),
            "kind": pa.array([f"kind-{k}" for k in kind]),
            "size": pa.array(score * 10 + 100),
            "wins": pa.array(score > np.median(score)),
        }
    )


def strange(rows: int, seed: int) -> Any:
    """Rows as training never saw them: unknown texts, numbers out of range, missing values in every column."""
    drawn = table(rows, seed).to_pydict()
    generator = np.random.default_rng(seed + 1)
    for name in ("steps", "wide", "tiny", "whole"):
        values = np.array(drawn[name], dtype=object)
        values[generator.random(rows) < 0.2] = None
        far = generator.random(rows) < 0.1
        values[far] = [float(v) for v in generator.normal(size=far.sum()) * 1e6]
        drawn[name] = [None if v is None else float(v) for v in values]
    city = np.array(drawn["city"], dtype=object)
    city[generator.random(rows) < 0.2] = "Atlantis"
    drawn["city"] = list(city)
    drawn["flag"] = [None if g else f for f, g in zip(drawn["flag"], generator.random(rows) < 0.2, strict=True)]
    return pa.table(drawn)
