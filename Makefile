# Every target sets itself up: the environment is .venv, made by the Python 3.11 at hand.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TRAIN := $(BIN)/python experiments/train_offline.py --env_name=pointmaze-umaze-v0 --save_dir=results \
	--seed=0 --num_seeds=3 --eval_episodes=20 --resume
export JAX_PLATFORMS ?= cpu

.PHONY: demo test test-slow test-all lint clean

demo: $(VENV)/run.stamp
	$(TRAIN) --config=configs/pointmaze_config.py:bc --max_steps=10000 --eval_interval=5000
	$(TRAIN) --config=configs/pointmaze_config.py:xql --max_steps=30000 --eval_interval=3000

# Two processes; --dist=loadfile: tests of a file share what they train. Most of the suite's time is XLA's compiler: the
# second time, what it made is at hand.
PYTEST = $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile
test test-slow: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/$(VENV)/jax_cache
test test-slow: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
test: $(VENV)/dev.stamp
	$(PYTEST) -m "not slow"

# What is long by nature: kills, fuzzing, thousands of random instances, full sizes.
test-slow: $(VENV)/dev.stamp
	$(PYTEST) -m slow

test-all: test test-slow

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) results build *.egg-info

# What runs need, at the versions that were tested.
$(VENV)/run.stamp: setup.py requirements.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --constraint requirements.txt --editable .
	touch $@

# That, and what tests need: ruff, mypy, pytest, and D4RL's own package as the oracle.
$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --requirement requirements.txt --editable '.[dev,d4rl]'
	touch $@
