"""What is told of a source before it is read, against what reading it takes; and what is refused for it."""

import tracemalloc

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from mapped_files import write
from minari.data_collector import EpisodeBuffer

from xql_jax.data import _source, dataset, footprint, load_dataset, memory
from xql_jax.data.d4rl_hdf5 import UNPACKING
from xql_jax.data.footprint import COPIES, Footprint, total
from xql_jax.errors import UserError

ROWS = 100_000


def make_arrays(rows=ROWS, wide=8, kind="f4"):
    generator = np.random.default_rng(0)
    return {
        "observations": generator.normal(size=(rows, wide)).astype(kind),
        "actions": generator.uniform(-1, 1, (rows, 2)).astype(kind),
        "rewards": generator.normal(size=rows).astype(kind),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 1000 == 999,
    }


def hdf5(folder, **options):
    return str(write(folder / "data.hdf5", make_arrays(**options)))


def npz(folder, **options):
    return str(write(folder / "data.npz", make_arrays(**options)))


def packed(folder):
    path = write(folder / "data.hdf5", make_arrays(), compression="gzip", chunks=True)
    with h5py.File(path, "a") as file:
        array = file["observations"][()]
        del file["observations"]
        file.create_dataset("observations", data=array, compression="gzip", chunks=array.shape)
    return str(path)


def transitions(folder):
    arrays = make_arrays()
    return str(write(folder / "data.npz", {**arrays, "next_observations": arrays["observations"] + 1}))


def ogbench(folder):
    arrays = make_arrays()
    arrays.pop("timeouts")
    arrays["terminals"] = np.arange(ROWS) % 1000 == 999
    return f"ogbench:{write(folder / 'data.npz', {**arrays, 'masks': np.ones(ROWS, bool)}, compressed=True)}"


def episodes(folder):
    for number in range(20):
        arrays = make_arrays(rows=ROWS // 20)
        arrays.pop("timeouts")
        write(folder / f"{number}.npz", arrays)
    return str(folder)


def minaris(folder):
    box = [spaces.Box(-np.inf, np.inf, (size,), np.float32) for size in (8, 2)]
    steps = ROWS // 20
    each = [
        EpisodeBuffer(
            observations=np.zeros((steps + 1, 8), np.float32),
            actions=np.zeros((steps, 2), np.float32),
            rewards=[0.0] * steps,
            terminations=[False] * steps,
            truncations=[False] * (steps - 1) + [True],
            infos={"x": np.zeros((steps + 1, 3))},
        )
        for _ in range(20)
    ]
    minari.create_dataset_from_buffers("some/data-v0", each, observation_space=box[0], action_space=box[1])
    return "minari:some/data-v0"


MAKERS = {
    "hdf5": hdf5,
    "hdf5 of float64": lambda folder: hdf5(folder, kind="f8"),
    "hdf5 of float16": lambda folder: hdf5(folder, kind="f2"),
    "hdf5, narrow": lambda folder: hdf5(folder, wide=1),
    "hdf5, packed in one chunk": packed,
    "npz": npz,
    "npz of float64": lambda folder: npz(folder, kind="f8"),
    "npz of transitions": transitions,
    "ogbench": ogbench,
    "episodes": episodes,
    "minari": minaris,
}


@pytest.fixture(autouse=True)
def minari_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("name", MAKERS)
def test_reading_takes_what_is_told(tmp_path, monkeypatch, name):
    """tracemalloc sees what NumPy and Python ask for, and not what HDF5 unpacks into."""
    monkeypatch.setattr(dataset, "BYTES_A_PASS", 1 << 18)  # as small, beside all, as it is of large data
    found = _source(MAKERS[name](tmp_path), None, False)
    found.read()  # imports, and the like
    told = found.footprint()
    tracemalloc.start()
    read = found.read()
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(array.nbytes for array in (*read.batch, read.ends)) <= told.held
    assert told.held <= 1.1 * held
    assert 0.95 * most <= told.reading
    assert name == "hdf5, packed in one chunk" or told.reading <= 2.0 * most


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("data_on", [None, "host", "device"])
@pytest.mark.parametrize("name", MAKERS)
def test_what_memory_has_no_room_for_is_not_read(tmp_path, monkeypatch, name, data_on):
    source = MAKERS[name](tmp_path)
    needed = total([_source(source, None, False).footprint()])
    monkeypatch.setattr(memory, "OWN", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    assert load_dataset(None, [source], data_on=data_on).size > 0
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.raises(UserError, match=r"of memory are needed, there are .* for data") as error:
        load_dataset(None, [source], data_on=data_on)
    assert ("--data_on=disk" in str(error.value)) == (data_on is not None)


def test_several_sources_count_together(tmp_path, monkeypatch):
    source = hdf5(tmp_path)
    one = _source(source, None, False).footprint()
    monkeypatch.setattr(memory, "OWN", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: total([one]))
    load_dataset(None, [source])
    with pytest.raises(UserError, match=r"data\.hdf5, .*data\.hdf5: .* a part of the data"):
        load_dataset(None, [source, source])
    with pytest.raises(UserError, match=r"fewer sources, or one .* with --data_on=disk"):
        load_dataset(None, [source, source], data_on="auto")


def test_sums_by_hand():
    # The first is held while the second is read; joined, both are there twice.
    assert total([Footprint(10, 15), Footprint(10, 50)]) == 60
    assert total([Footprint(10, 15), Footprint(20, 50)]) == COPIES * 30
    # A row of three numbers, of which one is observed twice: 4 * (2 + 1 + 1 + 1) bytes and a mark.
    assert footprint.held_bytes(1, 1, 1) == 21


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_bomb_counts_by_what_it_claims(tmp_path, monkeypatch, suffix):
    rows = 250_000
    arrays = make_arrays(rows=rows, wide=1) | {"observations": np.zeros((rows, 100), np.float32)}
    path = write(tmp_path / f"bomb{suffix}", arrays, compression="gzip", chunks=True)
    assert path.stat().st_size < arrays["observations"].nbytes / 10
    monkeypatch.setattr(memory, "available_memory", lambda: 300_000_000)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bomb\S*: .* of memory are needed"):
        load_dataset(None, [str(path)])
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_chunk_counts_whole_also_from_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    path = packed(tmp_path)
    monkeypatch.setattr(memory, "OWN", 0)
    with h5py.File(path) as file:
        chunk = UNPACKING * file["observations"].nbytes
    monkeypatch.setattr(memory, "available_memory", lambda: chunk - 1)
    with pytest.raises(UserError, match="is unpacked at once"):
        load_dataset(None, [path], data_on="disk")
    monkeypatch.setattr(memory, "available_memory", lambda: chunk)
    assert load_dataset(None, [path], data_on="disk").size > 0
