"""A fitted pipeline: the preparation and the estimator together, and how its answers are read."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .algorithms import CATALOG
from .features import Features
from .prepare import Prepared
from .table import Floats, Ints, Table


@dataclass(frozen=True)
class Pipeline:
    """What `convert` writes, and what its file is compared with."""

    task: str
    # The name in the catalog.
    algorithm: str
    prepared: Prepared
    estimator: Any
    # Sorted; empty for a regression. The estimator knows them as 0, 1, 2 …
    classes: tuple[str | int, ...]
    # The raw columns: their names, order and types count, not their rows.
    shape: Table
    # What comes before the preparation, if the stage features has been there.
    features: Features | None = None

    def matrix(self, table: Table) -> Any:
        return self.prepare(self.features.apply(table) if self.features else table)

    def prepare(self, table: Table) -> Any:
        """The matrix of columns that are features already."""
        matrix = self.prepared.transform(table)
        return matrix.astype(np.float64) if CATALOG[self.algorithm].wide else matrix

    def probabilities(self, table: Table) -> Floats:
        """`[rows, classes]`, narrowed to what the model's output carries."""
        return np.asarray(self.estimator.predict_proba(self.matrix(table)), dtype=np.float32)

    def labels(self, table: Table) -> Ints:
        """The positions of the classes. Of equal probabilities the first counts, once both are narrowed to float32: else a
        vote of 50 trees to 50 would be decided by the order in which doubles were added."""
        return np.asarray(np.argmax(self.probabilities(table), axis=1), dtype=np.int64)

    def numbers(self, table: Table) -> Floats:
        """A regression's answers, `[rows]`."""
        return np.asarray(self.estimator.predict(self.matrix(table)), dtype=np.float32).ravel()
