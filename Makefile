# The few commands of the house, the same for a person and for CI; `make` alone lists them.
# Needs python3 (3.11 or later) with its venv module, git and make. Everything else is pinned by hash and goes to .venv.

PYTHON  ?= python3
WORKERS ?= 2
ARGS    ?=
UPGRADE ?=
# Locks are made by the oldest Python served, Debian 12's 3.11.2: a newer one pins what that one cannot install.
LOCKER  ?= /usr/bin/python3

BIN     := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST  := $(BIN)/python -m pytest
LOCKING := $(UPGRADE) --quiet --generate-hashes --all-build-deps --allow-unsafe --strip-extras --no-header \
           --no-annotate --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
CHECKS  := check-style check-types check-imports check-catalogues check-docs

.PHONY: help run test test-slow check $(CHECKS) coverage bench lock wheel clean

help:                  ## this list
	@sed -n 's/^\([a-z-]*\): *[^#]*## /  make \1\t/p' Makefile | expand -t 20

run: .venv/.run        ## start the server in the foreground; VOLET_* variables and ARGS reach it
	@exec $(BIN)/volet serve --init $(ARGS)

test: .venv/.dev       ## the whole test suite but for the slow tests
	@$(PYTEST) -n $(WORKERS) $(ARGS)

test-slow: .venv/.dev  ## the slow tests
	@$(PYTEST) -m slow $(ARGS)

check: .venv/.dev      ## style, types, imports, catalogues of findings, documentation
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

check-style: .venv/.dev
	@echo "== style (ruff)" && $(BIN)/ruff check --quiet .

check-types: .venv/.dev
	@echo "== types (mypy)" && $(BIN)/mypy --no-error-summary

check-imports: .venv/.dev
	@echo "== imports (import-linter)" && $(BIN)/lint-imports --no-logo

check-catalogues: .venv/.dev
	@echo "== catalogues of findings" && $(PYTEST) tests/test_house.py -k catalogue

check-docs: .venv/.dev
	@echo "== documentation" && $(PYTEST) tests/test_house.py -k docs

coverage: .venv/.dev   ## the test suite with coverage; pages in htmlcov/
	@$(PYTEST) -n $(WORKERS) --cov --cov-report=term --cov-report=html $(ARGS)

bench: .venv/.dev      ## the benchmarks; ARGS=NAME for some of them
	@$(BIN)/python -m benchmarks $(ARGS)

lock:                  ## pin the dependencies of setup.cfg anew; UPGRADE=--upgrade for the newest of each
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	echo "Locking with $$($(LOCKER) --version)" && \
	$(LOCKER) -m venv "$$tools" && "$$tools/bin/pip" install --quiet --disable-pip-version-check 'pip-tools>=7.4' && \
	"$$tools/bin/pip-compile" $(LOCKING) --output-file requirements.lock setup.cfg && \
	"$$tools/bin/pip-compile" $(LOCKING) --output-file requirements-dev.lock --constraint requirements.lock \
	    --all-extras setup.cfg && \
	for lock in requirements.lock requirements-dev.lock; do \
	    { echo '# Made by `make lock` from setup.cfg, for Python 3.11 on Linux; do not edit.'; grep '^[^#]' $$lock; } \
	        > $$lock.new && mv $$lock.new $$lock; done

wheel: .venv/.dev      ## build the wheel into dist/
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --no-isolation > /dev/null && ls dist/*.whl

clean:                 ## remove what was built and cached; .venv/ and var/ stay
	rm -rf build dist htmlcov .coverage .coverage.* .hypothesis .benchmarks *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Stamps: made again when what they were made from changes.
.venv/.run: requirements.lock setup.cfg pyproject.toml
	$(call install,requirements.lock)
	@touch $@

.venv/.dev: requirements-dev.lock setup.cfg pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $@ .venv/.run

# A virtual environment left half made (Debian without python3-venv) is made again.
define install
@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
    || { echo "Volet needs Python 3.11 or later with its venv module (Debian: apt install python3-venv)." >&2; exit 1; }
@$(BIN)/python -m pip --version > /dev/null 2>&1 || { echo "Making .venv"; $(PYTHON) -m venv --clear .venv; }
@echo "Installing $(1)"
@$(INSTALL) --require-hashes -r $(1)
@$(INSTALL) --no-deps --no-build-isolation --editable .
endef
