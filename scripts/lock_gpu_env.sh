#!/usr/bin/env bash
# Write the lock files of the GPU environments: after a change of pyproject.toml or of a framework's version.
#
#   scripts/lock_gpu_env.sh [sft|rl|serve …]     needs uv (`pip install uv`)
#
# What stands in a lock file is kept as long as it fits; remove the file, or lines of it, for newer versions. Afterwards:
# `make test-gpu-env`, and `make gpu-smoke` where there is a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What Verl's extra for SGLang and SGLang itself ask for cannot stand together: transformers 5.9.0 against 5.6.0, and not
# 5.6.0. With 5.5.4 both ran on a GPU. transformers 5.5 refuses a newer `kernels` than 0.12 when it is imported.
override=(transformers==5.5.4 'kernels>=0.12,<0.13')

lock() {  # lock NAME EXTRAS REQUIREMENT…
    local name="$1" extras="$2" file="constraints-gpu-$1.txt"
    shift 2
    printf '%s\n' "$@" > "$work/more.in"
    printf '%s\n' "${override[@]}" > "$work/override.txt"
    printf '%s\n' "-e .[$extras]" > "$work/ours.in"
    { sed 's/ *#.*//' "$file" 2>/dev/null || true; } > "$work/$file"
    uv pip compile --quiet --universal --python-version 3.11 --prerelease if-necessary-or-explicit \
        --no-header --no-annotate --no-emit-package gream-ext --override "$work/override.txt" \
        "$work/ours.in" "$work/more.in" --output-file "$work/$file" > /dev/null
    {
        echo "# Every package of the environment that \`scripts/setup_gpu_env.sh $name\` makes (Python 3.11 and 3.12, Linux, CUDA 13)."
        echo "# Written by scripts/lock_gpu_env.sh; installed as it stands, without asking any package what it requires."
        cat "$work/$file"
    } > "$file"
}

for name in "${@:-sft rl serve}"; do
    for one in $name; do
        case "$one" in
            # torch of both is the one that Verl's extra names, and that ran: their environments share 5 GB.
            sft) lock sft sft,report,gguf torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0 deepspeed==0.18.8 ;;
            rl) lock rl rl,report 'verl[sglang]==0.9.1' flash-attn-4==4.0.0b15 ;;
            serve) (override=(); lock serve sglang,serve,report) ;;
            *) echo "lock_gpu_env.sh: no environment $one" >&2; exit 2 ;;
        esac
    done
done
