"""Acts by an exported policy; python act.py prints the action of one observation."""

import sys

import numpy as np


def acting(w):
    """Returns the function of observations f32[O] or f32[B, O] to actions f32[A] or f32[B, A], low to high.

    ValueError for another shape, and for what is not finite or so large that the networks overflow.
    """
    size, low, high = len(w["shift"]), w["low"], w["high"]

    def act(observations):
        parts = observations if isinstance(observations, (list, tuple)) else []
        try:
            seen = np.asarray(observations)
            found = f"{seen.dtype}{list(seen.shape)}"
        except ValueError:
            seen, found = np.asarray(None), "lists of several lengths"
        if any(map(np.ma.is_masked, [observations, *parts])):
            seen, found = np.asarray(None), "masked ones"
        if seen.dtype.kind not in "biuf" or seen.ndim > 2 or seen.shape[-1:] != (size,):
            raise ValueError(f"observations: must be numbers of shape [{size}] or [B, {size}], not {found}")
        with np.errstate(all="ignore"):
            x = (np.atleast_2d(seen).astype(np.float32) - w["shift"]) / w["scale"]
            actions = best_flow(w, x) if "noise" in w else central(w, x)
            actions = ((high + low) / 2 + (high - low) / 2 * actions).clip(low, high)
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


def best_flow(w, x):
    """Each noise vector becomes an action, by Euler's steps or by one network; the best by the least Q."""
    noise, steps = w["noise"], int(w["flow_steps"])
    x = np.repeat(x[None], len(noise), 0)
    actions = np.repeat(noise[:, None], x.shape[1], 1)
    for step in range(steps):
        t = np.full_like(actions[..., :1], step / steps)
        actions = actions + network(w, "flow", x, actions, t) / steps
    actions = (actions if steps else network(w, "flow", x, actions)).clip(-1, 1)
    q = np.min([network(w, f"q{i}", x, actions)[..., 0] for i in range(int(w["num_critics"]))], 0)
    return np.take_along_axis(actions, q.argmax(0)[None, :, None], 0)[0]


def network(w, name, *inputs):
    """Layers of a flow (GELU, then layer norm) or of Q (layer norm, then ReLU); a norm if it has a scale."""
    x = np.concatenate(inputs, -1)
    for i in range(int(w[name])):
        x = x @ w[f"{name}_kernel_{i}"] + w[f"{name}_bias_{i}"]
        if name == "flow":
            x = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        if f"{name}_scale_{i}" in w:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x = x * w[f"{name}_scale_{i}"] + w[f"{name}_shift_{i}"]
        x = x if name == "flow" else np.maximum(x, 0.0)
    return x @ w[f"{name}_kernel_last"] + w[f"{name}_bias_last"]


def load(path):
    w = dict(np.load(path))
    return acting(w), len(w["shift"])


if __name__ == "__main__":
    act, size = load(sys.argv[1] if len(sys.argv) > 1 else __file__.replace("act.py", "policy.npz"))
    print(act(np.zeros((1, size), np.float32)))
