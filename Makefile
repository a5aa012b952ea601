# Every target does its own set-up: a virtual environment in .venv with the versions of configs/constraints.txt.
# Variables: PYTHON (3.11 or newer), VENV, TORCH_ARGS (options for installing torch, such as another index),
# ARGS (further options for pytest or the benchmark).

PYTHON     ?= python3
VENV       ?= .venv
TORCH_ARGS ?=
ARGS       ?=

PY  := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --quiet -c configs/constraints.txt
# Two test processes of one computing thread each suit two cores; more only get in each other's way.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# Every model runs in a process of its own: compiling the modules anew in each would take longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench catalogue schema clean

help: ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "fetafix needs Python 3.11 or newer; name one: make PYTHON=python3.12 …" >&2; exit 2; }
	@echo "setting up $(VENV): a virtual environment of $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml configs/constraints.txt
	@echo "setting up $(VENV): installing torch (large), then fetafix with PyTorch and scikit-learn"
	@$(PIP) $(TORCH_ARGS) torch
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation -e '.[torch,demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "setting up $(VENV): installing TensorFlow (large) and the tools for tests and lint"
	@$(PIP) --no-build-isolation -e '.[all,demo,dev]'
	@touch $@

demo: $(VENV)/.run ## train, convert, break, check, localize and repair a small network (results in demo-output/)
	@$(PY) -m fetafix.demo demo-output

test: $(VENV)/.dev ## run all tests (those that need real models want FETAFIX_ASSETS=folder)
	@$(THREADS) $(PY) -m pytest -q -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/.dev types ## check style and imports with ruff, and types
	@$(PY) -m ruff check fetafix tests

types: $(VENV)/.dev ## check types with mypy --strict
	@$(PY) -m mypy

bench: $(VENV)/.dev ## measure speed and memory against plain scripts, as ratios
	@$(PY) -m fetafix.bench speed $(ARGS)

catalogue: $(VENV)/.run ## make the page of all fault types, fetafix/faults/CATALOGUE.md
	@$(PY) -m fetafix faults --markdown fetafix/faults/CATALOGUE.md

schema: $(VENV)/.run ## make the schema of fetafix.yaml that editors read, fetafix/fetafix.schema.json
	@$(PY) -m fetafix schema config -o fetafix/fetafix.schema.json

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) demo-output build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
