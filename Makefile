# make demo   sets up and runs the whole pipeline on the bundled example data
# make test   sets up and runs the tests
# make lint   style checks
# make clean  removes the environment and the demo's results
# Variables: PYTHON=python3.11  SIZE=64  KIMG=100  DEVICE=cuda

PYTHON ?= python3
SIZE ?= 32
KIMG ?= 40
PEOPLE ?= 400
SAMPLES ?= 5
DEVICE ?= auto

BIN := .venv/bin
DEMO := EXPERIMENTS/demo
PAIRS := DATASETS/example_$(SIZE)
TRAIN := $(BIN)/python train_db_stylegan2.py --config=EXPERIMENTS/example/demo.json

.PHONY: demo test lint clean setup

setup: .venv/.done

.venv/.done: requirements.txt requirements-extras.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: setup
	$(BIN)/python prepare_dataset.py example --outdir=$(PAIRS) --resolution=$(SIZE) --identities=$(PEOPLE) --samples=$(SAMPLES)
	$(TRAIN) --data=$(PAIRS) --outdir=$(DEMO)/training --kimg=$(KIMG) --device=$(DEVICE)
	$(BIN)/python generate.py --network=$$(ls -t $(DEMO)/training/*/network-snapshot-*.pkl | head -n 1) --seeds=0-31 --truncation=0.8 --outdir=$(DEMO)/generated --device=$(DEVICE)
	@echo
	@echo "Look at: $(PAIRS)/contact_sheet.png  $(DEMO)/training/*/fakes*.png  $(DEMO)/generated/grid.png"

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv $(DEMO) DATASETS/example_*
