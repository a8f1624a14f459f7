"""Anyone's arrays: whatever the layout and the names, the true transitions come back, or one line is said."""

import itertools

import numpy as np
import pytest
from data_formats import KINDS, Episode, joined, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xql_jax.data import dataset as datasets
from xql_jax.data.arrays import ROWS, WITHOUT_NEXT, Layout, from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.names import NAMES
from xql_jax.data.suspicions import suspicions
from xql_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
CONTAINERS = ("rows.hdf5", "rows.npz", "arrays", "episodes")  # "episodes" is a folder
# What marks the ends that are no terminals.
MARKS = ("timeouts", "ends", "starts", "episodes", "steps")


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
    whole = joined(parts)
    if layout["next"] == "interleaved":  # as a buffer of several environments is
        order = np.argsort(np.concatenate([np.arange(episode.length) for episode in episodes]), kind="stable")
        whole = {name: array[order] for name, array in whole.items()}
        if "episodes" in layout["marks"]:  # by whose numbers the rows are put together again
            order = np.arange(len(order))
    if layout["container"] == "arrays":
        return [from_arrays(whole, "arrays")], order
    return [str(write(folder / layout["container"], whole))], order


MASK, NEXT = 6, slice(7, 10)  # columns of a transition, see `table`


def table(arrays, lasts):
    """Transitions as rows of numbers: observation, action, reward, mask, next observation, is the last."""
    fields = [arrays[key] for key in ("observations", "actions", "rewards", "masks", "next_observations")]
    columns = [np.asarray(field, np.float64).reshape(len(lasts), -1) for field in (*fields, lasts)]
    return np.concatenate(columns, axis=1)


def expected(layout, episodes, order):
    """The true transitions that such a source tells, in its order."""
    lasts = np.concatenate([np.arange(episode.length) == episode.length - 1 for episode in episodes])
    rows = table(joined([episode.arrays() for episode in episodes]), lasts)[order]
    tells_next = layout["next"] or (layout["container"] == "episodes" and layout["all observations"])
    if layout["container"] == "rows.hdf5" and layout["next"] and "timeouts" in layout["marks"]:
        jumps = (rows[:-1, NEXT] != rows[1:, :3]).any(axis=1)
        tells_next = (jumps & (rows[:-1, -1] == 0)).any()
    if tells_next:
        return rows
    # A last row is left out unless it is terminal, as its next observation is not known.
    dropped = (rows[:, -1] == 1) & (rows[:, MASK] == 1)
    rows[:, -1] = (rows[:, -1] == 1) | np.append(dropped[1:], True)
    return rows[~dropped]


def check(layout, episodes, folder):
    """Returns whether it was read; what was read is the truth."""
    try:
        sources, order = written(layout, episodes, folder)
        dataset = load_dataset(None, sources)
    except UserError:  # one line by its making
        return False
    found, truth = table(dataset.batch._asdict(), dataset.ends), expected(layout, episodes, order)
    hidden = truth[:, MASK] == 0.0  # by its mask, the next observation may be anything
    truth[hidden, NEXT] = found[hidden, NEXT]
    if layout["next"] == "interleaved" and "episodes" not in layout["marks"]:
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


shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(shared, max_examples=80)
@given(layout=layouts(), episodes=episode_lists())
def test_any_layout_gives_the_truth_or_one_line(tmp_path, layout, episodes):
    assert check(layout, episodes, tmp_path) or may_refuse(layout, episodes)


@pytest.mark.slow
@settings(shared, max_examples=500)
@given(layout=layouts(), episodes=episode_lists())
def test_many_layouts_give_the_truth_or_one_line(tmp_path, layout, episodes):
    assert check(layout, episodes, tmp_path) or may_refuse(layout, episodes)


PLAIN = {
    "next": False, "all observations": False, "dones": None, "column": False,
    "names": {ours: ours for ours in NAMES}, "terminals": ("terminals",), "marks": {"timeouts"},
}  # fmt: skip
FIXED = [Episode(i, length, kind) for i, (length, kind) in enumerate(zip((3, 2, 1, 2), KINDS, strict=True))]


def every_layout():
    """Each container with each way to mark ends, each way to tell the next observation, and each name."""
    tells = [{"next": False}, {"next": True}, {"next": "interleaved"}, {"all observations": True}]
    for container, mark, terminals, how in itertools.product(
        CONTAINERS, MARKS, ("terminals", "masks"), tells
    ):
        layout = PLAIN | how | {"container": container, "marks": {mark}, "terminals": (terminals,)}
        if how.get("next") == "interleaved" and container == "episodes":
            continue
        yield layout
        used = ("observations", "actions", "rewards", mark, terminals)
        for ours in (*used, *(["next_observations"] if layout["next"] else [])):
            for theirs in NAMES[ours].split():
                yield layout | {"names": PLAIN["names"] | {ours: theirs}}


