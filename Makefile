# `make chat` and `make test` need Python 3.11 and a C++20 compiler, and do all else themselves, inside this folder.
# A stamp in .venv stands for each finished step, so nothing is done twice.

MODEL   = smollm2:135m
PYTHONS = python3 python3.14 python3.13 python3.12 python3.11
BENCH   = --rounds 3

VENV   = .venv
PYTHON = $(VENV)/bin/python
MADANG = $(VENV)/bin/madang
PIP    = $(PYTHON) -m pip --disable-pip-version-check --no-input install --quiet
CODE   = src tests benchmarks
SOURCE = pyproject.toml CMakeLists.txt $(wildcard csrc/*.* csrc/*/*.*) $(shell find src -name '*.py')

# Through the environment, where no character of it means anything to make or to the shell.
ifeq ($(origin PROMPT),command line)
export CHAT_PROMPT = $(value PROMPT)
endif

.DEFAULT_GOAL = help
.PHONY: help chat page serve check test kernels arm sanitize bench reference compatibility clean
.DELETE_ON_ERROR:

help:
	@echo 'make chat                  chat with a small model in the terminal (MODEL=$(MODEL))'
	@echo 'make chat PROMPT="..."     one answer, then exit'
	@echo 'make serve                 serve models on this machine, with the page in the browser (ARGS="--port 8080")'
	@echo 'make page                  build the page of madang serve (needs Node.js 20.19 or newer)'
	@echo 'make test                  everything that CI runs: the checks, then all tests'
	@echo 'make kernels               test the C++ kernels alone, without Python'
	@echo 'make arm                   the same, built for 64-bit ARM and run in an emulator (needs a cross compiler and QEMU)'
	@echo 'make check                 format, lint, types, direction of imports, generated reference'
	@echo 'make sanitize              the tests of the C++ core, with the address and undefined-behaviour sanitizers (GCC, Linux)'
	@echo 'make reference             write the generated reference again'
	@echo 'make compatibility         run the clients of other servers again, and write which of them work'
	@echo 'make bench                 ours and its peers side by side on the starter model (BENCH="$(BENCH)")'
	@echo 'make clean                 delete what was set up and built; models and benchmark environments stay'

# With a prompt there is nothing to read from the terminal, and there may be none.
chat: $(VENV)/for-chat
	@if [ -n "$$CHAT_PROMPT" ]; then exec $(MADANG) run $(MODEL) "$$CHAT_PROMPT" </dev/null; else exec $(MADANG) run $(MODEL); fi

# Only the page needs Node.js: where there is none, everything else goes on without it, and says so.
WEB_SOURCE = $(shell find web -path web/node_modules -prune -o -type f -print) docs/reference/openapi.json
PAGE = src/madang/server/page/index.html
HAS_NODE = command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
NO_NODE = there is no Node.js 20.19 or newer
NPM = npm --prefix web --no-audit --no-fund --loglevel=error

page: $(PAGE)

$(PAGE): $(WEB_SOURCE) | web/node_modules/.package-lock.json
	@$(HAS_NODE) || { echo 'The page cannot be built: $(NO_NODE).' >&2; exit 1; }
	@$(NPM) run build

web/node_modules/.package-lock.json: web/package-lock.json
	@$(HAS_NODE) || { echo 'The page cannot be built: $(NO_NODE).' >&2; exit 1; }
	@$(NPM) ci

serve: $(VENV)/for-serve
	@if $(HAS_NODE); then $(MAKE) --no-print-directory page; else echo 'Serving without the page: $(NO_NODE).' >&2; fi
	@exec $(MADANG) serve --open $(ARGS)

check: $(VENV)/for-tests
	$(PYTHON) -m ruff format --check $(CODE)
	$(PYTHON) -m ruff check $(CODE)
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) -m madang.cli.reference --check
	$(PYTHON) -m madang.server.reference --check
	$(PYTHON) -m madang.server.metrics_page --check
	$(PYTHON) -m madang.server.openapi --check
	$(PYTHON) -m madang.runtime.models_page --check
	@if $(HAS_NODE); then $(MAKE) --no-print-directory page && $(NPM) run check; else echo "The page is not checked: $(NO_NODE)." >&2; fi

test: check
	$(PYTHON) -m pytest

# A second environment, which borrows every package but ours from the first. The sanitizer's library has to be the first one
# loaded, with the C++ one after it, or exceptions find no handler. Python itself leaks by design, so leaks are not asked for.
SANITIZED = build/sanitized
SANITIZED_TESTS = tests/native tests/parity/test_types.py tests/parity/test_shapes.py
LIBRARY = $$(g++ -print-file-name=$(1))

