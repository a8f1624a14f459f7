"""Policies as plain arrays in a `.npz`: exported by this project, or Gaussian MLPs made by others."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xql_jax.data.act import acting
from xql_jax.data.names import missing_arrays
from xql_jax.data.readers import read_archive
from xql_jax.errors import UserError

# By name, the arrays of an exported policy, by which `act.py` acts: f32 shift, scale [O], low, high [A],
# kernels [N, M], biases [M]. If `action_chunk` is there, A counts the entries of that many actions, which are
# carried out one after the other.
Weights = dict[str, np.ndarray]

# The arrays of a Gaussian MLP's file: W0 [H, O], W1 [G, H], W2 [A, G], the others vectors.
GAUSSIAN_MLP = (
    "w0", "b0", "w1", "b1", "w2", "b2", "in_shift", "in_scale", "out_shift", "out_scale", "log_std",
)  # fmt: skip
SCALE_FLOOR = 1e-8  # added to in_scale


class FilePolicy(NamedTuple):
    """A policy from a file."""

    what: str
    is_deterministic: bool
    # Observations f32[K, O] and standard normal draws f64[K, A], or None for the mean, to actions [K, h * A].
    act: Callable[..., np.ndarray]
    action_chunk: int = 1  # h


def read_policy(path: Path, observation_dim: int, action_dim: int) -> FilePolicy:
    """Reads a policy from a `.npz`: an exported one (`Weights`), or the arrays of `GAUSSIAN_MLP`.

    Raises UserError if the file cannot be read, or its arrays are not such a policy of these sizes.
    """
    arrays, names = read_archive(path)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinity")
    try:
        if "shift" in names:
            policy = _exported(arrays)
        else:
            weights = {name: arrays[name].astype(np.float64) for name in GAUSSIAN_MLP}
            policy = FilePolicy("Gaussian MLP", False, functools.partial(_gaussian_mlp, weights))
        with np.errstate(all="ignore"):
            actions = policy.act(np.ones((1, observation_dim), np.float32))
    except KeyError as error:
        raise missing_arrays([error.args[0]], names, str(path)) from error
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: its arrays do not fit observations of {observation_dim} entries: {error}"
        ) from error
    size = policy.action_chunk * action_dim
    if actions.shape != (1, size) or not np.isfinite(actions).all():
        found = f"{actions.size} numbers" if np.isfinite(actions).all() else "NaN or infinity"
        raise UserError(f"{path}: acts by {found}, not by {size} finite numbers")
    return policy


def _exported(weights: Weights) -> FilePolicy:
    """Returns an exported policy; KeyError, TypeError or ValueError if the arrays are none."""
    act_by_mode, chunk = acting(weights), np.asarray(weights.get("action_chunk", 1))
    if chunk.shape or chunk.dtype.kind not in "iu" or chunk < 1:
        raise ValueError(f"action_chunk is {chunk}, and must be a whole number of at least 1")
    return FilePolicy("exported policy", True, lambda seen, normal=None: act_by_mode(seen), int(chunk))


def _gaussian_mlp(w: Weights, observations: np.ndarray, normal: np.ndarray | None = None) -> np.ndarray:
    """Returns actions f64[K, A] of a Gaussian with a small tanh network as its mean.

    They are drawn from N(mean, exp(log_std)^2). With x = (observation - in_shift) / (in_scale + 1e-8),

        mean = (W2 tanh(W1 tanh(W0 x + b0) + b1) + b2) * out_scale + out_shift.

    This is the form of hand_dapg's policies, which demonstrated D4RL's Adroit data (Rajeswaran et al. 2018).
    """
    x = (observations - w["in_shift"]) / (w["in_scale"] + SCALE_FLOOR)
    for layer in range(2):
        x = np.tanh(x @ w[f"w{layer}"].T + w[f"b{layer}"])
    mean = (x @ w["w2"].T + w["b2"]) * w["out_scale"] + w["out_shift"]
    return mean if normal is None else mean + np.exp(w["log_std"]) * normal
