"""Runs in plain Python: what they hold is let go, whatever happens; data on the host and on the device."""

import signal

import filelock
import pytest
from driver import Driver, rows
from training_runs import ARRAYS

import xql_jax


def test_what_a_run_holds_is_let_go_whatever_ends_it(tmp_path):
    """An error in the midst: lock and signals are as before, and the run goes on."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    settings = {
        "env_name": "driver:Drift-v0", "dataset": ARRAYS, "method": "training_runs:Growth", "batch_size": 4,
        "max_steps": 12, "log_interval": 4, "eval_interval": 6, "checkpoint_interval": 6, "eval_episodes": 1,
    }  # fmt: skip
    run = Driver(xql_jax.train, tmp_path, settings)

    def fail(step, numbers):
        if step == 8:
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        run.resume(fail)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    with filelock.FileLock(run.path / ".lock", timeout=0):
        assert run.steps == [6]  # was in flight, and is written
    run.resume()
    assert [row["step"] for row in rows(run.path / "evaluations.csv")] == ["6", "12"]
