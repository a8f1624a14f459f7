"""NumPy archives: transitions, or rows in D4RL's layout."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from xql_jax.data.d4rl_hdf5 import from_rows
from xql_jax.data.dataset import RANKS, Dataset, check_file, from_transitions, validated
from xql_jax.errors import UserError


def read_npz(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a `.npz` of observations, actions, rewards and either terminals or masks = 1 - terminals.

    With `next_observations` every row is a transition; without, rows are steps in D4RL's layout and go by way
    of `qlearning_dataset`. Trajectories may be marked by `timeouts` (ends but for terminals) or `ends` (all).

    Args:
        path: the archive; pickled objects in it are refused, not run.
        episode_limit: steps, for rows in D4RL's layout without timeouts; None where no limit is known.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    check_file(path)
    arrays = validated(_read_arrays(path), str(path))
    arrays["terminals"] = _terminals(arrays, path)
    if "ends" in arrays and "timeouts" not in arrays:
        arrays["timeouts"] = (arrays["ends"] != 0) & ~arrays["terminals"]
    if "next_observations" in arrays:
        return from_transitions(arrays, str(path))
    return from_rows(arrays, episode_limit, str(path))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: a single NumPy array, not an archive of named arrays")
        with archive:
            missing = [key for key in ("observations", "actions", "rewards") if key not in archive]
            if "terminals" not in archive and "masks" not in archive:
                missing.append("terminals (or masks)")
            if missing:
                raise UserError(
                    f"{path}: no array {', '.join(missing)}; the file holds {', '.join(archive) or 'nothing'}"
                )
            return {key: archive[key] for key in RANKS if key in archive}
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # ValueError is how NumPy refuses pickles, RuntimeError how zipfile refuses what it cannot unpack.
        raise UserError(f"{path}: not a readable .npz archive ({error})") from error


def _terminals(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """Returns bool[N], and refuses masks that are not 0 or 1, or that contradict terminals."""
    terminals = arrays["terminals"] != 0 if "terminals" in arrays else arrays["masks"] == 0
    masks = arrays.get("masks", ~terminals)
    if (masks != ~terminals).any():
        row = np.flatnonzero(masks != ~terminals)[0]
        raise UserError(
            f"{path}: masks holds {masks[row]} at row {row}, must be 0 or 1 and equal 1 - terminals"
        )
    return terminals
