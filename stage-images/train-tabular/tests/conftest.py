"""Shared fixtures."""

from pathlib import Path

import pytest

from millrace_train_tabular.resources import settle

# Before numpy is imported. One thread: tests run beside others, and many small fits gain nothing from more.
settle(1)

from stagecase import Stage  # noqa: E402


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stage:
    """A stage in a folder of its own."""
    return Stage(tmp_path, monkeypatch, capsys)
