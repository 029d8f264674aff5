#!/bin/sh
# Checks and tests the trainer: ruff, mypy, pytest. Makes a virtual environment first if the pinned packages changed.
set -eu
cd "$(dirname "$0")"
venv="${MILLRACE_CACHE:-$HOME/.cache/millrace}/venv/train-tabular"
stamp="$venv/.requirements"
wanted="$(sha256sum requirements-test.txt | cut -d' ' -f1)"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
  rm -rf "$venv"
  python3.11 -m venv "$venv" 2>/dev/null || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-test.txt
  echo "$wanted" > "$stamp"
fi
"$venv/bin/ruff" format --check --quiet .
"$venv/bin/ruff" check --quiet .
"$venv/bin/mypy" --no-error-summary
# pytest ends with the counts: the last line of this script.
PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" -m pytest -p no:cacheprovider "$@"
