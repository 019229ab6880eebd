# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON := .venv/bin/python
export PYTHONPATH := operator

.PHONY: help setup check fmt test crds clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/pip install --quiet uv

.venv/.ready: pyproject.toml uv.lock $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv)
	$(UV) sync --quiet --frozen --all-extras
	@touch $@

setup: .venv/.ready ## create the virtual environment

fmt: setup ## format the code
	.venv/bin/ruff format operator tests e2e && .venv/bin/ruff check --fix --quiet operator tests e2e

check: setup ## format, lint, types, import contracts, unit and property tests (under 60 s)
	.venv/bin/ruff format --check operator tests e2e
	.venv/bin/ruff check operator tests e2e
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/pytest -q tests/unit

crds: setup ## generate the CRDs and the API reference from the typed models
	$(PYTHON) -m headroom.api.crdgen --output crds/

-include e2e/cluster/cluster.mk
