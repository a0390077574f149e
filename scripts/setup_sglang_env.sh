#!/usr/bin/env bash
# Make the environment in which the tests run SGLang on a CPU: an own one, for its pins clash with LLaMA-Factory's and Verl's.
#
#   scripts/setup_sglang_env.sh [VENV]      VENV defaults to .venv-sglang; PYTHON names the interpreter (default python3.11)
#
# 3.6 GB, about 3 minutes after the downloads. A second run does nothing; a run that was interrupted is finished by the next.
# The registries have no SGLang for CPUs: its kernels and torchvision's operators are replaced by the two shims of
# tests/support/sglang_cpu, which are test support only. Not meant for GPU machines: docs/sglang.md says how theirs is made.
set -euo pipefail

script=setup_sglang_env.sh
default_venv=.venv-sglang
pins=constraints-sglang.txt
watched=()
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if fresh; then
    exit 0
fi
make_venv

say "== Installing PyTorch"
pip install --quiet --constraint constraints-sglang.txt setuptools torch
say "== Installing SGLang, Verl and gream_ext"
# Exactly the list and nothing that it asks for: SGLang's own requirements are CUDA packages of several gigabytes, and
# Verl's are another SGLang's.
pip install --quiet --no-deps --requirement constraints-sglang.txt
pip install --quiet --no-deps --no-build-isolation --editable .

finish
