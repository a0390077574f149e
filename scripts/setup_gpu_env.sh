#!/usr/bin/env bash
# Make an environment for a machine with NVIDIA GPUs: one for each framework, for their pins clash.
#
#   scripts/setup_gpu_env.sh sft [VENV]       LLaMA-Factory and DeepSpeed; VENV defaults to .venv-sft
#   scripts/setup_gpu_env.sh rl [VENV]        Verl with SGLang 0.5.12 as its rollout; .venv-rl
#   scripts/setup_gpu_env.sh serve [VENV]     SGLang 0.5.23, in which our constrained decoding runs; .venv-serve
#
# Python 3.11 or 3.12; PYTHON names the interpreter. Needs a driver for CUDA 13, and no toolkit. Each is installed exactly
# as its lock file lists it, constraints-gpu-NAME.txt. A second run does nothing; an interrupted one is finished by the next.
# On a machine without a GPU everything installs and most of it runs: `make test-gpu-env`.
set -euo pipefail

kind="${1:-}"
case "$kind" in
    sft | rl | serve) shift ;;
    *) echo "setup_gpu_env.sh: which environment? sft, rl or serve, as in: scripts/setup_gpu_env.sh sft" >&2; exit 2 ;;
esac
script=setup_gpu_env.sh
default_venv=".venv-$kind"
pins="constraints-gpu-$kind.txt"
watched=()
pythons="3.11 3.12"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if fresh; then
    exit 0
fi
make_venv

say "== Installing what $pins lists, several gigabytes"
install_locked "$pins"
say "== Installing gream_ext"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable .

finish
