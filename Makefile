# `make demo` and `make test` do all set-up on a fresh clone; nothing else has to be typed first.
#   make demo    a city, two districts, departments, townships and stations on this machine, at work (DEMO="--seed 7 --keep")
#   make test    all checks: lint, types, import rules, tests
#   make bench   the speed table       make lint   the checks without the tests
#   make crowd   of it a thousand stations at once
#   make simulate SEEDS=0:2000   whole networks with faults (SIMULATE="--jobs 2")      make mutants   deliberate bugs that it must find
#   make vectors the test vectors anew make lock   the dependency locks anew (asks the package index)
#   make tables  README's tables anew  make clean  everything that was made

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO ?=
TESTS ?=
SEEDS ?= 0:20
SIMULATE ?=

.PHONY: demo test lint bench crowd vectors lock tables clean simulate mutants
.DELETE_ON_ERROR:

demo: $(RUN)
	$(BIN)/tongban demo $(DEMO)

test: lint
	$(BIN)/python -m pytest $(TESTS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy --strict protocol node hub
	$(BIN)/lint-imports

simulate: $(DEV)
	$(BIN)/python -m tests.simulation $(SEEDS) $(SIMULATE)

mutants: $(DEV)
	$(BIN)/python -m tests.simulation.mutants

bench: $(DEV)
	$(BIN)/python -m bench

crowd: $(DEV)
	$(BIN)/python -m bench --only backlog crowd

vectors: $(DEV)
	$(BIN)/python -m tests.vectors.generate

tables: $(DEV)
	$(BIN)/python -m tools.tables

lock: $(DEV)
	$(BIN)/python tools/lock.py

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tongban needs Python 3.11 or newer; found: $$($(PYTHON) --version 2>&1). Name another one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUN): requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
