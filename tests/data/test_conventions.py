"""Several sources: another convention is told of, another policy is not."""

import numpy as np
import pytest

from xql_jax.data.arrays import from_arrays
from xql_jax.data.dataset import joined
from xql_jax.data.suspicions import suspicions

UNITS = np.array([1.0, 0.1, 20.0])  # of the observations' entries


def robot(seed, skill=0.0, rewards="sparse", episodes=30, fixed=False, starts=1.0):
    """A hand that is moved by its action: at random, or to the goal at 0 with some skill."""
    generator = np.random.default_rng(seed)
    parts = []
    for _ in range(episodes):
        seen = np.zeros((41, 3))
        seen[0] = np.array([1.0, -1.0, 0.5]) if fixed else starts * generator.normal(size=3)
        actions = np.zeros((40, 3))
        for t in range(40):
            actions[t] = np.clip(-skill * 3 * seen[t] + (1 - skill) * generator.uniform(-1, 1, 3), -1, 1)
            seen[t + 1] = seen[t] + 0.2 * actions[t] + 0.01 * generator.normal(size=3)
        distance = np.linalg.norm(seen[1:], axis=1)
        reward = {
            "sparse": 1.0 * (distance < 0.8),
            "dense": -distance,
            "bonus": -distance + 100.0 * (distance < 0.3),
            "failed": 0.0 * distance,
        }[rewards]
        last = np.arange(40) == 39
        parts.append((seen[:-1] * UNITS, actions, reward, seen[1:] * UNITS, 0 * last, last))
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def changed(rows, names, change):
    return rows | {name: change(rows[name]) for name in names}


SEEN = ("observations", "next_observations")
OTHERS = {
    "-1/0": (["rewards"], lambda x: x - 1, "rewards are -1 to 0"),
    "x 100": (["rewards"], lambda x: 100 * x, "rewards are "),
    "x 0.1": (["rewards"], lambda x: 0.1 * x, "rewards are "),
    "sign": (["rewards"], lambda x: -x, "rewards are "),
    "normalised": (SEEN, lambda x: (x - 5) / 20, "observation entries 0-2"),
    "standardised": (SEEN, lambda x: (x - UNITS / 9) / UNITS / 0.8, "observation entries"),
    "degrees": (SEEN, lambda x: x * np.array([1, 57.3, 1]), "observation entries 1 "),
    "order": (SEEN, lambda x: x[:, [0, 2, 1]], "observation entries 1-2"),
    "moved": (SEEN, lambda x: x + np.array([0, 0, 500.0]), "observation entries 2 "),
    "shifted": (SEEN, lambda x: x + 60.0, "observation entries 0-"),
    "one action x 0.02": (["actions"], lambda x: x * np.array([1, 0.02, 1]), "in entry 1"),
    "actions x 0.1": (["actions"], lambda x: 0.1 * x, "actions reach 0.1"),
}


def told_of(*sources):
    return suspicions(joined([from_arrays(rows, f"{i}.npz") for i, rows in enumerate(sources)]))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("rewards", ["sparse", "dense"])
@pytest.mark.parametrize("name", OTHERS)
def test_another_convention_is_told_of_in_both_orders(name, rewards, fixed):
    names, change, words = OTHERS[name]
    if rewards == "dense" and name == "-1/0":
        pytest.skip("an offset of rewards that vary is no other range")
    first = robot(0, rewards=rewards, fixed=fixed)
    other = changed(robot(1, 0.3, rewards, fixed=fixed), names, change)
    (*alone, told) = told_of(first, other)
    assert told.startswith("1.npz: ")
    assert words in told
    assert "0.npz" in told
    # A source with small units of actions has a line by itself, too.
    has_small_units = name in ("one action x 0.02", "actions x 0.1")
    assert [line.startswith("1.npz: actions are in small units") for line in alone] == [
        True
    ] * has_small_units
    assert len(told_of(other, first)) == 1 + has_small_units


# Policies, tasks and amounts of data that differ by right.
PAIRS = {
    "other episodes": (robot(0), robot(1)),
    "an expert": (robot(0, rewards="dense"), robot(1, 0.9, "dense")),
    "an expert with a bonus": (robot(0, rewards="bonus"), robot(1, 0.9, "bonus")),
    "an expert and a fixed start": (robot(0, fixed=True), robot(1, 0.9, fixed=True)),
    "failures alone": (robot(0, 0.9, "sparse"), robot(1, 0.0, "failed")),
    "a single episode": (robot(0), robot(1, episodes=1)),
    "starts elsewhere": (robot(0, starts=1.0), robot(1, starts=0.1)),
    "penalties and a bonus": (
        changed(robot(0), ["rewards"], lambda x: x * 11 - 1),
        changed(robot(1), ["rewards"], lambda x: 0 * x - 1),
    ),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", PAIRS)
def test_of_one_convention_nothing_is_told(name, order):
    assert told_of(*PAIRS[name][::order]) == []


def test_half_precision_is_no_other_source():
    """Rounded to ten bits, whatever their size, and with a sign of 0."""
    rows = robot(0)
    half = {name: np.float32(np.float16(each)) for name, each in rows.items()}
    [line] = [line for line in told_of(rows, half) if "100% of the transitions" in line]
    assert line.startswith("1.npz")
    assert not [line for line in told_of(rows, changed(robot(1), SEEN, lambda x: 1e-7 * x)) if "%" in line]


def test_starts_tell_a_shift_that_ranges_do_not():
    """Speeds lie about 0: other starts would move some entries, a shift moves all."""
    first, other = robot(0, starts=0.3), changed(robot(1, starts=0.3), SEEN, lambda x: x + 0.7 * UNITS.max())
    assert told_of(first, other)


def test_a_source_that_is_given_twice_is_told_of():
    """The same file, rows of it in another order, and a half beside the whole."""
    rows = robot(0)
    half = {name: each[: len(each) // 2] for name, each in rows.items()}
    for other in (rows, half, changed(rows, ["rewards"], lambda x: x - 1)):
        (told,) = told_of(rows, robot(1), other)
        assert told.startswith("2.npz: 100% of the transitions are in 0.npz")
    assert len(told_of(half, rows)) == 1
