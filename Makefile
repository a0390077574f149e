# make quickstart   the whole flow on MovieLens-100K, from nothing to runs/quickstart/report.html
# make test         the test suite
# make check        style, types, architecture
# make clean        remove what make built, but not runs/ and .cache/
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help environment quickstart test check clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

environment:
	@scripts/setup_env.sh "$(VENV)" < /dev/null

quickstart: environment
	@"$(BIN)/gream" run examples/quickstart/quickstart.yaml --workspace runs/quickstart

test: environment
	@"$(BIN)/python" -m pytest $(PYTEST_ARGS)

check: environment
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

clean:
	rm -rf "$(VENV)" dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
