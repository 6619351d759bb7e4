# `make demo`: set up and draw the demo study's figures.  `make test`: set up and run the tests.

PYTHON ?= python3
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test gpu-check lint format graphs site clean-venv

demo: $(STAMP)
	$(BIN)/snakemake --cores $(CORES)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

# Prints a report; with CIFAR-10 as Parquet shards: `make gpu-check CIFAR10=folder`.
gpu-check: $(STAMP)
	$(BIN)/python benchmarks/gpu_check.py $(if $(CIFAR10),--cifar10 "$(CIFAR10)")

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check --line-length 100 Snakefile workflow
	$(BIN)/snakemake --lint

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt --line-length 100 Snakefile workflow

RUN := results/small/convnet-cifar10-noise20/runs/w4_s0
graphs: $(STAMP)
	$(BIN)/snakemake figure3 --config scale=small --rulegraph dot | dot -Tpng -Gdpi=100 -o docs/rulegraph.png
	$(BIN)/snakemake $(RUN)/sharpness/e120.parquet --config scale=small --filegraph \
	  | dot -Tpng -Gdpi=70 -o docs/filegraph.png

# The documentation as a site, to be opened from its folder.
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

clean-venv:
	rm -rf $(VENV)

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	@# An environment that works is kept: laying another Python over it would break it.
	$(BIN)/python -c 'import ssl, pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
