# periop: `make demo` runs the main job, `make test` passes every check; both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-build
DIST := dist
SECONDS := 300
COUNT := 10000
STEPS := 25
export PYTHONUNBUFFERED := 1

.PHONY: help setup setup-dev demo test lint unit fuzz sequences lock bundle expected bench clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.runtime ## a virtual environment with what periop needs to run
setup-dev: $(VENV)/.dev ## the same, with what its developers need

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "periop needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@ $(VENV)/.runtime

demo: setup ## the main job on the built-in cohort, ending with the ALNEO table
	@$(BIN)/periop demo

test: lint unit ## every check: style, types, imports, tests

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4

fuzz: setup-dev ## search for new failures with random examples, for SECONDS=300
	$(BIN)/python -m tests.fuzz $(SECONDS)

sequences: setup-dev ## random nights of a changing and failing server, COUNT=10000 of up to STEPS=25 steps (hours)
	nice $(BIN)/python -m tests.sequences $(COUNT) $(STEPS)

$(TOOLS)/.tools: requirements-build.lock
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@touch $@

bundle: $(TOOLS)/.tools ## one archive in dist/ that installs periop without a network (Linux x86_64 and arm64, Python 3.11)
	$(TOOLS)/bin/python deploy/bundle.py --out $(DIST)

lock: | $(VENV)/.venv ## resolve the dependencies anew into the two lock files (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock --upgrade --quiet
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements.lock -o requirements-dev.lock --quiet
	uv pip compile --group build --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements.lock -o requirements-build.lock --upgrade --quiet

expected: setup-dev ## write the committed artefacts anew (SQL of views, help, demo results, docs/derivation.md)
	$(BIN)/python -m tests.expectations

bench: setup-dev ## the benchmarks; they print ratios of one run
	$(BIN)/python benchmarks/mapping.py
	$(BIN)/python benchmarks/flattening.py
	$(BIN)/python benchmarks/syncing.py
	$(BIN)/python benchmarks/connecting.py
	$(BIN)/python benchmarks/year_of_nights.py

clean: ## remove what was built or written by the demo
	rm -rf $(VENV) $(TOOLS) periop-demo dist fixtures/hapi/target fixtures/oidc/node_modules fixtures/medplum/node_modules
