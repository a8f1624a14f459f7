"""Policies trained by others, read from files of weights: a Gaussian around a small tanh network's output."""

import dataclasses
from pathlib import Path

import numpy as np

from xql_jax.data.npz import check_complete, read_archive
from xql_jax.errors import UserError

KEYS = (
    "w0", "b0", "w1", "b1", "w2", "b2", "in_shift", "in_scale", "out_shift", "out_scale", "log_std",
)  # fmt: skip
SCALE_FLOOR = 1e-8  # added to in_scale


@dataclasses.dataclass(frozen=True)
class GaussianMLP:
    """A Gaussian policy with a small tanh network as its mean.

    Actions are drawn from N(mean, exp(log_std)^2). With x = (observation - in_shift) / (in_scale + 1e-8),

        mean = (W2 tanh(W1 tanh(W0 x + b0) + b1) + b2) * out_scale + out_shift.

    This is the form of hand_dapg's policies, which demonstrated D4RL's Adroit data (Rajeswaran et al. 2018).
    """

    weights: dict[str, np.ndarray]  # f64, by `KEYS`

    def mean(self, observations: np.ndarray) -> np.ndarray:
        """Returns mean actions f64[K, A] for observations f32[K, O]."""
        w = self.weights
        x = (observations - w["in_shift"]) / (w["in_scale"] + SCALE_FLOOR)
        for layer in range(2):
            x = np.tanh(x @ w[f"w{layer}"].T + w[f"b{layer}"])
        return (x @ w["w2"].T + w["b2"]) * w["out_scale"] + w["out_shift"]

    def act(self, observations: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Returns actions f64[K, A] from standard normal draws f64[K, A]; zeros give the mean actions."""
        return self.mean(observations) + np.exp(self.weights["log_std"]) * normal


def read_gaussian_mlp(path: Path, observation_dim: int, action_dim: int) -> GaussianMLP:
    """Reads a policy for observations and actions of these sizes.

    Args:
        path: a `.npz` with the arrays of `KEYS`: W0 [H, O], W1 [G, H], W2 [A, G], the others vectors.
    Raises:
        UserError: if the file is absent or damaged, lacks an array, or one has another shape or is not
            finite.
    """
    arrays = read_archive(path, KEYS)
    check_complete(path, arrays, KEYS)
    first, second = (len(arrays[key]) if arrays[key].ndim == 2 else -1 for key in ("w0", "w1"))
    shapes = {
        "w0": (first, observation_dim),
        "b0": (first,),
        "w1": (second, first),
        "b1": (second,),
        "w2": (action_dim, second),
        "b2": (action_dim,),
        **dict.fromkeys(("in_shift", "in_scale"), (observation_dim,)),
        **dict.fromkeys(("out_shift", "out_scale", "log_std"), (action_dim,)),
    }
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            expected = str(shape).replace("-1", "units")
            raise UserError(
                f"{path}: {key} has shape {arrays[key].shape}, expected {expected}, of observations "
                f"with {observation_dim} entries and actions with {action_dim}"
            )
        if not np.isfinite(arrays[key]).all():
            raise UserError(f"{path}: {key} holds NaN or infinity")
    return GaussianMLP({key: arrays[key].astype(np.float64) for key in KEYS})
