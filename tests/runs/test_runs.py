"""Runs in plain Python: what they hold is let go, whatever happens; data on the host and on the device."""

import signal

import filelock
import pytest
from driver import Driver, rows
from slow_cases import slow_but
from tiny_runs import assert_same_bits, assert_same_rows, offline_settings, small, states_of
from training_runs import ARRAYS

import xql_jax
from xql_jax.runs.train import train_run as run_offline


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


@pytest.mark.parametrize("length", slow_but([1, 10], 10))
def test_windows_streamed_from_the_host_are_learned_from_as_on_the_device(
    length, data, tmp_path, monkeypatch
):
    """In two blocks, the second of which is not full; bit for bit in every row, and with a dropped layer."""
    monkeypatch.setattr("xql_jax.training.data_kinds.BLOCK_BYTES", 8 * 16 * length * 4 * (4 + 2 + 3))
    sizes = {"embed_dim": 16, "num_layers": 2, "context_length": length, "actor_warmup_steps": 1.0}
    changes = {"config": small("dt", hidden_dims=(), **sizes), "batch_size": 16, "log_interval": 1}
    device, host = (
        run_offline(offline_settings(data, data_on=place, save_dir=str(tmp_path / place), **changes))
        for place in ("device", "host")
    )
    assert_same_rows(host, device)
    assert_same_bits(states_of(host, 12), states_of(device, 12))
