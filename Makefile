# Every target does what it needs on its own; `make run` on a fresh Debian machine is enough to see Linux boot.
# ARGS is appended to the command of a target: make run ARGS="-smp 4", make test ARGS="-k console".

PYTHON ?= python3
VENV := .venv
GUEST ?= linux
EXTRAS ?= dev
ARGS ?=
READY := $(VENV)/.ready
# compat: else a clone's name hides the package beside it
INSTALL := $(VENV)/bin/python -m pip install -q --disable-pip-version-check --config-settings editable_mode=compat -e

.PHONY: setup guests run test test-all acceptance test-regions check bench docs clean help

help:
	@echo 'make run [GUEST=linux|uboot|builtin|hypervisor-demo|k64|k64av|kvm-k64] [ARGS=...]   boot a guest'
	@echo 'make test | test-all [ARGS=...]                                 default suite | with the slow boots'
	@echo 'make acceptance [ARGS=...]                                      the long runs, a line of result for each'
	@echo 'make test-regions [ARGS=...]                                    the suite with compiled regions for all code'
	@echo 'make check                                                      ruff and mypy'
	@echo 'make bench [COMPARE=revision] [ARGS=...]                        against qemu-system-ppc64, or a revision'
	@echo 'make docs                                                       the documentation as a site: build/site'
	@echo 'make setup                                                      only the Python environment'

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make setup: $(PYTHON) is older than Python 3.11; name a newer one: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; \
	  else echo "make setup: the venv module is missing: sudo apt-get install python3-venv" >&2; exit 1; fi
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[$(EXTRAS)]'
	@$(VENV)/bin/python -m compileall -q powervisor  # also where PYTHONDONTWRITEBYTECODE is set: starts are faster
	@touch $@

run: setup
	@$(VENV)/bin/powervisor run -guest $(GUEST) $(ARGS)

# The tests boot real guests; those that are not there yet are built (minutes, once).
guests: setup
	@$(VENV)/bin/powervisor guests build k32 && $(VENV)/bin/powervisor guests build uboot

test: guests
	$(VENV)/bin/python -m pytest -n auto $(ARGS)

# What has to hold at full size: snapshots, deterministic boots, connections of gdb; minutes.
acceptance: guests
	$(VENV)/bin/python -m tests.acceptance $(ARGS)

test-all: guests
	@$(VENV)/bin/powervisor guests build k64 && $(VENV)/bin/powervisor guests build k64av
	$(VENV)/bin/python -m pytest -n auto -m 'slow or not slow' $(ARGS)

# Whatever runs is compiled before it goes on; whole systems, which execute too much for that, after one time slice.
test-regions: guests
	POWERVISOR_TIER1=force $(VENV)/bin/python -m pytest -n auto $(ARGS) tests/altivec tests/differential tests/float \
	  tests/isa tests/tier1 tests/vcpu tests/system/test_resets.py tests/system/test_review.py
	POWERVISOR_TIER1=eager $(VENV)/bin/python -m pytest -n auto $(ARGS)

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: setup
	$(VENV)/bin/python -m bench $(if $(COMPARE),-compare $(COMPARE)) $(ARGS)

# Whatever mkdocs warns of - a link to nowhere, a page that no menu has - is an error.
docs: setup
	@$(VENV)/bin/python -c 'import mkdocs, mkdocstrings, material' 2>/dev/null || \
	  $(INSTALL) '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build -q --strict

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
