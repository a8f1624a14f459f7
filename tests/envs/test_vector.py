"""Environments stepped together, against the same environments stepped one by one, in one process or many."""

import functools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium import spaces

from xql_jax.envs.point_maze import PointMaze
from xql_jax.envs.vector import Counters, StepResult, VectorEnvironment, start_seed
from xql_jax.envs.workers import GRACE
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.evaluation.rollout import episode_seed
from xql_jax.tasks import Task, get_task

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
BOTH_WAYS = pytest.mark.parametrize("processes", [False, True], ids=["here", "processes"])
SLOWLY_BOTH_WAYS = pytest.mark.parametrize("processes", [False, slow(True)], ids=["here", "processes"])


class Clock(gymnasium.Env):
    """Observes (seed, step); pays step + 10 action; after 2 steps an even seed ends it, after 3 a time-out.

    An action above 0.9 breaks it in the way that it is told.
    """

    steps_per_second = 1.0
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, breaks=None, closing_seconds=0.0):
        self.breaks, self.closing_seconds = breaks, closing_seconds

    def reset(self, *, seed=None, options=None):
        self.seed, self.count = seed % 1000, 0
        return self.observation(), {}

    def step(self, action):
        if action[0] > 0.9 and self.breaks == "raises":
            raise EOFError("the spring is broken")  # not to be taken for the end of a pipe
        if action[0] > 0.9 and self.breaks == "fails":
            raise EnvironmentFailure("clock: it stands still")
        if action[0] > 0.9 and self.breaks == "overflows":
            return self.observation(), math.inf, False, False, {}
        if action[0] > 0.9 and self.breaks == "dies":
            os._exit(7)
        self.count += 1
        terminated = self.seed % 2 == 0 and self.count == 2
        return self.observation(), self.count + 10.0 * float(action[0]), terminated, self.count == 3, {}

    def observation(self):
        return np.array([self.seed, self.count], np.float32)

    def close(self):
        time.sleep(self.closing_seconds)


def cheetah(limit: int = 7):
    from xql_jax.envs.dm_control import DMControl  # no other process needs MuJoCo

    return DMControl.for_task(Task("cheetah-run", "dm_control", None, 0.0, 1000.0, limit))


def refuse():
    raise UserError("no such clock")


def fail():
    raise KeyError("no spring")


def random_actions(env: VectorEnvironment, steps: int, seed: int = 0) -> np.ndarray:
    shape = steps, env.num_environments, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


def leaves(result: StepResult) -> list[np.ndarray]:
    return [*result.transitions, *result[1:]]


@pytest.fixture
def made():
    """Makes vector environments and closes them."""
    open_ones = []

    def make(*arguments, processes=False):
        open_ones.append(VectorEnvironment(*arguments, processes=processes))
        return open_ones[-1]

    yield make
    for each in open_ones:
        each.close()


@pytest.mark.parametrize("make", [cheetah, Clock])
def test_each_environment_steps_as_if_alone(made, make):
    seeds, steps = [4, 4, 9], 20
    env = made(make, 3)
    actions = random_actions(env, steps)
    first = env.reset(seeds)
    results = [env.step(action) for action in actions]
    for i, seed in enumerate(seeds):
        alone, episode, total, length = make(), 0, 0.0, 0
        observation, _ = alone.reset(seed=start_seed(seed, i, episode))
        np.testing.assert_array_equal(first[i], observation)
        for action, result in zip(actions[:, i], results, strict=True):
            np.testing.assert_array_equal(result.transitions.observations[i], observation)
            np.testing.assert_array_equal(result.transitions.actions[i], action)
            observation, reward, terminated, truncated, _ = alone.step(action)
            total, length = total + reward, length + 1
            np.testing.assert_array_equal(result.transitions.next_observations[i], observation)
            assert result.transitions.rewards[i] == np.float32(reward)
            assert result.transitions.masks[i] == 1.0 - terminated
            assert result.ended[i] == (terminated or truncated)
            if result.ended[i]:
                assert (result.returns[i], result.lengths[i]) == (total, length)
                episode, total, length = episode + 1, 0.0, 0
                observation, _ = alone.reset(seed=start_seed(seed, i, episode))
            else:
                assert (result.returns[i], result.lengths[i]) == (0.0, 0)
            np.testing.assert_array_equal(result.observations[i], observation)
        assert env.state().episodes[i] == episode >= 2


