"""Anyone's arrays: whatever the layout and the names, the true transitions come back, or one line is said."""

import itertools

import numpy as np
import pytest
from data_formats import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xql_jax.data.loading import load_dataset
from xql_jax.data.names import NAMES
from xql_jax.data.readers import from_arrays
from xql_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
CONTAINERS = ("rows.hdf5", "rows.npz", "arrays", "episodes")  # "episodes" is a folder
# What marks the ends that are no terminals.
MARKS = ("timeouts", "ends", "starts", "episodes", "steps")
KINDS = ("terminal", "timeout", "both", "unmarked")  # how an episode ends; unmarked for the last one alone


class Episode:
    def __init__(self, seed, length, kind):
        generator = np.random.default_rng(seed)
        self.observations = generator.normal(size=(length + 1, 2)).astype(np.float32)
        self.actions = generator.uniform(-1, 1, (length, 1)).astype(np.float32)
        self.rewards = generator.normal(size=length).astype(np.float32)
        self.length, self.kind = length, kind
        self.is_terminal = kind in ("terminal", "both")

    def __repr__(self):
        return f"{self.kind} after {self.length}"

    def transitions(self):
        """The truth: observation, action, reward, mask, next observation, is the last of its episode."""
        for t in range(self.length):
            last = t == self.length - 1
            mask = 0.0 if last and self.is_terminal else 1.0
            yield (
                *self.observations[t],
                *self.actions[t],
                self.rewards[t],
                mask,
                *self.observations[t + 1],
                last,
            )

    def flags(self, number):
        last = np.arange(self.length) == self.length - 1
        return {
            "terminals": last & self.is_terminal,
            "masks": ~(last & self.is_terminal),
            "timeouts": last & (self.kind in ("timeout", "both")),
            "ends": last & (self.kind != "unmarked"),
            "starts": np.arange(self.length) == 0,
            "episodes": np.full(self.length, 2**24 + number),  # neighbours, if they were float32
            "steps": np.arange(self.length),
        }

    def arrays(self, number):
        steps = {"observations": self.observations[:-1], "next_observations": self.observations[1:]}
        return steps | {"actions": self.actions, "rewards": self.rewards} | self.flags(number)


@st.composite
def episode_lists(draw):
    kinds = draw(st.lists(st.sampled_from(KINDS[:3]), min_size=1, max_size=5))
    kinds[-1] = draw(st.sampled_from(KINDS))
    return [
        Episode(draw(st.integers(0, 99)) + 100 * i, draw(st.integers(1, 4)), k) for i, k in enumerate(kinds)
    ]


@st.composite
def layouts(draw):
    names = {ours: draw(st.sampled_from([ours, *theirs.split()])) for ours, theirs in NAMES.items()}
    return {
        "container": draw(st.sampled_from(CONTAINERS)),
        "marks": draw(st.sets(st.sampled_from(MARKS), min_size=1)),
        "terminals": draw(st.sampled_from((("terminals",), ("masks",), ("terminals", "masks")))),
        "next": draw(st.sampled_from((False, True, "interleaved"))),
        "all observations": draw(st.booleans()),  # of a folder's episodes, T + 1 of them
        "dones": draw(st.sampled_from((None, None, "terminals", "ends"))),
        "column": draw(st.booleans()),  # vectors as [N, 1]
        "names": names,
    }