def test_every_name_in_every_layout_is_read(tmp_path):
    """None is refused but RLDS's is_terminal, where it is not certain which row it stands in."""
    layouts = [*every_layout()]
    assert len(layouts) > 2000
    for layout in layouts:
        tells_next = layout["next"] or (layout["container"] == "episodes" and layout["all observations"])
        is_open = "is_terminal" in layout["names"].values() and not tells_next
        assert check(layout, FIXED, tmp_path) != is_open, layout


@pytest.mark.parametrize("container", ["rows.hdf5", "rows.npz", "episodes"])
@pytest.mark.parametrize(
    "name", ["done_flags", "Terminal", "truncs", "episode_lengths", "traj_end_idx", "next_state"]
)
def test_a_name_that_sounds_like_ends_or_next_states_is_never_ignored(tmp_path, container, name):
    parts = [each.arrays(i) for i, each in enumerate(FIXED)]
    for part in parts:
        del part["next_observations"]
        part[name] = part["ends"]
    given = parts if container == "episodes" else joined(parts)
    with pytest.raises(UserError, match=f"{name} sounds like ends"):
        load_dataset(None, [str(write(tmp_path / container, given))])


@pytest.mark.parametrize("name", ["dones", "done", "not_done", "discount", "step_type"])
@pytest.mark.parametrize("says", ["terminals", "ends", "starts"])
def test_an_ambiguous_name_is_read_beside_what_settles_it_alone(name, says):
    """`dones` that equal the terminals or the ends say nothing new; others are refused."""
    whole = joined([each.arrays(i) for i, each in enumerate(FIXED)])
    flags = whole[says] if name in ("dones", "done") else ~whole[says]
    wanted = {key: whole[key] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    settled = name != "step_type" and says in (
        ("terminals",) if name == "discount" else ("terminals", "ends")
    )
    if settled:
        plain = from_arrays(wanted, "arrays").fingerprint()
        assert from_arrays({**wanted, name: flags}, "arrays").fingerprint() == plain
    else:
        with pytest.raises(UserError, match=name):
            from_arrays({**wanted, name: flags}, "arrays")
    del wanted["terminals"]
    with pytest.raises(UserError, match=f"no array terminals.*{name}"):
        from_arrays({**wanted, name: flags}, "arrays")


@pytest.mark.parametrize("name", ["dones", "done", "not_done", "discount"])
def test_an_episode_whose_end_is_told_by_an_ambiguous_name_alone_is_refused(tmp_path, name):
    """Its file may be a time-out's or a terminal's: without the name it would be taken for a time-out's."""
    last = FIXED[0].arrays(0)["ends"]
    arrays = {key: FIXED[0].arrays(0)[key] for key in ("observations", "actions", "rewards")}
    for marked in (last, np.zeros_like(last)):
        write(tmp_path / "episodes", [{**arrays, name: marked if name[:4] == "done" else 1.0 - marked}])
        if marked.any():
            with pytest.raises(UserError, match=name):
                load_dataset(None, [str(tmp_path / "episodes")])
    assert load_dataset(None, [str(tmp_path / "episodes")]).size == 2


def rows_like(**changes):
    """Five episodes of four steps, cut off or with a terminal, as transitions, and changes to them."""
    whole = joined([Episode(i, 4, KINDS[i % 2]).arrays(i) for i in range(5)])
    keys = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    return {key: whole[key] for key in keys} | changes


def late(flags):
    return np.append(False, flags[:-1])


def with_resets(rows):
    """After each episode a row that only resets: a step of Gymnasium's vector environments."""
    ends = np.flatnonzero(rows["terminals"] | rows["timeouts"])[:-1]
    resets = {key: np.zeros_like(array[ends]) for key, array in rows.items()}
    resets["observations"] = rows["next_observations"][ends]
    resets["next_observations"] = rows["observations"][ends + 1]
    return {key: np.insert(array, ends + 1, resets[key], axis=0) for key, array in rows.items()}


R = rows_like()
LAST = R["terminals"] | R["timeouts"]
SUSPECT = {
    "one row late": rows_like(terminals=late(R["terminals"]), timeouts=late(R["timeouts"])),
    "as in RLDS": rows_like(
        actions=R["actions"] * ~LAST[:, None], rewards=R["rewards"] * ~LAST, terminals=LAST, timeouts=0 * LAST
    ),
    "reset itself": with_resets(R),
    "reset itself?": rows_like(
        next_observations=np.where(
            R["terminals"][:, None], R["next_observations"], np.roll(R["observations"], -1, 0)
        )
    ),
    "was not full": {key: np.append(array, np.zeros_like(array[:3]), 0) for key, array in R.items()},
    "is 0: store": rows_like(next_observations=R["next_observations"] * ~R["timeouts"][:, None]),
}


@pytest.mark.parametrize("suspicion", SUSPECT)
def test_rows_that_do_not_belong_together_are_told(suspicion):
    told = suspicions(from_arrays(SUSPECT[suspicion], "arrays"))
    assert [what for what in told if suspicion.rstrip("?") in what], told
    assert not suspicions(from_arrays(R, "arrays"))
    assert not suspicions(from_arrays(rows_like(terminals=R["terminals"] | (np.arange(20) == 4)), "arrays"))


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
        as_d4rl = from_arrays(rows, "arrays", Layout(finds_ends=True))
        assert as_d4rl.trajectory_lengths().tolist() == [12]


@pytest.mark.parametrize(("limit", "warns"), [(40, False), (60, True)])
def test_a_limit_that_stands_in_for_time_outs_is_told_and_doubted(caplog, limit, warns):
    """Random walks of 40 steps, each from a place of its own."""
    walks = np.random.default_rng(0).normal(size=(50, 40, 2)).cumsum(axis=1)
    starts = np.random.default_rng(1).uniform(-50, 50, (50, 1, 2))
    observations = (starts + walks).reshape(-1, 2)
    nothing = np.zeros(2_000)
    rows = {"observations": observations, "actions": 0.1 * observations[:, :1], "rewards": nothing}
    dataset = from_arrays({**rows, "terminals": nothing}, "arrays", Layout(episode_limit=limit))
    assert any(f"cut every {limit} steps, the task's limit" in str(note) for note in dataset.notes)
    assert ("a reset is seen in 19 of 33 places" in caplog.text) == warns


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
    layout = Layout(episode_limit=5, timeouts_win=as_d4rl)
    batch = from_arrays(given, "arrays", layout).batch
    found = np.concatenate([batch.observations, batch.next_observations], axis=1)[batch.masks == 1]
    assert sum(tuple(pair) not in steps for pair in found) == crossing
    assert len(found) == 13 - 2  # all but the time-outs, of the 13 rows that are not terminal


def test_terminals_that_are_time_outs_too_are_told():
    rows = rows_like()
    both = from_arrays({**rows, "timeouts": rows["timeouts"] | rows["terminals"]}, "arrays")
    count = rows["terminals"].sum()
    assert [*map(str, both.notes)] == [f"{count} rows are terminal and time-outs, and count as terminals"]


def test_rows_without_next_observations_that_environments_filled_in_turn_are_put_together(caplog):
    """Row k is of environment k % 2, whose observations say which and count: 30 episodes of ten steps."""
    environment, step = np.tile([0, 1], 300), np.repeat(np.arange(300), 2)
    rows = {
        "observations": np.stack([environment, step], 1).astype(np.float32),
        "actions": np.zeros((600, 1), np.float32),
        "rewards": np.ones(600, np.float32),
        "terminals": step % 10 == 9,
    }
    dataset = from_arrays({**rows, "env_id": environment}, "arrays")
    assert dataset.trajectory_lengths().tolist() == [10] * 60
    going_on = dataset.batch.masks == 1
    moved = dataset.batch.next_observations[going_on] - dataset.batch.observations[going_on]
    assert (moved == [0, 1]).all()
    assert not caplog.text
    from_arrays({**rows, "timeouts": step % 10 < 6}, "arrays")
    assert "360 of 600 rows are left out" in caplog.text


def test_an_episode_number_that_comes_again_is_another_episode():
    """As in files that were joined."""
    rows = rows_like() | {"terminals": np.zeros(20), "timeouts": np.zeros(20)}
    del rows["next_observations"]
    dataset = from_arrays({**rows, "episodes": np.arange(20) // 5 % 2}, "arrays")
    assert dataset.trajectory_lengths().tolist() == [4] * 4
    np.testing.assert_array_equal(dataset.batch.observations[:4], rows["observations"][:4])
    np.testing.assert_array_equal(dataset.batch.observations[8:12], rows["observations"][10:14])


def test_counts_of_joined_sources_are_summed():
    rows = rows_like() | {"timeouts": rows_like()["timeouts"] | rows_like()["terminals"]}
    del rows["next_observations"]
    left_out, both = rows_like()["timeouts"].sum(), rows_like()["terminals"].sum()
    notes = [*map(str, datasets.joined([from_arrays(rows, name) for name in "abc"]).notes)]
    assert notes == [
        f"{3 * both} rows are terminal and time-outs, and count as terminals",
        f"{3 * left_out} of 60 rows are left out, the last of episodes that were cut off: {WITHOUT_NEXT}",
    ]


def test_a_text_file_is_no_archive(tmp_path):
    (tmp_path / "x.npz").write_text("observations")
    with pytest.raises(UserError, match=r"x\.npz: not a \.npz archive, by its first bytes"):
        load_dataset(None, [str(tmp_path / "x.npz")])
    np.savez(tmp_path / "x.npz", **rows_like())
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:2_000])
    with pytest.raises(UserError, match=r"x\.npz: its end is missing: copy it anew"):
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
