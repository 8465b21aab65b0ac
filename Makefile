# Every target makes the environment it needs: python3 >= 3.11, make and a package index are all there has to be.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NAME ?=

# Tests run beside each other, as many as there are cores; what stands idle takes over what others have not begun.
SPREAD := --numprocesses auto --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check static docs bench clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1 - /p' $(MAKEFILE_LIST) | awk -F ' - ' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: $(INSTALLED) ## train a stack of two levels on real images in five minutes; pictures and report in runs/demo
	$(BIN)/zoo demo

test: $(INSTALLED) ## all tests, on every core
	$(BIN)/python -m pytest $(SPREAD)

check: static docs ## everything a change has to pass: style, types, layers, documentation, tests
	$(BIN)/python -m pytest $(SPREAD) --ignore=tests/test_docs.py

static: $(INSTALLED) ## style, types and layers, without running anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --package benchmarks
	$(BIN)/lint-imports

docs: $(INSTALLED) ## the documentation: its code runs, its links and commands exist
	$(BIN)/python -m pytest $(SPREAD) tests/test_docs.py

bench: $(INSTALLED) ## the benchmarks, all or one: make bench NAME=startup
	$(BIN)/python -m benchmarks $(NAME)

clean: ## remove the environment and all caches; runs/ stays
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an installation that was interrupted is begun again.
$(INSTALLED): pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(SUPPORTED) && $(PYTHON) -m venv --clear $(VENV); }
	@echo 'Installing into $(VENV): a minute or more, and several gigabytes, most of it torch.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' # the first with --group
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

SUPPORTED = $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("The zoo needs Python 3.11 or newer, \
	and $(PYTHON) is %d.%d. Name another one, as in: make PYTHON=python3.12 demo" % sys.version_info[:2])'
