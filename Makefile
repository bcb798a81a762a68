# make demo      everything, from nothing to a face: set up, export, check, detect, compare speeds (build/demo)
# make install   a virtual environment in .venv with every backend and the development tools; PYTHON=python3.12
# make wheel     the package as a file, in dist/, to install elsewhere
# make test      every backend for real, about 12 minutes on two cores
# make test-all  that, and what is slow: data sets, sanitizers, mutants, killed runs, the README, an emulated ARM
# make docs      the documentation as a site, in build/site
# make lint      ruff, mypy --strict, and which room may import which
# make arm       the ncnn artifacts in an emulated aarch64 Python, against this machine (docs/guides/arm.md)
# make bench     side-by-side latency of every backend; IMAGES=folder and MTCNN=folder or MOS=MOS-M.pth, THREADS=2
# The first of these that suits. The tests run on 3.11; the others are in the order of what was tried most.
PYTHONS := python3.11 python3.12 python3.13 python3.10 python3
SUITS := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c '$(SUITS)' >/dev/null 2>&1 && echo $$p && break; done)
NO_PYTHON := there is no Python 3.10 to 3.13 with venv here: install one (on Debian python3 and python3-venv), or name it, \
  as in `make install PYTHON=/usr/local/bin/python3.12`
FOUND_PYTHON = $(or $(PYTHON),$(error $(NO_PYTHON)))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install wheel demo test test-slow test-all docs lint arm bench bench-usage bench-mtcnn bench-mos clean

install: $(STAMP)

# torch comes first and alone: whatever needs it then finds it. Without a build for the CPU alone, the plain one.
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
$(STAMP): pyproject.toml constraints.txt
	@echo "$(VENV) is made with $(FOUND_PYTHON), which is $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@$(PIP) torch==$(TORCH)+cpu 2>/dev/null || \
	  { echo "no PyTorch $(TORCH) for the CPU alone at hand; on Linux the other brings CUDA, 5 GB (README.md, Set up)"; \
	    $(PIP) torch; }
	$(PIP) -e '.[all,dev]'
	touch $@

# In an environment of its own, of a few MB. setuptools would pack what an earlier build left in build/lib.
wheel:
	rm -rf build/lib build/bdist.*
	$(FOUND_PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

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
