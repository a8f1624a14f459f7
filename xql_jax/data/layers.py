"""A trained policy as plain arrays, its `.npz` file, and a script of twenty lines that acts with it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.npz import archive_keys, check_complete, read_archive
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


def is_exported(path: Path) -> bool:
    """Returns whether `write_archive` wrote an archive; UserError if it is not an archive."""
    return "shift" in archive_keys(path)


def read_layers(path: Path, observation_dim: int, action_dim: int) -> Layers:
    """Reads what `write_archive` wrote.

    Raises:
        UserError: if the file is absent or damaged, lacks an array, one does not fit the others or is not
            finite, or the policy is for observations or actions of other sizes.
    """
    present = archive_keys(path)
    number = sum(key.startswith("kernel_") for key in present)
    pairs = [(f"kernel_{i}", f"bias_{i}") for i in range(number)] + [("action_kernel", "action_bias")]
    logits = ("logits_kernel", "logits_bias")
    pairs += [logits] if logits[0] in present else []
    keys = ("shift", "scale", *(name for pair in pairs for name in pair))
    arrays = read_archive(path, keys)
    check_complete(path, arrays, keys)
    layers = [(arrays[kernel], arrays[bias]) for kernel, bias in pairs]
    units: tuple[int, ...] = (observation_dim,)
    shapes: dict[str, tuple[int, ...]] = {"shift": units, "scale": units}
    for (name, bias_name), (_, bias) in zip(pairs, layers, strict=True):
        width = max(bias.size, 1)
        shapes |= {name: (*units, width), bias_name: (width,)}
        units = (width,) if name.startswith("kernel_") else units
    components = max(arrays[logits[1]].size, 1) if logits[0] in present else 1
    shapes["action_bias"] = (components * action_dim,)
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise UserError(f"{path}: {key} has shape {arrays[key].shape}, expected {shape}")
        if not np.isfinite(arrays[key]).all():
            raise UserError(f"{path}: {key} holds NaN or infinity")
    if not (arrays["scale"] > 0).all():
        raise UserError(f"{path}: scale must be positive")
    return Layers(
        shift=arrays["shift"],
        scale=arrays["scale"],
        hidden=tuple(layers[:number]),
        action=layers[number],
        logits=layers[number + 1] if len(layers) > number + 1 else None,
    )
