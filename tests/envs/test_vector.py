"""Environments stepped together, of all kinds, against the same environments stepped one by one."""

import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import jax
import numpy as np
import psutil
import pytest
from gymnasium import spaces
from jax_point_mass import PointMass

from xql_jax.envs import EnvironmentMaker
from xql_jax.envs.processes import GRACE, TICK, Processes
from xql_jax.envs.vector import EpisodeSeeds, Local, start_seed
from xql_jax.errors import EnvironmentFailure
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.suites.tasks import get_task

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
PLACE = "FILE:LINE, in break_down"
THREADS = functools.partial(Local, num_threads=2)


class Clock(gymnasium.Env):
    """Observes (seed, step); pays step + 10 action; after 2 steps an even seed ends it, after 3 a time-out.

    An action above 0.9 breaks it in the way that it is told.
    """

    steps_per_second = 1.0
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, breaks=None):
        self.breaks = breaks

    def reset(self, *, seed=None, options=None):
        self.seed, self.count = seed % 1000, 0
        return self.observation(), {}

    def step(self, action):
        reward = self.break_down() if action[0] > 0.9 and self.breaks else 10.0 * float(action[0])
        self.count += 1
        terminated = self.seed % 2 == 0 and self.count == 2
        info = {"success": self.count > 1}
        return self.observation(), self.count + reward, terminated, self.count == 3, info

    def break_down(self):
        match self.breaks:
            case "raises":
                raise EOFError("the spring is broken")  # not to be taken for the end of a pipe
            case "exits":
                sys.exit(3)
            case "is interrupted":
                raise KeyboardInterrupt("by itself")
            case "dies":
                os._exit(7)
            case "hangs":
                time.sleep(600.0)

    def observation(self):
        return np.array([self.seed, self.count], np.float32)


def cheetah(limit: int = 7):
    from xql_jax.envs.dm_control import DMControl  # no other process needs MuJoCo

    return DMControl(dataclasses.replace(get_task("cheetah-run"), episode_limit=limit))


class Point:
    """The environment in JAX, by itself, behind Gymnasium's interface."""

    def reset(self, *, seed):
        self.state, observation = PointMass().reset(jax.random.key(seed))
        self.count = 0
        return observation, {}

    def step(self, action):
        self.state, (observation, reward, terminal) = PointMass().step(self.state, action)
        self.count += 1
        return observation, reward, bool(terminal), self.count == PointMass.episode_limit, {}


def compiled(make, number):
    return EnvironmentMaker().vector_env(get_task("jax_point_mass:PointMass"), number)


@pytest.fixture
def made():
    """Makes vector environments and closes them."""
    open_ones = []

    def make(kind, make, number, *options):
        open_ones.append(kind(make, number, *options))
        return open_ones[-1]

    yield make
    for each in open_ones:
        each.close()


def begin(env, seed):
    """Begins endless episodes; returns their seeds, and the first observations."""
    seeds = EpisodeSeeds(seed, [0] * env.num_envs)
    return seeds, env.reset(seeds.running(), seeds)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (Local, Clock), (THREADS, cheetah), (compiled, Point), (Processes, Clock),
        slow(Processes, cheetah),
    ],
)  # fmt: skip
def test_each_environment_steps_as_if_alone(made, make, kind):
    idle = kind is not Processes  # the last place, which has no episode
    env, tolerance = made(kind, make, 3 + idle), 1e-5 if kind is compiled else 0.0
    same = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    actions = np.random.default_rng(0).uniform(-0.9, 0.9, (45, 3 + idle, *env.action_space.shape))
    seeds = EpisodeSeeds(4, [0] * 3)
    first = env.reset([*seeds.running(), *[None] * idle], seeds)
    steps = [env.step(action) for action in actions.astype(np.float32)]
    for i in range(3):
        alone, episode, total, length = make(), 0, 0.0, 0
        observation, _ = alone.reset(seed=start_seed(4, i, episode))
        same(first[i], observation)
        before = first
        for action, step in zip(actions[:, i].astype(np.float32), steps, strict=True):
            row = [field[i] for field in step.transitions(before)]
            same(row[0], observation)
            np.testing.assert_array_equal(row[1], action)
            observation, reward, terminated, truncated, info = alone.step(action)
            total, length = total + float(reward), length + 1
            same(row[2], np.float32(reward))
            assert row[3] == 1.0 - terminated
            same(row[4], observation)
            assert (step.terminals[i], step.truncations[i]) == (terminated, truncated and not terminated)
            same(step.returns[i], total)
            assert (step.lengths[i], step.successes[i]) == (length, info.get("success", -1))
            if step.ended[i]:
                episode, total, length = episode + 1, 0.0, 0
                observation, _ = alone.reset(seed=start_seed(4, i, episode))
            same(step.observations[i], observation)
            before = step.observations
        assert seeds.episodes[i] == episode >= 2
    for step in steps if idle else []:
        assert not step.observations[3].any()
        assert (step.rewards[3], step.lengths[3], bool(step.ended[3])) == (0.0, 0, False)


