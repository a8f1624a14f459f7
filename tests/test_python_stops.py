"""Python calls that a signal or a failure ends: what was trained is kept, and the next call goes on."""

import contextlib
import gc
import os
import signal
import tempfile
import threading
import time

import numpy as np
import pytest
from python_cases import SMALL, bandit

import xql_jax
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.runs import offline
from xql_jax.training.population import Population


@contextlib.contextmanager
def interrupted(folder):
    """Sends SIGINT when a run below the folder has written rows of metrics."""

    def interrupt():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if any(path.read_text().count("\n") > 1 for path in folder.rglob("metrics.csv")):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match=r"stopped after .* updates, saved in") as stopped:
        yield stopped
    thread.join()


@pytest.mark.slow
def test_a_call_typed_again_goes_on_or_loads_what_has_ended(tmp_path):
    """Stopped by Ctrl-C in its midst, it is saved; the next call ends where an unbroken run does."""
    settings = {"dataset": bandit(), "max_steps": 20_000, **SMALL}
    with interrupted(tmp_path / "broken"):
        xql_jax.train(save_dir=tmp_path / "broken", **settings)
    gone_on = xql_jax.train(save_dir=tmp_path / "broken", **settings)
    again = xql_jax.train(save_dir=tmp_path / "broken", **settings)
    unbroken = xql_jax.train(save_dir=tmp_path / "unbroken", **settings)
    assert gone_on.path == again.path
    for policy in (gone_on, again):
        np.testing.assert_array_equal(policy([0.2]), unbroken([0.2]))
    with pytest.raises(UserError, match="this run exists"):
        xql_jax.train(save_dir=tmp_path / "broken", resume=False, **settings)


@pytest.mark.slow
def test_a_run_in_a_temporary_folder_that_is_stopped_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = {"dataset": bandit(), "max_steps": 20_000, **SMALL}
    with interrupted(tmp_path) as stopped:
        xql_jax.train(**settings)
    gc.collect()
    [place] = tmp_path.iterdir()
    assert f"the same call with save_dir={str(place)!r} goes on" in str(stopped.value)
    gone_on = xql_jax.train(save_dir=place, **settings)
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
    assert gone_on.summary["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("failure", [EnvironmentFailure, KeyError])
def test_a_run_in_a_temporary_folder_that_fails_is_kept(tmp_path, monkeypatch, failure):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = {"dataset": bandit(), "max_steps": 200, "checkpoint_interval": 50, **SMALL}
    with monkeypatch.context() as patch:
        advance = Population.advance

        def fail(population, stop):
            if stop > 100:
                raise failure("too much")
            return advance(population, stop)

        patch.setattr(Population, "advance", fail)
        with pytest.raises(failure, match=r"^.?too much") as failed:
            xql_jax.train(**settings)
    gc.collect()
    [place] = tmp_path.iterdir()
    told = [str(failed.value), *getattr(failed.value, "__notes__", [])]
    assert f"the same call with save_dir={str(place)!r} goes on" in told[-1]
    assert xql_jax.train(save_dir=place, **settings).summary["status"] == "finished"


@pytest.mark.slow
def test_a_temporary_folder_goes_with_the_policy():
    policy = xql_jax.train(dataset=bandit(), max_steps=50, **SMALL)
    member, path = policy.select(seed=42), policy.path
    del policy
    assert path.is_dir()
    assert member.summary["status"] == "finished"
    del member
    assert not path.exists()


def test_an_interrupt_during_the_last_updates_ends_a_loop_of_runs(monkeypatch):
    """The run has ended, as nothing was left to do; the call raises nevertheless."""
    advance = Population.advance

    def interrupt(population, stop):
        if stop == 50:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(population, stop)

    monkeypatch.setattr(Population, "advance", interrupt)
    with pytest.raises(KeyboardInterrupt, match="stopped after 50 updates, saved in"):
        xql_jax.train(dataset=bandit(), max_steps=50, **SMALL)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_callback_of_jaxs_loses_is_raised(monkeypatch, tmp_path, capfd):
    """JAX collects garbage in a callback, from which Python drops exceptions."""

    class Garbage:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    def load(*given):
        Garbage()
        return load_data(*given)

    load_data = offline.load_data
    monkeypatch.setattr(offline, "load_data", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt, match="after 0"):
        xql_jax.train(dataset=bandit(), max_steps=50, **SMALL)
    assert not [*tmp_path.iterdir()]
    assert "SIGINT: ends after" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
