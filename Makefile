# Targets of one line each. `make check` is what a change must pass.
PYTHON ?= python3
SOURCES = $(shell git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/*.h' 'tests/*.cpp' 'tests/*.cu')

.PHONY: check lint format types test develop kernels triton-kernels bench emu-full gpu-check docs

check: lint types test

develop: ; $(PYTHON) -m pip install -e '.[test,dev,files]'
lint: ; $(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && clang-format --dry-run -Werror $(SOURCES)
format: ; $(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format . && clang-format -i $(SOURCES)
types: ; $(PYTHON) -m mypy
test: ; $(PYTHON) -m pytest
emu-full: ; LSTMREP_EMU_FULL=1 $(PYTHON) -m pytest tests/emulator
kernels: ; $(PYTHON) csrc/make_kernels.py
triton-kernels: ; $(PYTHON) -m lstmrep.triton_kernels.make_kernels
bench: ; $(PYTHON) benchmarks/bench_overhead.py
gpu-check: ; $(PYTHON) benchmarks/gpu_check.py
docs: ; $(PYTHON) -m sphinx -W -n --keep-going -b html docs build/docs
