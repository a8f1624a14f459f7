"""Policies as plain arrays: exported by this project, with a script that acts by them, or made by others."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.readers import check_names, read_archive
from xql_jax.errors import UserError

EXAMPLE = '''"""Acts by an exported policy; python {script} prints the action of one observation."""

import sys

import numpy as np


def load(path):
    w = dict(np.load(path))

    def act(observations):  # f32[B, O] to f32[B, A] within [-1, 1]
        x = (observations - w["shift"]) / w["scale"]
        for i in range(int(w["num_hidden"])):
            x = np.maximum(x @ w[f"kernel_{{i}}"] + w[f"bias_{{i}}"], 0.0)
        actions = np.tanh(x @ w["action_kernel"] + w["action_bias"])
        if "logits_kernel" not in w:
            return actions
        best = (x @ w["logits_kernel"] + w["logits_bias"]).argmax(-1)  # the likeliest of several
        return actions.reshape(len(x), w["logits_bias"].size, -1)[np.arange(len(x)), best]

    return act, len(w["shift"])


if __name__ == "__main__":
    act, size = load(sys.argv[1] if len(sys.argv) > 1 else "{archive}")
    print(act(np.zeros((1, size), np.float32)))
'''


@dataclasses.dataclass(frozen=True)
class Layers:
    """A deterministic policy.

    With x = (observation - shift) / scale, every hidden layer is relu(x W + b), and the action is the tanh of
    the last layer. A mixture of K Gaussians has K such outputs, and uses the one with the largest logit. The
    tanh keeps actions within [-1, 1], the limits of the project's environments.
    """

    shift: np.ndarray  # f32[O]
    scale: np.ndarray  # f32[O]
    hidden: tuple[tuple[np.ndarray, np.ndarray], ...]  # f32[N, M] and f32[M] each
    action: tuple[np.ndarray, np.ndarray]  # f32[M, K * A] and f32[K * A]
    logits: tuple[np.ndarray, np.ndarray] | None = None  # f32[M, K] and f32[K]; None: K is 1

    @property
    def observation_dim(self) -> int:
        return len(self.shift)

    @property
    def num_components(self) -> int:
        return 1 if self.logits is None else len(self.logits[1])

    @property
    def action_dim(self) -> int:
        return len(self.action[1]) // self.num_components

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Returns actions f32[B, A] for an environment's own observations f32[B, O]."""
        x = (observations - self.shift) / self.scale
        for kernel, bias in self.hidden:
            x = np.maximum(x @ kernel + bias, 0.0)
        kernel, bias = self.action
        actions = np.tanh(x @ kernel + bias)
        if self.logits is None:
            return actions
        kernel, bias = self.logits
        component = (x @ kernel + bias).argmax(axis=-1)
        return actions.reshape(len(x), -1, self.action_dim)[np.arange(len(x)), component]


def write_archive(layers: Layers, path: Path) -> None:
    """Writes the weights under the names that `EXAMPLE` reads."""
    arrays: dict[str, Any] = {
        "shift": layers.shift,
        "scale": layers.scale,
        "num_hidden": np.array(len(layers.hidden)),
    }
    for number, (kernel, bias) in enumerate(layers.hidden):
        arrays |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
    arrays |= {"action_kernel": layers.action[0], "action_bias": layers.action[1]}
    if layers.logits is not None:
        arrays |= {"logits_kernel": layers.logits[0], "logits_bias": layers.logits[1]}
    with path.open("wb") as file:  # to a path, NumPy would add a suffix
        np.savez(file, **arrays)


# Of a Gaussian MLP's file: W0 [H, O], W1 [G, H], W2 [A, G], the others vectors.
GAUSSIAN_MLP = (
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

    weights: dict[str, np.ndarray]  # f64, by `GAUSSIAN_MLP`

    def act(self, observations: np.ndarray, normal: np.ndarray | None = None) -> np.ndarray:
        """Returns actions f64[K, A] from standard normal draws f64[K, A], or the mean actions."""
        w = self.weights
        x = (observations - w["in_shift"]) / (w["in_scale"] + SCALE_FLOOR)
        for layer in range(2):
            x = np.tanh(x @ w[f"w{layer}"].T + w[f"b{layer}"])
        mean = (x @ w["w2"].T + w["b2"]) * w["out_scale"] + w["out_shift"]
        return mean if normal is None else mean + np.exp(w["log_std"]) * normal


def read_policy(path: Path, observation_dim: int, action_dim: int) -> Layers | GaussianMLP:
    """Reads a policy from a `.npz`: one that `write_archive` wrote, or the arrays of `GAUSSIAN_MLP`.

    Raises:
        UserError: if the file is absent or damaged, lacks an array, one does not fit the others or is not
            finite, or the policy is for observations or actions of other sizes.
    """
    arrays, present = read_archive(path)
    is_exported = "shift" in present
    number = sum(key.startswith("kernel_") for key in present)
    layers = [*map(str, range(number)), "action", *(["logits"] if "logits_kernel" in present else [])]
    pairs = [(f"kernel_{n}", f"bias_{n}") if n.isdigit() else (f"{n}_kernel", f"{n}_bias") for n in layers]
    keys = ("shift", "scale", *(name for pair in pairs for name in pair)) if is_exported else GAUSSIAN_MLP
    check_names(present, keys, str(path))
    for key in keys:
        if arrays[key].dtype.kind not in "biuf" or not np.isfinite(arrays[key]).all():
            raise UserError(f"{path}: {key} holds NaN, infinity or no numbers")
    policy: Layers | GaussianMLP
    if is_exported:
        weights = [(arrays[kernel], arrays[bias]) for kernel, bias in pairs]
        hidden, (action, *logits) = tuple(weights[:number]), weights[number:]
        policy = Layers(arrays["shift"], arrays["scale"], hidden, action, *logits)
    else:
        policy = GaussianMLP({key: arrays[key].astype(np.float64) for key in keys})
    try:
        with np.errstate(all="ignore"):
            actions = policy.act(np.ones((1, observation_dim), np.float32))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: its arrays do not fit observations of {observation_dim} entries: {error}"
        ) from error
    if actions.shape != (1, action_dim) or not np.isfinite(actions).all():
        raise UserError(f"{path}: acts by {actions.tolist()}, not by {action_dim} finite numbers")
    return policy
