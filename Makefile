# make demo   sets up and runs the whole pipeline on the bundled example data
# make test   sets up and runs the tests
# make lint   style checks
# make campaigns  kills, failing disks, hostile files, long runs (docs/reliability.md); MINUTES=60
# make clean  removes the environment and the demo's results
# Variables: PYTHON=python3.11  SIZE=64  KIMG=100  DEVICE=cuda

PYTHON ?= python3
SIZE ?= 32
KIMG ?= 28
IDENTITIES ?= 400
SAMPLES ?= 5
DEVICE ?= auto
MINUTES ?= 60

BIN := .venv/bin

.PHONY: demo test lint campaigns clean setup

setup: .venv/.done

.venv/.done: requirements.txt requirements-extras.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: setup
	$(BIN)/python demo.py --size=$(SIZE) --kimg=$(KIMG) --identities=$(IDENTITIES) --samples=$(SAMPLES) --device=$(DEVICE)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

campaigns: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaigns --minutes=$(MINUTES) --json=build/campaigns.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv EXPERIMENTS/demo DATASETS/example_*
