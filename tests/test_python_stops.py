"""Python calls that a signal or a failure ends: what was trained is kept, and the next call goes on."""

import gc
import os
import signal
import tempfile
import threading
import time

import gymnasium
import numpy as np
import pytest
from python_cases import SMALL, bandit

import xql_jax
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.runs import train
from xql_jax.training.population import Population


@pytest.mark.slow
def test_a_call_typed_again_goes_on_or_loads_what_has_ended(tmp_path):
    """Stopped by Ctrl-C in its midst, it is saved; the next call ends where an unbroken run does."""
    settings = {"dataset": bandit(), "max_steps": 20_000, **SMALL}

    def interrupt():
        while not any(path.read_text().count("\n") > 1 for path in tmp_path.rglob("metrics.csv")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match=r"stopped after .* updates, saved in"):
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
@pytest.mark.parametrize("failure", [EnvironmentFailure, KeyError, KeyboardInterrupt])
def test_a_run_in_a_temporary_folder_that_fails_or_is_stopped_is_kept(tmp_path, monkeypatch, failure):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = {"dataset": bandit(), "max_steps": 200, "checkpoint_interval": 50, **SMALL}
    advance = Population.advance

    def fail(population, stop):
        if stop > 100 and failure is not KeyboardInterrupt:
            raise failure("stopped after")
        if stop > 100:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(population, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Population, "advance", fail)
        with pytest.raises(failure, match=r"^.?stopped after") as failed:
            xql_jax.train(**settings)
    gc.collect()
    [place] = tmp_path.iterdir()
    told = [str(failed.value), *getattr(failed.value, "__notes__", [])]
    assert f"the same call with save_dir={str(place)!r} goes on" in told[-1]
    assert xql_jax.train(save_dir=place, **settings).summary["status"] == "finished"
    assert [*tmp_path.iterdir()] == [place]


def test_a_stopped_run_of_a_task_with_a_namespace_is_kept(tmp_path, monkeypatch):
    pendulum = "gymnasium.envs.classic_control:PendulumEnv"
    gymnasium.register("space/Pendulum-v0", pendulum, max_episode_steps=5)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = {**bandit(), "observations": np.zeros((400, 3)), "next_observations": np.zeros((400, 3))}

    def interrupt(step, numbers):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped after 50 updates, saved in"):
        xql_jax.train(
            "gymnasium:space/Pendulum-v0", dataset=data, max_steps=100, eval_episodes=0,
            callbacks=[interrupt], **SMALL,
        )  # fmt: skip
    [run] = tmp_path.rglob("config.json")
    assert xql_jax.load_policy(run.parent).step == 50


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


def test_an_interrupt_before_the_training_is_not_lost_in_jax(monkeypatch, tmp_path, capfd):
    """Python drops what a handler raises in JAX's callbacks, so signals are recorded from the beginning."""

    def load(*given):
        os.kill(os.getpid(), signal.SIGINT)
        return load_data(*given)

    load_data = train.load_data
    monkeypatch.setattr(train, "load_data", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt, match="after 0"):
        xql_jax.train(dataset=bandit(), max_steps=50, **SMALL)
    assert not [*tmp_path.iterdir()]
    assert "SIGINT: ends after" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
