# `make demo` and `make test` set up a virtual environment of their own; a second run goes straight to the work.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint types docs check clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kinmer needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	# torch first: whatever depends on it must find the pinned build.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/kinmer demo

test: $(READY)
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs site

check: lint types docs test test-slow

clean:
	rm -rf $(VENV) demo-output demo-original site
