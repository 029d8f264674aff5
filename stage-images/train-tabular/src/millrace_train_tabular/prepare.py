"""Turns a table into the matrix that an estimator fits: imputing, scaling, encoding; fitted once, then only applied.

Everything is float32, in the very operations of `onnx/prepare.py`: subtraction, division and comparison are exact to the
last bit there and here, so a row cannot fall on another side of a threshold.
"""

from dataclasses import dataclass

import numpy as np

from .errors import StageError, warn
from .params import ColumnRule, Preprocessing, column_rule, suggestion
from .table import Column, Floats, Numbers, Table, Texts

# Above this a text is rather an identifier or free text than a category.
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class NumericBlock:
    """All numeric columns together. Where nothing is filled `fill` is NaN; unscaled is shift 0, scale 1."""

    names: tuple[str, ...]
    fill: Floats
    shift: Floats
    scale: Floats

    @property
    def fills(self) -> bool:
        return bool(np.any(~np.isnan(self.fill)))

    @property
    def scales(self) -> bool:
        return bool(np.any(self.shift != 0) or np.any(self.scale != 1))

    def transform(self, table: Table) -> Floats:
        matrix = np.empty((table.rows, len(self.names)), dtype=np.float32)
        for position, name in enumerate(self.names):
            matrix[:, position] = _numbers(table, name)
        if self.fills:
            matrix = np.where(np.isnan(matrix), self.fill, matrix)
        if self.scales:
            matrix = (matrix - self.shift) / self.scale
        return matrix


@dataclass(frozen=True)
class TextBlock:
    """One text column. A text that `index` does not have is unknown: all zeros in one-hot, -1 in ordinal."""

    name: str
    encode: str
    categories: tuple[str, ...]
    # The text that a missing value counts as: "" is a category of its own if it is one.
    missing_as: str

    @property
    def unknown(self) -> int:
        return len(self.categories) if self.encode == "onehot" else -1

    def index(self) -> dict[str, int]:
        known = {category: position for position, category in enumerate(self.categories)}
        if self.missing_as in known:
            known[""] = known[self.missing_as]
        return known

    def transform(self, table: Table) -> Floats:
        column = _texts(table, self.name)
        index = self.index()
        of_value = np.array([index.get(value, self.unknown) for value in column.values], dtype=np.int64)
        codes = of_value[column.codes] if of_value.size else np.empty(0, dtype=np.int64)
        if self.encode == "ordinal":
            return np.asarray(codes[:, None], dtype=np.float32)
        return np.asarray(codes[:, None] == np.arange(len(self.categories)), dtype=np.float32)


