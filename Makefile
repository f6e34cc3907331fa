# make help lists the targets. CONTRIBUTING.md explains the set-up: packages.txt -> .venv -> the build -> the target, each step once.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-print-directory --no-builtin-rules

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1

# For one file or one option: make test PYTEST_ARGS="tests/policy -x"
PYTEST_ARGS :=
# A file's tests stay together: they share what their module made. A process that dies ends the run, for its successor would
# only meet the same test. One process, as for --pdb: PYTEST_ARGS="-n 0".
PARALLEL := -n auto --dist loadfile --max-worker-restart 0
FUZZ_SECONDS := 60

C_SOURCES := $(shell find src_c -name '*.[ch]')
BUILD_SOURCES := $(C_SOURCES) $(shell find ipsec_core -name '*.pyx' -o -name '*.pxd') setup.py pyproject.toml
PYTHON_SOURCES := $(shell find ipsec_core -name '*.py' -o -name '*.pyi')
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

# The first of these that is Python 3.11 or newer and can make a virtual environment. Looked up when used: packages may bring it.
find-python = $(shell for python in python3.11 python3; do \
    if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

# Of the packages with the tags of $1 (build-test is build and test), those that are not installed.
packages-of = $(shell awk -v tags='$(subst -, ,$1)' 'BEGIN { split(tags, t); for (i in t) want[t[i]] } \
    !/^\#/ && $$2 in want { print $$1 }' packages.txt)
installed-of = $(shell dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $1 2>/dev/null | awk '$$2 == "installed" { print $$1 }')
missing-of = $(filter-out $(call installed-of,$(call packages-of,$1)),$(call packages-of,$1))
apt-install = apt-get install -y --no-install-recommends
# apt's own user cannot write into a checkout of root's.
as-root = -o APT::Sandbox::User=root

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: .venv/.built ## Simulate two computers on one Ethernet link, with 3DES and with AES-GCM; results in out/
	.venv/bin/ipsec-core simulate labs/first-link.toml --out out/demo
	.venv/bin/ipsec-core simulate labs/first-link-gcm.toml --out out/demo-gcm
	@echo "Results: out/demo (ESP 3DES/SHA1) and out/demo-gcm (ESP AES-128-GCM); open link.pcapng with Wireshark."

.PHONY: test
test: lint ## Lint, type check and run the tests
	.venv/bin/pytest $(PARALLEL) -m "not interop" $(PYTEST_ARGS)

# Once more after a failure: the threads of foreign servers now and then take two messages in the other order.
.PHONY: test-interop
test-interop: .venv/.packages-build-test-interop .venv/.tools build/libreswan/.unpacked ## Run the tests that need whole foreign servers
	.venv/bin/pip install -q --group interop
	.venv/bin/pytest -m interop --reruns 1 $(or $(PYTEST_ARGS),tests/interop tests/live tests/computer/test_kerberos.py)

# Children inherit LD_PRELOAD: tshark runs well with it. PYTHONSAFEPATH: the installed package, not the one of this directory.
# --capture=sys: what a sanitizer says before it ends the process is seen.
.PHONY: test-sanitize
test-sanitize: .venv-sanitize/.built ## Run the tests against a build with AddressSanitizer and UBSan
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    IPSEC_CORE_SANITIZE=1 PYTHONMALLOC=malloc PYTHONSAFEPATH=1 \
	    ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:detect_stack_use_after_return=1 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    .venv-sanitize/bin/pytest $(PARALLEL) -m "not interop" --capture=sys -p no:cacheprovider $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS) .venv/.fuzz ## Fuzz the data plane (libFuzzer, ASan, UBSan) and IKE (atheris), FUZZ_SECONDS (60) each
	.venv/bin/python tests/fuzz/seeds.py build/fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) .venv/bin/python tests/fuzz/run.py build/fuzz

