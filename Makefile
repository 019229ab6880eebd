# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON := .venv/bin/python
PYTEST := .venv/bin/pytest
CODE := operator tests e2e tools
export PYTHONPATH := operator

.PHONY: help setup setup-postgres fmt check test test-here test-cluster fuzz fuzz-specs prove-calm prove-checker prove-members prove-snapshots prove-workers prove-postgres-18 demo bench bench-replicas bench-warmup bench-workers bench-race simulate simulate-curve english figures changelog crds pin-images clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.uv/bin/uv:
	@echo "uv, which makes the virtual environment: .uv"
	@python3 -m venv .uv && .uv/bin/pip install --quiet uv

.venv/.ready: pyproject.toml uv.lock $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv)
	@echo "virtual environment: .venv, with the locked packages"
	@$(UV) sync --quiet --frozen --all-extras
	@touch $@

setup: .venv/.ready ## create the virtual environment

setup-postgres: ## install PostgreSQL's server and PgBouncer on this machine, for the contract and integration tests
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && command -v pgbouncer >/dev/null || \
	  { echo "installing postgresql and pgbouncer"; apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install -y --no-install-recommends postgresql pgbouncer >/dev/null; }

fmt: setup ## format the code
	.venv/bin/ruff format $(CODE)
	.venv/bin/ruff check --fix --quiet $(CODE)

check: setup ## format, lint, types, import contracts, English, unit and property tests (about a minute on two idle cores, caches warm)
	.venv/bin/ruff format --check --quiet $(CODE)
	.venv/bin/ruff check --quiet $(CODE)
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PYTHON) -m tools.english
	$(PYTEST) -q -n 2 -m "not long" tests/unit

test: check test-here test-cluster ## everything: check, contract, integration, admission, chart, end to end

test-here: setup setup-postgres ## long plays in memory, and what needs PostgreSQL but no cluster
	$(PYTEST) -q -n 2 -m long tests/unit
	$(PYTEST) -q -n 2 -m "not long" --hypothesis-profile=thorough tests/unit/policy
	$(PYTEST) -q -n 3 -m "not cluster" tests/contract tests/integration tests/fuzz

fuzz: setup ## the properties of the policies with examples nobody has seen yet (two minutes); a find is printed
	$(PYTEST) -q -n 2 -m "not long" --hypothesis-profile=search tests/unit/policy

fuzz-specs: export FUZZ_SPECS ?= 2000
fuzz-specs: setup ## 2,000 made-up objects from the schemas of the CRDs, in memory and against the API server (FUZZ_FIRST=n: others)
	$(PYTEST) -q -n 2 -m "not cluster" --timeout=600 tests/fuzz
	$(PYTHON) -m e2e.run $(PYTEST) -q --timeout=1200 tests/fuzz/test_api_server.py

test-cluster: export NODES ?= 2
test-cluster: setup ## what needs a cluster: storage, contract, admission, chart, end to end (HEADROOM_CLUSTER=bundled|kind|kubeconfig)
	$(PYTHON) -m e2e.cluster csi-sanity
	$(PYTHON) -m e2e.run $(PYTEST) -q tests/chart tests/admission tests/contract/kube tests/fuzz/test_api_server.py
	$(PYTHON) -m e2e.run $(PYTEST) -q --timeout=400 --durations=10 -n 2 -m "not alone and not proof" e2e/suite
	$(PYTHON) -m e2e.run $(PYTEST) -q --timeout=400 --durations=10 -m alone e2e/suite

prove-calm: setup ## that a calm operator sends nothing, and that a slow API server is no lag (20 minutes); writes build/results
	$(PYTHON) -m e2e.run $(PYTEST) -q -m proof e2e/suite/test_calm.py e2e/suite/test_busy_api.py

prove-checker: setup ## that the checker, which runs beside every test on the cluster, finds each invariant broken by hand (10 minutes)
	$(PYTHON) -m e2e.run $(PYTEST) -q --timeout=400 -m proof e2e/suite/test_invariants.py

prove-members: setup ## that a busy replica stays Ready for five minutes, and 50 evictions refuse no connection (25 minutes)
	$(PYTHON) -m e2e.run $(PYTEST) -q --timeout=2400 -m proof e2e/suite/test_member_pods.py

