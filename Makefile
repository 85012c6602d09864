# Two commands on a fresh clone: make quickstart, make test. Each builds .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
LAUNCH := $(BIN)/accelerate launch --config_file accelerate_config.yaml
RUNS := runs/quickstart
CONFIGS := recipes/configs

.PHONY: quickstart test test-fast faults lint clean

quickstart: .venv/.installed
	$(LAUNCH) recipes/pretrain.py --config $(CONFIGS)/msm4sr/quickstart.yaml \
		--train.output-dir $(RUNS)/pretrain --train.resume True
	$(LAUNCH) recipes/finetune.py --config $(CONFIGS)/msm4sr/quickstart_finetune.yaml \
		--train.init-from $(RUNS)/pretrain --train.output-dir $(RUNS)/finetune --train.resume True
	$(LAUNCH) recipes/benchmark.py --output $(RUNS)/benchmark --runs $(RUNS)/finetune \
		$(CONFIGS)/msm4sr/quickstart_scratch.yaml $(CONFIGS)/popularity/movielens.yaml \
		$(CONFIGS)/item_knn/movielens.yaml $(CONFIGS)/bpr/quickstart.yaml $(CONFIGS)/lightgcn/quickstart.yaml \
		$(CONFIGS)/sasrec/quickstart.yaml $(CONFIGS)/sasrecm/quickstart.yaml
	$(LAUNCH) recipes/recommend.py --checkpoint $(RUNS)/finetune --user 1

PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

test: .venv/.installed
	$(PYTEST)

test-fast: .venv/.installed
	$(PYTEST) -m "not slow and not exhaustive"

# kills, full disks and hostile inputs: make faults FAULTS="--kills 20 --seed 1"
faults: .venv/.installed
	$(BIN)/python -m tests.faults $(FAULTS)
	$(PYTEST) -m exhaustive

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "seqmm needs Python >= 3.11; run: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
