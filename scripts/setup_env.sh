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

script=setup_env.sh
default_venv=.venv
pins=constraints.txt
watched=(scripts/models.txt scripts/deepspeed.txt scripts/movielens.txt)
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

wheel_folder=.cache
if fresh && ls "$wheel_folder"/recbole-*.whl >/dev/null 2>&1; then
    exit 0
fi
make_venv

say "== Installing PyTorch, so that nothing after it picks another one"
pip install --quiet --constraint constraints.txt setuptools wheel hatchling editables
pip install --quiet --constraint constraints.txt torch
say "== Installing the frameworks and gream_ext"
pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[sft,rl,report,enrich,serve,dev,docs]'
pip install --quiet --no-deps --requirement scripts/models.txt

# The CPU cure. The registry's torchvision is built for CUDA and breaks `import transformers` beside a CPU torch; nobody
# here needs it. torchaudio's libraries link CUDA too, but LLaMA-Factory imports its Python part.
if "$venv/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then
    pip uninstall --quiet --yes torchvision
    rm -f "$packages"/torchaudio/lib/*.so
fi

say "== Installing DeepSpeed aside (scripts/deepspeed.txt)"
rm -rf "$venv/deepspeed"
DS_BUILD_OPS=0 pip install --quiet --no-deps --no-build-isolation --target "$venv/deepspeed" --requirement scripts/deepspeed.txt

say "== Installing earlier versions of Verl aside, which the tests run as well"
for version in 0.8.0 0.9.0; do
    rm -rf "$venv/verl-$version"
    pip install --quiet --no-deps --target "$venv/verl-$version" "verl==$version"
done

if ! ls "$wheel_folder"/recbole-*.whl >/dev/null 2>&1; then
    say "== Fetching MovieLens-100K (inside the recbole wheel)"
    pip download --quiet --no-deps --require-hashes --requirement scripts/movielens.txt --dest "$wheel_folder/part"
    mv -f "$wheel_folder/part"/recbole-*.whl "$wheel_folder/"
    rmdir "$wheel_folder/part"
fi

finish