prove-snapshots: setup ## what can go wrong around snapshots, and the operator killed at each step of their lives (40 minutes)
	$(PYTHON) -m e2e.run $(PYTEST) -q --timeout=1200 -m proof e2e/suite/test_snapshot_faults.py e2e/suite/test_snapshot_crashes.py

prove-workers: setup ## that a pool of ten busy workers becomes three and cuts no job, as far as the grace period allows (10 minutes)
	$(PYTHON) -m e2e.run $(PYTEST) -q -m proof e2e/suite/test_workers.py

prove-postgres-18: setup setup-postgres ## all that asks PostgreSQL, on 18 alone, from a Debian that is not released yet (37 minutes on two busy cores; FRESH=1 takes its newest)
	@root=$$($(PYTHON) -m e2e.cluster postgres-ahead $(if $(FRESH),--fresh)) && HEADROOM_POSTGRES_ROOT=$$root \
	  $(PYTEST) -q -n 2 tests/contract/postgres tests/integration/postgres tests/integration/replicas \
	  tests/integration/queues tests/integration/invariants

demo: setup ## the main job with real input, to watch; KEEP=1 leaves it running
	@echo "the cluster first (the first time takes some minutes), then the scene, then the load"
	@$(PYTHON) -m e2e.run $(PYTHON) -m e2e.demo

bench: bench-replicas bench-warmup bench-workers ## every benchmark

bench-replicas: setup ## new replicas, warm, of a snapshot, copied, beside the same by hand; writes build/results (QUICK=1, GIB="1 4", ACCEPT=1)
	QUICK=$(QUICK) $(PYTHON) -m e2e.run $(PYTHON) -m e2e.bench.replicas $(if $(GIB),--gib $(GIB)) $(if $(ACCEPT),--accept)

bench-warmup: setup setup-postgres ## reads in the first minute of a standby with and without a warm-up, here and without a cluster; writes build/results
	PYTHONPATH=operator:. $(PYTHON) -m e2e.bench.warmup

bench-workers: setup ## rows in a queue to spec.replicas, notified and polled, 100 pools, and the race; writes build/results
	@status=0; $(PYTHON) -m e2e.run $(PYTHON) -m e2e.bench.workers || status=1; \
	  $(PYTHON) -m e2e.run $(PYTHON) -m e2e.bench.race --add-to bench-workers && exit $$status

bench-race: setup ## workers that race for one row: named, stopped, released once the lock is removed (8 minutes); writes build/results
	$(PYTHON) -m e2e.run $(PYTHON) -m e2e.bench.race

simulate: export COLUMNS ?= 150
simulate: setup ## the worker policy on all load shapes, beside the optimum and KEDA; writes build/results (ACCEPT=1: also the page)
	$(PYTHON) -m tools.simulate $(if $(ACCEPT),--accept)

simulate-curve: setup ## what the chosen values of the worker policy trade, as curves; writes build/results, the picture and the table
	$(PYTHON) -m tools.trade_off

english: setup ## the check of the English alone: file, line, phrase and what to write instead
	$(PYTHON) -m tools.english

figures: setup ## sizes of modules and functions, comments, and lines of policy tests for each line of policy
	-@$(PYTHON) -m tools.figures

changelog: setup ## print what a release would add to CHANGELOG.md
	@.venv/bin/towncrier build --draft 2>/dev/null

crds: setup ## generate the CRDs and the API reference from the typed models
	$(PYTHON) -m headroom.api.crdgen --output crds/

DOCKERFILES := Dockerfile e2e/cluster/worker.Dockerfile
PYTHON_IMAGE = $(shell sed -nE 's/^ARG PYTHON_IMAGE=([^@]*).*/\1/p' Dockerfile)

pin-images: ## write the present digest of the base image into the Dockerfiles; needs docker and a registry
	@digest=$$(docker buildx imagetools inspect $(PYTHON_IMAGE) --format '{{.Manifest.Digest}}') && \
	  [[ $$digest =~ ^sha256:[0-9a-f]{64}$$ ]] && \
	  sed -i -E "s|^(ARG PYTHON_IMAGE=[^@]*).*|\1@$$digest|" $(DOCKERFILES) && \
	  echo "$(PYTHON_IMAGE)@$$digest"

clean: ## remove what the targets made in this folder
	rm -rf build .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

include charts/chart.mk docs/docs.mk e2e/cluster/cluster.mk
