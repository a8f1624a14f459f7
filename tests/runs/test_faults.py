"""Mains on machines that lack something: they do their work, or say in one line what is lacking."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import untimed, write_dataset

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).parent / "faults.py"
pytestmark = pytest.mark.slow


def train(folder, fault, *arguments):
    """A run of twelve updates on data in the folder; returns its exit code and what it said."""
    if not (folder / "data.npz").exists():
        write_dataset(folder / "data.npz")
    command = [
        sys.executable, str(FAULTS), fault, str(ROOT / "experiments" / "train_offline.py"),
        "--env_name=pointmaze-umaze-v0", f"--dataset={folder / 'data.npz'}", f"--save_dir={folder}",
        "--config.hidden_dims=(8,)", "--batch_size=8", "--max_steps=12", "--log_interval=4",
        "--eval_interval=6", "--checkpoint_interval=6", "--eval_episodes=1", "--notqdm", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def evaluations(folder):
    (path,) = folder.glob("*/*/*/evaluations.csv")
    return untimed(path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder, "open_files=1000")[0] == 0
    return evaluations(folder)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no_locks", "has no locks: see that no other process writes there"),
        ("no_lock_server", "has no locks: see that no other process writes there"),
    ],
)
def test_file_systems_that_lack_something_work_with_a_line(tmp_path, expected, fault, words):
    code, out, err = train(tmp_path, fault)
    assert (code, err) == (0, "")
    told = [line for line in out.splitlines() if words in line]
    assert told
    assert all(line.startswith("warning: ") for line in told)
    assert len(told) == len(set(told))  # each folder is told of once
    assert evaluations(tmp_path) == expected
    assert train(tmp_path, fault, "--resume")[0] == 0  # the same once more


@pytest.mark.parametrize("fault", ["file_bytes=20000", "file_bytes=1500", "open_files=12"])
def test_limits_are_told_and_lose_nothing(tmp_path, expected, fault):
    code, _, err = train(tmp_path, fault)
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert train(tmp_path, "open_files=1000", "--resume")[0] == 0
    assert evaluations(tmp_path) == expected
