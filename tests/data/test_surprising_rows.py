"""Rows that surprise: what is told of those that do not belong together, are left out, or are in turn."""

import numpy as np
import pytest
from data_formats import KINDS, Episode, joined

from xql_jax.data import dataset as datasets
from xql_jax.data.arrays import ROWS, Layout, from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.suspicions import suspicions
from xql_jax.errors import UserError


def rows_like(**changes):
    """Five episodes of four steps, cut off or with a terminal, as transitions, and changes to them."""
    whole = joined([Episode(i, 4, KINDS[i % 2]).arrays(i) for i in range(5)])
    keys = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    return {key: whole[key] for key in keys} | changes


def late(flags):
    return np.append(False, flags[:-1])


R = rows_like()
SUSPECT = {
    "one row late": rows_like(terminals=late(R["terminals"]), timeouts=late(R["timeouts"])),
    "there more than once": {key: np.append(array, np.zeros_like(array[:3]), 0) for key, array in R.items()},
    "is one and the same": rows_like(next_observations=R["next_observations"] * ~R["timeouts"][:, None]),
}


@pytest.mark.parametrize("suspicion", SUSPECT)
def test_rows_that_do_not_belong_together_are_told(suspicion):
    told = suspicions(from_arrays(SUSPECT[suspicion], "arrays"))
    assert [what for what in told if suspicion in what], told
    assert not suspicions(from_arrays(R, "arrays"))
    assert not suspicions(from_arrays(rows_like(terminals=R["terminals"] | (np.arange(20) == 4)), "arrays"))


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


def test_an_action_beside_what_it_led_to_is_refused(tmp_path):
    """An episode of dm_env's: as many actions as observations, of which the first is 0."""
    episode = {"observation": np.ones((5, 3)), "action": np.ones((5, 2)), "reward": np.ones(5)}
    episode["action"][0] = 0
    np.savez(tmp_path / "0.npz", **episode, discount=np.ones(5), physics=np.ones((5, 6)))
    with pytest.raises(UserError, match=r"0\.npz: the first action is 0, .* as in dm_env's layout"):
        load_dataset(None, [str(tmp_path)])


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
    by_rows = from_arrays(rows_like(), "arrays", Layout(prefers_rows=True))
    assert by_rows.size == dataset.size
    assert str(by_rows.notes[-1]).endswith("as by D4RL's loader; .npz files keep them")


@pytest.mark.parametrize("layout", [ROWS, Layout(prefers_rows=True), Layout(terminals_are_ends=True)])
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
    if layout is ROWS:
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
    rows = joined([episode.arrays(number) for number, episode in enumerate(episodes)])
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


def test_rows_without_next_observations_that_environments_filled_in_turn_are_put_together():
    """Row k is of environment k % 2, whose observations say which and count: 30 episodes of ten steps."""
    environment, step = np.tile([0, 1], 300), np.repeat(np.arange(300), 2)
    rows = {
        "observations": np.stack([environment, step], 1).astype(np.float32),
        "actions": np.zeros((600, 1), np.float32),
        "rewards": np.ones(600, np.float32),
        "terminals": step % 10 == 9,
        "timeouts": np.zeros(600),
    }
    dataset = from_arrays({**rows, "env_id": environment}, "arrays")
    assert dataset.trajectory_lengths().tolist() == [10] * 60
    going_on = dataset.batch.masks == 1
    moved = dataset.batch.next_observations[going_on] - dataset.batch.observations[going_on]
    assert (moved == [0, 1]).all()
    assert not [told for told in suspicions(dataset) if "order" in told]
    odd = from_arrays({**rows, "timeouts": step % 10 < 6}, "arrays")
    assert "360 of 600 rows are left out" in suspicions(odd)[0]


def test_an_environments_number_alone_marks_no_ends():
    """In each of two environments episodes of four steps follow each other; one ends in a terminal."""
    rows = {key: R[key][:16] for key in list(R)[:3]} | {"terminals": np.arange(16) == 7}
    for number in (np.zeros(16), np.arange(16) // 8):
        with pytest.raises(UserError, match="no timeouts, and no task"):
            from_arrays({**rows, "env_id": number}, "arrays")
    for limit, lengths in ((4, [3, 4, 3, 3]), (5, [4, 3, 4, 2])):  # the limit is counted in each
        dataset = from_arrays({**rows, "env_id": number}, "arrays", Layout(episode_limit=limit))
        assert dataset.trajectory_lengths().tolist() == lengths
        assert f"episodes are cut every {limit} steps" in suspicions(dataset)[0]


def test_an_environments_number_that_comes_again_is_refused_but_where_an_end_is_marked():
    """Two environments are recorded in turn for a few steps each; time-outs are every four steps."""
    whole = joined([Episode(i, 4, "timeout").arrays() for i in range(6)]) | {"env_ids": np.arange(24) // 12}
    for length in (12, 4, 3):
        order = np.arange(24).reshape(2, -1, length).swapaxes(0, 1).ravel()
        rows = {key: whole[key][order] for key in (*R, "env_ids") if key != "next_observations"}
        if length > 3:
            assert from_arrays(rows, "arrays").trajectory_lengths().tolist() == [3] * 6
    with pytest.raises(UserError, match="env_ids changes after row 2 and comes again"):
        from_arrays(rows, "arrays")


def test_steps_do_not_hide_that_rows_are_in_no_order():
    rows, number = joined([Episode(i, 20, KINDS[i % 2]).arrays(i) for i in range(6)]), np.arange(120)
    for order in (number, number[7:], number.reshape(6, 20).T.ravel(), np.argsort(rows["rewards"])):
        dataset = from_arrays({key: rows[key][order] for key in (*R, "steps") if key != "timeouts"}, "arrays")
        if order[1] == order[0] + 1:
            assert (dataset.ends == rows["ends"][order]).all()
            assert not suspicions(dataset)
        else:
            assert datasets.out_of_order(dataset)


@pytest.mark.parametrize("limit", [3, 9])
def test_a_cut_of_rows_with_next_observations_at_the_limit_is_told(limit):
    rows = {key: Episode(0, 6, "unmarked").arrays()[key] for key in R if key != "timeouts"}
    told = suspicions(from_arrays(rows, "arrays", Layout(limit, prefers_rows=True)))
    assert any("episodes are cut every" in line for line in told) == (limit < 6)


def test_an_episode_number_that_comes_again_is_another_episode():
    """As in files that were joined."""
    rows = rows_like() | {"terminals": np.zeros(20), "timeouts": np.zeros(20)}
    del rows["next_observations"]
    dataset = from_arrays({**rows, "episodes": np.arange(20) // 5 % 2}, "arrays")
    assert dataset.trajectory_lengths().tolist() == [4] * 4
    np.testing.assert_array_equal(dataset.batch.observations[:4], rows["observations"][:4])
    np.testing.assert_array_equal(dataset.batch.observations[8:12], rows["observations"][10:14])


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


@pytest.mark.parametrize(
    "steps",
    [np.full(20, 0.02), 20 - np.arange(20) % 4, np.arange(20) * 2, np.arange(20) // 3, np.full(20, 7)],
)
def test_steps_that_do_not_count_rows_are_refused_where_rows_follow_each_other(steps):
    rows = rows_like(steps=steps)
    assert from_arrays(rows, "arrays").size == 20  # the next observations are told
    del rows["next_observations"]
    with pytest.raises(UserError, match=r"steps is .* at row .*: steps grow by 1"):
        from_arrays(rows, "arrays")
