"""`python -m millrace_train_tabular --params JSON`: reads the environment of a stage and runs it."""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from .errors import StageError
from .params import parse_params
from .resources import settle, threads


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="millrace_train_tabular", description="Trains one model on a table and writes it as ONNX.")
    parser.add_argument("--params", required=True, help="all parameters of the stage as one JSON object")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        params = parse_params(given.params)
        count = threads()
        settle(count)
        # Imported after `settle`: numpy reads the environment once.
        from .stage import Paths, run

        validation, features = (os.environ.get(f"MILLRACE_INPUT_{name}") for name in ("VALIDATION", "FEATURES"))
        paths = Paths(
            train=_path("MILLRACE_INPUT_TRAIN", "a Parquet file or folder"),
            validation=Path(validation) if validation else None,
            model=_path("MILLRACE_OUTPUT_MODEL", "the folder to write the model to"),
            out=_path("MILLRACE_OUT", "the folder for metrics.json and results"),
            features=Path(features) if features else None,
        )
        # What a library deprecates is no news to the person who reads the stage's log.
        warnings.simplefilter("ignore", category=FutureWarning)
        facts = run(params, paths, count)
    except StageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    for name, value in facts.items():
        print(f"{name} = {value:.6g}" if isinstance(value, float) else f"{name} = {value}")
    print(f"trained {facts['algorithm']} on {facts['rows']} rows in {time.monotonic() - began:.1f} s")
    return 0


def _path(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise StageError(f"{variable} is not set: it names {what}")
    return Path(value)


if __name__ == "__main__":
    sys.exit(main())
