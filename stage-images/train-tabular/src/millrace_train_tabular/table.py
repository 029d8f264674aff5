"""Reads Parquet into columns as the model will see them: float32 numbers (missing is NaN), texts (missing is "")."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import StageError, warn

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Above this a float32 no longer holds every whole number.
EXACT_INTEGERS = 2**24


@dataclass(frozen=True)
class Numbers:
    """A numeric column, narrowed to what the model's FP32 input carries."""

    values: Floats

    def take(self, rows: Ints) -> "Numbers":
        return Numbers(self.values[rows])


@dataclass(frozen=True)
class Texts:
    """A text column: `values[codes[i]]` is the text of row i."""

    codes: Ints
    values: tuple[str, ...]

    def take(self, rows: Ints) -> "Texts":
        return Texts(self.codes[rows], self.values)


Column = Numbers | Texts


@dataclass(frozen=True)
class Table:
    """Some columns of equal length, in the order of the features."""

    columns: dict[str, Column]
    rows: int

    def take(self, rows: Ints) -> "Table":
        return Table({name: column.take(rows) for name, column in self.columns.items()}, len(rows))


def read_parquet(path: Path, role: str) -> pa.Table:
    """Reads a Parquet file, or all `*.parquet` files of a folder in the order of their names."""
    if not path.exists():
        raise StageError(f"input {role}: there is nothing at {path}; set MILLRACE_INPUT_{role.upper()} to a Parquet file or folder")
    files = sorted(f for f in path.rglob("*.parquet") if not _hidden(f.relative_to(path))) if path.is_dir() else [path]
    if not files:
        raise StageError(f"input {role}: the folder {path} has no *.parquet file; give the output of ingest or transform")
    parts = []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                parts.append(opened.read())
        except (pa.ArrowException, OSError) as err:
            raise StageError(
                f"input {role}: {file.name} cannot be read as Parquet ({_first_line(err)}); convert it with the stage ingest"
            ) from err
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as err:
        raise StageError(f"input {role}: its files differ in their columns ({_first_line(err)}); write them with one schema") from err


def _hidden(file: Path) -> bool:
    """What other writers leave beside a table's files: `_temporary/…`, `.part-0.parquet`."""
    return any(part.startswith((".", "_")) for part in file.parts)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type becomes an FP32 input. Booleans do, as 0 and 1."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type becomes a BYTES input."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def read_features(table: pa.Table, names: list[str], role: str) -> Table:
    """Converts the columns that the model gets."""
    return Table({name: _column(table.column(name), name, role) for name in names}, table.num_rows)


def _column(values: Any, name: str, role: str) -> Column:
    if pa.types.is_null(values.type):
        return Numbers(np.full(len(values), np.nan, dtype=np.float32))
    if is_numeric(values.type):
        narrow = numbers(values, name, role)
        if role == "train" and pa.types.is_integer(values.type) and np.nanmax(np.abs(narrow), initial=0.0) > EXACT_INTEGERS:
            warn(f"column {name!r} has numbers above 2^24, which the model's FP32 input rounds; if it is an identifier leave it out")
        return Numbers(narrow)
    if is_text(values.type):
        return _texts(values)
    raise StageError(
        f"input {role}: column {name!r} is of type {values.type}, which a model cannot take; make numbers or text of it "
        f"in the stage before, or leave it out with params.features"
    )


def numbers(values: Any, name: str, role: str) -> Floats:
    """One numeric Arrow column as float32. Infinity is refused: no imputing mends it, and means and scales die of it."""
    if not pa.types.is_floating(values.type):
        values = pc.cast(values, pa.float64(), safe=False)
    wide = values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()
    with np.errstate(over="ignore"):
        narrow = np.asarray(wide, dtype=np.float32)
    infinite = np.flatnonzero(np.isinf(narrow))
    if infinite.size:
        raise StageError(
            f"input {role}: column {name!r} has {infinite.size} infinite values (or beyond the range of FP32), the first in row "
            f"{infinite[0]}; make them NULL or filter them in the stage before"
        )
    return narrow


def _texts(values: Any) -> Texts:
    combined = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], pa.string())
    if pa.types.is_dictionary(combined.type):
        combined = combined.dictionary_decode()
    encoded = pc.dictionary_encode(pc.fill_null(pc.cast(combined, pa.string()), ""))
    return Texts(encoded.indices.to_numpy().astype(np.int64), tuple(encoded.dictionary.to_pylist()))


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]
