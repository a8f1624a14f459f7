"""Whatever is in a file, its reader returns sound arrays or raises UserError.

XQL_JAX_FUZZ_CASES sets the number of cases, over all tests together.
"""

import io
import os
import tempfile
from pathlib import Path

import h5py
import ml_collections
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from xql_jax import config_files
from xql_jax.configuration import learner_from_config, suite_config
from xql_jax.data import load_dataset
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.episodes import read_npz_folder
from xql_jax.data.npz import read_npz, read_ogbench
from xql_jax.errors import UserError

NUM_TESTS = 6
CASES = max(1, int(os.environ.get("XQL_JAX_FUZZ_CASES", "300")) // NUM_TESTS)
fuzz = settings(
    max_examples=CASES,
    deadline=None,  # the first case imports, and the machine may be busy
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

ROWS = {
    "observations": np.random.default_rng(0).normal(size=(40, 3)),
    "actions": np.random.default_rng(1).uniform(-1, 1, (40, 2)).astype(np.float32),
    "rewards": np.arange(40),
    "terminals": np.arange(40) % 13 == 12,
    "timeouts": np.arange(40) % 7 == 6,
}


def assert_sound(dataset):
    batch, size = dataset.batch, dataset.size
    assert size >= 1
    assert batch.observations.shape == batch.next_observations.shape == (size, dataset.observation_dim)
    assert batch.actions.shape == (size, dataset.action_dim)
    assert batch.rewards.shape == batch.masks.shape == dataset.ends.shape == (size,)
    assert dataset.observation_dim > 0
    assert dataset.action_dim > 0
    for array in batch:
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert set(np.unique(batch.masks)) <= {0.0, 1.0}
    assert dataset.ends.dtype == bool
    assert dataset.ends[-1]
    assert dataset.ends[batch.masks == 0].all()


def told(function, *arguments):
    """Returns what the function returns and None, or None and the message of its UserError."""
    try:
        return function(*arguments), None
    except UserError as error:
        return None, str(error)


def assert_line(message, *parts):
    assert message
    assert "\n" not in message
    for part in parts:
        assert part in message


def reads_or_tells(read, path, *arguments):
    dataset, message = told(read, path, *arguments)
    if message is None:
        assert_sound(dataset)
    else:
        assert_line(message, str(path))


def load(path, prefix=""):
    """As the mains do: what it takes is told before anything is read."""
    return load_dataset(None, [f"{prefix}{path}"])


def hdf5_bytes(**options):
    file = io.BytesIO()
    with h5py.File(file, "w", libver=options.pop("libver", None)) as content:
        for key, array in ROWS.items():
            content.create_dataset(key, data=array, **options)
        content["infos/goal"] = np.zeros((3, 2))
        content.attrs["seed"] = 3
    return file.getvalue()


def npz_bytes(save, **more):
    file = io.BytesIO()
    save(file, **ROWS, **more)
    return file.getvalue()


def episode_bytes():
    file = io.BytesIO()
    rows = {key: ROWS[key][:-1] for key in ("actions", "rewards", "terminals")}
    np.savez_compressed(file, observations=ROWS["observations"], **rows)
    return file.getvalue()


NEXT = {"next_observations": ROWS["observations"] + 1}
HDF5_FILES = [
    hdf5_bytes(),
    hdf5_bytes(chunks=True, compression="gzip", shuffle=True),
    hdf5_bytes(libver="latest", chunks=True, fletcher32=True),
]
NPZ_FILES = [npz_bytes(np.savez), npz_bytes(np.savez_compressed), npz_bytes(np.savez, **NEXT)]
EPISODE = episode_bytes()


def cut(content, start, stop, new):
    return content[:start] + new + content[stop:]


@st.composite
def damaged(draw, contents):
    """A whole file in which bits are flipped, or parts overwritten, inserted, removed, cut; or any bytes."""
    content = draw(st.sampled_from(contents))
    if draw(st.integers(0, 9)) == 0:
        return content[: draw(st.integers(0, 16))] + draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("flip", "flip", "overwrite", "number", "insert", "remove", "truncate")))
        place = draw(st.integers(0, max(0, len(content) - 1)))
        if kind == "flip" and content:
            new = bytes([content[place] ^ (1 << draw(st.integers(0, 7)))])
            content = cut(content, place, place + 1, new)
        elif kind == "overwrite":
            new = draw(st.binary(min_size=1, max_size=8))
            content = cut(content, place, place + len(new), new)
        elif kind == "number":  # what sizes and addresses are made of
            number = draw(st.sampled_from((0, 1, 2**16, 2**31 - 1, 2**32, 2**40, 2**63 - 1, 2**64 - 1)))
            place -= place % 8
            content = cut(content, place, place + 8, number.to_bytes(8, "little"))
        elif kind == "insert":
            content = cut(content, place, place, draw(st.binary(min_size=1, max_size=8)))
        elif kind == "remove":
            content = cut(content, place, place + draw(st.integers(1, 16)), b"")
        elif kind == "truncate":
            content = content[:place]
    return content


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