def written(layout, episodes, folder):
    """The arrays under the layout's names, written; returns the source and the order of the transitions."""
    meanings = ["observations", "actions", "rewards", *layout["terminals"], *sorted(layout["marks"])]
    meanings += ["next_observations"] if layout["next"] else []
    names = dict(layout["names"])
    if layout["dones"]:  # an ambiguous name, beside the arrays that settle it or in place of one
        names["dones"] = "dones"
        meanings.append("dones")
    parts = []
    for number, episode in enumerate(episodes):
        arrays = episode.arrays(number)
        arrays["dones"] = arrays[layout["dones"] or "ends"]
        if layout["container"] == "episodes" and layout["all observations"]:
            arrays["observations"] = episode.observations
        arrays = {names[ours]: arrays[ours] for ours in meanings}
        if layout["column"]:
            arrays = {name: x[:, None] if x.ndim == 1 else x for name, x in arrays.items()}
        parts.append(arrays)
    order = np.arange(sum(episode.length for episode in episodes))
    if layout["container"] == "episodes":
        return [str(write(folder / "episodes", parts))], order
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if layout["next"] == "interleaved":  # as a buffer of several environments is
        order = np.argsort(np.concatenate([np.arange(episode.length) for episode in episodes]), kind="stable")
        whole = {name: array[order] for name, array in whole.items()}
    if layout["container"] == "arrays":
        return [from_arrays(whole, "arrays")], order
    return [str(write(folder / layout["container"], whole))], order


def expected(layout, episodes, order):
    """The true transitions that such a source tells, in its order."""
    rows = [row for episode in episodes for row in episode.transitions()]
    rows = [rows[i] for i in order]
    tells_next = layout["next"] or (layout["container"] == "episodes" and layout["all observations"])
    if layout["container"] == "rows.hdf5" and layout["next"] and "timeouts" in layout["marks"]:
        goes_on = [not row[-1] and row[5:7] != after[:2] for row, after in itertools.pairwise(rows)]
        tells_next = any(goes_on)
    if tells_next:
        return rows
    # A last row is left out unless it is terminal, as its next observation is not known.
    dropped = [row[-1] and row[4] == 1.0 for row in rows]
    if layout["container"] == "rows.hdf5":
        dropped[-1] = True  # D4RL's rule
    ends = [row[-1] or after for row, after in zip(rows, [*dropped[1:], True], strict=True)]
    return [(*row[:-1], end) for row, end, drop in zip(rows, ends, dropped, strict=True) if not drop]


def read_rows(dataset):
    batch = dataset.batch
    fields = [batch.observations, batch.actions, batch.rewards[:, None], batch.masks[:, None]]
    return np.concatenate([*fields, batch.next_observations, dataset.ends[:, None]], axis=1)


def check(layout, episodes, folder):
    """Returns whether it was read; what was read is the truth."""
    try:
        sources, order = written(layout, episodes, folder)
        found = read_rows(load_dataset(None, sources))
    except UserError:  # one line by its making
        return False
    truth = np.array(expected(layout, episodes, order), np.float64)
    hidden = truth[:, 4] == 0.0  # by its mask, the next observation may be anything
    truth[hidden, 5:7] = found[hidden, 5:7]
    if layout["next"] == "interleaved":
        truth[:, -1] = found[:, -1]  # where rows jump anyway
    np.testing.assert_array_equal(found, truth)
    return True


def may_refuse(layout, episodes):
    """Whether the layout leaves something open, so that a line is right."""
    names = layout["names"]
    tells_next = layout["next"] or (layout["container"] == "episodes" and layout["all observations"])
    few = sum(episode.length for episode in episodes) < 2 or all(e.length == 1 for e in episodes)
    return (
        bool(layout["dones"])
        or few
        or (layout["marks"] == {"steps"} and len(episodes) == 1)  # a count of all steps looks the same
        or (names["terminals"] == "is_terminal" and "terminals" in layout["terminals"] and not tells_next)
    )


shared = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check_any(tmp_path, layout, episodes):
    assert check(layout, episodes, tmp_path) or may_refuse(layout, episodes)


@settings(shared, max_examples=60)
@given(layout=layouts(), episodes=episode_lists())
def test_any_layout_gives_the_truth_or_one_line(tmp_path, layout, episodes):
    check_any(tmp_path, layout, episodes)


@pytest.mark.slow
@settings(shared, max_examples=500)
@given(layout=layouts(), episodes=episode_lists())
def test_many_layouts_give_the_truth_or_one_line(tmp_path, layout, episodes):
    check_any(tmp_path, layout, episodes)
