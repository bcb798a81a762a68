# make install   a virtual environment in .venv with every backend and the development tools
# make test      the whole test suite
# make lint      ruff and mypy --strict
# make arm       the ncnn artifacts in an emulated aarch64 Python, against this machine (docs/arm.md)
# make bench     side-by-side latency of every backend; WEIGHTS=... IMAGES=... THREADS=2
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install test lint arm bench clean

install: $(STAMP)

# torch comes first and alone: the constraint names a CPU build, and whatever needs torch then finds it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Made again after the environment, whose versions it takes.
build/arm/python: $(STAMP) tests/arm/setup.sh
	bash tests/arm/setup.sh build/arm $(BIN)/python

arm: build/arm/python
	$(BIN)/python -m pytest -n 2 -rP --show-capture=stdout tests/test_arm.py

BENCH := torch-fp32 onnx-fp32 openvino-fp32 openvino-fp16 ncnn-fp32 ncnn-fp16
bench: install
	@test -n "$(WEIGHTS)" -a -n "$(IMAGES)" || { echo "usage: make bench WEIGHTS=folder IMAGES=folder [THREADS=2]"; exit 2; }
	for t in $(BENCH); do test -d build/bench/$$t || $(BIN)/facedeploy export mtcnn --target $$t --weights "$(WEIGHTS)" -o build/bench/$$t; done
	for f in 20 12; do $(BIN)/facedeploy benchmark $(BENCH:%=build/bench/%) --images "$(IMAGES)" --threads $(or $(THREADS),2) -O min_face=$$f; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
