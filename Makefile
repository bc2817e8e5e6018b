# Needs Python 3.10 or newer and make, nothing else. Every target makes its own virtual environment.
VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
ARGS ?=
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL: # the targets share one environment
.PHONY: help demo benchmark-demo test test-lowest check coverage bench docs clean

help: ## List the targets (this text)
	@echo "attrib: explain an image classifier's predictions, and measure the explanation"
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo
	@echo "VENV=$(VENV) (environment), PYTHON=$(PYTHON), ARGS=... (more arguments for demo, benchmark-demo, test, coverage, bench)"

demo: $(VENV)/.installed-demo ## Explain and compare on real photos; writes ./demo anew
	@echo "==> Explaining the demo photos with EfficientNet-Lite0; figures, maps and numbers go to ./demo"
	@rm -rf demo
	@$(VENV)/bin/attrib demo --out demo $(ARGS)

COMMA := ,
PHOTOS := $(firstword $(wildcard $(ATTRIB_TEST_DATA)/imagenet_masks_dev/index.json ../shared/data/imagenet_masks_dev/index.json))
benchmark-demo: $(VENV)/.installed-demo,study ## Benchmark methods on 50 masked photos, or else the demo photos; resumable
	@echo "==> Measuring methods on $(or $(PHOTOS),the demo photos) with EfficientNet-Lite0; results go to ./runs/demo"
	@$(VENV)/bin/attrib benchmark --model efficientnet_lite0 --out runs/demo --shard-size 5 --methods occlusion,saliency,guided,gradcam \
		$(if $(PHOTOS),--data $(PHOTOS) --columns label=imagenet_class --target label --metrics deletion$(COMMA)insertion$(COMMA)srg$(COMMA)energy,--data demo) $(ARGS)

test: $(VENV)/.installed-test ## Run the whole test suite
	@echo "==> Running the tests"
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 $(ARGS)

test-lowest: ## Run the test suite on the oldest supported versions, in $(VENV)-lowest
	@$(MAKE) --no-print-directory VENV=$(VENV)-lowest CONSTRAINTS="-c .ci/lowest.txt" test

check: $(VENV)/.installed-dev ## Check format, lint and types, as CI does
	@echo "==> Checking format (ruff), lint (ruff) and types (mypy)"
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

coverage: $(VENV)/.installed-test ## Run the tests with branch coverage; attrib/core must be complete
	@echo "==> Measuring branch coverage"
	@$(PY) -m pytest --cov --cov-report=term $(ARGS)
	@$(PY) -m coverage report --include='attrib/core/*' --fail-under=100

bench: $(VENV)/.installed-bench ## Measure speed and memory against Captum and pytorch-grad-cam
	@echo "==> Measuring against the peers; results go to benchmarks/results"
	@$(PY) benchmarks/speed.py $(ARGS)

docs: $(VENV)/.installed-docs ## Build the documentation into docs/_build/html, warnings as errors
	@echo "==> Building the documentation"
	@OMP_NUM_THREADS=1 $(PY) -m sphinx -j auto -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean: ## Remove what the targets made, but not the environment
	@echo "==> Removing outputs and caches ($(VENV) stays: rm -rf $(VENV))"
	@rm -rf demo build dist docs/_build docs/gallery_out docs/reference/generated .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "attrib needs Python 3.10 or newer; none was found. Install it, or say PYTHON=/path/to/python." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("attrib needs Python 3.10 or newer; $(PYTHON) is %d.%d. Say PYTHON=python3.11." % sys.version_info[:2])'
	@echo "==> Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(VENV)/.made
	@echo "==> Installing attrib[$*] into $(VENV) (only after a change of pyproject.toml; the first time fetches PyTorch)"
	@$(PIP) $(CONSTRAINTS) -e '.[$*]'
	@touch $@
