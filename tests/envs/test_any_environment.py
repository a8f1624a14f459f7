"""Small environments, each odd in some way: they run with exactly their numbers, or one line refuses them."""

import functools
import math
import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from xql_jax.envs.registered import Registered
from xql_jax.envs.vector import UNKNOWN_SUCCESS, Local
from xql_jax.errors import UserError
from xql_jax.suites.tasks import OWN, RETURN_ITSELF, Task, get_task

LONGEST = 40  # steps of an episode without a limit
LOW, HIGH = -1.0, 2.0  # of actions; these and all other numbers here are exact in every type


class Ours(Exception):
    """What some of the environments raise."""


# What an environment may do, by name: how it returns a number, and which number that is.
REWARDS = {
    "float": (float, float),
    "bool": (lambda x: x % 2 == 0, lambda x: float(x % 2 == 0)),
    "float16": (np.float16, float),
    "int64": (np.int64, float),
    "0-d array": (np.array, float),
}
OBSERVATIONS = {
    "float32": np.float32,
    "float64": np.float64,
    "uint8": functools.partial(np.asarray, dtype=np.uint8),
    "list": lambda x: np.asarray(x).tolist(),
    "the same array": None,  # see `Odd`
}
TRUTHS = {"bool": bool, "np.bool": np.bool_, "float": float, "one": lambda x: np.array([x])}
# What each tells at step t of an episode of so many steps that succeeds at step `at`, by `name`.
SUCCESSES = {
    "never": lambda t, at, length: None,
    "now": lambda t, at, length: t == at,
    "alone": lambda t, at, length: True if t == at else None,
    "at the end": lambda t, at, length: at <= length if t == length else None,
}

# What no environment may do.
WRONG_SHAPES = {
    "scalar": lambda x: x.flat[0],
    "longer": lambda x: np.stack([x, x]),
    "another axis": lambda x: x[..., None],
    "flat": np.ravel,
}
WRONG_NUMBERS = {
    "complex": lambda x: x + 1j,
    "text": lambda x: x.astype(str),
    "NaN": lambda x: np.full(x.shape, np.nan),
    "too large": lambda x: np.full(x.shape, 1e300),
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
    "masked": lambda x: np.ma.masked_all(x.shape),
}
WRONG_REWARDS = {
    "one": lambda x: np.array([x]),
    "none": lambda x: None,
    "NaN": lambda x: math.nan,
    "masked": lambda x: np.ma.masked,
    "beyond float32": lambda x: 1e39,
}
WRONG_TRUTHS = {"two": np.array([True, True]), "text": "False", "half": 0.5, "no array": np.zeros(0)}
WRONG_RESETS = {"alone": lambda x: x, "info None": lambda x: (x, None), "three": lambda x: (x, {}, {})}
WRONG_STEPS = {
    "four": lambda o, r, t, c, i: (o, r, t, i),
    "nothing": lambda *given: None,
    "info None": lambda *given: (*given[:4], None),
    "rotated": lambda o, r, t, c, i: (o, r, t, i, c),
}
FAILURES = {"raises": Ours("a reason"), "exits": SystemExit(3), "unpacks": ValueError("values to unpack")}
FLOATS = functools.partial(spaces.Box, shape=(2,), dtype=np.float32)
WRONG_ACTIONS = {
    "integers": spaces.Box(0, 20, (1,), np.int8),
    "half bounded": FLOATS(-1.0, np.inf),
    "too wide": FLOATS(-3e38, 3e38),
    "discrete": spaces.Discrete(3),
    "none of them": spaces.Box(-1, 1, (0,), np.float32),
}
WRONG_OBSERVED = {
    "dict": spaces.Dict(a=FLOATS(-1.0, 1.0)),
    "none of them": spaces.Box(-1, 1, (0,), np.float32),
}
WRONG_INFOS = dict.fromkeys(("final_observation", "final_obs", "TimeLimit.truncated"), True)  # at an end
FAULTS = {
    "shape": WRONG_SHAPES, "numbers": WRONG_NUMBERS, "reward": WRONG_REWARDS, "terminated": WRONG_TRUTHS,
    "truncated": WRONG_TRUTHS, "success": WRONG_TRUTHS, "reset": WRONG_RESETS, "info": WRONG_INFOS,
    "step": WRONG_STEPS, "make": FAILURES, "starts": FAILURES, "acts": FAILURES, "actions": WRONG_ACTIONS,
    "observed": WRONG_OBSERVED, "limit": {0: None}, "endless": {"": None},
}  # fmt: skip
# What the line says of each kind of fault, if not its name.
SAID = {
    "shape": "its observation must be", "numbers": "observation|array element",
    "observed": "its observations", "info": "resets itself|at a time limit",
    "limit": "max_episode_steps", "endless": "goes on after 40 steps",
    **dict.fromkeys(("make", "starts", "acts"), "Ours|3|values to unpack"),
    **{each: f"{each} must return" for each in ("reset", "step")},
}  # fmt: skip