sanitize: $(VENV)/for-tests
	@$(PYTHON) -m venv --clear --without-pip $(SANITIZED)
	@$(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$$($(SANITIZED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(SANITIZED)/bin/python -m pip --disable-pip-version-check install --quiet --no-build-isolation --no-deps \
	  --config-settings build-dir=build/sanitized-objects --config-settings cmake.define.MADANG_SANITIZE=ON .
	LD_PRELOAD="$(call LIBRARY,libasan.so) $(call LIBRARY,libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	  $(SANITIZED)/bin/python -m pytest $(SANITIZED_TESTS)

# On Debian and Ubuntu: apt install g++-aarch64-linux-gnu qemu-user-static
ARM_SYSTEM = -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
	-DCMAKE_EXE_LINKER_FLAGS=-static -DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64-static
CMAKE = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" CTEST_OUTPUT_ON_FAILURE=1 cmake
TEST_KERNELS = $(CMAKE) -G Ninja -S tests/native/csrc -B $(1) $(2) >/dev/null && $(CMAKE) --build $(1) && \
	$(CMAKE) --build $(1) --target test

kernels: $(VENV)/can-build
	$(call TEST_KERNELS,build/kernels)

arm: $(VENV)/can-build
	$(call TEST_KERNELS,build/kernels-arm,$(ARM_SYSTEM))

reference: $(VENV)/for-tests
	$(PYTHON) -m madang.cli.reference
	$(PYTHON) -m madang.server.reference
	$(PYTHON) -m madang.server.metrics_page
	$(PYTHON) -m madang.server.openapi
	$(PYTHON) -m madang.runtime.models_page

compatibility: $(VENV)/for-tests
	$(PYTHON) -m tests.compatibility.matrix

STARTER = benchmarks/.models/SmolLM2-135M-Instruct.Q4_1.gguf

bench: $(STARTER)
	$(PYTHON) benchmarks/peers.py run $(STARTER) --name starter $(BENCH)

$(STARTER): | $(VENV)/for-chat
	@mkdir -p $(@D)
	@$(MADANG) pull smollm2:135m --json >$@.json
	@cp "$$($(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["path"])' <$@.json)" $@
	@rm $@.json

clean:
	rm -rf $(VENV) build web/node_modules src/madang/server/page .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Installed in place: an edited Python file counts at once, but one that is new or moved only after the next install. Without
# build isolation that takes seconds, compiles only what changed, and downloads what builds it once.
$(VENV)/for-chat: $(VENV)/can-build $(SOURCE)
	@echo 'Building the C++ core and installing madang into $(VENV) (about a minute, and only when it changed) ...' >&2
	@$(PIP) --no-build-isolation --editable .
	@touch $@

# With what documents need, as soon as the package knows of it.
$(VENV)/for-serve: $(VENV)/can-build $(SOURCE)
	@echo 'Building the C++ core and installing madang into $(VENV) (about a minute, and only when it changed) ...' >&2
	@$(PIP) --no-build-isolation --editable ".$$($(PYTHON) -c 'import tomllib; print("[rag]" * ("rag" in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]))')"
	@touch $(VENV)/for-chat $@

$(VENV)/for-tests: $(VENV)/can-build $(SOURCE) constraints.txt
	@echo 'Installing madang and what checks and tests need into $(VENV) (a few minutes, once) ...' >&2
	@$(PIP) --no-build-isolation --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/for-chat $@

# setuptools, because a few packages that tests need come as source only.
$(VENV)/can-build: $(VENV)/made pyproject.toml
	@$(PIP) cmake ninja 'setuptools>=70.1' $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@touch $@

# Everything that a machine may lack is looked for before anything is written.
$(VENV)/made:
	@missing() { echo "madang cannot be built here: $$1" >&2; exit 1; }; \
	for python in $(PYTHONS); do $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; done; \
	[ -n "$$python" ] || missing 'there is no Python 3.11 or newer; install one, or say where it is with: make chat PYTHONS=/path/to/python'; \
	$$python -c 'import ensurepip, venv' 2>/dev/null || missing "$$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; \
	$$python -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || missing "$$python lacks its header files; on Debian and Ubuntu: apt install python3-dev"; \
	for cxx in $$CXX c++ g++ clang++; do printf '#include <atomic>\nvoid f(std::atomic<int>& a) { a.wait(0); }' | $$cxx -std=c++20 -x c++ -fsyntax-only - 2>/dev/null && break; cxx=; done; \
	[ -n "$$cxx" ] || missing 'there is no C++20 compiler (GCC 11, Clang 14 or newer); on Debian and Ubuntu: apt install g++, on macOS: xcode-select --install'; \
	echo "Making $(VENV) with $$($$python --version) ..." >&2; \
	$$python -m venv $(VENV)
	@touch $@
