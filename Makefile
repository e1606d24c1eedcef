# Every target first makes .venv, which needs only make and Python 3.11 or newer: `make report` is all there is to do.
# Another interpreter: make report PYTHON=python3.12
NAMES := python3 python3.14 python3.13 python3.12 python3.11
PYTHON ?= $(firstword $(foreach name,$(NAMES),$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
READY := .venv/ready
# Python compiles what is imported, when it first is: half the time of compiling everything now.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-compile
unexport PYTHONDONTWRITEBYTECODE

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1:	/p' Makefile | expand -t 14

REPORTED := smollm2 zoo-llama-0 zoo-rwkv5-0 --compare zoo

report: $(READY) ## the report about SmolLM2 and the zoo, in about ten minutes
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/strata report $(REPORTED) --budget quick --out reports/out/quick

report-full: $(READY) ## the same at the budget at which the conclusions are meant
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/strata report $(REPORTED) --budget full --out reports/out/full

test: $(READY) ## the tests
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/python -m pytest -n 2

test-all: $(READY) ## the tests with the long ones
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/python -m pytest -n 2 -m ''

test-pages: $(READY) ## the commands of the page on pruning and the README's example, as they stand
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/python -m pytest -m long tests/test_pruning_page.py tests/test_python_page.py

lint: $(READY) ## format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY) ## how fast a sweep is
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/python -m tests.benchmarks

gpu: $(READY) ## what runs on this machine's GPU, how exactly and how fast, in eight minutes at most: docs/gpu.md
	$(BIN)/python -m tests.gpu

docs: $(READY) ## the site of the documentation, in reports/out/docs/site
	$(BIN)/strata fetch texts
	$(BIN)/python -m reports.site

wheel: $(READY) ## a wheel in dist, with the zoo, the notebooks and the templates
	$(PIP) -q 'setuptools>=77'
	$(BIN)/python -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w dist .

zoo: $(READY) ## trains the models in adapters/zoo, some hours on two cores; the same command goes on where it stopped
	$(BIN)/strata fetch texts
	$(BIN)/python -m analysis.zoo --out reports/out/zoo
	$(BIN)/python -m analysis.zoo --out reports/out/zoo --release

lab: $(READY) ## JupyterLab on the notebooks
	$(BIN)/strata fetch smollm2 texts
	$(BIN)/jupyter lab notebooks

# The file says where it was made: an environment that was moved, or whose Python is gone, is made again.
ifneq ($(shell test -x $(BIN)/python && cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif
$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo "Python 3.11 or newer is missing (looked for $(NAMES))"; exit 1; }
	@echo "1/3 making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv || { echo "That failed (on Debian and Ubuntu venv comes apart: apt install python3-venv)"; exit 1; }
	@echo "2/3 installing PyTorch"
	@$(PIP) $$(test -t 1 || echo -q) -c constraints.txt torch
	@echo "3/3 installing the other packages, one to three minutes"
	@$(PIP) -q -c constraints.txt -e '.[dev]'
	@echo '$(CURDIR)' > $@

.PHONY: help report report-full test test-all test-pages lint bench gpu docs wheel zoo lab