MAY_BE = {
    "shape": st.sampled_from([(), (1,), (2, 2), (1, 1, 3)]),
    "acted": st.sampled_from([(), (2,), (2, 2)]),
    "action_type": st.sampled_from([np.float32, np.float64, np.float16]),
    "observation": st.sampled_from(list(OBSERVATIONS)),
    "reward": st.sampled_from(list(REWARDS)),
    "truth": st.sampled_from(list(TRUTHS)),
    "ends": st.sampled_from(["terminated", "truncated", "both"]),
    "longest": st.integers(1, 8),  # the environment's own end comes after 1 to `longest` steps
    "limit": st.none() | st.integers(1, 12),  # that it is registered with
    "succeeds": st.sampled_from(list(SUCCESSES)),
    "at": st.integers(1, 5),
    "names": st.sampled_from([("success",), ("is_success",), ("success", "is_success")]),
    "spoils": st.booleans(),  # the action that it is given
    "is_given": st.booleans(),  # made by the user, as for `Policy.evaluate`
}
CASES = st.fixed_dictionaries(MAY_BE)
NO_FAULT = (None, None, 0)


def plain_observation(case, seed, t, pushed):
    """What is observed after t steps whose actions have this sum."""
    number = (seed % 5 + 3 * t + 4 * pushed) % 50
    return (number + np.arange(math.prod(case["shape"]))).reshape(case["shape"])


def own_length(case, seed):
    return 1 + seed % case["longest"]


class Odd(gymnasium.Env):
    """What the case says, with its fault, if any: (kind, name, the step at which)."""

    def __init__(self, case, fault):
        self.case, self.fault = case, fault
        kind, name, _ = fault
        self.raise_at("make", 0)
        low = -np.inf if case["ends"] == "both" else -50
        self.observation_space = spaces.Box(low, 99, case["shape"], np.float64)
        self.action_space = spaces.Box(LOW, HIGH, case["acted"], case["action_type"])
        if kind == "actions":
            self.action_space = WRONG_ACTIONS[name]
        if kind == "observed":
            self.observation_space = WRONG_OBSERVED[name]
        self.seen = np.zeros(case["shape"], np.float32)

    def raise_at(self, what, step):
        kind, name, at = self.fault
        if kind == what and (what != "acts" or step == 1 + at):
            raise FAILURES[name]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.raise_at("starts", 0)
        self.number, self.t, self.pushed = seed, 0, 0.0
        observation = self.observed()
        if self.fault[0] == "reset":
            return WRONG_RESETS[self.fault[1]](observation)
        return observation, {"other": object()}

    def step(self, action):
        self.t += 1
        self.raise_at("acts", self.t)
        assert isinstance(action, np.ndarray)
        assert self.action_space.contains(action)
        case, (kind, name, at) = self.case, self.fault
        push, length = float(action.sum()), own_length(case, self.number)
        self.pushed += push
        if case["spoils"]:
            action[...] = 99.0
        over = self.t >= length and kind != "endless"
        truth, now = TRUTHS[case["truth"]], self.t == 1 + at
        change = WRONG_REWARDS[name] if kind == "reward" and now else REWARDS[case["reward"]][0]
        reward = change(self.number % 3 - self.t + 4 * push)
        ends = [truth(over and case["ends"] in ("both", which)) for which in ("terminated", "truncated")]
        told = SUCCESSES[case["succeeds"]](self.t, case["at"], length)
        info = {name: None if told is None else truth(told) for name in case["names"]}
        if kind == "info" and over:
            info[name] = True
        if kind in ("terminated", "truncated") and now:
            ends[kind == "truncated"] = FAULTS[kind][name]
        if kind == "success" and now:
            info["success"] = WRONG_TRUTHS[name]
        given = self.observed(), reward, *ends, info
        return WRONG_STEPS[name](*given) if kind == "step" and now else given

    def observed(self):
        case, (kind, name, at) = self.case, self.fault
        plain = plain_observation(case, self.number, self.t, self.pushed)
        if kind in ("shape", "numbers") and self.t == at:
            return FAULTS[kind][name](plain)
        if case["observation"] == "the same array":
            self.seen[...] = plain
            return self.seen
        return OBSERVATIONS[case["observation"]](plain)


