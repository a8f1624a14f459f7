"""Next observations that were rounded: trajectories, and what is made of them, are those of exact ones."""

import numpy as np
import pytest
from learners_views import in_windows, over_horizon

from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.data.dataset import best_trajectories
from xql_jax.data.preprocessing import fit_preprocessing
from xql_jax.data.suspicions import suspicions
from xql_jax.errors import UserError
from xql_jax.suites.tasks import get_task
from xql_jax.types import Horizon

E, T = 20, 50
LAST = np.arange(E * T) % T == T - 1


def walks(size=1.0, offset=0.0):
    """Walks of E episodes that start anywhere; an entry is 0 but for rare blows, as contacts are."""
    generator = np.random.default_rng(0)
    seen = 20 * generator.normal(size=(E, 1, 6)) + 0.5 * generator.normal(size=(E, T + 1, 6)).cumsum(1)
    seen[..., 5] = 3 * (generator.random((E, T + 1)) < 0.02)
    seen = np.float32(size * seen + offset)
    return {
        "observations": seen[:, :-1].reshape(-1, 6),
        "actions": generator.uniform(-1, 1, (E * T, 2)),
        "rewards": generator.random(E * T) * np.repeat(generator.uniform(0.5, 3, E), T),
        "next_observations": seen[:, 1:].reshape(-1, 6),
        "terminals": LAST & False,
        "timeouts": LAST,
    }


def some_by_a_bit(x):
    return np.where(np.arange(len(x))[:, None] % 3 == 0, np.nextafter(x, np.float32(np.inf)), x)


def normalized_and_back(x):
    return (x - x.mean(0)) / x.std(0) * x.std(0) + x.mean(0)


def half(x):
    return x.astype(np.float16)


def normalized_in_half(x):
    mean, std = half(x.mean(0)), half(x.std(0))
    return half(half(half(x) - mean) / std) * std + mean


ROUNDED = (some_by_a_bit, normalized_and_back, half, normalized_in_half)


@pytest.mark.parametrize("rounded", ROUNDED)
@pytest.mark.parametrize(("size", "offset"), [(1.0, 0.0), (1e3, 7e3), (1e-3, 0.1)])
def test_marked_ends_decide(rounded, size, offset):
    rows = walks(size, offset)
    exact, found = (
        from_arrays(rows | {"next_observations": change(rows["next_observations"])}, "arrays")
        for change in (lambda x: x, rounded)
    )
    np.testing.assert_array_equal(found.ends, exact.ends)
    assert not [line for line in suspicions(found) if "differs" in line]
    hopper = get_task("Hopper-v5")
    assert fit_preprocessing(found, hopper).reward_scale == fit_preprocessing(exact, hopper).reward_scale
    for view in (
        lambda data: best_trajectories(data, 0.2).batch.rewards,
        lambda data: in_windows(data, 20).batch.returns_to_go,
        lambda data: over_horizon(data, Horizon(5), 0.99).batch.rewards,
        lambda data: over_horizon(data, Horizon(5, True), 0.99).batch.actions,
    ):
        np.testing.assert_array_equal(view(found), view(exact))


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e6])
@pytest.mark.parametrize("rounded", ROUNDED[:3])
def test_without_marks_only_resets_end_trajectories(rounded, size):
    if rounded is half and size != 1:
        pytest.skip("half precision has no such numbers")
    rows = walks(size)
    rows["next_observations"] = rounded(rows["next_observations"])
    del rows["timeouts"]
    np.testing.assert_array_equal(from_arrays(rows, "arrays").ends, LAST)


def test_a_small_jump_without_marks_is_one():
    """A walk of which every other row was left out: single precision tells a step from a rounding."""
    seen = np.float32(1 + 1e-4 * np.arange(100))[:, None]
    rows = {"observations": seen[:-1:2], "next_observations": seen[1::2], "actions": np.zeros((50, 1))}
    rows |= {"rewards": np.ones(50), "terminals": np.zeros(50)}
    assert from_arrays(rows, "arrays").ends.all()


def told_of(rows):
    return [line for line in suspicions(from_arrays(rows, "arrays")) if "differs" in line]


def test_what_is_split_beside_marked_ends_is_said_with_its_size():
    rows = walks()
    rows["timeouts"] = LAST & (np.arange(E * T) != 7 * T - 1)
    rows["next_observations"][[3, 5], 0] += [0.5, 0.75]
    (told,) = told_of(rows)
    assert told.startswith("3 trajectories are split where no end is marked, the first at transition 3:")
    assert "by 0.75 in the median" in told


def test_beside_terminals_alone_resets_are_time_outs_and_small_jumps_are_said():
    rows = walks() | {"terminals": LAST & (np.arange(E * T) % (2 * T) > T)}
    del rows["timeouts"]
    assert not told_of(rows)
    rows["next_observations"][::3, 0] += 0.15
    assert len(told_of(rows)) == 1


def test_gaps_as_small_as_roundings_are_told_where_terminals_alone_are_marked():
    """Three digits are too few for entries near 0: there trajectories are split that go on."""
    generator = np.random.default_rng(0)
    starts, steps = generator.normal(size=(E, 1, 3)), generator.normal(size=(E, T + 1, 3))
    seen = np.float32(0.3 * starts + 5e-4 * steps.cumsum(1))
    rows = walks() | {
        "observations": seen[:, :-1].reshape(-1, 3),
        "next_observations": np.round(seen[:, 1:].reshape(-1, 3), 3),
        "terminals": LAST,
        "timeouts": LAST & False,
    }
    dataset = from_arrays(rows, "arrays", Layout())
    split = np.count_nonzero(dataset.ends) - E
    assert 0 < split < 0.2 * dataset.size
    assert any(
        f"{split} trajectories are split where no end is marked" in line for line in suspicions(dataset)
    )


@pytest.mark.parametrize("is_episode", [False, True])
@pytest.mark.parametrize(("size", "offset", "left"), [(1, 2**24, 5), (1e-9, 0.5, 0), (1, 300, 0)])
def test_values_that_float32_does_not_tell_apart_are_counted(size, offset, left, is_episode):
    """Beyond 2^24 it has every other whole number; what rests at 0.5 moves by roundings alone."""
    seen = np.zeros((80, 2))
    seen[:, 1] = offset + size * np.linspace(0, 8, 80)
    rows = {"observations": seen, "actions": np.zeros((80, 1)), "rewards": np.ones(80)}
    rows |= {"terminals": np.arange(80) == 79, "timeouts": np.zeros(80)}
    told = [note.text for note in from_arrays(rows, "arrays", Layout(is_episode=is_episode)).notes]
    told = [text for text in told if "float32" in text]
    counted = "few of its" if is_episode else f"{left} of 80"
    start = f"entry 1 of the observations: float32 leaves {counted} different values"
    assert [text[: len(start)] for text in told] == ([start] if left else [])


def test_rewards_that_are_zero_in_float32_are_refused():
    rows = walks()
    for rewards, is_fit in ((1e-60, False), (0.0, True)):
        rows["rewards"] = np.full(E * T, rewards)
        if is_fit:
            from_arrays(rows, "arrays")
            continue
        with pytest.raises(UserError, match=r"^arrays: rewards of up to 1e-60 are 0 in float32"):
            from_arrays(rows, "arrays")
