"""Files of each format: D4RL's own package is the oracle, and what is particular to a format."""

import types

import h5py
import jax
import numpy as np
import pytest
from data_formats import ALL, EPISODES, Episode, arrays_of, joined, read, write, write_minari
from guides import blocks
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.readers import read_hdf5
from xql_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # it would like to know the author
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["ogbench.npz", "minari", "minari folder"])
def test_libraries_files_give_back_the_episodes(folder, name):
    if name == "ogbench.npz":
        dataset = read(write(folder / name, arrays_of(name, EPISODES)))
    else:
        path = write_minari(folder, EPISODES)
        dataset = read("made-v0" if name == "minari" else path, "minari")
        with pytest.raises(
            UserError, match=r"no \.npz file in this directory; if it is Minari's, give minari:"
        ):
            read(path)
    rows = joined([episode.arrays() for episode in EPISODES])
    for key, field in dataset.batch._asdict().items():
        np.testing.assert_array_equal(field, rows[key].astype(np.float32), strict=True)
    np.testing.assert_array_equal(dataset.ends, rows["ends"])


BOX = spaces.Box(-10, 10, (2,), np.float64)
SPACES = [
    spaces.Dict(velocity=BOX, goal=spaces.Box(-10, 10, (), np.float64)),  # by keywords: not sorted
    spaces.Dict({"goal": BOX, "at": BOX}),  # sorted by Gymnasium
    spaces.Dict(robot=spaces.Tuple((BOX, BOX)), mode=spaces.Discrete(3), grid=spaces.MultiBinary(4)),
    spaces.Box(0, 255, (2, 2, 3), np.uint8),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_of_minari_are_flattened_as_gymnasium_does_for_a_policy(folder, space):
    """`FlattenObservation` shows a policy `flatten` of the environment's space, entries not sorted."""
    space.seed(0)
    seen = [space.sample() for _ in range(3)]
    stored = jax.tree.map(lambda *each: np.stack(each), *seen)
    dataset = read(write_minari(folder, [Episode(0, 2, "terminal")], [stored], space), "minari")
    flat = np.array([spaces.flatten(space, one) for one in seen], np.float32)
    np.testing.assert_array_equal(dataset.batch.observations, flat[:2])
    np.testing.assert_array_equal(dataset.batch.next_observations, flat[1:])


@pytest.mark.parametrize("name", ["parts.hdf5", "parts.npz", "pickled.npz", "arrays"])
def test_observations_of_several_parts_are_refused(tmp_path, name):
    """Groups, objects and dicts of Python."""
    rows = rows_of(next_observations=None)
    parts = {"goal": rows.pop("observations"), "place": np.zeros((len(rows["rewards"]), 2))}
    named = {f"observations/{part}": array for part, array in parts.items()}
    given = named if name.startswith("parts") else {"observations": np.array(parts, object)}
    if name == "arrays":
        read = lambda: from_arrays(rows | given, name)  # noqa: E731
    else:
        path = str(write(tmp_path / name, rows | given))
        read = lambda: load_dataset(None, [path])  # noqa: E731
    words = "no array observations; .* observations/goal, " if name.startswith("parts") else "object"
    with pytest.raises(UserError, match=words):
        read()


def test_minari_datasets_that_are_not_there_are_empty_or_have_no_vectors_as_actions(folder):
    with pytest.raises(UserError, match=r"no such dataset in .*there is none yet.*`minari download a/b-v0`"):
        read("a/b-v0", "minari")
    path = write_minari(folder, EPISODES)
    with pytest.raises(UserError, match="nearest there: made-v0"):
        read("mode-v0", "minari")
    with pytest.raises(UserError, match=r"minari:.*the action space is Discrete\(2\); only vectors"):
        read(write_minari(folder, EPISODES, action_space=spaces.Discrete(2), name="discrete-v0"), "minari")
    write_minari(folder, [], name="empty-v0")
    with pytest.raises(UserError, match="minari:empty-v0: it has no episode"):
        read("empty-v0", "minari")
    (path / "data" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match=r"metadata\.json: not a readable Minari dataset"):
        read("made-v0", "minari")


# D4RL's own package as the oracle.


@st.composite
def marked_rows(draw):
    """Rows with terminals (and time-outs, or none) anywhere, from rare to nearly everywhere."""
    count = draw(st.integers(2, 60))
    marks = st.lists(st.booleans(), min_size=count, max_size=count).map(np.array)
    rare = marks.map(lambda mark: mark & (np.arange(count) % 7 == 3))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    rows = {
        "observations": generator.normal(size=(count, 3)),  # float64: the cast is part of the comparison
        "actions": generator.uniform(-1, 1, size=(count, 2)).astype(np.float32),
        "rewards": generator.normal(size=count),
        "terminals": draw(marks | rare),
    }
    timeouts = draw(st.none() | marks | rare)
    return rows if timeouts is None else {**rows, "timeouts": timeouts}


def assert_theirs(d4rl_package, dataset, rows, limit):
    """Our transitions are those of D4RL's function."""
    ours = {**dataset.batch._asdict(), "terminals": dataset.batch.masks == 0}
    task = types.SimpleNamespace(_max_episode_steps=limit)
    theirs = d4rl_package.qlearning_dataset(task, dataset=rows)
    assert len(ours["rewards"]) == len(theirs["rewards"])
    for key in theirs if len(ours["rewards"]) else ():  # D4RL's empty arrays have lost their second axis
        array = np.asarray(ours[key])
        np.testing.assert_array_equal(array.astype(theirs[key].dtype), theirs[key], err_msg=key)


@settings(shared, max_examples=200)
@given(rows=marked_rows(), limit=st.integers(1, 12))
def test_transitions_are_those_of_d4rl(d4rl_package, tmp_path, rows, limit):
    """A file of D4RL's may have next observations and more: they are not read."""
    more = {"next_observations": np.zeros((len(rows["rewards"]), 3)), "infos/goal": np.zeros((7, 2))}
    path = write(tmp_path / "hopper_medium-v2.hdf5", {**rows, **more})
    assert_theirs(d4rl_package, read_hdf5(path, Layout(limit)), rows, limit)


def test_the_kitchen_file_gives_the_transitions_of_d4rl(d4rl_package, kitchen_file):
    with h5py.File(kitchen_file) as file:
        rows = {key: file[key][()] for key in ALL[:5]}
    dataset = read_hdf5(kitchen_file, Layout(280))
    assert_theirs(d4rl_package, dataset, rows, 280)
    # 3,680 rows without a time-out, the last of them unused; 19 demonstrations, of which 18 end in their
    # terminal row and the last at the end of the data.
    assert (dataset.size, dataset.ends.sum(), (dataset.batch.masks == 0).sum()) == (3679, 19, 18)


# What is particular to a format.


def rows_of(count=6, **changes):
    arrays = Episode(0, count, "terminal").arrays()
    rows = {key: arrays[key] for key in ALL} | changes
    return {key: array for key, array in rows.items() if array is not None}


@pytest.mark.parametrize("name", ["a.hdf5", "hopper_medium-v2.hdf5"])
def test_a_terminal_in_the_last_row_is_lost_in_d4rls_own_files_alone(tmp_path, name):
    """And what is said of it."""
    rows = rows_of(next_observations=None, terminals=np.isin(np.arange(6), (2, 5)), timeouts=np.zeros(6))
    dataset = read(write(tmp_path / name, rows))
    of_d4rl = name != "a.hdf5"
    assert dataset.batch.rewards.tolist() == rows["rewards"][: 5 if of_d4rl else 6].tolist()
    notes = [str(note) for note in dataset.notes if "left out" in str(note)]
    assert (
        notes
        == [
            "1 of 6 rows are left out, the last of episodes that were cut off and of the file: as by D4RL's "
            "loader; .npz files keep them"
        ]
        * of_d4rl
    )


def test_a_terminal_at_the_limit_is_no_time_out(tmp_path):
    """Rows that do not say where episodes end are cut at the task's limit, not where they are terminal."""
    terminals = np.isin(np.arange(9), (2, 4))  # at the limit of three steps, and after two
    rows = rows_of(9, next_observations=None, timeouts=None, terminals=terminals)
    dataset = from_arrays(rows, "arrays", Layout(episode_limit=3))
    assert (
        dataset.batch.rewards.tolist() == rows["rewards"][[0, 1, 2, 3, 4, 5, 6]].tolist()
    )  # 7 is cut, 8 has no next
    assert dataset.batch.masks.tolist() == [1, 1, 0, 1, 0, 1, 1]
    assert "2 of 9 rows are left out" in " ".join(map(str, dataset.notes))


def test_an_episode_without_a_last_observation_keeps_its_last_step_only_if_it_is_terminal(tmp_path):
    arrays = arrays_of("episodes", [*EPISODES, Episode(3, 1, "timeout")])
    for each in arrays:
        each["observations"] = each["observations"][:-1]
    arrays[1]["terminated"] = np.array(arrays[1].pop("terminals").any())  # one value, for the last step
    del arrays[2]["terminals"]
    dataset = read(write(tmp_path / "episodes", arrays))
    rewards = np.concatenate([EPISODES[0].rewards[:-1], EPISODES[1].rewards, EPISODES[2].rewards[:-1]])
    np.testing.assert_array_equal(dataset.batch.rewards, rewards.astype(np.float32))
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(dataset.ends, [0, 1, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(dataset.begins, [1, 0, 1, 0, 1, 0, 0])  # also with one of no transition
    assert any("episodes of one row are left out" in str(note) for note in dataset.notes)
    with pytest.raises(UserError, match=r"episodes: no transition is left"):
        read(write(tmp_path / "episodes", arrays[3:]))


def test_a_last_observation_that_the_next_observations_contradict_is_refused(tmp_path):
    """Unless a mask hides it; other rows are rounded."""
    for kind in ("terminal", "timeout"):
        (arrays,) = arrays_of("episodes", [Episode(0, 5, kind)])
        arrays["next_observations"] = arrays["observations"][1:] * 1.0001 * (np.arange(5) < 4)[:, None]
        path = write(tmp_path / "episodes", [arrays])
        if kind == "terminal":
            assert not read(path).batch.next_observations[-1].any()
    with pytest.raises(UserError, match=r"next_observations and .* differ: leave out one"):
        read(path)


@pytest.mark.parametrize("has_masks", [True, False])
def test_what_ogbench_returns_is_read_and_its_terminals_are_time_outs(tmp_path, has_masks):
    """`make_env_and_datasets` gives transitions; a goal in the midst of a trajectory is a terminal."""
    masks = 1.0 * (np.arange(6) != 2) if has_masks else None
    rows = rows_of(masks=masks, terminals=np.arange(6) == 5, timeouts=None)
    dataset = read(write(tmp_path / "ogbench.npz", rows))
    np.testing.assert_array_equal(dataset.batch.masks, masks if has_masks else np.ones(6))
    np.testing.assert_array_equal(dataset.ends, [0, 0, has_masks, 0, 0, 1])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("a.npz", {"masks": np.array([1, 1, 0, 1, 1, 0])}, "masks holds 0.0 at row 2.*ogbench:FILE"),
        ("a.npz", {"timeouts": None, "next_observations": None}, "no timeouts, and no task whose episode"),
        ("a.npz", {"obs": np.zeros((6, 3))}, "observations and obs mean the same and differ"),
        ("a.npz", {"dones": 0, "terminals": None}, "dones sounds like ends.*give what it says as terminals"),
        ("a.hdf5", {"next_states": 0, "next_observations": None}, "next_states sounds like ends .* or next"),
        ("a.npz", {"timeouts": np.full(6, 2)}, "timeouts holds 2.0 at row 0, must be 0 or 1"),
        ("a.npz", {"qpos": 0, "timeouts": None, "next_observations": None}, "give ogbench:FILE; if not,"),
        ("ogbench.npz", {"rewards": None}, "no array rewards; OGBench's own files have none.*singletask"),
    ],
)
def test_what_contradicts_itself_or_has_other_names_is_refused(tmp_path, name, changes, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / name, rows_of(**changes)))
    if name == "a.npz":
        with pytest.raises(UserError, match=f"^arrays: .*{message}"):
            from_arrays({key: np.asarray(x) for key, x in rows_of(**changes).items()}, "arrays")


