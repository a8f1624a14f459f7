"""Files for tests of data on disk, in every way in which arrays may be stored."""

import h5py
import numpy as np

from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.npz import read_npz

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
    "a terminal in the last row": {
        "terminals": np.arange(ROWS) % 70 == (ROWS - 1) % 70,
        "timeouts": np.arange(ROWS) % 100 == 50,
    },
    "numbers for truths": {
        "terminals": np.arange(ROWS) % 70 == 69.0,
        "timeouts": (np.arange(ROWS) % 100 == 99).astype(np.int64),
    },
}


STORED = {  # as the bytes in memory, or packed
    "contiguous": (".hdf5", {}),
    "chunks": (".hdf5", {"chunks": (617, 1)}),
    "compressed chunks": (".hdf5", {"chunks": True, "compression": "gzip", "shuffle": True}),
    "one chunk": (".hdf5", {"chunks": (ROWS, 1)}),
    "stored npz": (".npz", {}),
    "compressed npz": (".npz", {"compressed": True}),
}


def folders(columns):
    return sorted(path for path in columns.iterdir() if path.is_dir())
