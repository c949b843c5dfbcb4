# Needs Python 3.11 or newer and make. Everything is installed into .venv beside this file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What the tests of the page in a real browser need beside .venv. Where it cannot be had they are skipped and say why.
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
AXE := axe-core@4.14.1

.PHONY: help run test test-all browser check manual clean

help:
	@echo "make run        set up and run experiments.toml; the report is results/report.html"
	@echo "make test       set up and run the quick tier of the tests"
	@echo "make test-all   all tests; CIFAR-10 too where ROTBENCH_DATA names it"
	@echo "make check      lint, formatting and types"
	@echo "make manual     write the generated parts of plugins/README.md anew"
	@echo "make clean      remove .venv, caches and built files; results stay"

run: $(READY)
	$(BIN)/rotbench run experiments.toml

test: $(READY) browser
	$(BIN)/python -m pytest

test-all: $(READY) browser
	$(BIN)/python -m pytest -m "thorough or not thorough"

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The stamp is written last, so that a set-up that was broken off is done again.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rotbench needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
	$(BIN)/rotbench schema --to rotbench.schema.json
	touch $(READY)

# Fetches what is missing, where that is possible, and never fails: `make run` and most tests need none of it.
browser: $(READY)
	@for name in $(BROWSERS); do command -v $$name > /dev/null && exit; done; \
		{ test "$$(id -u)" = 0 && command -v apt-get && apt-get update \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } < /dev/null || true
	@test -e $(VENV)/node_modules/$(word 1,$(subst @, ,$(AXE)))/axe.min.js || { command -v npm \
		&& npm install --prefix $(VENV) --no-save --no-audit --no-fund --fetch-retries=1 $(AXE); } < /dev/null || true

manual: $(READY)
	$(BIN)/python -m rotbench.manual plugins/README.md

clean:
	rm -rf $(VENV) rotbench.schema.json dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