def test_ends_by_hand(made):
    env = made(Clock, 2)
    # Found by counting: start_seed(s, 0, 0) is even for this one and start_seed(s, 1, 0) odd.
    seeds = next([s, s] for s in range(100) if [start_seed(s, i, 0) % 2 for i in (0, 1)] == [0, 1])
    begin = [[start_seed(seeds[i], i, e) % 1000 for e in (0, 1)] for i in (0, 1)]
    np.testing.assert_array_equal(env.reset(seeds), [[begin[0][0], 0], [begin[1][0], 0]])
    env.step(np.array([[0.0], [0.5]]))
    second = env.step(np.array([[0.25], [0.0]]))
    # The even one has reached its terminal state, and stands at the start of its next episode.
    assert second.transitions.masks.tolist() == [0.0, 1.0]
    assert second.transitions.next_observations.tolist() == [[begin[0][0], 2], [begin[1][0], 2]]
    assert second.observations.tolist() == [[begin[0][1], 0], [begin[1][0], 2]]
    assert second.ended.tolist() == [True, False]
    assert second.returns.tolist() == [5.5, 0.0]
    assert second.lengths.tolist() == [2, 0]
    third = env.step(np.zeros((2, 1)))
    # The odd one's time is over, which is no terminal state.
    assert third.transitions.masks.tolist() == [1.0, 1.0]
    assert third.transitions.next_observations.tolist() == [[begin[0][1], 1], [begin[1][0], 3]]
    assert third.observations.tolist() == [[begin[0][1], 1], [begin[1][1], 0]]
    assert third.ended.tolist() == [False, True]
    assert third.returns.tolist() == [0.0, 11.0]
    assert third.lengths.tolist() == [0, 3]
    assert third.transitions.rewards.dtype == third.transitions.masks.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [cheetah, functools.partial(PointMaze.for_task, get_task("pointmaze-umaze-v0"))]
)
def test_processes_give_the_same_bits(made, make):
    here, there = made(make, 2), made(make, 2, processes=True)
    assert (here.observation_space, here.action_space) == (there.observation_space, there.action_space)
    for seeds in ([0, 1], [5, 5]):
        np.testing.assert_array_equal(here.reset(seeds), there.reset(seeds))
        for action in random_actions(here, 20):
            for ours, theirs in zip(leaves(here.step(action)), leaves(there.step(action)), strict=True):
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(here.state().episodes, there.state().episodes)


def test_episodes_do_not_depend_on_how_many_there_are_nor_on_the_past(made):
    few, many = made(Clock, 1), made(Clock, 3)
    many.reset([3, 2, 1])
    actions = random_actions(many, 15)
    for action in actions:
        many.step(action)
    few.reset([8])
    many.reset([8, 9, 10])
    for action in actions:
        for one, all_three in zip(leaves(few.step(action[:1])), leaves(many.step(action)), strict=True):
            np.testing.assert_array_equal(one[0], all_three[0])


