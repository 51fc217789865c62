# Each target makes .venv by itself; only python3.11 and make are needed. torch comes from pip (the whole .venv is 6 GB).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          the whole loop on generated films (about 3 minutes after set-up)"
	@echo "make test          every test"
	@echo "make lint          ruff, mypy, import-linter, bandit, pip-audit"
	@echo "make bench NAME=x  an experiment of experiments/x; exit code 1 if a goal is not met; AGAIN=1 computes all anew"
	@echo "make docs          the documentation, in site/"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The run-time set: torch alone first (the others would pull another build), then the pinned rest, then this package.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install -q torch==2.14.1 torchvision==0.29.1
	$(PIP) install -q --no-deps -r requirements/run.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) install -q --no-deps -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.run
	@command -v java >/dev/null || echo "note: Java is not installed; 'neurosym check --reason' will not run HermiT"
	OMP_WAIT_POLICY=PASSIVE $(BIN)/neurosym demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r neurosym experiments .ci
	$(BIN)/python .ci/audit.py

bench: $(VENV)/.dev
	@test -n "$(NAME)" || { echo "error: name an experiment, e.g. make bench NAME=jsrt-anatomy"; exit 2; }
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python experiments/harness.py $(NAME)

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site runs
