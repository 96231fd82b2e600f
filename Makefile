# Everything from a clean checkout: `make demo`, `make test`. See `make help`.
#
#   PYTHON       interpreter to create the environment with (3.10 to 3.13)
#   VENV         where the environment goes
#   TENSORFLOW   cpu or cuda; the default asks for an NVIDIA GPU
#   DEMO_ARGS, PYTEST_ARGS, BENCH_ARGS, PEERS_ARGS   more arguments for those commands

PYTHON ?= python3
VENV ?= .venv
TENSORFLOW ?= $(shell { nvidia-smi -L || test -e /dev/nvidia0; } >/dev/null 2>&1 && echo cuda || echo cpu)

# What the environment has besides, as extras of pyproject.toml, and more arguments for pip.
EXTRAS := test bench demo dev
PIP_ARGS :=

BIN := $(abspath $(VENV))/bin
PY := $(BIN)/python
# Inside the environment, because CMake remembers the tools and the TensorFlow found there.
BUILD := $(abspath $(VENV))/cmake-build
SANITIZED := $(CURDIR)/build/sanitize
EMULATED := $(CURDIR)/build/emulated

CREATED := $(VENV)/.created
REQUIREMENTS := $(VENV)/requirements.txt
INSTALLED := $(VENV)/.installed

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help venv build emulate demo test bench bench-peers coverage sanitize cuda-report gpu
.PHONY: lint lint-python lint-cpp lint-types format clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "splitop needs Python 3.10 to 3.13: make PYTHON=python3.12 ..." \
	       "Received: $(PYTHON), $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) has no venv module: install it (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || { \
	  echo "There is no C++ compiler: install g++, or set CXX." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --upgrade pip
	@touch $@

$(REQUIREMENTS): pyproject.toml .ci/requirements.py $(CREATED)
	$(PY) .ci/requirements.py $(TENSORFLOW) $(EXTRAS) > $@
	$(PY) -m pip install $(PIP_ARGS) --requirement $@

$(INSTALLED): $(REQUIREMENTS) setup.py
	@echo "Building the compiled libraries: this takes a minute or two."
	SPLITOP_BUILD_DIR=$(BUILD) $(PY) -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

venv: $(INSTALLED)  ## set up the environment: dependencies, and splitop itself (editable)

build: $(INSTALLED)  ## rebuild what has changed in csrc/
	@$(BIN)/cmake --build $(BUILD) --target install

demo: build  ## train a classifier in two parts; DEMO_ARGS=--help has the options
	$(PY) -m splitop demo $(DEMO_ARGS)

# A worker for each core: NumPy's threads would only wait for each other's.
pytest = OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n auto

test: build emulate  ## the whole test suite; PYTEST_ARGS="tests/... -k ..." for less
	SPLITOP_EMULATED_DIR=$(EMULATED)/install/splitop/lib $(pytest) $(PYTEST_ARGS)

bench: build  ## the benchmarks: fused against reference
	$(PY) -m benchmarks $(BENCH_ARGS)

# In an environment of its own; PyPI's torch for Linux is the one for CUDA, of several GB.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
peers = $(MAKE) VENV=.venv-peers TENSORFLOW=cpu EXTRAS="bench peers" \
  PIP_ARGS="--extra-index-url $(TORCH_INDEX)"

bench-peers:  ## splitop against TensorFlow, Keras, torch and JAX on the CPU; PEERS_ARGS=--help has the options
	$(peers) build
	.venv-peers/bin/python -m benchmarks.peers $(PEERS_ARGS)

# Into directories of their own: the kernels without TensorFlow, the CUDA ones compiled for the CPU.
configure_emulated = $(BIN)/cmake -S . -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(BIN)/ninja \
  -DCMAKE_INSTALL_PREFIX=$(1)/install -DPython_EXECUTABLE=$(PY) \
  -DSPLITOP_TENSORFLOW=OFF -DSPLITOP_CUDA=EMULATED

emulate: $(INSTALLED)  ## build the CUDA kernels to run on the CPU, for the tests in tests/gpu
	@$(call configure_emulated,$(EMULATED)) -DCMAKE_BUILD_TYPE=Release -DSPLITOP_BASELINE_ONLY=ON
	@$(BIN)/cmake --build $(EMULATED) --target install

# The sanitizers' run-time libraries have to be loaded before the interpreter.
preload = $(foreach library,libasan.so libubsan.so libstdc++.so,$(shell $${CXX:-g++} -print-file-name=$(library)))

sanitize: $(INSTALLED)  ## the kernels' tests under the address and undefined-behaviour sanitizers
	$(call configure_emulated,$(SANITIZED)) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  "-DSPLITOP_SANITIZE=address;undefined" -DSPLITOP_WIDE_BASELINE=ON
	$(BIN)/cmake --build $(SANITIZED) --target install
	SPLITOP_LIBRARY_DIR=$(SANITIZED)/install/splitop/lib \
	  SPLITOP_EMULATED_DIR=$(SANITIZED)/install/splitop/lib LD_PRELOAD="$(preload)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(pytest) tests/kernels $(wildcard tests/gpu) $(PYTEST_ARGS)

cuda-report: build  ## registers, local memory and wide accesses of every CUDA kernel
	$(PY) tools/cuda_report.py

coverage: build  ## write docs/coverage.md: what is fused, read from plans
	$(PY) -m tools.coverage_table

gpu:  ## everything on a GPU host, without the environment; GPU_PARTS="build tests" for less
	PYTHON=$(PYTHON) tools/gpu_suite.sh $(GPU_PARTS)

lint: lint-python lint-cpp lint-types  ## check style, formatting and types

lint-python: $(REQUIREMENTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

cpp_sources = find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu'

lint-cpp: $(REQUIREMENTS)
	$(cpp_sources) | xargs $(BIN)/clang-format --dry-run -Werror

lint-types: $(REQUIREMENTS)
	$(BIN)/mypy

format: $(REQUIREMENTS)  ## format all sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(cpp_sources) | xargs $(BIN)/clang-format -i

clean:  ## remove what was built, but not the environment
	rm -rf build dist *.egg-info $(BUILD) $(INSTALLED)
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f splitop/lib/*.so splitop/lib/build_config.json
	find . -path './.venv*' -prune -o -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the environments as well
	rm -rf $(VENV) .venv-peers
