# run, test, check, boots and bench need nothing before them: they make .venv and fetch the guests themselves.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

# A compiler for the engine; without one it is interpreted.  Python's headers (python3-dev) are added where they are missing.
PACKAGES := gcc libc6-dev
# What the tests need: a 32-bit compiler and an assembler for guests of our own, QEMU as an oracle.
setup test check boots fuzz: PACKAGES += gcc-multilib nasm qemu-system-x86

.DEFAULT_GOAL := help
.PHONY: help setup packages run test check boots bench fuzz references clean

help:
	@echo 'make run      set up, fetch the guests, boot Debian's kernel to a shell, print the statistics'
	@echo 'make test     set up, fetch the guests, run all tests'
	@echo 'make boots    the boots that take minutes: the installer to its menu, and what make run shows'
	@echo 'make check    ruff, mypy --strict, and all tests'
	@echo 'make bench    vmm bench: speed, ours beside plain Unicorn, QEMU, v86 and Bochs'
	@echo 'make fuzz     SEED=1 COUNT=1000000 JOBS=2: random programs against plain Unicorn and the real CPU'
	@echo 'make references  record the boots of tests/references anew (after a change that guests can see)'
	@echo 'make setup    Debian packages, and .venv with the vmm command in it, the engine compiled (BTVMM_INTERPRETED=1: not)'
	@echo 'make clean    remove what was made here (not the fetched guests: vmm doctor says where they are)'

setup: $(READY)

# The stamp is made last, so that an interrupted set-up is repeated.
$(READY): pyproject.toml setup.py $(wildcard translator/*.py translator/expand/*.py cache/*.py vmm/*.py vmm/mmu/*.py vmm/callouts/*.py) | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed (or set PYTHON=...)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo 'Python cannot make virtual environments; on Debian: apt-get install python3-venv' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m compileall -q cache devices perf translator vmm
	@touch $@

# Without root and apt-get the engine is interpreted, and the tests that need these packages are skipped.
packages:
	@missing=''; \
	for package in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
		|| dpkg-query -W -f '$${Status}' python3-dev 2>/dev/null | grep -q 'ok installed' || missing="$$missing python3-dev"; \
	[ -z "$$missing" ] && exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "No apt-get here: what needs$$missing is left out where those are missing." >&2; exit 0; \
	fi; \
	if [ "$$(id -u)" = 0 ]; then root=''; elif sudo -n true 2>/dev/null; then root='sudo -n'; else \
		echo "For the engine compiled and every test, install:$$missing (apt-get install$$missing, as root)." >&2; exit 0; \
	fi; \
	$$root apt-get -qq update; \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $$missing >/dev/null \
		|| echo "These packages could not be installed, what needs them is left out:$$missing" >&2

run: $(READY)
	$(BIN)/vmm demo

# A guest that cannot be fetched is named; the tests that need it are then skipped.
test: setup
	-$(BIN)/vmm guests fetch
	$(BIN)/python -m pytest -n auto

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	-$(BIN)/vmm guests fetch
	$(BIN)/python -m pytest -n auto

boots: setup
	$(BIN)/vmm guests fetch
	$(BIN)/python -m pytest -m boots tests/e2e/test_installer.py

bench: $(READY)
	$(BIN)/vmm bench

SEED ?= 1
COUNT ?= 1000000
JOBS ?= 2

fuzz: setup
	$(BIN)/python -m tests.fuzz.long --seed $(SEED) --count $(COUNT) --jobs $(JOBS)

references: $(READY)
	$(BIN)/python -m tests.references.boots

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f *.so translator/*.so translator/expand/*.so cache/*.so vmm/*.so vmm/*/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
