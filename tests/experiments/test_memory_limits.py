"""Under a limit of 3 GB every main meets 4 GB of data with success or with one line."""

import io
import os
import resource
import shutil
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from main_runs import EVALUATE, INSPECT, MAIN, ONLINE, ROOT, Outcome

pytestmark = pytest.mark.slow

LIMIT = 3 * 10**9
ROWS = 40_000_000
ARRAYS = {
    "observations": ((ROWS, 23), "<f4"),
    "actions": ((ROWS, 2), "<f4"),
    "rewards": ((ROWS,), "<f4"),
    "terminals": ((ROWS,), "|b1"),
    "timeouts": ((ROWS,), "|b1"),
}
TRAIN = ("--config.hidden_dims=(8,)", "--max_steps=20", "--log_interval=10", "--notqdm")


def write_hdf5(path):
    """Zeros, most of which the disk does not store; none but the time-outs are written."""
    with h5py.File(path, "w") as file:
        for key, (shape, kind) in ARRAYS.items():
            how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            number = h5py.h5t.py_create(np.dtype(kind), logical=True)
            h5py.h5d.create(file.id, key.encode(), number, h5py.h5s.create_simple(shape), how)
        file["timeouts"][999::1000] = True


def write_npz(path):
    """Zeros, packed into 18 MB."""
    zeros = bytes(1 << 24)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, (shape, kind) in ARRAYS.items():
            header = io.BytesIO()
            description = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(header, description)
            left = int(np.prod(shape)) * np.dtype(kind).itemsize
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                member.write(header.getvalue())
                while left:
                    left -= member.write(zeros[:left])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    write_hdf5(folder / "large.hdf5")
    write_npz(folder / "large.npz")
    (folder / "episodes").mkdir()
    shutil.copy(folder / "large.npz", folder / "episodes" / "0.npz")
    yield folder
    shutil.rmtree(folder)


def run(folder, main, *arguments, limit=resource.RLIMIT_AS):
    process = subprocess.run(
        [sys.executable, str(main), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "D4RL_DATASET_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(limit, (LIMIT, LIMIT)),
    )
    return Outcome(process.returncode, process.stdout, process.stderr)


def assert_line(outcome, *words):
    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome
    assert outcome.err.startswith("error: ")
    for word in words:
        assert word in outcome.err


@pytest.mark.parametrize("name", ["large.hdf5", "large.npz"])
def test_addresses(folder, name):
    """`ulimit -v`: a file cannot be mapped either, and that is said before anything is written."""
    for data_on, words in {
        "host": ("of memory are needed", "--data_on=disk"),
        "device": ("of memory are needed", "--data_on=disk"),
        "auto": ("4.24 GB of addresses", "ulimit -v"),
        "disk": ("4.24 GB of addresses", "ulimit -v"),
    }.items():
        outcome = run(folder, MAIN, *TRAIN, f"--dataset={name}", f"--data_on={data_on}")
        assert_line(outcome, name, *words)
    assert_line(run(folder, INSPECT, f"--dataset={name}"), name, "a part of the data")
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("sources", [["episodes"], ["large.hdf5", "large.npz"], ["ogbench:large.npz"]])
def test_what_is_no_single_file(folder, sources):
    arguments = [f"--dataset={source}" for source in sources]
    assert_line(run(folder, MAIN, *TRAIN, *arguments), *sources, "of memory are needed", "fewer sources")
    assert_line(run(folder, INSPECT, *arguments), *sources, "of memory are needed")


def test_memory_of_its_own(folder):
    """`ulimit -d`, which maps of files do not count for: what has no room in memory is used from disk."""
    outcome = run(folder, MAIN, *TRAIN, "--dataset=large.hdf5", limit=resource.RLIMIT_DATA)
    assert (outcome.code, outcome.err) == (0, "")
    assert "data on disk" in outcome.out
    outcome = run(folder, INSPECT, "--dataset=large.npz", limit=resource.RLIMIT_DATA)
    assert_line(outcome, "large.npz", "a part of the data")
    shutil.rmtree(folder / "cache")


def test_mains_without_large_data(folder):
    task = "--env_name=pointmaze-umaze-v0"
    outcome = run(folder, MAIN, *TRAIN, task, "--eval_episodes=1", "--save_dir=results")
    assert (outcome.code, outcome.err) == (0, "")
    (config,) = (folder / "results" / "pointmaze-umaze-v0").rglob("config.json")
    outcome = run(folder, EVALUATE, str(config.parent), "--episodes=2", "--notqdm")
    assert (outcome.code, outcome.err) == (0, "")
    outcome = run(
        folder, ONLINE, f"--config={ROOT / 'configs' / 'td3_config.py'}", "--env_name=pendulum-swingup",
        "--config.network=small", "--config.hidden_dims=(8,)", "--config.warmup_steps=20",
        "--config.batch_size=8", "--config.buffer_size=150", "--max_steps=100", "--log_interval=50",
        "--eval_episodes=1", "--notqdm",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    outcome = run(
        folder, ONLINE, f"--config={ROOT / 'configs' / 'td3_config.py'}", "--env_name=pendulum-swingup",
        "--config.buffer_size=100_000_000", "--config.warmup_steps=20", "--max_steps=100", "--notqdm",
        "--seed=7",
    )  # fmt: skip
    assert_line(outcome, "buffer_size")
