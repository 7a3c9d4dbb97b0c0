# Two commands: `make all` runs the demo benchmark, `make test` the tests. Each sets up .venv first where that is needed.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(if $(shell $(name) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo yes),$(name))))
UV_VERSION := 0.13.8
STAMP := .venv/.installed
CORES ?= 8
TEST_WORKERS ?= 2

.PHONY: all env test quick soak lint lock

all: env
	@.venv/bin/python workflow/unlock_stale.py
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/snakemake --cores $(CORES) all
	@.venv/bin/python -c "import pathlib; print('\nThe report is at', pathlib.Path('reports/demo/index.html').resolve())"
	@echo "The same command runs the paper's matrix: . .venv/bin/activate && snakemake --cores $(CORES) all --configfile config/paper.yaml"

env: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or 3.12 was expected, found $$(python3 --version 2>&1); name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --no-deps --require-hashes -r requirements.lock
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

test: lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile

quick: env
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not slow and not soak"

# About an hour: the demo matrix under a hundred kills and faults, compared with one left alone.
soak: env
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m soak

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/snakefmt --check Snakefile workflow

# Rewrites the pins; commit the result.
lock: env
	.venv/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock
