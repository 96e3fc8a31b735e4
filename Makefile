# On a Linux machine with make and Python 3.11 or later (with its venv module), two commands suffice:
#   make run     install what serving needs, and serve on http://127.0.0.1:8080
#   make test    install what the checks need, and run all of them
# Everything is installed into .venv; nothing else on the machine is changed.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run get update-ytdlp setup test static lint types core-coverage browser-test chromium docs lock fuzz soak
.PHONY: redis-cluster-test screenshots generated-clients attack bench ytdlp-releases capacity demo fake-youtube cluster
.PHONY: ops-test image-test clean

help: ## list the targets
	@echo "usage: make TARGET [PYTHON=python3.12] [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.serves ## install what serving needs, and serve on http://127.0.0.1:8080
	@$(BIN)/python -m ytmp3 serve

get: .venv/.serves ## convert a link and save the track here: make get LINK=URL (docs/client.md)
	@$(BIN)/python -m ytmp3 get $(if $(LINK),'$(LINK)') $(ARGS)

update-ytdlp: .venv/.serves ## install the newest yt-dlp and the solver that it requires; then restart the service
	@$(BIN)/python -m scripts.update_ytdlp

setup: .venv/.develops ## install what the checks need

# --- Installing -----------------------------------------------------------------------------------

# Works in every Python since 2.6, so that an old one prints this message and not a syntax error.
CHECK_PYTHON := import sys; v = sys.version_info; v >= (3, 11) or sys.exit("ytmp3 needs Python 3.11 or later; \
$(PYTHON) is " + ".".join(map(str, v[:3])) + ". Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)")
CHECK_VENV := import pip, sys; assert sys.version_info >= (3, 11)
# Checked before anything is installed: elsewhere pip would end with a list of versions that do not fit, or the service
# would not start.
CHECK_SYSTEM := import platform, sys; here = (platform.system(), platform.libc_ver()[0], platform.machine()); \
here in [("Linux", "glibc", "x86_64"), ("Linux", "glibc", "aarch64")] or sys.exit("ytmp3 needs Linux with glibc on \
x86-64 or arm64; this is %s. Elsewhere, use the container: see docs/install.md" % " ".join(filter(None, here)))
NO_PYTHON := ytmp3 needs Python 3.11 or later, and there is no $(PYTHON). Name another one: make PYTHON=python3.12

# An environment that an earlier failure left without pip, or that an older Python made, is replaced.
.venv/.usable:
	@$(BIN)/python -c '$(CHECK_VENV)' 2>/dev/null || { \
		command -v $(PYTHON) >/dev/null || { echo "$(NO_PYTHON)" >&2; exit 1; }; \
		$(PYTHON) -c '$(CHECK_PYTHON)' || exit 1; \
		$(PYTHON) -c '$(CHECK_SYSTEM)' || exit 1; \
		rm -rf .venv; \
		$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }; \
	}
	@touch $@

YTDLP_VERSION := from importlib.metadata import version; print(version("yt-dlp"))

# The lock file may name an older yt-dlp than `make update-ytdlp` has installed. A message then reports the replacement.
.venv/.serves: requirements/runtime.txt | .venv/.usable
	@echo "Installing what serving needs into .venv (about 20 s)" >&2
	@before=$$($(BIN)/python -c '$(YTDLP_VERSION)' 2>/dev/null); \
	$(PIP) -r requirements/runtime.txt || exit 1; \
	after=$$($(BIN)/python -c '$(YTDLP_VERSION)' 2>/dev/null); \
	newest=$$(printf '%s\n' "$$before" "$$after" | sort -V | tail -n 1); \
	test "$$newest" = "$$after" || \
		echo "yt-dlp $$before was replaced by the tested $$after. To have the newest: make update-ytdlp" >&2
	@touch $@

.venv/.develops: requirements/dev.txt .venv/.serves
	@echo "Installing what the checks need into .venv" >&2
	@$(PIP) -r requirements/runtime.txt -r requirements/dev.txt
	@touch $@

# --- Checks ---------------------------------------------------------------------------------------

# Each connection is a descriptor, in nginx too; the usual soft limit of 1,024 is too low for the tests.
NEEDED_DESCRIPTORS := 20000
RAISE_DESCRIPTORS := test "$$(ulimit -Sn)" = unlimited || test "$$(ulimit -Sn)" -ge $(NEEDED_DESCRIPTORS) || \
	ulimit -Sn $(NEEDED_DESCRIPTORS) 2>/dev/null || { \
	echo "The tests open up to $(NEEDED_DESCRIPTORS) files; ulimit -Hn allows only $$(ulimit -Hn)." >&2; exit 1; }

lint: .venv/.develops ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.develops ## mypy, strict
	$(BIN)/mypy

# pyproject.toml names the files without I/O; all of their branches are covered, or this fails.
core-coverage: core-a-to-i core-j-to-z ## run tests/core; fails if a branch of the core is not covered
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Two halves of about the same length, for two cores.
core-a-to-i: .venv/.develops
	$(BIN)/coverage run --parallel-mode -m pytest -q tests/core/test_[a-i]*.py

core-j-to-z: .venv/.develops
	$(BIN)/coverage run --parallel-mode -m pytest -q tests/core/test_[j-z]*.py