limits = st.none() | st.integers(1, 50)


@fuzz
@given(content=damaged(HDF5_FILES), limit=limits)
def test_damaged_hdf5(folder, content, limit):
    path = folder / "data.hdf5"
    path.write_bytes(content)
    reads_or_tells(read_hdf5, path, limit)
    reads_or_tells(load, path)


@fuzz
@given(content=damaged(NPZ_FILES), limit=limits)
def test_damaged_npz(folder, content, limit):
    path = folder / "data.npz"
    path.write_bytes(content)
    reads_or_tells(read_npz, path, limit)
    reads_or_tells(read_ogbench, path)
    reads_or_tells(load, path)
    reads_or_tells(load, path, "ogbench:")


@fuzz
@given(content=damaged([EPISODE]), other=damaged([EPISODE]) | st.just(EPISODE))
def test_damaged_episodes(folder, content, other):
    episodes = folder / "episodes"
    episodes.mkdir(exist_ok=True)
    (episodes / "a.npz").write_bytes(content)
    (episodes / "b.npz").write_bytes(other)
    reads_or_tells(read_npz_folder, episodes)
    reads_or_tells(load, episodes)


number_types = arrays_of.scalar_dtypes() | st.sampled_from([np.dtype("<f2"), np.dtype(">f8"), np.dtype("S3")])
keys = st.sampled_from(
    (
        "observations",
        "actions",
        "rewards",
        "terminals",
        "timeouts",
        "masks",
        "ends",
        "next_observations",
        "qpos",
        "x",
    )
)


@st.composite
def odd_rows(draw):
    """Sound rows of which some are left out, added, or replaced by arrays of any type, shape and value."""
    length = draw(st.sampled_from((0, 1, 2, 6, 6, 6)))
    rows = {key: array[:length] for key, array in {**ROWS, **NEXT}.items()}
    for key in draw(st.lists(keys, max_size=1)):
        rows.pop(key, None)
    shapes = st.just((length,)) | arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)
    for key in draw(st.lists(keys, max_size=2)):
        sound = st.just(rows[key].shape) if key in rows else shapes
        values = draw(arrays_of.arrays(draw(number_types), draw(st.one_of(sound, sound, shapes))))
        if values.dtype.kind == "f" and values.size and draw(st.booleans()):
            values.flat[draw(st.integers(0, values.size - 1))] = draw(
                st.sampled_from((np.nan, np.inf, -np.inf))
            )
        rows[key] = values
    return rows


@fuzz
@given(rows=odd_rows(), limit=limits)
def test_odd_arrays(folder, rows, limit):
    np.savez(folder / "odd.npz", **rows)
    reads_or_tells(read_npz, folder / "odd.npz", limit)
    reads_or_tells(read_ogbench, folder / "odd.npz")
    episodes = folder / "odd"
    episodes.mkdir(exist_ok=True)
    np.savez(episodes / "a.npz", **rows)
    reads_or_tells(read_npz_folder, episodes)
    with h5py.File(folder / "odd.hdf5", "w") as file:
        for key, array in rows.items():
            if array.dtype.kind not in "UMm":  # which HDF5 cannot hold
                file[key] = array
    reads_or_tells(read_hdf5, folder / "odd.hdf5", limit)


words = st.sampled_from(
    (
        "def get_config(algorithm='xql'):",
        "return",
        "None",
        "3",
        "{}",
        "import os",
        "import nothing",
        "from ml_collections import ConfigDict",
        "ConfigDict()",
        "raise ValueError('a')",
        "raise KeyError",
        "\n",
        "\n   ",
        "(",
        ")",
        "'''",
    )
)


@fuzz
@given(content=st.binary(max_size=80) | st.lists(words, max_size=8).map(" ".join).map(str.encode))
def test_config_files(folder, content):
    path = folder / "some_config.py"
    path.write_bytes(content)
    config, message = told(config_files.load_config, f"{path}:xql", config_files.OFFLINE)
    if message is None:
        assert isinstance(config, ml_collections.ConfigDict)
    else:
        assert_line(message, str(path))


SOUND_CONFIG = suite_config("xql", suites=("kitchen",), differences={})
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-3, 9), max_size=3).map(tuple),
)


@fuzz
@given(changes=st.dictionaries(st.sampled_from(sorted(SOUND_CONFIG)), values, max_size=3))
def test_config_fields(changes):
    config = ml_collections.ConfigDict({**SOUND_CONFIG.to_dict(), **changes})
    learner, message = told(learner_from_config, config, 10)
    if message is None:
        assert hasattr(learner, "update")
    else:
        assert changes
        assert_line(message)