def test_an_hdf5_file_must_hold_its_arrays_itself(tmp_path):
    path = write(tmp_path / "rows.hdf5", arrays_of("rows.hdf5", EPISODES))
    with h5py.File(path, "a") as file:
        del file["timeouts"]
        file["timeouts"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(UserError, match=r"rows\.hdf5: timeouts is a link"):
        read(path)


# The examples of docs/data.md run, and what they write is what the guide says it is.

GUIDE = "docs/data.md"
WRITTEN = {  # by source: transitions, trajectories, terminals
    "mine.hdf5": (995, 10, 5),  # five time-outs, the last of which is the last row
    "mine.npz": (1000, 10, 5),
    "vector.npz": (3984, 20, 0),  # each of four environments resets four times in 1,000 steps
    "episodes": (1000, 10, 5),
    "minari:mine/walk-v0": (100, 1, 1),
    "ogbench:goal.npz": (995, 10, 5),  # a goal and a time-out in each of five trajectories
}


def test_the_guides_examples_write_what_can_be_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    examples = [block.code for block in blocks(GUIDE, "python") if not block.reason]
    for example, (source, counts) in zip(examples, WRITTEN.items(), strict=True):
        exec(compile(example, GUIDE, "exec"), {})
        dataset = load_dataset(None, [source])
        assert (dataset.size, dataset.ends.sum(), (dataset.batch.masks == 0).sum()) == counts
        sizes = (3, 1) if source == "vector.npz" else (4, 2)
        assert (dataset.observation_dim, dataset.action_dim) == sizes
