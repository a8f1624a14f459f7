"""Data that begin as resets do, but for a simple change: it is named, and other starts are not."""

import numpy as np
import pytest

from xql_jax.data.starts import Starts, what_was_done

JOINTS = 6
SPEEDS = slice(JOINTS, None)


def begun(seed, count, policy=1.0, noise=0.1):
    """f64[count, 12], angles and speeds about 0 as halfcheetah's, at resets and after a step of 0.05 s.

    The actions of the step are uniform within ±policy.
    """
    random = np.random.default_rng(seed)
    angles, speeds = (
        random.uniform(-noise, noise, (count, JOINTS)),
        noise * random.normal(size=(count, JOINTS)),
    )
    faster = speeds + 5 * random.uniform(-policy, policy, (count, JOINTS))
    return np.concatenate([angles, speeds], 1), np.concatenate([angles + 0.05 * faster, faster], 1)


RESETS = Starts.of(*begun(0, 32))


def told(change, count=200, **of_data):
    return what_was_done(Starts.of(*map(change, begun(1, count, **of_data))), RESETS)


def of_entries(entries, factor=1.0, shift=0.0):
    def change(rows):
        changed = rows.copy()
        changed[:, entries] = changed[:, entries] * factor + shift
        return changed

    return change


ALL = slice(None)


@pytest.mark.parametrize(
    ("change", "count", "entries", "why"),
    [
        (of_entries(ALL, shift=0.5), 200, 12, "larger in all"),
        (of_entries(ALL, shift=-10.0), 20, 12, "larger in all"),
        (of_entries(ALL, factor=2.0), 200, None, "times as large"),
        (of_entries(ALL, factor=0.1), 200, 12, "times as large"),
        (lambda rows: rows[:, ::-1], 200, None, "order"),
        (lambda rows: np.roll(rows, 6, axis=1), 30, None, "order"),
        (lambda rows: rows[:, [11, *range(1, 11), 0]], 200, None, "0 like"),
        (of_entries(3, factor=10.0), 200, 1, "entry 3"),
        (of_entries(SPEEDS, factor=180 / np.pi), 200, 6, "unit"),
        (of_entries(ALL, factor=1 / np.geomspace(4, 90, 12)), 200, 12, "standard deviation"),
    ],
)
def test_a_change_that_makes_all_starts_the_environments_is_named(change, count, entries, why):
    found, words = told(change, count)
    assert why in words
    assert entries in (None, len(found))


def places(rows):
    """Other places of two entries, and farther apart; they are as fast as elsewhere."""
    moved = rows.copy()
    moved[:, :2] += np.random.default_rng(2).uniform(-8, 8, (len(rows), 1)) * [1.0, 0.7] + 3
    return moved


RIGHT = {
    "the same": (lambda rows: rows, {}),
    "careful people": (lambda rows: rows, {"policy": 0.2}),
    "wider starts": (lambda rows: rows, {"noise": 0.25}),
    "narrow starts": (lambda rows: rows, {"noise": 0.02}),
    "other places": (places, {}),
    "few episodes": (of_entries(ALL, shift=5.0), {"count": 5}),
    "another pose": (of_entries(slice(0, JOINTS), shift=np.linspace(-1, 1, JOINTS)), {}),
}


@pytest.mark.parametrize(("change", "of_data"), RIGHT.values(), ids=RIGHT)
def test_other_starts_are_not(change, of_data):
    assert told(change, **of_data) is None


def test_samples_are_compared_by_their_own_errors():
    """Over 300 samples of right data, of any size, nothing is told."""
    for seed in range(300):
        own = Starts.of(*begun(1000 + seed, 10 + seed))
        assert what_was_done(own, Starts.of(*begun(5000 + seed, 32))) is None


def test_joints_that_an_expert_keeps_still_are_no_other_order():
    """As Adroit's: starts without spread, and first steps of which one is a twentieth."""
    random = np.random.default_rng(0)
    held, steps = np.zeros((41, 9)), 0.03 * random.uniform(-1, 1, (41, 9))
    expert = steps * np.array([0.05, 2.4, 2.3, 0.2, 0.5, 0.4, 1.2, 2.0, 2.1])
    expert, steps = held + expert, held + steps
    assert what_was_done(Starts.of(held, expert), Starts.of(held[:32], steps[:32])) is None


def test_things_at_rest_tell_a_shift_and_a_factor_where_other_entries_begin_elsewhere():
    random = np.random.default_rng(0)
    at_rest = np.tile([1.5, -0.4, 0.02, 0.0, 0.0, 0.7], (40, 1))
    own, seen = (np.concatenate([at_rest, random.normal(mean, 2, (40, 5))], 1) for mean in (4, -4))
    resets = Starts.of(seen, seen + 0.01)
    assert what_was_done(Starts.of(own, own + 0.01), resets) is None
    for change, why in ((lambda rows: rows + 20, "larger in all"), (lambda rows: 3 * rows, "3 times")):
        assert why in what_was_done(Starts.of(change(own), change(own + 0.01)), resets)[1]


def test_an_unknown_step_tells_nothing():
    own, second = begun(1, 100)
    unknown = Starts.of(begun(0, 32)[0], None)
    assert what_was_done(Starts.of(own, second), unknown) is None
    assert "shifted" in what_was_done(Starts.of(own + 1, second + 1), unknown)[1]
