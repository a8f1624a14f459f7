"""Reads what xql-collect writes."""

import h5py
import numpy as np


def read_rows(path):
    """The rows and the metadata of a file, each by name."""
    rows, metadata = {}, {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            is_text = h5py.check_string_dtype(item.dtype)
            array = np.asarray((item.asstr() if is_text else item)[()])
            if name.startswith("metadata/"):
                metadata[name.removeprefix("metadata/")] = array.tolist()
            else:
                rows[name] = array

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return rows, metadata