.PHONY: lint
lint: .venv/.packages-build-test .venv/.tools ## Check format and types: ruff, mypy --strict, clang-format
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	clang-format --dry-run -Werror $(C_SOURCES) $(wildcard tests/fuzz/*.[ch])

.PHONY: bench
bench: .venv/.tools ## Measure everything against its peer, side by side (dpdk-dev adds DPDK)
	.venv/bin/ipsec-core bench all

.PHONY: instructions
instructions: .venv/.packages-build-test .venv/bin/python ## Count the instructions a packet of the loops against the baseline
	.venv/bin/python bench/instructions.py --check

.PHONY: clean
clean: ## Remove all that was made here: results, builds, virtual environments, caches
	rm -rf out build dist *.egg-info .venv .venv-sanitize .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find ipsec_core tests bench -name __pycache__ -prune -exec rm -rf {} +
	find ipsec_core \( -name '*.so' -o -name '*.c' \) -delete

# --- set-up ---

# The stamp says that the packages are there. Without root nothing is begun: one line tells what to run.
.venv/.packages-%: packages.txt
	$(if $(call missing-of,$*),$(if $(filter-out 0,$(shell id -u)),$(error \
	    System packages are missing, run "sudo $(apt-install) $(call missing-of,$*)" and make again)))
	$(if $(call missing-of,$*),apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    $(apt-install) -qq -o DPkg::Lock::Timeout=300 $(call missing-of,$*))
	@mkdir -p $(@D) && touch $@

%/bin/python: | .venv/.packages-build
	$(if $(find-python),,$(error Python 3.11 or newer with its venv module is needed: neither python3.11 nor python3 is one))
	$(find-python) -m venv $*

# What pyproject.toml requires of a build, for a build without isolation.
build-requires = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

# $1: the virtual environment
define install-build-requires
	$1/bin/python -c '$(build-requires)' >$1/build-requires.txt
	$1/bin/pip install -q "pip>=25.1" -r $1/build-requires.txt
endef

.venv/.built: $(BUILD_SOURCES) | .venv/.packages-build .venv/bin/python
	$(call install-build-requires,.venv)
	PYTHONWARNINGS='ignore:Editable installation' .venv/bin/pip install -q --no-build-isolation -e .
	@touch $@

.venv/.tools: pyproject.toml | .venv/.built
	.venv/bin/pip install -q --group dev
	@touch $@

.venv/.fuzz: pyproject.toml | .venv/.built
	.venv/bin/pip install -q --group fuzz
	@touch $@

# libreswan's package conflicts with strongSwan's: its programs are unpacked, not installed.
build/libreswan/.unpacked: | .venv/.packages-build-test-interop
	rm -rf $(@D) && mkdir -p $(@D)
	cd $(@D) && { apt-get download -qq $(as-root) libreswan || \
	    { apt-get update -qq && apt-get download -qq $(as-root) libreswan; }; } && dpkg -x libreswan_*.deb .
	@touch $@

# Installed, not editable, with a build directory of its own: the instrumented modules never mix with those of .venv.
.venv-sanitize/.built: $(BUILD_SOURCES) $(PYTHON_SOURCES) | .venv/.packages-build-test .venv-sanitize/bin/python
	$(call install-build-requires,.venv-sanitize)
	.venv-sanitize/bin/pip install -q --group test
	printf '[build]\nbuild_base = .venv-sanitize/build\n' >.venv-sanitize/setup.cfg
	DIST_EXTRA_CONFIG=.venv-sanitize/setup.cfg IPSEC_CORE_SANITIZE=1 \
	    .venv-sanitize/bin/pip install -q --no-build-isolation .
	@touch $@

# The library for fuzzing, instrumented, without the programs that only measure; and the targets on it.
FUZZ_FLAGS := -std=c11 -Wall -Wextra -Wshadow -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined -D_GNU_SOURCE -DIPC_HAVE_OPENSSL -DIPC_HAVE_IPSECMB

build/fuzz/libipsec_core.a: $(C_SOURCES) | .venv/.packages-build-fuzz .venv/bin/python
	rm -rf $(@D)/objects && mkdir -p $(@D)/objects
	cd $(@D)/objects && clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -I$(CURDIR)/src_c -I$(CURDIR)/src_c/include -c \
	    $(abspath $(filter-out src_c/peer% src_c/bench%,$(wildcard src_c/*.c)))
	ar rcs $@ $(@D)/objects/*.o

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(wildcard tests/fuzz/*.h) build/fuzz/libipsec_core.a
	clang $(FUZZ_FLAGS) -fsanitize=fuzzer -Isrc_c -Isrc_c/include $< build/fuzz/libipsec_core.a \
	    -lIPSec_MB -lcrypto -lpcap -o $@
