"""Acts by an exported policy; python act.py prints the action of one observation."""

import sys

import numpy as np


def acting(w):
    """Returns the function of observations f32[O] or f32[B, O] to actions f32[A] or f32[B, A], least to most.

    ValueError for another shape, and for what is not finite or so large that the networks overflow.
    """
    size, low, high = len(w["shift"]), w["low"], w["high"]
    least, most = w.get("least", low), w.get("most", high)  # earlier versions' files have only the bounds

    def act(observations):
        parts = observations if isinstance(observations, (list, tuple)) else []
        try:
            seen = np.asarray(observations)
            shown = f"{seen.dtype}{list(seen.shape)}"
        except ValueError:
            seen, shown = np.asarray(None), "lists of several lengths"
        if any(map(np.ma.is_masked, [observations, *parts])):
            seen, shown = np.asarray(None), "masked numbers"
        if seen.dtype.kind not in "biuf" or seen.ndim > 2 or seen.shape[-1:] != (size,):
            raise ValueError(f"observations: must be numbers of shape [{size}] or [B, {size}], not {shown}")
        with np.errstate(all="ignore"):
            x = (np.atleast_2d(seen).astype(np.float32) - w["shift"]) / w["scale"]
            actions = ((high + low) / 2 + (high - low) / 2 * central(w, x)).clip(least, most)
        if not (np.isfinite(x).all() and np.isfinite(actions).all()):
            raise ValueError("observations: must be finite numbers, and not far beyond those of the data")
        return actions if seen.ndim == 2 else actions[0]

    return act


def central(w, x):
    """Returns the centre of a Gaussian, or of the likeliest of several."""
    for i in range(int(w["num_hidden"])):
        x = np.maximum(x @ w[f"kernel_{i}"] + w[f"bias_{i}"], 0.0)
    actions = np.tanh(x @ w["action_kernel"] + w["action_bias"])
    if "logits_kernel" not in w:
        return actions
    best = (x @ w["logits_kernel"] + w["logits_bias"]).argmax(-1)
    return actions.reshape(len(x), w["logits_bias"].size, -1)[np.arange(len(x)), best]


def load(path):
    w = dict(np.load(path))
    return acting(w), len(w["shift"])


if __name__ == "__main__":
    act, size = load(sys.argv[1] if len(sys.argv) > 1 else __file__.replace("act.py", "policy.npz"))
    print(act(np.zeros((1, size), np.float32)))
