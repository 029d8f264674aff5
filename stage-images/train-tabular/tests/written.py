"""A table that the stage `features` wrote, as the features that an estimator gets."""

from typing import Any

import numpy as np
import pyarrow as pa

from millrace_train_tabular.features import Features
from millrace_train_tabular.table import Numbers, Table, _texts


def made_table(written: pa.Table, fitted: Features) -> Table:
    """Numbers as they are, infinite ones too: a product of two far ones is beyond float32."""
    columns: dict[str, Any] = {}
    for name, numeric in fitted.outputs.items():
        column = written.column(name)
        columns[name] = Numbers(column.to_numpy().astype(np.float32)) if numeric else _texts(column)
    return Table(columns, written.num_rows)
