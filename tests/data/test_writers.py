"""What is written and read back is the transitions that were met, and the returns that they are scored by."""

import numpy as np
import pytest
from test_rows import LENGTHS, known_episodes

from xql_jax.data.loading import load_dataset
from xql_jax.data.rows import rows_of_replay
from xql_jax.data.writers import read_rows, write_hdf5, write_minari
from xql_jax.errors import UserError
from xql_jax.tasks import References, get_task, referenced

METADATA = {
    "command": "collect.py --policy=random",
    "policies": ["random", "ünïcode"],
    "noise": [0.0, 0.5],
    "seed": 3,
    "random_return": -20.5,
    "expert_return": 3234.25,
}
REFERENCES = References(-20.5, 3234.25)


@pytest.fixture
def rows():
    return rows_of_replay(0, known_episodes()[0], 1)


def write(folder, rows, **changes):
    metadata = {key: value for key, value in {**METADATA, **changes}.items() if value is not None}
    write_hdf5(folder / "set.hdf5", rows, metadata)
    return folder / "set.hdf5"


def test_hdf5_gives_back_the_transitions_without_time_outs(tmp_path, rows):
    batch, terminals, timeouts = known_episodes()
    dataset = load_dataset(None, [str(write(tmp_path, rows))])
    kept = np.flatnonzero(~timeouts)  # D4RL's layout has no successor of a time-out
    assert dataset.size == len(kept)
    read = dataset.take(np.arange(dataset.size))
    for name in ("observations", "actions", "rewards", "masks"):
        np.testing.assert_array_equal(getattr(read, name), getattr(batch, name)[kept])
    goes_on = ~terminals[kept]
    np.testing.assert_array_equal(read.next_observations[goes_on], batch.next_observations[kept][goes_on])
    assert dataset.references == REFERENCES


def test_minari_gives_back_all_transitions(tmp_path, rows):
    batch, terminals, _ = known_episodes()
    (tmp_path / "set").mkdir()
    write_minari(tmp_path / "set", "my set", rows, METADATA)
    dataset = load_dataset(None, [f"minari:{tmp_path / 'set'}"])
    assert dataset.size == len(terminals)
    for name, field in dataset.batch._asdict().items():
        np.testing.assert_array_equal(field, getattr(batch, name))
    np.testing.assert_array_equal(np.flatnonzero(dataset.ends), np.cumsum(LENGTHS) - 1)
    assert dataset.references == REFERENCES

    import minari

    stored = minari.MinariDataset(tmp_path / "set" / "data")
    assert (stored.total_episodes, stored.total_steps) == (len(LENGTHS), sum(LENGTHS))
    assert stored.storage.metadata["command"] == METADATA["command"]


def test_the_same_rows_give_the_same_bytes(tmp_path, rows):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, rows)
    assert (tmp_path / "a" / "set.hdf5").read_bytes() == (tmp_path / "b" / "set.hdf5").read_bytes()


def test_metadata_and_rows_come_back(tmp_path, rows):
    path = write(tmp_path, rows)
    again, metadata = read_rows(path)
    assert metadata == METADATA
    assert again.keys() == rows.keys()
    for key, array in rows.items():
        np.testing.assert_array_equal(again[key], array)


def test_references_make_a_score_where_d4rl_has_none():
    task = referenced(get_task("Hopper-v5"), REFERENCES)
    np.testing.assert_allclose(task.normalized_score(np.array([-20.5, 3234.25, 1606.875])), [0, 100, 50])
    d4rl = get_task("hopper-medium-v2")
    assert referenced(d4rl, REFERENCES) is d4rl
    assert referenced(get_task("Hopper-v5"), None) is get_task("Hopper-v5")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expert_return": None}, "metadata/random_return without metadata/expert_return"),
        ({"expert_return": "3234"}, "metadata/expert_return is not one real number"),
        ({"random_return": [1.0, 2.0]}, "metadata/random_return is not one real number"),
        ({"random_return": float("nan")}, "must be finite"),
        ({"random_return": 4000.0}, "the expert's return, 3234.25, must be above the random policy's, 4000"),
    ],
)
def test_references_that_are_none_are_told(tmp_path, rows, changes, words):
    path = write(tmp_path, rows, **changes)
    with pytest.raises(UserError, match=words) as error:
        load_dataset(None, [str(path)])
    assert str(path) in str(error.value)


def test_without_references_there_are_none(tmp_path, rows):
    path = write(tmp_path, rows, random_return=None, expert_return=None)
    assert load_dataset(None, [str(path)]).references is None


def test_of_several_sources_those_count_that_agree(tmp_path, rows, caplog):
    (tmp_path / "other").mkdir()
    (tmp_path / "none").mkdir()
    ours = str(write(tmp_path, rows))
    none = str(write(tmp_path / "none", rows, random_return=None, expert_return=None))
    other = str(write(tmp_path / "other", rows, random_return=0.0))
    assert load_dataset(None, [ours, none, ours]).references == REFERENCES
    with caplog.at_level("WARNING", "xql_jax"):
        assert load_dataset(None, [ours, other]).references is None
    assert "different reference returns" in caplog.text