@SLOWLY_BOTH_WAYS
def test_restored_counters_start_the_running_episodes_again(made, processes):
    env = made(Clock, 2)
    env.reset([3, 4])
    actions = random_actions(env, 12)
    for action in actions:
        result = env.step(action)
        if result.ended.all():  # both have just begun
            break
    fresh, counters = result.observations, env.state()
    assert counters.episodes.min() >= 1
    unbroken = [env.step(action) for action in actions]
    counters_later = env.state()
    other = made(Clock, 2, processes=processes)
    np.testing.assert_array_equal(other.restore(counters), fresh)
    for action, expected in zip(actions, unbroken, strict=True):
        for ours, theirs in zip(leaves(other.step(action)), leaves(expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(other.state(), counters_later)
    np.testing.assert_array_equal(counters.seeds, [3, 4])
    # From the middle of an episode: its start, and nothing of what it had earned.
    env.restore(counters)
    env.step(actions[0])
    np.testing.assert_array_equal(env.restore(env.state()), fresh)
    total = [env.step(np.zeros((2, 1))) for _ in range(2)][-1]
    assert set(total.returns.tolist()) <= {0.0, 3.0}


def test_what_a_step_gave_is_never_written_again(made):
    env = made(Clock, 2)
    env.reset([0, 1])
    results = [env.step(action) for action in random_actions(env, 4)]
    copies = [[leaf.copy() for leaf in leaves(result)] for result in results]
    counters = env.state()
    before = counters.episodes.copy()
    for action in random_actions(env, 9, seed=1):
        env.step(action)
    for result, copy in zip(results, copies, strict=True):
        for leaf, expected in zip(leaves(result), copy, strict=True):
            np.testing.assert_array_equal(leaf, expected)
    np.testing.assert_array_equal(counters.episodes, before)


def test_actions_stand_in_the_transitions_as_they_acted(made):
    env = made(Clock, 2)
    env.reset([0, 1])
    result = env.step(np.array([[-3.0], [0.5]]))
    assert result.transitions.actions.tolist() == [[-1.0], [0.5]]
    assert result.transitions.rewards.tolist() == [-9.0, 6.0]


def test_seeds_are_all_different():
    starts = {start_seed(s, i, e) for s in range(5) for i in range(8) for e in range(50)}
    assert len(starts) == 5 * 8 * 50
    # Without the spawn key, NumPy would mix (s, i) and (s, i, 0) alike: training on what evaluates.
    assert not starts & {episode_seed(s, e) for s in range(5) for e in range(50)}


@BOTH_WAYS
def test_an_environment_that_raises_is_named(made, processes):
    env = made(functools.partial(Clock, "raises"), 2, processes=processes)
    env.reset([0, 1])
    with pytest.raises(EnvironmentFailure, match="environment 1 failed: EOFError: the spring is broken"):
        env.step(np.array([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="closed"):
        env.step(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="closed"):
        env.reset([0, 1])


@SLOWLY_BOTH_WAYS
def test_a_failure_that_an_environment_tells_of_itself_is_named_too(made, processes):
    env = made(functools.partial(Clock, "fails"), 2, processes=processes)
    env.reset([0, 1])
    with pytest.raises(EnvironmentFailure, match=r"^environment 1 failed: clock: it stands still$"):
        env.step(np.array([[0.0], [1.0]]))


@SLOWLY_BOTH_WAYS
def test_a_number_that_is_not_finite_is_a_failure(made, processes):
    env = made(functools.partial(Clock, "overflows"), 3, processes=processes)
    env.reset([0, 1, 2])
    with pytest.raises(EnvironmentFailure, match=r"environment 1 failed: its reward is not finite"):
        env.step(np.array([[0.0], [1.0], [0.0]]))


def test_a_process_that_dies_is_named(made):
    env = made(functools.partial(Clock, "dies"), 2, processes=True)
    env.reset([0, 1])
    env.step(np.zeros((2, 1)))
    workers = psutil.Process().children()
    start = time.monotonic()
    with pytest.raises(EnvironmentFailure, match="environment 1 failed: its process ended with exit code 7"):
        env.step(np.array([[0.0], [1.0]]))
    assert time.monotonic() - start < 2 * GRACE + 5
    assert len([worker for worker in workers if is_worker(worker)]) == 0


def is_worker(process: psutil.Process) -> bool:
    """Is it a running process of `multiprocessing`, but not its tracker of resources."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@BOTH_WAYS
def test_what_cannot_be_made_is_named(processes):
    with pytest.raises(UserError, match=r"^no such clock$"):
        VectorEnvironment(refuse, 1, processes=processes)
    with pytest.raises(EnvironmentFailure, match="environment 0 failed: KeyError: 'no spring'"):
        VectorEnvironment(fail, 1, processes=processes)
    assert not any(is_worker(child) for child in psutil.Process().children())


def test_workers_leave_signals_to_the_parent_and_go_when_told(made):
    env = made(Clock, 2, processes=True)
    first = env.reset([0, 1])
    workers = [child for child in psutil.Process().children() if is_worker(child)]
    assert len(workers) == 2
    for worker in workers:
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
    np.testing.assert_array_equal(env.reset([0, 1]), first)
    assert len(env.step(np.zeros((2, 1))).ended) == 2
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}
    workers[0].kill()
    with pytest.raises(EnvironmentFailure, match="environment 0 failed: its process ended with exit code -9"):
        env.step(np.zeros((2, 1)))
    env.close()
    env.close()
    assert not any(is_worker(worker) for worker in workers)


@pytest.mark.slow
def test_a_worker_that_does_not_end_is_killed(made):
    env = made(functools.partial(Clock, closing_seconds=60.0), 1, processes=True)
    workers = [child for child in psutil.Process().children() if is_worker(child)]
    start = time.monotonic()
    env.close()
    assert GRACE <= time.monotonic() - start < GRACE + 5
    assert not any(is_worker(worker) for worker in workers)


# Ignores SIGTERM as all workers do; the program does not close them.
PROGRAM = """
import os, sys, psutil
from test_vector import Clock
from xql_jax.envs.vector import VectorEnvironment
if __name__ == "__main__":
    env = VectorEnvironment(Clock, 2, processes=True)
    env.reset([0, 1])
    children = [c.pid for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
    print(*children, flush=True)
    if sys.argv[1] == "is killed":
        sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [slow("ends"), "is killed"])
def test_a_program_that_ends_or_is_killed_leaves_no_workers(tmp_path, ending):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, file, ending],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    ) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        assert len(workers) == 2
        if ending == "is killed":
            program.kill()
        try:
            assert program.wait(timeout=60) == (0 if ending == "ends" else -signal.SIGKILL)
        finally:
            program.kill()
    deadline = time.monotonic() + 20
    while left := [pid for pid in workers if psutil.pid_exists(pid) and is_worker(psutil.Process(pid))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_bad_input(made):
    with pytest.raises(ValueError, match="num_environments must be at least 1, not 0"):
        VectorEnvironment(Clock, 0, processes=False)
    with pytest.raises(ValueError, match=r"make cannot be sent to a process: .*lambda"):
        VectorEnvironment(lambda: Clock(), 1, processes=True)
    env = made(Clock, 2)
    for call in (env.state, lambda: env.step(np.zeros((2, 1)))):
        with pytest.raises(ValueError, match="not reset"):
            call()
    for seeds in ([1], [1, 2, 3], [1, -2], [0.5, 1.0], 3):
        with pytest.raises(ValueError, match="seeds must be 2 non-negative integers, not"):
            env.reset(seeds)
    with pytest.raises(ValueError, match=r"episodes must be 2 non-negative integers, not \[1\]"):
        env.restore(Counters(np.array([1, 2]), np.array([1])))
    env.reset([0, 1])
    for shape in ((2,), (1, 1), (2, 2), (3, 1)):
        with pytest.raises(ValueError, match=r"actions must be of shape \(2, 1\), not \("):
            env.step(np.zeros(shape))
    for bad in (np.nan, np.inf):
        with pytest.raises(FloatingPointError, match="environment 1: a non-finite action"):
            env.step(np.array([[0.0], [bad]]))
    env.step(np.zeros((2, 1)))  # none of this has harmed it