# First, the parts that use one core each run side by side. Then all other tests run in parallel: four processes on two
# cores, because many tests wait for a timeout. FIRST has the folders with the longest tests. Some of them run one after
# another, so they must start early.
FIRST := tests/system tests/process
REST := $(filter-out $(FIRST) tests/browser tests/core,$(patsubst %/,%,$(wildcard tests/*/)))
test: .venv/.develops ## everything that CI runs (about 10 minutes)
	@$(MAKE) --no-print-directory -j 4 --output-sync=target static core-coverage compiled-tests chromium
	@$(HAS_CHROMIUM) || echo "NOT TESTED: the page in a browser. $(NO_CHROMIUM)" >&2
	@$(RAISE_DESCRIPTORS); $(BIN)/pytest -q -n 4 $$($(HAS_CHROMIUM) && echo tests/browser) $(FIRST) $(REST)

# Each worker, and each server that a test starts, reads compiled modules instead of compiling them itself.
unexport PYTHONDONTWRITEBYTECODE
compiled-tests: .venv/.develops
	@errors=$$($(BIN)/pytest -qq --collect-only $(FIRST) $(REST)) || { echo "$$errors"; exit 1; }

static: lint types ## ruff and mypy

# The tests of the page need a browser, which pip cannot install. If apt-get may be used, it installs Debian's Chromium.
HAS_CHROMIUM := command -v chromium >/dev/null
NO_CHROMIUM := It needs Chromium, which apt installs: apt-get install chromium

INSTALL_CHROMIUM := timeout 60 apt-get -qq update >/dev/null && \
	DEBIAN_FRONTEND=noninteractive timeout 180 apt-get -qq install --yes --no-install-recommends chromium >/dev/null 2>&1

chromium: ## install Debian's Chromium, where that is allowed
	@$(HAS_CHROMIUM) || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		echo "Installing Chromium from Debian's packages, to test the page" >&2 && { $(INSTALL_CHROMIUM); }; } || true

browser-test: .venv/.develops chromium ## test the page in Chromium
	@$(HAS_CHROMIUM) || { echo "$(NO_CHROMIUM)" >&2; exit 1; }
	$(BIN)/pytest -q -n 2 tests/browser

docs: .venv/.develops ## write the tables in the documents and .env.example from the code
	$(BIN)/python -m scripts.document_tables

lock: .venv/.develops ## write requirements/ from pyproject.toml (needs uv); ARGS=--upgrade takes the newest versions
	$(BIN)/python -m scripts.lock $(ARGS)

# --- Longer checks --------------------------------------------------------------------------------

fuzz: .venv/.develops ## property tests with 10,000 examples each, 100,000 requests through nginx (an hour)
	@$(RAISE_DESCRIPTORS); HYPOTHESIS_PROFILE=soak FUZZ_FACTOR=20 YTMP3_SOAK_PROGRAMS=2000 \
		$(BIN)/pytest -q --timeout=3600 -m "(hypothesis or fuzz) and not redis_cluster"

soak: .venv/.develops redis-cluster-test ## kill, freeze and restart parts of the service under load (40 minutes)
	@$(RAISE_DESCRIPTORS); FUZZ_FACTOR=20 $(BIN)/pytest -q -s --timeout=3600 -m "soak and not redis_cluster"
	$(BIN)/python -m scripts.soak $(ARGS)

# FUZZ_FACTOR makes the tests of the job store run on the cluster too: see tests/contract/conftest.py.
redis-cluster-test: .venv/.develops ## test the job store on a Redis Cluster of six nodes: all contract tests and more
	@$(RAISE_DESCRIPTORS); FUZZ_FACTOR=20 $(BIN)/pytest -q -s --timeout=3600 -m redis_cluster tests/contract

attack: .venv/.develops ## simulate compromised tools, hostile clients and failing parts; ARGS=--short: a minute
	@$(RAISE_DESCRIPTORS); $(BIN)/python -m scripts.attack $(ARGS)

bench: .venv/.develops ## measure against ffmpeg and yt-dlp; QUICK=1 takes two minutes
	$(BIN)/python -m scripts.bench $(if $(QUICK),--quick) $(ARGS)

ytdlp-releases: .venv/.develops ## test with each yt-dlp of the last three months (about 20 minutes); ARGS="VERSION ..."
	$(BIN)/python -m scripts.ytdlp_releases $(ARGS)

generated-clients: .venv/.develops ## let two generators make clients from /openapi.json, and run them (needs Node)
	$(BIN)/python -m scripts.generated_clients $(ARGS)

capacity: .venv/.develops ## measure what this machine can do; ARGS="--per-hour 500 --minutes 4"
	$(BIN)/python -m scripts.bench.capacity $(ARGS)

ops-test: .venv/.develops ## check the rules and dashboards with Prometheus' own programs (from Debian's packages)
	$(BIN)/python -m scripts.ops_test

image-test: .venv/.develops ## build the container image's file system without Docker, and run it
	$(BIN)/python -m scripts.image_test

# --- Demonstrations -----------------------------------------------------------------------------------

screenshots: .venv/.develops chromium ## make the pictures of the page in docs/ again
	SCREENSHOTS=docs/screenshots $(BIN)/pytest -q tests/browser/test_screenshots.py

demo: .venv/.develops ## convert one link offline, against a fake YouTube; RECORD=FILE.svg draws it
	$(BIN)/python -m scripts.demo $(if $(RECORD),--record "$(RECORD)") $(ARGS)

fake-youtube: .venv/.develops ## start a fake YouTube, offline; it prints how to use it
	$(BIN)/python -m tests.fake_youtube $(ARGS)

cluster: .venv/.develops ## start nginx, Valkey and three instances on this machine; FAKE=1 with a fake YouTube
	$(BIN)/python -m scripts.cluster $(if $(FAKE),--fake-youtube) $(ARGS)

clean: ## remove .venv and everything else that was made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build *.egg-info
	find ytmp3 tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
