#!/bin/sh
# Writes requirements.txt and requirements-test.txt from pyproject.toml. Needs `uv` on the PATH.
#
# onnxruntime's coloredlogs and sympy (50 MB) are left out: only its model tools import them, and nothing here does.
# Hence `pip install --no-deps`: the files name everything that is needed.
set -eu
cd "$(dirname "$0")"
compile() {
  uv pip compile pyproject.toml --quiet --no-header --no-annotate --generate-hashes --python-version 3.11 \
    --no-emit-package coloredlogs --no-emit-package humanfriendly --no-emit-package sympy --no-emit-package mpmath "$@"
}
compile --output-file requirements.txt
compile --extra test --output-file requirements-test.txt
