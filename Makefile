# Two commands suffice on a machine with python3 (3.11 or later), its venv module and make:
#   make run     install what serving needs, and serve on http://127.0.0.1:8080
#   make test    install what the checks need, and run every one of them
# Everything goes into .venv; nothing else on the machine is touched.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: setup run test lint types core-coverage fuzz bench docs demo soak cluster ops-test image-test clean

run: .venv/.serves
	@$(BIN)/python -m ytmp3 serve

setup: .venv/.develops

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.serves: requirements.txt | .venv/bin/python
	$(PIP) -r requirements.txt
	@touch $@

.venv/.develops: requirements-dev.txt | .venv/bin/python
	$(PIP) -r requirements-dev.txt
	@touch $@ .venv/.serves

lint: .venv/.develops
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.develops
	$(BIN)/mypy

# The rooms without I/O are covered branch by branch, or the check fails.
core-coverage: .venv/.develops
	$(BIN)/coverage run -m pytest -q tests/core
	$(BIN)/coverage report --fail-under=100 --skip-covered --include='ytmp3/core/*,ytmp3/http/conditions.py,ytmp3/http/identity.py,ytmp3/http/keys.py,ytmp3/http/view.py,ytmp3/converter/youtube/addresses.py'

# The rest in parallel; then whole clusters, one at a time: they fill a machine by themselves.
test: lint types core-coverage
	$(BIN)/pytest -q -n 2 tests --ignore=tests/core --ignore=tests/system
	$(BIN)/pytest -q tests/system

# Long: each property with 10,000 new examples, 2,000 programs for each store, 30,000 garbled requests, and 100,000 made
# from the OpenAPI document and sent through nginx.
fuzz: .venv/.develops
	HYPOTHESIS_PROFILE=soak FUZZ_FACTOR=20 YTMP3_SOAK_PROGRAMS=2000 $(BIN)/pytest -q --timeout=3600 tests/core tests/contract/test_model.py tests/http/test_fuzz.py tests/http/test_bodies.py tests/http/test_hostile.py::test_no_guess_finds_a_job tests/system/test_nginx_fuzz.py tests/system/test_downloads.py

bench: .venv/.develops
	$(BIN)/python -m scripts.bench

# The tables of README.md and docs/ that are made from the code.
docs: .venv/.develops
	$(BIN)/python -m scripts.document_tables

demo: .venv/.develops
	$(BIN)/python -m scripts.demo $(if $(RECORD),--record "$(RECORD)")

# Every way in which a tool can end, far more often than `make test` does: 4,000 endings, 1,000 jobs, 50 kills in mid-work.
ENDINGS := tests/process/test_converter_walls.py::test_mixed_endings_leave_no_process tests/process/test_limits_of_tools.py::test_mixed_ends_of_a_service_leave_nothing tests/process/test_tools_out_of_memory.py

soak: .venv/.develops
	FUZZ_FACTOR=20 $(BIN)/pytest -q -s --timeout=3600 $(ENDINGS)
	$(BIN)/python -m scripts.soak

# What only Prometheus' own programs can judge (taken out of Debian's packages by apt), and the image without Docker.
ops-test: .venv/.develops
	$(BIN)/python -m scripts.ops_test

image-test: .venv/.develops
	$(BIN)/python -m scripts.image_test

cluster: .venv/.develops
	$(BIN)/python -m scripts.cluster

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build *.egg-info
	find ytmp3 tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
