#!/usr/bin/env bash
# Make the environment in which the tests run SGLang on a CPU: an own one, for its pins clash with LLaMA-Factory's and Verl's.
#
#   scripts/setup_sglang_env.sh [VENV]      VENV defaults to .venv-sglang; PYTHON names the interpreter (default python3.11)
#
# 3 GB, about 3 minutes after the downloads. A second run does nothing; a run that was interrupted is finished by the next.
# The registries have no SGLang for CPUs: its kernels and torchvision's operators are replaced by the two shims of
# tests/support/sglang_cpu, which are test support only. Not meant for GPU machines: docs/sglang.md says how theirs is made.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"  # constraints are named by relative paths, so a space in the path does no harm
venv="${1:-.venv-sglang}"
case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac
python="${PYTHON:-python3.11}"

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup_sglang_env.sh: $*"; exit 2; }

wanted="$( { printf '%s\n' "$root" "$venv"; cat constraints-sglang.txt pyproject.toml scripts/setup_sglang_env.sh; } | sha256sum | cut -d' ' -f1)"
stamp="$venv/.gream-environment"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/gream" ]; then
    exit 0
fi

command -v "$python" >/dev/null || fail "$python is not there: install Python 3.11, or name it, PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || fail "$python is not Python 3.11, for which constraints-sglang.txt was made"

# An environment cannot be moved: one that came with a copied folder is made anew.
prefix="$("$venv/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null || true)"
if [ -e "$venv" ] && [ "$prefix" != "$venv" ]; then
    [ -e "$venv/pyvenv.cfg" ] || fail "$venv is there and is no Python environment: remove it or name another folder"
    say "== $venv does not work here: making it anew"
    rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
    say "== Making $venv (about 3 minutes after the downloads)"
    "$python" -m venv "$venv"
fi
rm -f "$stamp"

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
packages="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
# What an interrupted pip left half-written has no RECORD; pip would take it for installed.
find "$packages" -maxdepth 1 -name '*.dist-info' | while IFS= read -r info; do
    [ -e "$info/RECORD" ] || rm -rf "$info"
done

say "== Installing PyTorch"
pip install --quiet --constraint constraints-sglang.txt setuptools torch
say "== Installing SGLang and gream_ext"
# Exactly the list and nothing that it asks for: SGLang's own requirements are CUDA packages of several gigabytes.
pip install --quiet --no-deps --requirement constraints-sglang.txt
pip install --quiet --no-deps --no-build-isolation --editable .

printf %s "$wanted" > "$stamp"
say "== $venv is ready"
