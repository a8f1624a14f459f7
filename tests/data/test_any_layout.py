"""Anyone's arrays: whatever the layout and the names, the true transitions come back, or one line is said."""

import re
from pathlib import Path

import numpy as np
import pytest
from data_formats import KINDS, Episode, joined, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xql_jax.data.arrays import from_arrays
from xql_jax.data.loading import load_dataset
from xql_jax.data.names import NAMES, tells_rows
from xql_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
CONTAINERS = ("rows.hdf5", "rows.npz", "arrays", "episodes")  # "episodes" is a folder
# What marks the ends that are no terminals.
MARKS = ("timeouts", "ends")


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
        "column": draw(st.booleans()),  # vectors as [N, 1]
        "names": names,
    }


def written(layout, episodes, folder):
    """The arrays under the layout's names, written; returns the source and the order of the transitions."""
    meanings = ["observations", "actions", "rewards", *layout["terminals"], *sorted(layout["marks"])]
    meanings += ["next_observations"] if layout["next"] else []
    parts = []
    for episode in episodes:
        arrays = episode.arrays()
        if layout["container"] == "episodes" and layout["all observations"]:
            arrays["observations"] = episode.observations
        arrays = {layout["names"][ours]: arrays[ours] for ours in meanings}
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
    if layout["next"] == "interleaved":
        truth[:, -1] = found[:, -1]  # where rows jump anyway
    np.testing.assert_array_equal(found, truth)
    return True


shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(shared, max_examples=200)
@given(layout=layouts(), episodes=episode_lists())
def test_any_layout_gives_the_truth_or_one_line(tmp_path, layout, episodes):
    has_few = sum(one.length for one in episodes) < 2 or all(one.length == 1 for one in episodes)
    assert check(layout, episodes, tmp_path) or has_few


FIXED = [Episode(i, length, kind) for i, (length, kind) in enumerate(zip((3, 2, 1, 2), KINDS, strict=True))]


SOUND_LIKE_ENDS = """
    done_flags Terminal truncs episode_lengths traj_end_idx next_state dones done not_done mask discount index
    step_type is_first is_last is_terminal episode_starts episodes episode_ids traj_id eps_id env_id steps end
    timestep frame_index new_observations final_obs s_next next-observations next.obs t alive reset is_end
    continue end_of_episode episode_over episode_step step_index rollout_id seq_lens segment_ids timestamp
    successor_observations x_next last_observation dw eos lens is_padded n_env action_is_pad isDone nextState
    stop crashed cutoff future_obs obs_after order shuffle steps_left eplen remaining
    obs2 s_prime obs_tp1 next/observations time_out infos/t next_actions num_steps succ_obs pad_mask ids"""
HARMLESS = """
    infos/qpos infos/goal infos/obs_mean infos/step_reward infos/end_effector environment_seed is_continuous
    goal_reached episode_return success left_hand version first_joint metadata/episodes"""


@pytest.mark.parametrize("container", ["rows.hdf5", "rows.npz", "episodes"])
@pytest.mark.parametrize("name", SOUND_LIKE_ENDS.split())
def test_a_name_that_sounds_like_ends_or_next_states_is_never_ignored(tmp_path, container, name):
    parts = [each.arrays() for each in FIXED]
    for part in parts:
        del part["next_observations"]
        part |= dict.fromkeys([*HARMLESS.split(), name], part["ends"])
    given = parts if container == "episodes" else joined(parts)
    with pytest.raises(UserError, match=f"{name} sounds like ends"):
        load_dataset(None, [str(write(tmp_path / container, given))])


def test_the_guides_rule_is_the_one_that_holds():
    rule = (
        Path("docs/data.md")
        .read_text()
        .partition("These names are refused:")[2]
        .partition("- **Ends that")[0]
    )
    said = [name for name in re.findall("`(.+?)`", rule) if name != "end_effector"]
    assert len(said) > 35
    assert [name for name in said if not tells_rows(f"infos/{name}") and not tells_rows(name)] == []


