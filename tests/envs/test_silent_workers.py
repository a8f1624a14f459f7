"""Processes of environments that halt: none is waited for longer than patience says, and none stays."""

import functools
import threading
import time

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium import spaces

from xql_jax.envs import workers
from xql_jax.envs.vector import VectorEnvironment
from xql_jax.envs.workers import GRACE, MIDST, STOPPING, TICK, Patience, request_type
from xql_jax.errors import EnvironmentFailure


class Sleeper(gymnasium.Env):
    """Sleeps through its start, or a step of an action above 0.9; of any size."""

    steps_per_second = 1.0

    def __init__(self, start_seconds=0.0, step_seconds=600.0, size=2, num_actions=1):
        time.sleep(start_seconds)
        self.action_space = spaces.Box(-1.0, 1.0, (num_actions,), np.float32)
        self.step_seconds = step_seconds
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action):
        if action[0] > 0.9:
            time.sleep(self.step_seconds)
        return self.reset()[0], 0.0, False, False, {}


def workers_now():
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def assert_ends(env, actions, match, at_least, at_most=GRACE + 2.0):
    """The step fails after so many seconds, the closing included, and leaves no process."""
    processes, start = workers_now(), time.monotonic()
    with pytest.raises(EnvironmentFailure, match=match):
        env.step(actions)
    assert at_least - TICK <= time.monotonic() - start < at_least + at_most
    assert not any(process.is_running() for process in processes)


@pytest.fixture
def made():
    open_ones = []

    def make(count, patience, **arguments):
        env = VectorEnvironment(
            functools.partial(Sleeper, **arguments), count, processes=True, patience=patience
        )
        env.reset(range(count))
        open_ones.append(env)
        return env

    yield make
    for env in open_ones:
        env.close()


@pytest.mark.slow
def test_an_environment_that_hangs_is_named(made):
    env = made(3, Patience(20.0))
    env._backend._patience = Patience(1.0)  # the starts took longer
    words = r"^environment 1 has not answered for 1 s: .*--environment_timeout$"
    assert_ends(env, np.array([[0.0], [1.0], [0.0]]), words, 1.0)


@pytest.mark.slow
def test_a_stopped_process_is_named_and_killed(made):
    env = made(2, Patience(20.0))
    env._backend._patience = Patience(1.0)
    workers_now()[1].suspend()
    assert_ends(env, np.zeros((2, 1)), "environment 1 has not answered for 1 s", 1.0)


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_waits_no_longer(made, monkeypatch):
    monkeypatch.setattr(workers, "STOPPING", 1.0)
    told = threading.Event()
    env = made(2, Patience(600.0, told.is_set))
    threading.Timer(0.5, told.set).start()
    words = "environment 0 has not answered for 1 s after the run was told to stop"
    assert_ends(env, np.array([[1.0], [0.0]]), words, 1.5)


def test_one_that_answers_late_is_waited_for_also_by_a_run_that_stops(made):
    assert STOPPING < 10.0
    env = made(1, Patience(20.0, lambda: True), step_seconds=1.5)
    assert env.step(np.ones((1, 1))).ended.tolist() == [False]


@pytest.mark.slow
def test_a_start_counts():
    start = time.monotonic()
    with pytest.raises(EnvironmentFailure, match="environment 0 has not answered for 3 s"):
        VectorEnvironment(
            functools.partial(Sleeper, start_seconds=600.0), 2, processes=True, patience=Patience(3.0)
        )
    assert time.monotonic() - start < 3.0 + GRACE + 2.0
    assert not workers_now()


@pytest.mark.slow
def test_half_an_answer_is_not_waited_for(made, monkeypatch):
    """It was stopped while it wrote more than a pipe takes."""
    env = made(1, Patience(600.0), size=1_000_000)
    backend, (worker,) = env._backend, workers_now()
    backend._connections[0].send_bytes(np.zeros(1, request_type(env.action_space)).tobytes())
    time.sleep(1.0)
    worker.suspend()
    monkeypatch.setattr(backend._connections[0], "send_bytes", lambda request: None)
    assert_ends(env, np.zeros((1, 1)), f"environment 0 has not answered for {MIDST} s", MIDST)


@pytest.mark.slow
def test_a_full_pipe_is_not_waited_for(made):
    env = made(1, Patience(600.0), num_actions=1_000_000)
    workers_now()[0].suspend()
    words = f"environment 0 has not answered for {MIDST} s"
    assert_ends(
        env, np.zeros((1, 1_000_000)), words, MIDST, MIDST + GRACE + 2.0
    )  # once more after some of it


@pytest.mark.slow
def test_more_than_start_at_once_are_all_started_in_order(monkeypatch):
    monkeypatch.setattr(workers, "AT_ONCE", 1)
    env = VectorEnvironment(functools.partial(Sleeper, step_seconds=2.0), 3, processes=True)
    assert len(workers_now()) == 3
    env.reset([0, 1, 2])
    began = time.monotonic()
    assert len(env.step(np.ones((3, 1))).ended) == 3
    assert time.monotonic() - began < 4.0  # they step at the same time
    env.close()
