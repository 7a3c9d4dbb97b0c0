# Two commands: `make all` runs the demo benchmark, `make test` the tests. Each sets up .venv first where that is needed.
# The lock pins uv too: any Python from 3.8 on installs it, and uv finds, or fetches, a Python that pyproject.toml allows.
# PYTHON names it: a version, a name or a path.
PYTHON ?=
UV := .uv/bin/uv
INSTALL := $(UV) pip install --quiet --python .venv/bin/python --no-deps
LOCKED := $(INSTALL) --compile-bytecode --require-hashes
CORE := .venv/.core
EXTRAS := .venv/.extras
CORES ?= 8
TEST_WORKERS ?= 2

# `env` installs the core, `extras` what docs, ONNX, Slurm, the PEFT library and the tests need besides.
.PHONY: all env extras test quick soak lint lock

all: env
	@.venv/bin/python workflow/unlock_stale.py
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/snakemake --cores $(CORES) all
	@.venv/bin/python -c "import pathlib; print('\nThe report is at', pathlib.Path('reports/demo/index.html').resolve())"
	@echo "The same command runs the paper's matrix: . .venv/bin/activate && snakemake --cores $(CORES) all --configfile config/paper.yaml"

env: $(CORE)

extras: $(EXTRAS)

$(UV): requirements.lock
	@for python in $(PYTHON) python3 $(addprefix python3.,14 13 12 11 10 9 8) python; do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then \
	        $$python -m venv --clear .uv && sed -n '/^uv==/,/[^\]$$/p' requirements.lock > .uv/uv.lock && \
	        .uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .uv/uv.lock && touch $@; exit; \
	    fi; \
	done; echo "make: Python 3.8 or newer with its module venv was expected; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 2

$(CORE): $(UV) pyproject.toml
	@.venv/bin/python -c '' 2>/dev/null || $(UV) venv --quiet --clear $(PYTHON:%=--python %) .venv || \
	    { echo "make: no Python of pyproject.toml's requires-python was found or fetched; install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@.venv/bin/python -c 'import sys; print(".venv has Python", sys.version.split()[0], "of", sys.base_prefix)'
	$(UV) pip compile pyproject.toml --quiet --python .venv/bin/python --constraint requirements.lock --output-file .venv/core.txt
	$(LOCKED) -r .venv/core.txt --constraint requirements.lock
	$(INSTALL) --no-build-isolation -e .
	@touch $@

$(EXTRAS): $(CORE)
	$(LOCKED) -r requirements.lock
	@touch $@

test: lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile

quick: extras
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not slow and not soak"

# About an hour: the demo matrix under a hundred kills and faults, compared with one left alone.
soak: extras
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m soak

lint: extras
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/snakefmt --check Snakefile workflow

# Rewrites the pins; commit the result.
lock: env
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock
