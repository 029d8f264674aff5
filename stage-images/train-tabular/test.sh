#!/bin/sh
# Checks and tests the trainer: ruff, mypy, pytest. Makes a virtual environment first if the pinned packages changed.
set -eu
cd "$(dirname "$0")"
venv="${MILLRACE_CACHE:-$HOME/.cache/millrace}/venv/train-tabular"
./venv.sh
"$venv/bin/ruff" format --check --quiet .
"$venv/bin/ruff" check --quiet .
"$venv/bin/mypy" --no-error-summary
# pytest ends with the counts: the last line of this script.
PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" -m pytest -p no:cacheprovider "$@"
