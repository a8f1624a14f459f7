"""Anyone's arrays: whatever the layout and the names, the true transitions come back, or one line is said."""

import itertools

import numpy as np
import pytest
from data_formats import KINDS, Episode, joined, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xql_jax.data.arrays import from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.names import NAMES
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


def is_open(layout):
    """Whether a terminal's row is not certain, or only an environment's number marks ends."""
    names, marks = layout["names"], layout["marks"]
    if layout["next"] or (layout["container"] == "episodes" and layout["all observations"]):
        return False
    is_rlds = names["terminals"] == "is_terminal" and "terminals" in layout["terminals"]
    numbers_environments = marks == {"episodes"} and names["episodes"].startswith("env")
    return is_rlds or (numbers_environments and layout["container"] != "episodes")


def may_refuse(layout, episodes):
    """Whether the layout leaves something open, so that a line is right."""
    few = sum(episode.length for episode in episodes) < 2 or all(e.length == 1 for e in episodes)
    return (
        bool(layout["dones"])
        or few
        or (layout["marks"] == {"steps"} and len(episodes) == 1)  # a count of all steps looks the same
        or is_open(layout)
    )


shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(shared, max_examples=80)
@given(layout=layouts(), episodes=episode_lists())
def test_any_layout_gives_the_truth_or_one_line(tmp_path, layout, episodes):
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
    """Refused are RLDS's is_terminal, where its row is not certain, and an environment's number alone."""
    layouts = [*every_layout()]
    assert len(layouts) > 2000
    for layout in layouts:
        assert check(layout, FIXED, tmp_path) != is_open(layout), layout


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
        for constant in (flags, 0.99 * flags):
            assert from_arrays({**wanted, name: constant}, "arrays").fingerprint() == plain
        with pytest.raises(UserError, match=name):
            from_arrays({**wanted, name: flags * np.arange(1, 9)}, "arrays")
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
