# make demo    install into .venv and search on the embedded data, no network needed after the installation
# make test    install with the development tools, then lint, types and tests
# make test-avx2   what is predicted of memory once more, with the instructions of an older processor
# make docs    write docs/api.md anew from the package's docstrings
# make setup   install only          make lint   style and types only          make clean   remove what was built

VENV        := .venv
BIN         := $(VENV)/bin
PACKAGE     := pyproject.toml medsearch/__init__.py
TORCH       ?= torch==2.13.*
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
INSTALL     := $(BIN)/pip install -qq --disable-pip-version-check

.PHONY: demo test test-avx2 docs setup lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/medsearch search --recipe demo -o runs/demo

test: lint
	$(BIN)/pytest -n auto --dist worksteal

# What operators take inside themselves depends on the instructions at hand: two processors in one.
test-avx2: $(VENV)/.installed-dev
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/pytest -n auto --dist worksteal \
	  tests/measurement/memory/test_memory.py tests/measurement/memory/test_norms.py tests/measurement/memory/test_workspace.py tests/pipeline/test_fitting.py

docs: $(VENV)/.installed-dev
	$(BIN)/python -m medsearch.studies.reference > docs/api.md

setup: $(VENV)/.installed-dev

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$python"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "medsearch needs Python 3.11 or newer with venv; name one with: make PYTHON=/path/to/python3" >&2; exit 1

# A processor-only torch, unless there is an NVIDIA GPU.  Fetched alone, so that an index out of reach costs one short try.
$(VENV)/.torch: | $(BIN)/python
	@echo 'Installing $(TORCH) into $(VENV)'
	@if nvidia-smi >/dev/null 2>&1; then \
	  $(INSTALL) '$(TORCH)'; \
	elif ! $(INSTALL) --no-deps --retries 0 --timeout 5 --index-url $(TORCH_INDEX) '$(TORCH)'; then \
	  echo "No torch from $(TORCH_INDEX); taking it from where pip looks by default (it may be the larger GPU build)."; \
	  $(INSTALL) '$(TORCH)'; \
	fi
	@touch $@

$(VENV)/.installed: $(PACKAGE) | $(VENV)/.torch
	@echo 'Installing medsearch into $(VENV)'
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(PACKAGE) | $(VENV)/.torch
	@echo 'Installing medsearch and its development tools into $(VENV)'
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