@pytest.mark.parametrize("kind", [Local, compiled])
def test_an_ended_environment_is_idle_until_another_seed_and_bad_actions_harm_none(made, kind):
    env = made(kind, Clock, 2)
    env.reset([1, 3], lambda index: None if index else 5)
    with pytest.raises(ValueError, match=r"actions must be of shape \(2, 1\), not \("):
        env.step(np.zeros((2, 2)))
    with pytest.raises(FloatingPointError, match="environment 1: an action is not finite"):
        env.step(np.array([[0.0], [np.nan]]))
    *_, last, step = [env.step(np.full((2, 1), -3.0)) for _ in range(25)]
    assert (step.actions == -1.0).all()  # clipped
    assert env.running.tolist() == [True, False]
    np.testing.assert_array_equal(step.observations[1], last.observations[1])
    assert step.rewards[1] == 0.0
    assert not env.reset([None, None]).any()
    assert not env.running.any()


def test_seeds_are_all_different():
    starts = {start_seed(s, i, e) for s in range(5) for i in range(8) for e in range(50)}
    assert len(starts) == 5 * 8 * 50
    # Without the spawn key, NumPy would mix (s, i) and (s, i, 0) alike: training on what evaluates.
    assert not starts & {episode_seed(s, e) for s in range(5) for e in range(50)}


@pytest.mark.parametrize(
    ("kind", "breaks", "told"),
    [
        (THREADS, "exits", f"SystemExit: 3 ({PLACE})"),
        slow(Processes, "raises", f"EOFError: the spring is broken ({PLACE})"),
        slow(Processes, "is interrupted", f"KeyboardInterrupt: by itself ({PLACE})"),
    ],
)
def test_an_environment_that_fails_is_named(made, kind, breaks, told):
    env = made(kind, functools.partial(Clock, breaks), 3)
    begin(env, 0)
    with pytest.raises(EnvironmentFailure) as caught:
        env.step(np.array([[0.0], [1.0], [0.0]]))
    line = re.sub(r"test_vector.py:\d+", "FILE:LINE", str(caught.value))
    assert line == f"environment 1 failed: {told}"


def workers_now():
    """The running processes of environments."""
    return [child for child in psutil.Process().children() if is_worker(child)]


def is_worker(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def assert_ends(env, actions, told, at_least=0.0):
    """The step fails after so many seconds, the closing included, and leaves no process."""
    start = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=told):
        env.step(actions)
    assert at_least - TICK <= time.monotonic() - start < at_least + 2 * GRACE + 2.0
    assert not workers_now()
    with pytest.raises(OSError, match="closed"):
        env.step(actions)


@pytest.mark.slow
def test_processes_that_die_or_are_signalled(made, capfd):
    env = made(Processes, functools.partial(Clock, "dies"), 2)
    begin(env, 0)
    for worker in workers_now():  # which they leave to this process
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGUSR2)
    env.step(np.zeros((2, 1)))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}
    assert_ends(env, np.array([[0.0], [1.0]]), "environment 1 failed: its process ended with exit code 7")
    env = made(Processes, Clock, 2)
    begin(env, 0)
    workers_now()[1].kill()
    assert_ends(env, np.zeros((2, 1)), "environment 1 failed: its process ended with exit code -9")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_silent_process_is_not_waited_for(made):
    env = made(Processes, functools.partial(Clock, "hangs"), 3, 1.0)
    begin(env, 0)
    assert_ends(env, np.array([[0.0], [1.0], [0.0]]), "environment 1 has not answered for 1 s: .*_timeout", 1)
    env = made(Processes, Clock, 2, 1.0)
    begin(env, 0)
    workers_now()[0].suspend()
    assert_ends(env, np.zeros((2, 1)), "environment 0 has not answered for 1 s", 1)


# The program does not close its workers.
PROGRAM = """
import sys, psutil
from test_vector import Clock, Processes
if __name__ == "__main__":
    env = Processes(Clock, 2)
    env.reset([0, 1])
    children = [c.pid for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
    print(*children, flush=True)
    if sys.argv[1] == "is killed":
        sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["ends", "is killed"])
def test_a_program_that_ends_or_is_killed_leaves_no_workers(tmp_path, ending):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, file, ending]
    with subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": paths}, **pipes) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        assert len(workers) == 2
        if ending == "is killed":
            program.kill()
        _, err = program.communicate(timeout=60)
        assert program.returncode == (0 if ending == "ends" else -signal.SIGKILL)
        assert "Traceback" not in err
    deadline = time.monotonic() + 20
    while left := [pid for pid in workers if psutil.pid_exists(pid) and is_worker(psutil.Process(pid))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
