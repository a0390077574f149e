# make quickstart   the whole flow on MovieLens-100K, from nothing to runs/quickstart/report.html
# make test         the test suite
# make test-unit-312  the unit tests on Python 3.12, in the environment for SFT on GPUs (PYTHON=/path/to/python3.12)
# make test-sglang  the SGLang engine against the transformers engine, and Verl's SGLang rollout, in .venv-sglang
# make test-gpu-env   the environments for GPUs, made from their lock files: two steps of SFT, Verl's SGLang rollout imported
# make gpu-smoke    SFT, RL with SGLang rollout and both modes on this machine's GPU, in about ten minutes
# make notebooks    the code of the notebooks, on a made-up shop
# make trl-example  two steps of the TRL example, in .venv-trl
# make docs         the site, into site/; broken links fail
# make check        style, types, architecture
# make release-check  build, check and install what would be released, in an empty environment
# make clean        remove what make built, but not runs/ and .cache/
SHELL := /bin/bash
VENV ?= .venv
SGLANG_VENV ?= .venv-sglang
RECBOLE_VENV ?= .venv-recbole
SFT_VENV ?= .venv-sft
RL_VENV ?= .venv-rl
PY312_VENV ?= .venv-312
TRL_VENV ?= .venv-trl
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help environment sglang-environment recbole-environment quickstart test test-sglang test-gpu-env test-unit-312 \
	gpu-smoke notebooks trl-example check docs release-check clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

environment:
	@scripts/setup_env.sh "$(VENV)" < /dev/null

sglang-environment:
	@scripts/setup_sglang_env.sh "$(SGLANG_VENV)" < /dev/null

recbole-environment:
	@scripts/setup_recbole_env.sh "$(RECBOLE_VENV)" < /dev/null

quickstart: environment
	@"$(BIN)/gream" run examples/quickstart/quickstart.yaml --workspace runs/quickstart

test: environment
	@"$(BIN)/python" -m pytest $(PYTEST_ARGS)

# Beside what the lock file lists, which is LLaMA-Factory's environment, only what the tests import; those of Verl and
# SGLang are skipped there.
UNIT_TESTS_NEED := pytest pytest-timeout iniconfig pluggy hypothesis sortedcontainers torchmetrics lightning-utilities openai prometheus_client \
	jiter distro sniffio import-linter grimp
test-unit-312:
	@PYTHON="$(or $(PYTHON),python3.12)" scripts/setup_gpu_env.sh sft "$(PY312_VENV)" < /dev/null
	@"$(PY312_VENV)/bin/uv" pip install --quiet --python "$(PY312_VENV)/bin/python" --no-deps \
		$$(for name in $(UNIT_TESTS_NEED); do grep -i "^$$name==" constraints.txt; done)
	@"$(PY312_VENV)/bin/python" -m pytest tests/unit $(PYTEST_ARGS)

# With the stand-ins for what no registry has for CPUs (tests/support/sglang_cpu); Verl's trainer with SGLang rollout among
# them; then our decoding beside SGLang's version of transformers.
test-sglang: sglang-environment
	@PYTHONPATH="$(CURDIR)/tests/support/sglang_cpu" SGLANG_USE_CPU_ENGINE=1 "$(SGLANG_VENV)/bin/python" -m pytest \
		tests/sglang tests/unit/test_inference_modes.py tests/unit/test_decoding_*.py tests/unit/test_sglang_*.py \
		tests/unit/test_item_index.py tests/integration/test_transformers_parity.py $(PYTEST_ARGS)

# CUDA wheels run on a CPU too: what users with a GPU install is what is tried here, torchvision and all.
test-gpu-env: environment
	@scripts/setup_gpu_env.sh sft "$(SFT_VENV)" < /dev/null
	@scripts/setup_gpu_env.sh rl "$(RL_VENV)" < /dev/null
	@SFT_VENV="$(SFT_VENV)" RL_VENV="$(RL_VENV)" "$(BIN)/python" -m pytest tests/gpu_env $(PYTEST_ARGS)

# In the environments of docs/installation.md, which are not made here; without a GPU as far as it goes.
gpu-smoke:
	@python3 scripts/gpu_smoke.py

# `make test` runs them as well.
notebooks: environment
	@"$(BIN)/python" -m pytest tests/integration/test_notebooks.py $(PYTEST_ARGS)

# TRL 1 and LLaMA-Factory exclude each other, hence an environment of its own.
trl-example:
	@test -x "$(TRL_VENV)/bin/python" || "$(or $(PYTHON),python3.11)" -m venv "$(TRL_VENV)"
	@"$(TRL_VENV)/bin/python" -m pip install --quiet --editable . --requirement examples/trl/requirements.txt
	@"$(TRL_VENV)/bin/python" -m pytest tests/integration/test_trl_example.py $(PYTEST_ARGS)

check: environment
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

docs: environment
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/python" -m mkdocs build --strict --quiet

release-check:
	@scripts/release_check.sh

clean:
	rm -rf "$(VENV)" "$(SGLANG_VENV)" "$(RECBOLE_VENV)" "$(SFT_VENV)" "$(RL_VENV)" "$(PY312_VENV)" "$(TRL_VENV)" dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
