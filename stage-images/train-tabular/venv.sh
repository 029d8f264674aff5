#!/bin/sh
# Makes the virtual environment of the trainer if the pinned packages changed. Its path: $MILLRACE_CACHE/venv/train-tabular.
set -eu
cd "$(dirname "$0")"
venv="${MILLRACE_CACHE:-$HOME/.cache/millrace}/venv/train-tabular"
stamp="$venv/.requirements"
wanted="$(sha256sum requirements-test.txt | cut -d' ' -f1)"
mkdir -p "${venv%/*}"
# The trainer's tests and those of local runs may ask at a time.
exec 9>"$venv.lock"
flock 9
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
  rm -rf "$venv"
  python3.11 -m venv "$venv" 2>/dev/null || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-test.txt
  echo "$wanted" > "$stamp"
fi