@dataclass(frozen=True)
class Prepared:
    """The fitted preparation: numbers first, then the text columns in the order of the features."""

    numeric: NumericBlock
    texts: tuple[TextBlock, ...]

    @property
    def width(self) -> int:
        return len(self.numeric.names) + sum(len(t.categories) if t.encode == "onehot" else 1 for t in self.texts)

    def transform(self, table: Table) -> Floats:
        parts = [self.numeric.transform(table)] if self.numeric.names else []
        parts += [text.transform(table) for text in self.texts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def check_columns(preprocessing: Preprocessing, features: list[str]) -> None:
    """Refuses a rule for a column that the model does not get."""
    for name in preprocessing.columns:
        if name not in features:
            raise StageError(f"params.preprocessing.columns.{name} is not among the features: {suggestion(name, features)}")


def fit(table: Table, preprocessing: Preprocessing, *, scaled: bool, takes_missing: bool, algorithm: str) -> Prepared:
    """Learns fills, scales and categories from training rows."""
    names, fills, shifts, scales, texts = [], [], [], [], []
    for name, column in table.columns.items():
        rule = column_rule(preprocessing, name, isinstance(column, Numbers))
        if isinstance(column, Texts):
            texts.append(_fit_text(name, column, rule))
            continue
        fill = _fill(name, column.values, rule, takes_missing, algorithm)
        shift, scale = _scaling(column.values, fill, rule, scaled)
        names.append(name)
        fills.append(fill)
        shifts.append(shift)
        scales.append(scale)
    numeric = NumericBlock(tuple(names), *(np.array(v, dtype=np.float32) for v in (fills, shifts, scales)))
    return Prepared(numeric, tuple(texts))


def drop_useless(table: Table) -> Table:
    """Leaves out columns that tell nothing: all missing, or one value everywhere."""
    kept: dict[str, Column] = {}
    for name, column in table.columns.items():
        if isinstance(column, Numbers):
            present = column.values[~np.isnan(column.values)]
            empty, constant = present.size == 0, present.size == table.rows and bool(np.all(present == present[0]))
        else:
            used = np.unique(column.codes)
            constant = used.size == 1
            empty = constant and column.values[used[0]] == ""
        if empty:
            warn(f"column {name!r} is left out: all its {table.rows} values are missing")
        elif constant:
            warn(f"column {name!r} is left out: it has the same value in all {table.rows} rows")
        else:
            kept[name] = column
    if not kept:
        raise StageError("input train: no feature is left: every column is all missing or constant; give columns that differ between rows")
    return Table(kept, table.rows)


def _fill(name: str, values: Floats, rule: ColumnRule, takes_missing: bool, algorithm: str) -> float:
    impute = rule.impute
    if impute == "auto":
        impute = "none" if takes_missing else "median"
    if impute == "none":
        missing = int(np.isnan(values).sum())
        if missing and not takes_missing:
            raise StageError(
                f"input train: column {name!r} has {missing} missing values and impute: none, but {algorithm} takes none; write "
                f"impute: median, or use hist-gradient-boosting, lightgbm or xgboost"
            )
        return float("nan")
    if impute == "constant":
        return float(rule.fill) if rule.fill is not None else 0.0
    present = values[~np.isnan(values)].astype(np.float64)
    if present.size == 0:
        return 0.0
    if impute == "mean":
        return float(present.mean())
    if impute == "median":
        return float(np.median(present))
    distinct, counts = np.unique(present, return_counts=True)
    return float(distinct[np.argmax(counts)])


def _scaling(values: Floats, fill: float, rule: ColumnRule, scaled: bool) -> tuple[float, float]:
    how = rule.scale
    if how == "auto":
        how = "standard" if scaled else "none"
    if how == "none":
        return 0.0, 1.0
    filled = np.where(np.isnan(values), np.float32(fill), values).astype(np.float64)
    filled = filled[~np.isnan(filled)]
    if filled.size == 0:
        return 0.0, 1.0
    if how == "standard":
        shift, scale = filled.mean(), filled.std()
    elif how == "minmax":
        shift, scale = filled.min(), filled.max() - filled.min()
    else:
        low, shift, high = np.percentile(filled, [25, 50, 75])
        scale = high - low
    # Narrowed first: a spread below what float32 can tell from zero would divide by zero.
    return float(shift), float(scale) if np.float32(scale) > 0 else 1.0


def _fit_text(name: str, column: Texts, rule: ColumnRule) -> TextBlock:
    counts = np.bincount(column.codes, minlength=len(column.values))
    rows = int(counts.sum())
    by_value = {value: int(count) for value, count in zip(column.values, counts, strict=True) if count}
    missing_as = ""
    if "" in by_value and rule.impute != "none":
        missing = by_value.pop("")
        missing_as = str(rule.fill) if rule.impute == "constant" else min(by_value, key=lambda v: (-by_value[v], v))
        by_value[missing_as] = by_value.get(missing_as, 0) + missing
    elif rule.impute == "constant":
        missing_as = str(rule.fill)
    elif rule.impute == "most_frequent":
        missing_as = min(by_value, key=lambda v: (-by_value[v], v))
    least = rule.min_frequency * rows if rule.min_frequency < 1 else rule.min_frequency
    kept = [value for value, count in by_value.items() if count >= least]
    if rule.max_categories is not None:
        kept = sorted(kept, key=lambda v: (-by_value[v], v))[: rule.max_categories]
    limit = rule.max_categories or MOST_CATEGORIES
    if len(kept) > limit or (rows >= 50 and len(by_value) > rows / 2 and len(kept) == len(by_value)):
        raise StageError(
            f"input train: column {name!r} has {len(by_value)} different texts in {rows} rows, which is no category; leave it out with "
            f"params.features, or keep only the frequent ones: preprocessing: {{columns: {{{name}: {{maxCategories: 50}}}}}}"
        )
    if not kept:
        raise StageError(
            f"input train: column {name!r} keeps no category: none of its {len(by_value)} texts is in {least:g} rows or more; "
            f"lower minFrequency, or leave the column out with params.features"
        )
    return TextBlock(name, rule.encode, tuple(sorted(kept)), missing_as)


def _numbers(table: Table, name: str) -> Floats:
    column = table.columns[name]
    assert isinstance(column, Numbers)
    return column.values


def _texts(table: Table, name: str) -> Texts:
    column = table.columns[name]
    assert isinstance(column, Texts)
    return column
