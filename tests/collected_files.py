"""Reads what xql-collect writes."""

import h5py
import numpy as np


def read_rows(path):
    """The arrays of a file in D4RL's layout, and what is in its metadata/ as plain values, by name."""
    rows, metadata = {}, {}

    def add(name, node):
        if isinstance(node, h5py.Dataset):
            is_text = h5py.check_string_dtype(node.dtype)
            array = np.asarray((node.asstr() if is_text else node)[()])
            if name.startswith("metadata/"):
                metadata[name.removeprefix("metadata/")] = array.tolist()
            else:
                rows[name] = array

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return rows, metadata