def made(case, fault):
    """Returns the environment as this library makes it."""
    if case["is_given"]:
        task = Task("given", OWN, None, *RETURN_ITSELF, None)
        return Registered(task, Odd(case, fault), LONGEST)
    limit = 0 if fault[0] == "limit" else case["limit"]
    gymnasium.registry.pop("Odd-v0", None)
    gymnasium.register("Odd-v0", functools.partial(Odd, case, fault), max_episode_steps=limit)
    return Registered(get_task("Odd-v0"), longest=LONGEST)


def truth_of(case, seed, actions):
    """The episode of a seed by these actions [T, A], worked out step by step from what the case says."""
    pushed, told, limit = 0.0, UNKNOWN_SUCCESS, None if case["is_given"] else case["limit"]
    length = own_length(case, seed)
    for t, action in enumerate(np.clip(actions, LOW, HIGH), start=1):
        push = float(action.sum())
        pushed += push
        over, at_limit = t >= length, limit is not None and t >= limit
        terminal = over and case["ends"] != "truncated"
        now = SUCCESSES[case["succeeds"]](t, case["at"], length)
        told = told if now is None else max(told, int(now))
        yield {
            "final_observations": plain_observation(case, seed, t, pushed).ravel(),
            "rewards": REWARDS[case["reward"]][1](seed % 3 - t + 4 * push),
            "terminals": terminal,
            "truncations": (over or at_limit) and not terminal,
            "successes": told,
            "lengths": t,
        }
        if over or at_limit:
            return


def check_steps(env, case, seed):
    """Each environment runs two episodes: with the very numbers that the case says."""
    count = env.num_envs
    seeds = [[seed + 7 * i, seed + 7 * i + 3] for i in range(count)]
    rest = [iter(own[1:]) for own in seeds]
    observations = env.reset([own[0] for own in seeds], lambda i: next(rest[i], None))
    for i, own in enumerate(seeds):
        np.testing.assert_array_equal(observations[i], plain_observation(case, own[0], 0, 0).ravel())
    size = math.prod(case["acted"])
    actions = np.random.default_rng(seed).integers(-12, 13, (40, count, size)) / 4
    steps = [env.step(actions[0])]
    while env.running.any() and len(steps) < 30:
        steps.append(env.step(actions[len(steps)]))
    for i, own in enumerate(seeds):
        began = 0
        for episode, one in enumerate(own):
            expected = list(truth_of(case, one, actions[began:, i]))
            for t, step in enumerate(steps[began : began + len(expected)]):
                for name, value in expected[t].items():
                    np.testing.assert_array_equal(getattr(step, name)[i], value, err_msg=name)
                assert step.returns[i] == sum(each["rewards"] for each in expected[: t + 1])
            began += len(expected)
            following = steps[began - 1].observations[i]
            if episode == 0:
                np.testing.assert_array_equal(following, plain_observation(case, own[1], 0, 0).ravel())
        assert began <= len(steps)
    assert not env.running.any()


def is_harmless(case, fault):
    """Whether the fault does not come to pass in the first episodes, or is none in this case."""
    kind, name, _ = fault
    if kind == "shape":
        plain = plain_observation(case, 0, 0, 0)
        return np.shape(FAULTS[kind][name](plain)) == plain.shape
    if kind == "endless":
        return not case["is_given"] and case["limit"] is not None
    if kind == "info":
        return name == "TimeLimit.truncated" and case["ends"] == "truncated"
    return kind == "limit" and case["is_given"]


def run_whole_episode(make, seed):
    env = Local(make, 2)
    env.reset([seed, seed], lambda i: seed)
    for _ in range(LONGEST + 2):
        env.step(np.zeros((2, *env.action_space.shape)))


shared = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
SEEDS = st.integers(0, 2**20)
pytestmark = pytest.mark.filterwarnings("ignore")  # Gymnasium's, of such environments


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FAULTS for name in FAULTS[kind]])
@settings(shared, max_examples=3)
@given(case=CASES, at=st.integers(1, 4), seed=SEEDS)
def test_every_fault_is_refused_in_one_line(kind, name, case, at, seed):
    fault = kind, name, at - 1
    assume(not is_harmless(case, fault))
    # Long enough for the fault to come to pass in the first episode.
    case = {**case, "longest": at, "at": 9, "limit": case["limit"] and case["limit"] + at}
    with pytest.raises(UserError) as caught:
        run_whole_episode(functools.partial(made, case, fault), at * (1 + seed) - 1)  # the longest episode
    line = str(caught.value)
    assert "\n" not in line
    assert re.search(SAID.get(kind, f"its {kind}"), line), line
    if kind in ("starts", "acts") or (kind == "make" and not case["is_given"]):
        assert "test_any_environment.py:" in line


@settings(shared, max_examples=60)
@given(case=CASES, seed=SEEDS)
def test_an_environment_runs_with_its_own_numbers(case, seed):
    check_steps(Local(functools.partial(made, case, NO_FAULT), 2), case, seed)
