# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/.docs-ready
RAY    := $(VENV)/.ray-ready
BROWSE := $(VENV)/.browser-ready

.PHONY: demo test test-slow test-browser test-captum fuzz load-test lint docs clean

demo: $(READY)
	$(BIN)/captum-plq demo -o demo-output

test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(RAY)
	$(BIN)/python -m pytest -m slow

# The page of `captum-plq serve` and that of `captum-plq inspect`, in the Chromium of this machine.
# FIGURES=docs/figures renews the screenshots.
FIGURES ?=
test-browser: $(BROWSE)
	$(BIN)/python -m pytest -m browser tests/browser $(if $(FIGURES),--figures $(FIGURES))

# Files and numbers that mean trouble, MINUTES long; SEED decides which.
MINUTES ?= 10
SEED    ?= 0
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

# The page's server under CLIENTS clients on loopback, SECONDS long (Linux).
CLIENTS ?= 20
SECONDS ?= 300
load-test: $(READY)
	$(BIN)/python -m tests.load --clients $(CLIENTS) --seconds $(SECONDS)

# Captum's own tests, from a checkout of its repository at CAPTUM.
test-captum: $(READY)
	$(BIN)/python -m tests.captum_suite $(CAPTUM)

lint: $(READY)
	$(BIN)/ruff check captum_plq benchmarks tests
	$(BIN)/ruff format --check captum_plq benchmarks tests
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'quantus>=0.6'
	touch $@

# Quantus asks for the OpenCV with windows, which needs the system's libGL; the headless one, which
# is there already, has the same module.

$(RAY): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[ray]'
	touch $@

$(BROWSE): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[browser]'
	touch $@

docs: $(DOCS)
	$(BIN)/sphinx-build -W --keep-going --quiet -b html docs docs/_build/html
	@echo docs/_build/html/index.html

$(DOCS): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo-output docs/_build docs/benchmarks docs/models
