# make demo      everything, from nothing to a face: set up, export, check, detect, compare speeds (build/demo)
# make install   a virtual environment in .venv with every backend and the development tools
# make test      every backend for real, about 12 minutes on two cores
# make test-all  that, and what is slow: data sets, sanitizers, mutants, killed runs, the README, an emulated ARM
# make docs      the documentation as a site, in build/site
# make lint      ruff, mypy --strict, and which room may import which
# make arm       the ncnn artifacts in an emulated aarch64 Python, against this machine (docs/guides/arm.md)
# make bench     side-by-side latency of every backend; IMAGES=folder and MTCNN=folder or MOS=MOS-M.pth, THREADS=2
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow test-all docs lint arm bench bench-usage bench-mtcnn bench-mos clean

install: $(STAMP)

# torch comes first and alone: the constraint names a CPU build, and whatever needs torch then finds it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

# What anyone would type, for three backends; `export` compares each network with PyTorch, or writes nothing.
DEMO ?= build/demo
PHOTO := examples/astronaut.jpg
DEMO_TARGETS := openvino-fp32 ncnn-fp16 onnx-fp32
demo: install
	rm -rf $(DEMO)
	for t in $(DEMO_TARGETS); do $(BIN)/facedeploy export --target $$t -o $(DEMO)/$$t || exit; done
	$(BIN)/facedeploy verify $(DEMO)/ncnn-fp16 --images $(PHOTO)
	$(BIN)/facedeploy detect $(DEMO)/openvino-fp32 $(PHOTO) --save $(DEMO)
	$(BIN)/facedeploy benchmark $(DEMO_TARGETS:%=$(DEMO)/%) --images $(PHOTO)
	@echo "the picture with the face is $(DEMO)/$(notdir $(PHOTO))"

# A worker that crashes fails the run at once; with another in its place the run can wait for ever.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal --max-worker-restart 0
test: install
	$(PYTEST) -m "not slow" --durations 10

test-slow: install
	$(PYTEST) -m slow --durations 10

test-all: test test-slow

# The pages of docs/, the command line and the docstrings; a link that leads nowhere is an error.
docs: install
	$(BIN)/mkdocs build --strict --quiet
	@echo "the site is build/site/index.html"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Made again after the environment, whose versions it takes.
build/arm/python: $(STAMP) tests/arm/setup.sh
	bash tests/arm/setup.sh build/arm $(BIN)/python

arm: build/arm/python
	FACEDEPLOY_ARM=all $(BIN)/python -m pytest -n 2 -rP --show-capture=stdout tests/arm/test_arm.py tests/arm/test_faces.py

BENCH_THREADS := --threads $(or $(THREADS),2)
bench: bench-usage $(if $(MTCNN),bench-mtcnn) $(if $(MOS),bench-mos)

bench-usage:
	@test -n "$(IMAGES)" -a -n "$(MTCNN)$(MOS)" || { echo "usage: make bench IMAGES=folder MTCNN=folder|MOS=MOS-M.pth [THREADS=2] [OPTIONS='-O score_threshold=0.5']"; exit 2; }

BENCH := torch-fp32 onnx-fp32 openvino-fp32 openvino-fp16 ncnn-fp32 ncnn-fp16
bench-mtcnn: install
	for t in $(BENCH); do test -d build/bench/$$t || $(BIN)/facedeploy export mtcnn --target $$t --weights "$(MTCNN)" -o build/bench/$$t || exit; done
	for f in 20 12; do $(BIN)/facedeploy benchmark $(BENCH:%=build/bench/%) --images "$(IMAGES)" $(BENCH_THREADS) -O min_face=$$f || exit; done

# The published graph first: the last column is the deployed pipeline's speed against that network alone.
MOS_BENCH := mos-m-published mos-m
bench-mos: install
	for t in openvino-fp32 ncnn-fp32; do for m in $(MOS_BENCH); do test -d build/bench/$$m-$$t || $(BIN)/facedeploy export $$m --target $$t --deform-conv native --weights "$(MOS)" -o build/bench/$$m-$$t || exit; done; done
	for t in openvino-fp32 ncnn-fp32; do $(BIN)/facedeploy benchmark $(MOS_BENCH:%=build/bench/%-$$t) --images "$(IMAGES)" $(BENCH_THREADS) $(OPTIONS) || exit; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
