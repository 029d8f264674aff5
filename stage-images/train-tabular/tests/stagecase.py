"""Runs the stage's program in this process, as the agent would: environment in, exit status and files out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace_train_tabular.__main__ import main


@dataclass
class Stage:
    """One stage with its folders."""

    folder: Path
    environment: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def fails(self, train: pa.Table, validation: pa.Table | None = None, features_from: Path | None = None, **params: Any) -> str:
        """Expects exit status 1; returns the one line of error."""
        status = self._run(train, validation, features_from, params)
        printed = self.capture.readouterr()
        lines = [line for line in printed.err.splitlines() if not line.startswith("warning: ")]
        assert status == 1, printed.out
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert not self.model.exists()
        return lines[0]

    def succeeds(self, train: pa.Table, validation: pa.Table | None = None, features_from: Path | None = None, **params: Any) -> str:
        """Expects exit status 0; returns what was printed as warnings."""
        status = self._run(train, validation, features_from, params)
        printed = self.capture.readouterr()
        assert status == 0, printed.err
        return printed.err

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def _run(self, train: pa.Table, validation: pa.Table | None, features: Path | None, params: dict[str, Any]) -> int:
        pq.write_table(train, self.folder / "train.parquet")
        self.environment.setenv("MILLRACE_INPUT_TRAIN", str(self.folder / "train.parquet"))
        self.environment.delenv("MILLRACE_INPUT_VALIDATION", raising=False)
        self.environment.delenv("MILLRACE_INPUT_FEATURES", raising=False)
        if features is not None:
            self.environment.setenv("MILLRACE_INPUT_FEATURES", str(features))
        if validation is not None:
            pq.write_table(validation, self.folder / "validation.parquet")
            self.environment.setenv("MILLRACE_INPUT_VALIDATION", str(self.folder / "validation.parquet"))
        self.environment.setenv("MILLRACE_OUTPUT_MODEL", str(self.model))
        self.environment.setenv("MILLRACE_OUT", str(self.folder / "out"))
        return main(["--params", json.dumps({"target": "kind", **params})])
