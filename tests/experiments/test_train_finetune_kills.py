"""Fine-tuning killed at random moments: the offline phase keeps its bits, the buffer its transitions."""

import csv
import json
import os
import random
import time

import jax
import numpy as np
import pytest
from broken_runs import Bench, run_folder
from main_runs import FINETUNE

from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import Batch

# XQL_JAX_KILLS=30 python -m pytest tests/experiments/test_train_finetune_kills.py: the long version.
KILLS = int(os.environ.get("XQL_JAX_KILLS", "3"))
SEED = int(os.environ.get("XQL_JAX_KILL_SEED", "0"))
HANDOVER, STEPS = 200, 300
ARGUMENTS = (
    f"--num_pretraining_steps={HANDOVER}", f"--max_steps={STEPS}", "--eval_interval=100",
    "--checkpoint_interval=50", "--eval_episodes=1", "--replay_buffer_size=1000", "--resume",
)  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Apart from the other files' runs, which a process that tests them, too, has in its own."""
    return Bench.make(tmp_path_factory.mktemp("finetuned"))


@pytest.fixture(scope="module")
def unbroken(bench):
    """A run that nobody disturbs, made twice; and the seconds of the second, whose programs are compiled."""
    bench.run(bench.folder / "first", *ARGUMENTS, main=FINETUNE)
    began = time.monotonic()
    return bench.run(bench.folder / "unbroken", *ARGUMENTS, main=FINETUNE), time.monotonic() - began


def table(run, name):
    """By step and seed: the row, without seconds."""
    with (run / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["step"], row["seed"]) for row in rows}) == len(rows)
    return {
        (int(row["step"]), row["seed"]): {key: value for key, value in row.items() if key != "seconds"}
        for row in rows
    }


def assert_whole(run, unbroken):
    """Every row once, those until the hand-over as in the unbroken run; every transition in the buffer."""
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    for name in ("metrics.csv", "evaluations.csv"):
        found, expected = table(run, name), table(unbroken, name)
        assert set(found) == set(expected)
        assert {key: found[key] for key in found if key[0] <= HANDOVER} == {
            key: expected[key] for key in expected if key[0] <= HANDOVER
        }
    content = json.loads((run / "config.json").read_text())
    sizes = {"observations": (1, 4), "next_observations": (1, 4), "actions": (1, 2)}
    like = Batch(*(jax.ShapeDtypeStruct(sizes.get(name, (1,)), np.float32) for name in Batch._fields))
    for seed in (42, 43):
        first, rows = ReplayFiles(run / "replay" / f"seed{seed}", f"{content['run']} seed{seed}").read(
            None, like
        )
        assert (first, len(rows.rewards)) == (0, STEPS)
        # A row goes on from the one before, unless an episode or a life of the process ended between them.
        follows = (rows.observations[1:] == rows.next_observations[:-1]).all(axis=1)
        assert follows.mean() > 0.9


def test_sigkill_at_random_moments(bench, unbroken):
    """Kills at any moment of a run's life, in both phases, at the hand-over and in writes."""
    expected, seconds = unbroken
    assert_whole(expected, expected)
    generator = random.Random(SEED)
    kills = runs = 0
    in_phase = {"offline": 0, "online": 0}
    while kills < KILLS:
        save_dir = bench.folder / f"killed {runs}"
        if bench.killed_after(generator.uniform(0.0, seconds), save_dir, *ARGUMENTS, main=FINETUNE):
            kills += 1
            in_phase["online" if any(save_dir.rglob("replay/seed42/*")) else "offline"] += 1
        else:
            assert_whole(run_folder(save_dir), expected)
            runs += 1
    assert_whole(bench.run(save_dir, *ARGUMENTS, main=FINETUNE), expected)
    if KILLS >= 20:
        assert min(in_phase.values()) >= 3
