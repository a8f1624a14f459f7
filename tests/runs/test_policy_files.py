"""The policy of an .npz file against its formula, written out for one observation at a time."""

import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.workshop.tools.policy_files import read_policy

O, A, H, G = 5, 3, 4, 6


def arrays(seed=0, **changes):
    shapes = {
        "w0": (H, O), "b0": (H,), "w1": (G, H), "b1": (G,), "w2": (A, G), "b2": (A,), "in_shift": (O,),
        "in_scale": (O,), "out_shift": (A,), "out_scale": (A,), "log_std": (A,),
    }  # fmt: skip
    generator = np.random.default_rng(seed)
    made = {key: generator.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    return {**made, **changes}


def write(folder, **changes):
    path = folder / "policy.npz"
    np.savez(path, **{key: array for key, array in arrays(**changes).items() if array is not None})
    return path


def formula(w, observation, normal):
    """One action, sum by sum: the mean, and a sample."""
    w = {key: array.astype(np.float64) for key, array in w.items()}
    x = (observation.astype(np.float64) - w["in_shift"]) / (w["in_scale"] + 1e-8)
    for layer in ("0", "1", "2"):
        x = [sum(row * x) + bias for row, bias in zip(w["w" + layer], w["b" + layer], strict=True)]
        x = np.array(x) if layer == "2" else np.tanh(x)
    mean = x * w["out_scale"] + w["out_shift"]
    return mean, mean + np.exp(w["log_std"]) * normal


def test_actions_are_the_formulas(tmp_path):
    policy = read_policy(write(tmp_path), O, A)
    generator = np.random.default_rng(1)
    observations = generator.standard_normal((7, O)).astype(np.float32)
    normal = generator.standard_normal((7, A))
    for row in range(7):
        mean, sample = formula(arrays(), observations[row], normal[row])
        np.testing.assert_allclose(policy(observations)[row], mean, rtol=1e-10)
        np.testing.assert_allclose(policy(observations, normal)[row], sample, rtol=1e-10)


@pytest.mark.parametrize(
    ("changes", "sizes", "words"),
    [
        ({"w1": None}, (O, A), "no array w1"),
        ({}, (O + 1, A), "do not fit observations of 6 entries"),
        ({}, (O, A + 1), "not by 4 finite numbers"),
        ({"b1": np.full(G, np.nan, np.float32)}, (O, A), "b1 holds NaN"),
    ],
)
def test_unfit_files_are_told(tmp_path, changes, sizes, words):
    with pytest.raises(UserError, match=words):
        read_policy(write(tmp_path, **changes), *sizes)
