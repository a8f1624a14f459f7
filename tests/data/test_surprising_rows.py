"""Rows that surprise: what is told of those that do not belong together, are left out, or are in turn."""

import numpy as np
import pytest
from data_formats import KINDS, Episode, joined

from xql_jax.data import dataset as datasets
from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.suspicions import suspicions
from xql_jax.errors import UserError


def rows_like(**changes):
    """Five episodes of four steps, cut off or with a terminal, as transitions, and changes to them."""
    whole = joined([Episode(i, 4, KINDS[i % 2]).arrays() for i in range(5)])
    keys = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    return {key: whole[key] for key in keys} | changes


R = rows_like()


def test_a_terminal_within_an_episode_is_not_told_and_rows_that_are_there_twice_are():
    twice = {key: np.append(array, array[:3], 0) for key, array in R.items()}
    assert [line for line in suspicions(from_arrays(twice, "arrays")) if "there more than once" in line]
    for terminals in (R["terminals"], R["terminals"] | (np.arange(20) == 4)):
        assert not suspicions(from_arrays(rows_like(terminals=terminals), "arrays"))


@pytest.mark.parametrize(("by", "asked"), [(0, None), (1, "are the flags one row late")])
def test_rows_of_a_fixed_start_whose_flags_are_late_are_asked_for_their_layout(by, asked):
    walks = np.random.default_rng(0).uniform(-1, 1, (40, 50, 1))
    rows = {
        "observations": (np.cumsum(walks, 1) - walks).reshape(-1, 1),  # each begins at 0
        "actions": walks.reshape(-1, 1),
        "rewards": walks.ravel(),
        "terminals": np.zeros(2000),
        "timeouts": np.roll(np.arange(2000) % 50 == 49, by) & (np.arange(2000) > 0),
    }
    told = suspicions(from_arrays(rows, "arrays"))
    assert [line.partition(": ")[2].partition(",")[0] for line in told] == [asked] * by


def test_rows_that_are_left_out_are_counted():
    rows = rows_like()
    assert not from_arrays(rows, "arrays").notes
    del rows["next_observations"]
    dataset = from_arrays(rows, "arrays")
    left_out = 20 - dataset.size
    assert left_out == rows["timeouts"].sum() > 0
    note = str(*dataset.notes)
    assert note.startswith(f"{left_out} of 20 rows are left out")
    assert note.endswith("without next_observations their next states are not known")


@pytest.mark.parametrize("layout", [Layout(), Layout(terminals_are_ends=True)])
def test_an_episode_that_ends_where_the_next_begins_ends(layout):
    """Each of three episodes goes from 0 to 2 and back. In D4RL's files, ends are terminals and jumps."""
    ends = np.arange(15) % 5 == 4
    rows = {
        "observations": np.tile([0.0, 1, 2, 1, 0], 3)[:, None],
        "actions": np.zeros((15, 1)),
        "rewards": np.arange(15.0),
        "terminals": ends if layout.terminals_are_ends else ends & False,
    }
    if not layout.terminals_are_ends:
        rows["timeouts"] = ends
    dataset = from_arrays(rows, "arrays", layout)
    assert dataset.trajectory_lengths().tolist() == [4, 4, 4]
    if layout == Layout():
        as_d4rl = from_arrays(rows, "arrays", Layout(as_d4rl=True))
        assert as_d4rl.trajectory_lengths().tolist() == [12]


@pytest.mark.parametrize("as_d4rl", [False, True])
def test_a_limit_that_stands_in_for_time_outs_is_told_and_but_in_d4rls_files_doubted(as_d4rl):
    rows = rows_like()
    del rows["timeouts"], rows["next_observations"]
    dataset = from_arrays(rows, "arrays", Layout(episode_limit=4, as_d4rl=as_d4rl))
    told = "no timeouts: episodes are cut every 4 steps, the task's limit"
    assert any(told in str(note) for note in dataset.notes)
    assert any(told in line for line in suspicions(dataset)) != as_d4rl


@pytest.mark.parametrize(("as_d4rl", "crossing"), [(False, 0), (True, 2)])
def test_no_row_leads_into_another_episode_by_a_counted_limit(as_d4rl, crossing):
    """D4RL's loader cuts the episodes after a terminal one row early; its own files are read so."""
    episodes = [
        Episode(0, 3, "terminal"),
        Episode(1, 5, "timeout"),
        Episode(2, 5, "timeout"),
        Episode(3, 2, "terminal"),
    ]
    rows = joined([episode.arrays() for episode in episodes])
    steps = {
        tuple(pair) for pair in np.concatenate([rows["observations"], rows["next_observations"]], axis=1)
    }
    given = {key: rows[key] for key in ("observations", "actions", "rewards", "terminals")}
    layout = Layout(episode_limit=5, as_d4rl=as_d4rl)
    batch = from_arrays(given, "arrays", layout).batch
    found = np.concatenate([batch.observations, batch.next_observations], axis=1)[batch.masks == 1]
    assert sum(tuple(pair) not in steps for pair in found) == crossing
    assert len(found) == 13 - 2  # all but the time-outs, of the 13 rows that are not terminal


def test_terminals_that_are_time_outs_too_are_told():
    rows = rows_like()
    both = from_arrays({**rows, "timeouts": rows["timeouts"] | rows["terminals"]}, "arrays")
    count = rows["terminals"].sum()
    assert [*map(str, both.notes)] == [
        f"{count} of 20 rows are terminal and time-outs, and count as terminals"
    ]


def test_what_several_sources_have_in_common_is_told_once():
    rows = rows_like()
    del rows["next_observations"]
    one, other = (
        from_arrays(rows, "a"),
        from_arrays(rows | {"timeouts": np.zeros(20), "more": np.zeros(20)}, "c"),
    )
    notes = [*map(str, datasets.joined([one, one, other]).notes)]
    assert notes == list(dict.fromkeys([*map(str, one.notes), *map(str, other.notes)]))
    assert len(notes) > len(one.notes)


def test_a_text_file_is_no_archive(tmp_path):
    (tmp_path / "x.npz").write_text("observations")
    with pytest.raises(UserError, match=r"x\.npz: not a readable \.npz archive \(File is not a zip file\)"):
        load_dataset(None, [str(tmp_path / "x.npz")])
    np.savez(tmp_path / "x.npz", **rows_like())
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:2_000])
    with pytest.raises(UserError, match=r"x\.npz: not a readable \.npz archive"):
        load_dataset(None, [str(tmp_path / "x.npz")])
