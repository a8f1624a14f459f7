"""Mains on machines that lack something: they do their work, or say in one line what is lacking.

As a script it runs a main on such a machine: python test_faults.py FAULT[=NUMBER] MAIN.py ARGUMENTS.
"""

import errno
import fcntl
import os
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import untimed, write_dataset

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def refuse_locks(number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


def limit(kind):
    return lambda number: resource.setrlimit(kind, (number, resource.getrlimit(kind)[1]))


FAULTS = {
    "no_locks": lambda _: refuse_locks(errno.ENOSYS),  # a file system without flock, as some network ones are
    "no_lock_server": lambda _: refuse_locks(errno.ENOLCK),  # one whose locks are refused
    "file_bytes": limit(
        resource.RLIMIT_FSIZE
    ),  # files may have N bytes, as where a quota or the disk is full
    "open_files": limit(resource.RLIMIT_NOFILE),
}


def train(folder, fault, *arguments):
    """A run of twelve updates on data in the folder; returns its exit code and what it said."""
    if not (folder / "data.npz").exists():
        write_dataset(folder / "data.npz")
    command = [
        sys.executable, __file__, fault, str(ROOT / "experiments" / "train_offline.py"),
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


@pytest.mark.parametrize("fault", ["no_locks", "no_lock_server"])
def test_file_systems_without_locks_work_with_a_line(tmp_path, expected, fault):
    code, out, err = train(tmp_path, fault)
    assert (code, err) == (0, "")
    (told,) = [line for line in out.splitlines() if "has no locks: see that no other process" in line]
    assert told.startswith("warning: ")
    assert evaluations(tmp_path) == expected
    assert train(tmp_path, fault, "--resume")[0] == 0  # the same once more


@pytest.mark.parametrize("fault", ["file_bytes=20000", "file_bytes=1500", "open_files=8"])
def test_limits_are_told_and_lose_nothing(tmp_path, expected, fault):
    code, _, err = train(tmp_path, fault)
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert train(tmp_path, "open_files=1000", "--resume")[0] == 0
    assert evaluations(tmp_path) == expected


if __name__ == "__main__":
    name, _, number = sys.argv[1].partition("=")
    FAULTS[name](int(number or 0))
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
