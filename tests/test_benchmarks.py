"""The benchmark runs and says what it is read for; its numbers are the machine's."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_benchmark(name, *arguments):
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.slow
def test_throughput_prints_every_number():
    *_, memory, last = run_benchmark(
        "throughput.py",
        "--algorithm=bc",
        "--transitions=20000",
        "--members=1,3",
        "--updates=5",
        "--turns=1",
    )
    results = json.loads(last)
    share = results.pop("share_of_peak")
    assert set(results) == {"loop", "unrolled", "1 resident", "1 streamed", "3 resident", "3 streamed"}
    numbers = [share, *(number for result in results.values() for number in result.values())]
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert results["loop"]["over_loop"] == results["3 resident"]["over_resident"] == 1.0
    # One copy for both populations and the unrolled loop: 20,000 rows of 11 + 3 + 1 + 1 + 11 numbers.
    held, size = re.fullmatch(
        r"data on the device: (\S+) MiB for all of these; the dataset: (\S+) MiB", memory
    ).groups()
    assert held == size == f"{20_000 * 27 * 4 / 2**20:.1f}"


@pytest.mark.slow
def test_evaluation_prints_every_task():
    *_, last = run_benchmark("evaluation.py", "--tasks=maze2d-umaze-v1,hopper-medium-v2", "--seconds=0.2")
    results = json.loads(last)
    assert set(results) == {"maze2d-umaze-v1", "hopper-medium-v2"}
    for speeds in results.values():
        assert set(speeds) == {"alone", "together", "make_seconds"}
        assert all(math.isfinite(number) and number > 0 for number in speeds.values())


@pytest.mark.slow
def test_online_prints_every_loop():
    *_, last = run_benchmark(
        "online.py", "--algorithm=td3", "--env_name=pendulum-swingup", "--steps=100", "--turns=1"
    )
    results = json.loads(last)
    without = {"no updates", "no updates, rounds"}
    assert set(results) == {"straightforward", "overlapped", "updates alone"} | without
    assert all(math.isfinite(number) and number > 0 for number in results.values())


@pytest.mark.slow
def test_compiled_training_is_timed_beside_the_host():
    *_, last = run_benchmark(
        "compiled.py",
        "--algorithm=td3",
        "--env_name=tests.envs.jax_point_mass:PointMass",
        "--num_environments=4",
        "--width=16",
        "--seconds=0.1",
        "--turns=1",
    )
    results = json.loads(last)
    assert [(row["environments"], row["updates_per_step"]) for row in results] == [(4, 0), (4, 0.25), (4, 1)]
    assert all(row["compiled"] > 0 and row["host"] > 0 and row["ratio"] > 0 for row in results)
