# make demo    what pyquant does, on data that needs no download
# make test    C tests (also under sanitizers, and the kernels of other ISAs emulated) and Python tests
# make lint    ruff, mypy, warnings of gcc and clang, cppcheck and clang-tidy where present
# make bench   measurements beside the peers, which are installed for it (QUICK=1: a look, saves nothing)
# make build   compile the C parts again after a change
#
# The first call makes .venv (pip, nothing else from the network); later calls are quick.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc)
PYTEST_ARGS ?=
BENCH_ARGS ?=
PYTEST_WORKERS ?= $(JOBS)
# What runs with address and undefined-behaviour checks in the module: tests that do without torch.
ASAN_TESTS ?= tests/unit tests/safety

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
ASAN_TREE := build/asan
C_MAKE := $(MAKE) -s -j$(JOBS) -C csrc

.PHONY: demo test test-c test-emulated test-python test-asan lint bench build clean distclean

demo: build
	$(BIN)/python examples/demo.py

# torch first: the shim is built against it, and the pin keeps pip from resolving a CUDA build.
$(VENV)/torch.stamp: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt 'pip>=24' 'setuptools>=77' wheel numpy torch==2.13.0
	touch $@

$(VENV)/pyquant.stamp: $(VENV)/torch.stamp pyproject.toml setup.py
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[examples]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/pyquant.stamp
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[examples,report,test,lint]'
	touch $@

# Incremental, and a second or two where nothing changed: cheaper than being wrong about what changed.
build: $(VENV)/pyquant.stamp
	$(BIN)/python setup.py -q build_ext --inplace

test: test-c test-emulated test-python test-asan

test-c:
	$(C_MAKE) BUILD=build/plain check
	$(C_MAKE) BUILD=build/asan SAN=address,undefined check

# Kernels of ISAs that this machine lacks: AVX-512 and NEON through SIMDe, AArch64 under qemu. What is
# not installed is named.
test-emulated:
	$(C_MAKE) BUILD=build emulated-check
	$(C_MAKE) BUILD=build aarch64-check

# One worker a processor, with one thread each unless a test asks for more; waiting threads should not
# spin. PYTEST_WORKERS=0 runs everything in one process.
test-python: build $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

# In a copy, so that the modules in the tree stay the normal ones. Leaks are left to the C tests: the
# interpreter itself never frees all it allocates.
test-asan: $(VENV)/dev.stamp
	mkdir -p $(ASAN_TREE)
	rm -rf $(ASAN_TREE)/pyquant $(ASAN_TREE)/tests $(ASAN_TREE)/csrc
	tar -c --exclude=__pycache__ --exclude='*.so' --exclude=csrc/build --exclude=.pytest_cache \
	    csrc pyquant tests setup.py pyproject.toml | tar -x -C $(ASAN_TREE)
	cd $(ASAN_TREE) && PYQUANT_BUILD_TORCH=0 CC=gcc PYQUANT_CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all' \
	    $(abspath $(BIN))/python setup.py -q build_ext --inplace
	cd $(ASAN_TREE) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	    $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider $(ASAN_TESTS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(C_MAKE) BUILD=build/lint lint-c

# Several hundred MB, and not for every platform: a peer that cannot be installed is a gap in the results.
$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[bench]' || echo 'bench: not all peers are there'
	touch $@

bench: build $(VENV)/bench.stamp
	$(BIN)/pyquant info
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

clean:
	rm -rf build dist demo_out csrc/build *.egg-info pyquant/*.so pyquant/lib
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
