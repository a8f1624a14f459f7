"""Where episodes end and begin: what does not fit is told in every layout; of data that fit, nothing is."""

import numpy as np
import pytest
from data_formats import KEYS, Episode, arrays_of, joined, write, write_minari

from xql_jax.data.arrays import from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.rows import rows_of_replay, write_hdf5
from xql_jax.data.suspicions import suspicions
from xql_jax.errors import UserError
from xql_jax.types import Batch

LAYOUTS = [*KEYS, "transitions.hdf5", "minari", "replay"]


class Walk(Episode):
    """Goes away from the origin in steps of about a half; each episode begins near the origin."""

    def __init__(self, seed, length, kind, sparse=False):
        super().__init__(seed, length, kind)
        generator = np.random.default_rng(seed)
        steps = generator.uniform(0, 1, (length + 1, 3)) * (1, -1, 1)
        self.observations = (0.1 * generator.normal(size=3) + steps.cumsum(axis=0)).astype(np.float32)
        rewards = generator.uniform(0.5, 1.5, length)
        self.rewards = (rewards * (generator.random(length) < 0.3) if sparse else rewards).astype(np.float32)


def walks(kind, sparse=False):
    """Forty episodes of 9 to 17 steps."""
    return [Walk(seed, 9 + seed * 7 % 9, kind, sparse) for seed in range(40)]


def told_of(episodes, layout, folder, monkeypatch):
    """The suspicions of the episodes in a layout."""
    if layout == "minari":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
        write_minari(folder, episodes)
        source = "minari:made-v0"
    elif layout == "replay":
        arrays = joined([episode.arrays() for episode in episodes])
        rows = rows_of_replay(0, Batch(*(np.float32(arrays[name]) for name in Batch._fields)), 1)
        write_hdf5(folder / "replay.hdf5", rows, {})
        source = str(folder / "replay.hdf5")
    else:
        name = "transitions.npz" if layout == "transitions.hdf5" else layout
        source = str(write(folder / layout, arrays_of(name, episodes)))
        source = f"ogbench:{source}" if layout == "ogbench.npz" else source
    return suspicions(load_dataset(None, [source]))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["terminal", "timeout"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_told_of_right_data(layout, kind, sparse, tmp_path, monkeypatch):
    assert not told_of(walks(kind, sparse), layout, tmp_path, monkeypatch)


def transitions(kind="timeout", **changes):
    """The walks' transitions by name, and a function that makes each change of them."""
    rows = joined([episode.arrays() for episode in walks(kind)])
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    given = {name: rows[name] for name in names}
    return given | {name: change(given) for name, change in changes.items()}


def late(name, by=1):
    return lambda rows: np.roll(rows[name], by, axis=0)


def at_ends(value):
    """Next observations that are what `value` says at the time-outs."""
    return lambda rows: np.where(rows["timeouts"][:, None], value(rows), rows["next_observations"])


SEAMS = {
    "zeros": ({"next_observations": at_ends(lambda rows: 0.0)}, "most time-outs is one and the same"),
    "a filler": ({"next_observations": at_ends(lambda rows: -99.0)}, "most time-outs is one and the same"),
    "time-outs late": ({"timeouts": late("timeouts")}, "flags one row late or early"),
    "time-outs early": ({"timeouts": late("timeouts", -1)}, "flags one row late or early"),
}


@pytest.mark.parametrize("name", SEAMS)
def test_ends_that_do_not_fit_are_told_once(name):
    changes, words = SEAMS[name]
    (told,) = suspicions(from_arrays(transitions(**changes), "arrays"))
    assert words in told


@pytest.mark.parametrize("falls", [1, 2])
def test_flags_that_are_inverted_are_told(falls):
    """Each second trajectory ends by a time-out, or none does."""
    episodes = [Walk(seed, 12, "timeout" if seed % falls else "terminal") for seed in range(40)]
    rows = joined([episode.arrays() for episode in episodes])
    names = ("observations", "actions", "rewards", "next_observations")
    given = {name: rows[name] for name in names} | {"masks": rows["terminals"]}
    told = suspicions(from_arrays(given, "arrays"))
    assert [line for line in told if "are the flags inverted?" in line], told
    given["masks"] = np.zeros(len(rows["terminals"]))  # whatever is done ends the episode
    given["next_observations"] = given["observations"]
    assert not [line for line in suspicions(from_arrays(given, "arrays")) if "inverted" in line]


@pytest.mark.parametrize("names", [("next_observations",), ("timeouts",)])
def test_terminals_that_are_all_1_are_told(names):
    """Unless what follows is not the next row: then whatever is done ends the episode."""
    rows = joined([episode.arrays() for episode in walks("timeout")])
    given = {name: rows[name] for name in ("observations", "actions", "rewards", *names)}
    given["terminals"] = np.ones(len(rows["rewards"]))
    told = suspicions(from_arrays(given, "arrays"))
    assert [line for line in told if "terminals must be 0 where an episode goes on" in line], told
    bandit = given | {"next_observations": given["observations"]}
    assert not [line for line in suspicions(from_arrays(bandit, "arrays")) if "goes on" in line]


def test_an_episode_whose_file_is_gone_is_not_left_out(tmp_path):
    for number, episode in enumerate(walks("terminal")[:3]):
        np.savez(tmp_path / f"{number}.npz", **episode.arrays())
    (tmp_path / "3.npz").symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(UserError, match=r"3\.npz: no such file"):
        load_dataset(None, [str(tmp_path)])


def test_what_a_mask_hides_is_not_told_of():
    """Zeros, or the row's own observation, behind terminals."""
    for hidden in (lambda rows: 0.0, lambda rows: rows["observations"]):
        following = lambda rows, hidden=hidden: np.where(  # noqa: E731
            rows["terminals"][:, None], hidden(rows), rows["next_observations"]
        )
        assert not suspicions(from_arrays(transitions("terminal", next_observations=following), "arrays"))


def test_an_episode_of_one_step_is_no_late_flag(tmp_path):
    """Files are episodes, so their flags cannot be late; nor are those of rows whose ends are stated."""
    short = [Walk(0, 10, "timeout"), Walk(1, 1, "terminal"), Walk(2, 1, "terminal"), Walk(3, 10, "timeout")]
    for layout in ("episodes", "transitions.npz", "rows.npz"):
        source = write(tmp_path / layout, arrays_of(layout, short))
        assert not [line for line in suspicions(load_dataset(None, [str(source)])) if "late" in line]


@pytest.mark.parametrize("given", ["next_observations", "rows"])
def test_a_walk_that_goes_on_after_time_outs_is_not_told_of(given):
    """As in D4RL's mazes: a target is reached, and the next one is sought from there, without a reset."""
    angle = np.arange(2_001)[:, None] * np.float32([0.01, 0.017, 0.023])
    rows = transitions() | {"observations": np.sin(angle[:-1]), "next_observations": np.sin(angle[1:])}
    size = 2_000
    rows["actions"] = np.random.default_rng(0).uniform(-1, 1, (size, 2))
    rows["rewards"] = np.random.default_rng(1).uniform(0, 1, size)
    rows["timeouts"], rows["terminals"] = np.arange(size) % 53 == 52, np.zeros(size)
    if given == "rows":
        del rows["next_observations"]
    assert not suspicions(from_arrays(rows, "arrays"))
