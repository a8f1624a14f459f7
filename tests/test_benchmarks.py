"""Each benchmark runs and prints what it is read for; its numbers are the machine's."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run_benchmark(name, *arguments, code=0):
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == code, run.stderr
    return run


def last_line(name, *arguments):
    return json.loads(run_benchmark(name, *arguments).stdout.splitlines()[-1])


def test_throughput():
    arguments = ["--algorithm=bc", "--transitions=20000", "--members=1,3", "--updates=5", "--turns=1"]
    results = last_line("throughput.py", *arguments)
    share = results.pop("share_of_peak")
    assert {"loop", "unrolled", "1 resident", "1 streamed", "3 resident", "3 streamed"} <= set(results)
    numbers = [share, *(number for result in results.values() for number in result.values())]
    assert all(math.isfinite(number) and number > 0 for number in numbers)


def test_evaluation():
    results = last_line("evaluation.py", "--tasks=maze2d-umaze-v1,hopper-medium-v2", "--seconds=0.2")
    assert set(results) == {"maze2d-umaze-v1", "hopper-medium-v2"}
    assert all(speed > 0 for speeds in results.values() for speed in speeds.values())


def test_online():
    arguments = ["--algorithm=td3", "--env_name=pendulum-swingup", "--steps=100", "--turns=1"]
    results = last_line("online.py", *arguments)
    assert {"straightforward", "overlapped", "updates alone"} <= set(results)
    assert all(number > 0 for number in results.values())


def test_compiled_training():
    """An environment of one's own in JAX has no twin on the host to be timed beside."""
    arguments = ["--algorithm=td3", "--num_environments=4", "--width=16", "--seconds=0.1", "--turns=1"]
    results = last_line("compiled.py", "--env_name=tests.envs.jax_point_mass:PointMass", *arguments)
    assert [(row["environments"], row["updates_per_step"]) for row in results] == [(4, 0), (4, 0.25), (4, 1)]
    assert all(row["compiled"] > 0 for row in results)


def test_accelerator(tmp_path):
    """All that is planned is measured or listed, and the shares are of the best product."""
    arguments = "--batch_sizes=16 --transitions=500 --repeats=2 --seconds=0.01 --online=xtd3 --minutes=60"
    output = f"--output={tmp_path / 'found.json'}"
    run_benchmark("accelerator.py", *arguments.split(), "--algorithms=xql,bc", "--members=2", output)
    results = json.loads((tmp_path / "found.json").read_text())
    assert results["failed"] == []
    assert results["device"] == {"kind": "cpu", "count": 1, "platform": "cpu"}
    assert {row["algorithm"] for row in results["training"]} == {"xql", "bc"}
    assert results["peak_gflops"] == max(row["gflops"]["max"] for row in results["products"])
    # bc: 2 * 16 * (11 * 256 + 256 * 256 + 256 * 3) = 2,211,840 forward; three times that, less the first
    # layer's gradient of its input, 2 * 16 * 11 * 256. xql: the 559,415,296 of a batch of 256 are XLA's count
    # of the update within 2%.
    flops = {"bc": 6_545_408, "xql": 559_415_296 // 16}
    for row in results["training"]:
        assert row["flops_per_update"] == flops[row["algorithm"]]
        share = row["updates_per_second"]["median"] * row["flops_per_update"] / (1e9 * results["peak_gflops"])
        assert row["share_of_peak"] == pytest.approx(share / row["devices"])


def test_a_mistake_ends_with_one_line():
    finished = run_benchmark("accelerator.py", "--algorithms=xsac", code=2)
    [line] = finished.stderr.splitlines()
    assert "known here: xql, iql, bc" in line
