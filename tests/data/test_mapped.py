"""A mapped file against the same file read into memory: the same transitions, bit for bit."""

import tracemalloc

import h5py
import numpy as np
import pytest

from xql_jax.data import mapped
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.mapped import map_dataset
from xql_jax.data.npz import read_npz
from xql_jax.errors import UserError

ROWS = 5000


def make_arrays(**changes):
    generator = np.random.default_rng(0)
    arrays = {
        "observations": generator.normal(size=(ROWS, 3)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "rewards": generator.normal(size=ROWS).astype(np.float32),
        "terminals": generator.random(ROWS) < 0.01,
        "timeouts": generator.random(ROWS) < 0.02,  # some follow one another, or a terminal
    }
    arrays["timeouts"][:2] = arrays["timeouts"][-2:] = True
    return {key: array for key, array in {**arrays, **changes}.items() if array is not None}


def write(path, arrays, **options):
    if path.suffix == ".npz":
        (np.savez_compressed if options else np.savez)(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array, **options)
    return path


READERS = {".hdf5": read_hdf5, ".npz": read_npz}
CHANGES = {
    "D4RL's layout": {},
    "no time-outs": {"timeouts": None},
    "float64 and a column": {
        "rewards": np.random.default_rng(1).normal(size=(ROWS, 1)),
        "observations": np.random.default_rng(2).normal(size=(ROWS, 3)),
    },
    "numbers for truths": {
        "terminals": np.arange(ROWS) % 70 == 69.0,
        "timeouts": (np.arange(ROWS) % 100 == 99).astype(np.int64),
    },
}


@pytest.fixture(autouse=True)
def short_passes(monkeypatch):
    monkeypatch.setattr(mapped, "ROWS_A_PASS", 617)


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("name", CHANGES)
def test_every_transition_is_that_of_memory(tmp_path, suffix, name):
    path = write(tmp_path / f"data{suffix}", make_arrays(**CHANGES[name]))
    in_memory, on_disk = READERS[suffix](path, 130), map_dataset(path, 130)
    assert on_disk.size == in_memory.size
    assert (on_disk.observation_dim, on_disk.action_dim) == (3, 2)
    batch = on_disk.take(np.arange(on_disk.size))
    for field, expected in zip(batch, in_memory.batch, strict=True):
        assert field.dtype == np.float32
        assert field.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(on_disk.trajectory_returns(), in_memory.trajectory_returns())
    assert on_disk.fingerprint() == in_memory.fingerprint()


def test_transitions_with_their_next_observations(tmp_path):
    generator = np.random.default_rng(3)
    path = write(
        tmp_path / "data.npz",
        make_arrays(next_observations=generator.normal(size=(ROWS, 3)).astype(np.float32)),
    )
    in_memory, on_disk = read_npz(path, None), map_dataset(path, None)
    assert on_disk.size == ROWS
    drawn = generator.integers(ROWS, size=3000)
    for field, expected in zip(on_disk.take(drawn), in_memory.batch, strict=True):
        assert field.tobytes() == expected[drawn].tobytes()
    np.testing.assert_array_equal(on_disk.trajectory_returns(), in_memory.trajectory_returns())


def test_jumps_part_trajectories_as_in_memory(tmp_path):
    states = np.random.default_rng(4).normal(size=(ROWS + 1, 3)).astype(np.float32).cumsum(axis=0)
    states[616::617] += 1000.0  # also where a pass over the file begins
    path = write(
        tmp_path / "data.npz",
        make_arrays(observations=states[:-1], next_observations=states[1:].copy(), timeouts=None),
    )
    states_after = np.load(path)["next_observations"]
    states_after[99::100] += 1.0
    path = write(
        tmp_path / "jumps.npz",
        make_arrays(observations=states[:-1], next_observations=states_after, timeouts=None),
    )
    in_memory, on_disk = read_npz(path, None), map_dataset(path, None)
    assert len(in_memory.trajectory_returns()) > 50
    np.testing.assert_array_equal(on_disk.trajectory_returns(), in_memory.trajectory_returns())
    assert on_disk.fingerprint() == in_memory.fingerprint()


@pytest.mark.parametrize("suffix", READERS)
def test_draws_take_no_memory_but_their_own(tmp_path, suffix):
    """Whatever the alignment: `terminals` before the rest moves all else by an odd number of bytes."""
    arrays = make_arrays()
    arrays = {"terminals": arrays.pop("terminals")[:4999], **{key: a[:4999] for key, a in arrays.items()}}
    dataset = map_dataset(write(tmp_path / f"data{suffix}", arrays), None)
    assert any(not array.flags.aligned for array in dataset.arrays.values())
    drawn = np.arange(10)
    dataset.take(drawn)
    tracemalloc.start()
    dataset.take(drawn)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000  # of 240,000 bytes in the file


def test_masks_stand_for_terminals(tmp_path):
    arrays = make_arrays()
    arrays["masks"] = 1.0 - arrays.pop("terminals")
    path = write(tmp_path / "data.npz", arrays)
    for field, expected in zip(
        map_dataset(path, None).take(np.arange(100)), read_npz(path, None).take(np.arange(100)), strict=True
    ):
        assert field.tobytes() == expected.tobytes()
    arrays["masks"][3] = 0.5
    with pytest.raises(UserError, match=r"masks holds 0\.5 at row 3"):
        map_dataset(write(tmp_path / "half.npz", arrays), None)
    contradiction = make_arrays(masks=np.zeros(ROWS))
    with pytest.raises(UserError, match=r"masks holds 0\.0 at row 0.*1 - terminals"):
        map_dataset(write(tmp_path / "contradiction.npz", contradiction), None)


def test_rows_whose_ends_are_marked(tmp_path):
    ends = make_arrays()["timeouts"] | make_arrays()["terminals"]
    path = write(tmp_path / "data.npz", make_arrays(timeouts=None, ends=ends))
    in_memory, on_disk = read_npz(path, None), map_dataset(path, None)
    batch = on_disk.take(np.arange(on_disk.size))
    for field, expected in zip(batch, in_memory.batch, strict=True):
        assert field.tobytes() == expected.tobytes()


def test_transforms_apply_to_what_is_drawn(tmp_path):
    path = write(tmp_path / "data.hdf5", make_arrays())
    doubled = map_dataset(path, None).apply(lambda batch: batch._replace(rewards=2 * batch.rewards))
    shifted = doubled.apply(lambda batch: batch._replace(rewards=batch.rewards - 1))
    drawn = np.array([7, 3, 3])
    expected = 2 * read_hdf5(path, None).batch.rewards[drawn] - 1
    np.testing.assert_array_equal(shifted.take(drawn).rewards, expected)


def test_what_is_not_finite_is_named_when_it_is_drawn(tmp_path):
    arrays = make_arrays(timeouts=np.arange(ROWS) % 100 == 0)
    arrays["actions"][777, 1] = np.nan
    dataset = map_dataset(write(tmp_path / "data.hdf5", arrays), None)
    row_777 = 777 - 8  # rows 0, 100, ..., 700 are left out
    dataset.take(np.array([row_777 - 1, row_777 + 1]))
    with pytest.raises(UserError, match=r"data\.hdf5: actions holds nan at row 777"):
        dataset.take(np.array([5, row_777]))


@pytest.mark.parametrize(
    ("suffix", "options", "words"),
    [
        (".hdf5", {"chunks": True}, "h5repack -l CONTI"),
        (".hdf5", {"compression": "gzip"}, "h5repack -l CONTI"),
        (".npz", {"compressed": True}, "numpy.savez"),
    ],
)
def test_what_cannot_be_mapped_says_how_to_rewrite_it(tmp_path, suffix, options, words):
    path = write(tmp_path / f"data{suffix}", make_arrays(), **options)
    with pytest.raises(UserError, match=words):
        map_dataset(path, None)


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": None}, "no array rewards"),
        ({"rewards": np.zeros(ROWS - 1)}, "4999 rows"),
        ({"actions": np.zeros(ROWS)}, "actions has shape"),
        ({"observations": np.zeros((ROWS, 0))}, "observations has shape"),
        ({"terminals": np.zeros(ROWS, complex)}, "terminals has"),
        ({"timeouts": np.ones(ROWS, bool)}, "no transition is left"),
        ({"timeouts": None}, "no timeouts"),
    ],
)
def test_unfit_files_are_refused(tmp_path, suffix, changes, words):
    with pytest.raises(UserError, match=words):
        map_dataset(write(tmp_path / f"data{suffix}", make_arrays(**changes)), None)


@pytest.mark.parametrize("suffix", READERS)
def test_damaged_files_are_refused(tmp_path, suffix):
    content = write(tmp_path / f"whole{suffix}", make_arrays()).read_bytes()
    for name, damaged in (("cut", content[: len(content) // 2]), ("text", b"nothing of the kind")):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable"):
            map_dataset(path, None)
