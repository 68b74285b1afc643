# `make demo` and `make test` do all the set-up: they create .venv on first use and reuse it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Idle OpenBLAS workers spin; on a busy machine that made small solves fifty times slower.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Published weights and data sets for the tests that want them; they skip where the folder is absent.
SDPLIP_DATA ?= $(if $(wildcard ../shared),$(abspath ../shared))
export SDPLIP_DATA

.PHONY: demo test lint docs bench wheel clean help

help:  ## what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(VENV)/.test  ## train a small digits network, check and compare its weights, hand out a certificate (a minute)
	$(BIN)/python examples/demo.py demo

test: $(VENV)/.test  ## the whole test suite, on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.lint  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## the documentation site in docs/_build
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build
	$(BIN)/python docs/check_site.py docs/_build
	$(BIN)/python docs/console_blocks.py

bench: $(VENV)/.test  ## the tables of docs/benchmarks.md
	$(BIN)/python benchmarks/check.py
	$(BIN)/python benchmarks/solvers.py

wheel: $(VENV)/.lint  ## wheels of sdplip and sdplip-verify in dist/, tried in fresh environments of this Python and the newest one here
	.ci/wheels $(BIN)/python $(PYTHON)

clean:  ## remove what make has made
	rm -rf $(VENV) build dist docs/_build demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e ".[$*]"
	touch $@
