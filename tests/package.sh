#!/usr/bin/env bash
# Builds the wheel and the sdist into dist/, checks both, and runs the wheel's command in a new environment, as a user
# installs it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf dist
"$python" -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check build==1.6.1 twine==7.0.0
"$work/build/bin/python" -m build --outdir dist .
"$work/build/bin/twine" check --strict dist/*

"$python" -m venv "$work/run"
"$work/run/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt "$(ls "$PWD"/dist/*.whl)"
cd "$work"
unset PYTHONPATH
run/bin/vqi --help
run/bin/vqi --version
# Methods are described without torch, which this environment does not have.
run/bin/vqi methods
run/bin/vqi methods patchcore --no-cost
run/bin/python - <<'PYTHON'
from importlib.metadata import files
from importlib.util import find_spec

assert find_spec("torch") is None
typed = sorted(str(path) for path in files("vqi") if path.name == "py.typed")
assert typed == ["vqi/py.typed", "vqi_pipelines/py.typed"], typed
PYTHON