@pytest.mark.parametrize("container", ["rows.hdf5", "rows.npz", "episodes"])
def test_names_that_are_not_to_be_read_are_as_if_they_were_not_there(tmp_path, container):
    """Also a name of ours: here timeouts that are wrong beside ends that are right."""
    parts = [each.arrays() for each in FIXED]
    sound = load_dataset(
        None, [str(write(tmp_path / container, parts if container == "episodes" else joined(parts)))]
    )
    for part in parts:
        part |= {"n_env": part["ends"], "next_goal": part["ends"], "timeouts": np.full(len(part["ends"]), 7)}
    source = str(write(tmp_path / container, parts if container == "episodes" else joined(parts)))
    with pytest.raises(UserError, match="--unused_arrays=n_env,next_goal reads past it"):
        load_dataset(None, [source])
    read = load_dataset(None, [source], unused_arrays=("next_goal", "n_env", "timeouts"))
    for ours, theirs in zip(read.batch, sound.batch, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(read.ends, sound.ends)
    (note,) = [str(note) for note in read.notes if "not used" in str(note)]
    assert all(name in note for name in ("n_env", "next_goal", "timeouts"))


def test_of_another_layout_it_is_told_which_arrays_are_missing():
    """d3rlpy's files of version 2."""
    for name in ("observations_2", "terminated_0"):
        with pytest.raises(UserError, match=f"no array observations, actions.*; there are {name}"):
            from_arrays({name: np.zeros(2)}, "arrays")


LAYOUTS = {
    "robomimic": ["actions", "dones", "rewards", "states", "obs/object", "next_obs/object"],
    "ManiSkill": ["actions", "obs", "rewards", "terminated", "truncated", "env_states/actors/cube"],
    "Minari": ["actions", "observations", "rewards", "terminations", "truncations"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [1, 200])
def test_groups_of_episodes_are_told_of_in_whole_words(tmp_path, layout, number):
    names = [f"data/demo_{i}/{name}" for i in range(number) for name in LAYOUTS[layout]]
    path = write(tmp_path / "demos.hdf5", dict.fromkeys(names, np.zeros(3)))
    with pytest.raises(UserError) as error:
        load_dataset(None, [str(path)])
    message = str(error.value)
    assert "each episode is a group of its own (data/demo_0" in message
    assert "'docs/data.md, Layouts of other programs'" in message
    assert ("give minari:" in message) == (layout == "Minari")
    assert ("190 more" in message) == (number > 10)


def test_lerobots_names_and_folder_are_known(tmp_path):
    names = ["observation.state", "action", "next.done", "next.reward", "episode_index", "frame_index"]
    with pytest.raises(UserError, match=r"LeRobot's names .*Layouts of other programs"):
        load_dataset(None, [str(write(tmp_path / "rows.npz", dict.fromkeys(names, np.zeros(3))))])
    (tmp_path / "set" / "meta").mkdir(parents=True)
    (tmp_path / "set" / "meta" / "info.json").write_text("{}")
    with pytest.raises(UserError, match=r"if it is LeRobot's, .*Layouts of other programs"):
        load_dataset(None, [str(tmp_path / "set")])


def test_what_else_is_in_a_folder_of_episodes_is_named(tmp_path):
    folder = write(tmp_path / "episodes", [each.arrays() for each in FIXED])
    (folder / ".cache").mkdir()
    assert not [note for note in load_dataset(None, [str(folder)]).notes if "not read" in str(note)]
    (folder / "README.md").write_text("mine")
    (note,) = [note for note in load_dataset(None, [str(folder)]).notes if "not read" in str(note)]
    assert str(note).endswith("not read: README.md")
    assert not note.is_suspicion
    write(folder / "failures", [FIXED[0].arrays()])
    (folder / "7.pkl").write_text("")
    (note,) = [note for note in load_dataset(None, [str(folder)]).notes if "not read" in str(note)]
    assert str(note).endswith("not read: 7.pkl, README.md, failures/")
    assert note.is_suspicion
    for path in folder.glob("*.npz"):
        path.unlink()
    with pytest.raises(UserError, match=r"there are some in failures/: give each"):
        load_dataset(None, [str(folder)])
