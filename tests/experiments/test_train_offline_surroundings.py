"""What bits depend on beside the settings: JAX's settings are the run's own, and other cores are told of."""

import os
import signal
import time

import pytest
from broken_runs import arrays, assert_same_run, run_folder

pytestmark = pytest.mark.slow

# Each alone gives other numbers, or a traceback, where nobody sets what it stands for.
VARIABLES = {
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_SOFTMAX_CUSTOM_JVP": "1",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_DEBUG_NANS": "1",
}


def test_jaxs_settings_are_the_runs_own(bench, unbroken, monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert_same_run(bench.run(bench.folder / "other settings of JAX"), unbroken)


def stopped(bench, save_dir):
    """A run that is stopped once it has a checkpoint."""
    process = bench.start(save_dir)
    while process.poll() is None and not any(
        path.name.isdigit() for path in save_dir.glob("*/*/*/checkpoints/*")
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert bench.finish(process) == 128 + signal.SIGTERM, bench.log()
    return run_folder(save_dir)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one core")
@pytest.mark.parametrize("told", [None, "2"])
def test_a_run_on_two_cores_resumed_on_one(bench, unbroken, monkeypatch, told):
    """It says so before it goes on; and NPROC=2 gives it the sums of two."""
    monkeypatch.setenv("NPROC", "2")
    save_dir = bench.folder / f"cores {told}"
    run = stopped(bench, save_dir)
    monkeypatch.delenv("NPROC")
    if told:
        monkeypatch.setenv("NPROC", told)
    log = bench.folder / f"log of {told}"
    with log.open("w") as file:
        core = str(min(os.sched_getaffinity(0)))
        process = bench.start(save_dir, "--resume", prefix=("taskset", "-c", core), log=file)
        assert bench.finish(process) == 0, log.read_text()
    warnings = [line for line in log.read_text().splitlines() if line.startswith("warning: ")]
    if told:
        assert warnings == []
        assert_same_run(run, unbroken)
    else:
        (line,) = warnings
        assert "cores 2, here 1" in line
        assert "NPROC=2" in line
        assert log.read_text().index(line) < log.read_text().index("update ")
        assert arrays(run)[0] == 600
