"""Acts by an exported policy; python act.py prints the action of one observation."""

import sys

import numpy as np


def acting(w):
    """Returns the function of observations f32[B, O] to actions f32[B, A], from low to high (or ±1)."""

    def act(observations):
        x = (observations - w["shift"]) / w["scale"]
        for i in range(int(w["num_hidden"])):
            x = np.maximum(x @ w[f"kernel_{i}"] + w[f"bias_{i}"], 0.0)
        actions = np.tanh(x @ w["action_kernel"] + w["action_bias"])
        if "logits_kernel" in w:
            best = (x @ w["logits_kernel"] + w["logits_bias"]).argmax(-1)  # the likeliest of several
            actions = actions.reshape(len(x), w["logits_bias"].size, -1)[np.arange(len(x)), best]
        if "low" not in w:
            return actions
        low, high = w["low"], w["high"]
        return ((high + low) / 2 + (high - low) / 2 * actions).clip(low, high)

    return act


def load(path):
    w = dict(np.load(path))
    return acting(w), len(w["shift"])


if __name__ == "__main__":
    act, size = load(sys.argv[1] if len(sys.argv) > 1 else "policy.npz")
    print(act(np.zeros((1, size), np.float32)))
