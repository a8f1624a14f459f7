# Every target sets itself up: the environment is .venv, made by the first of these that setup.py admits and that has venv.
FITS = import ensurepip, re, sys, venv; low, high = re.search(r"python_requires=.>=3\.(\d+),<3\.(\d+)", open("setup.py").read()).groups(); \
	sys.exit(not (3, int(low)) <= sys.version_info[:2] < (3, int(high)))
PYTHON ?= $(shell for each in python3.11 python3 python3.12 python3.13 python; do $$each -c '$(FITS)' 2>/dev/null && echo $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin
# As if the data were one's own: `own` has no value that was chosen for this maze alone.
TRAIN := $(BIN)/xql-train-offline --env_name=pointmaze-umaze-v0 --config=own --save_dir=results \
	--seed=0 --num_seeds=3 --eval_episodes=20 --resume
export JAX_PLATFORMS ?= cpu

# From data to the environment: 20,000 updates, RLPD none, then 10,000 steps.
FINETUNE := $(BIN)/xql-train-finetune --env_name=pointmaze-large-rare-v0 --save_dir=results \
	--seed=0 --num_seeds=3 --max_steps=10000 --eval_interval=2500 --eval_episodes=20 --checkpoint_interval=5000 --resume

.PHONY: help install demo finetune-demo test test-slow test-cluster test-wheel test-release test-all lint update docs docs-serve dist clean

help:
	@echo "make demo           trains XQL, IQL and BC on a generated maze, about eleven minutes; the first time it installs into .venv"
	@echo "make finetune-demo  the same, from data to the environment: XQL, IQL and RLPD, about eight minutes"
	@echo "make install        installs what every task, figure and video needs into .venv; the mazes do without"
	@echo "make test           runs the quick tests; test-slow the longer ones, test-all also README's installation;"
	@echo "                    test-cluster installs a SLURM on this machine (root, Debian), and trains sweeps on it and on Ray"
	@echo "make docs           builds the documentation's site in build/site; docs-serve shows it at http://127.0.0.1:8000"
	@echo "make lint           checks format, style and types"
	@echo "make update         tries newer packages than those of requirements.txt, and says what breaks"
	@echo "make dist           builds a wheel and an sdist in dist, and checks them; test-wheel installs the wheel and runs it"
	@echo "make clean          deletes .venv, results and what was built"

# What the mazes do without: the other simulators, videos, Minari's data.
install: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --constraint requirements.txt --editable '.[simulators,ogbench,video,minari]'

demo: $(VENV)/run.stamp
	$(TRAIN) --method=bc --max_steps=10000 --eval_interval=5000
	$(TRAIN) --method=xql --max_steps=20000 --eval_interval=5000
	$(TRAIN) --method=iql --max_steps=20000 --eval_interval=10000
	$(BIN)/python examples/draw_maze.py results/pointmaze-umaze-v0

finetune-demo: $(VENV)/run.stamp
	$(FINETUNE) --method=xql
	$(FINETUNE) --method=iql
	$(FINETUNE) --method=rlpd

# Two processes; --dist=loadfile: tests of a file share what they train. Most of the suite's time is XLA's compiler: the
# second time, what it made is at hand.
PYTEST = $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile
test test-slow test-cluster update: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/$(VENV)/jax_cache
test test-slow test-cluster update: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
# This flag halves the time of compiling, and changes some last bits. The slow tests have the compiler that runs have. JAX 0.11
# ends at it: `XLA_FLAGS= make test` there.
test: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false
test: $(VENV)/dev.stamp
	$(PYTEST) -m "not slow and not release"

# What is long by nature: kills, fuzzing, thousands of random instances, full sizes.
test-slow: $(VENV)/dev.stamp
	$(PYTEST) -m slow

# Sweeps on a real SLURM and on two Ray nodes of this machine. For root on Debian, where it installs SLURM.
test-cluster: $(VENV)/dev.stamp
	command -v slurmctld > /dev/null || (apt-get update --quiet && apt-get install --yes --no-install-recommends slurm-wlm munge)
	$(BIN)/python -m pytest -m slow tests/sweeps/test_real_slurm.py tests/sweeps/test_real_ray.py

# The wheel in fresh environments, one for each Python at hand.
test-wheel: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/test_distribution.py

# That, and README as a newcomer types it, downloads included.
test-release: $(VENV)/dev.stamp
	$(PYTEST) -m release

test-all: test test-slow test-release

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The newest packages, in an environment of its own: those that setup.py admits, then all. TESTS: `TESTS=tests/losses`, all if empty.
update:
	$(PYTHON) -m venv --clear build/newest
	build/newest/bin/pip install --quiet --editable '.[dev]'
	build/newest/bin/python benchmarks/newest.py $(TESTS)

# The site, in build/site: index.html opens in a browser as it is, and searching needs `make docs-serve`.
# Not --quiet: with it --strict counts no warning.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo the site is in build/site, its first page is build/site/index.html

# The same at http://127.0.0.1:8000, made anew whenever a page changes.
docs-serve: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

# What a release is. The tools have an environment of their own, so that they change no version of what is tested.
dist: $(VENV)/dist.stamp
	rm -rf dist
	$(VENV)/dist/bin/python -m build
	$(VENV)/dist/bin/twine check --strict dist/*
	$(VENV)/dist/bin/check-wheel-contents dist/*.whl

clean:
	rm -rf $(VENV) results build dist *.egg-info

$(VENV)/dist.stamp:
	$(PYTHON) -m venv $(VENV)/dist
	$(VENV)/dist/bin/pip install --quiet build twine check-wheel-contents
	touch $@

# What runs need, at the versions that were tested.
$(VENV)/run.stamp: setup.py requirements.txt
	$(if $(wildcard $(BIN)/pip)$(PYTHON),,$(error needs a Python with venv, 3.11 to 3.13: install it, or give make PYTHON=/path/to/python3.11))
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --constraint requirements.txt --editable .
	touch $@

# What the site needs. It reads the package, and imports it for the page of hyperparameters.
$(VENV)/docs.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --constraint requirements.txt --editable '.[docs]'
	touch $@

# That, and what tests need: ruff, mypy, pytest, and D4RL's own package as the oracle.
$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --requirement requirements.txt --editable '.[dev,d4rl]'
	touch $@
