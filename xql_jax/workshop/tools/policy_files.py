"""Policies of others as plain arrays in a `.npz`: Gaussian MLPs."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xql_jax.data.names import missing_arrays
from xql_jax.data.readers import read_archive
from xql_jax.errors import UserError

# The arrays of a Gaussian MLP's file: W0 [H, O], W1 [G, H], W2 [A, G], the others vectors.
GAUSSIAN_MLP = (
    "w0", "b0", "w1", "b1", "w2", "b2", "in_shift", "in_scale", "out_shift", "out_scale", "log_std",
)  # fmt: skip
SCALE_FLOOR = 1e-8  # added to in_scale


def read_policy(path: Path, observation_dim: int, action_dim: int) -> Callable[..., np.ndarray]:
    """Reads the arrays of `GAUSSIAN_MLP` from a `.npz`.

    Returns:
        The policy: observations f32[K, O], and standard normal draws f64[K, A] or None for the mean, to
        actions f64[K, A].
    Raises:
        UserError: if the file cannot be read, or its arrays are not such a policy of these sizes.
    """
    arrays, names = read_archive(path)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinity")
    try:
        weights = {name: arrays[name].astype(np.float64) for name in GAUSSIAN_MLP}
        act = functools.partial(_gaussian_mlp, weights)
        with np.errstate(all="ignore"):
            actions = act(np.ones((1, observation_dim), np.float32))
    except KeyError as error:
        raise missing_arrays([error.args[0]], names, str(path)) from error
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: its arrays do not fit observations of {observation_dim} entries: {error}"
        ) from error
    if actions.shape != (1, action_dim) or not np.isfinite(actions).all():
        shown = f"{actions.size} numbers" if np.isfinite(actions).all() else "NaN or infinity"
        raise UserError(f"{path}: acts by {shown}, not by {action_dim} finite numbers")
    return act


def _gaussian_mlp(
    w: dict[str, np.ndarray], observations: np.ndarray, normal: np.ndarray | None = None
) -> np.ndarray:
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
