"""Two ways round a wall: where the data have two modes, a Gaussian runs into the wall and a flow does not.

A boat leaves the left bank at (-1, y), chooses a heading once, and sails straight on to the right bank, at
x = 1. Between the banks lies a wall (#). Arriving pays 1, and running into the wall pays 0.

        ____-----> 1
    ----    #
    o  - - -#      0
    ----____#
            -----> 1

Nine of ten skippers steer well above or well below the wall, by the toss of a coin, and one steers straight
on. XQL's optimal policy, mu(a|s) exp((Q(s, a) - V(s)) / beta) (Eq. 2), keeps both good ways, as mu has them.
A Gaussian fitted to it (Eq. 12) has their mean, which leads into the wall. A flow has both, as has a mixture.

Run:    python examples/two_ways.py [PICTURE.png [METHOD ...]]
Prints: a row per policy with the share of boats that arrive, over `SEEDS` seeds: steering by the policy's
        centre, as evaluations do, and by its samples; and the share of the samples that steer above the wall.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import xql_jax
from xql_jax.learners.registry import make_learner
from xql_jax.settings import values_of

WALL = 0.25, 0.35  # its x, and half of its height
WIDEST = np.pi / 4  # heading of the action 1; that of -1 is below, and 0 is straight on
WAYS, NOISE = np.array([0.7, -0.7, 0.0]), 0.1  # means of the skippers' actions, and their deviation
METHODS = sys.argv[2:] or ["bc", "xql", "xql+mixture", "xql+weighted_flow", "xql+flow"]
OF_XQL = {"beta": 0.1, "awr_temperature": 10.0}  # for the methods that have them
SEEDS = 3


def sail(starts: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Returns f32[N], 1 for each boat from (-1, y) that passes the wall, for y and actions [N, 1]."""
    at_wall = starts + (WALL[0] + 1) * np.tan(WIDEST * actions)
    return (abs(at_wall[:, 0]) > WALL[1]).astype(np.float32)


rng = np.random.default_rng(0)
starts = rng.uniform(-0.2, 0.2, (10_000, 1)).astype(np.float32)
actions = rng.choice(WAYS, (10_000, 1), p=[0.45, 0.45, 0.1]) + NOISE * rng.standard_normal((10_000, 1))
actions = np.clip(actions, -1, 1).astype(np.float32)
dataset = {"observations": starts, "actions": actions, "rewards": sail(starts, actions)}
dataset |= {"next_observations": starts, "terminals": np.ones(10_000)}
fresh = np.random.default_rng(1).uniform(-0.2, 0.2, (1_000, 1)).astype(np.float32)

print("Share of boats that arrive, and of samples that steer above the wall\n")
print(f"{'policy':20}{'centre':>10}{'samples':>10}{'above':>10}")
print(f"{'the data':20}{'':10}{dataset['rewards'].mean():10.3f}{(actions > 0.35).mean():10.3f}")
boats = {"the data": (starts, actions)}
for method in METHODS:
    settings = {name: OF_XQL[name] for name in OF_XQL.keys() & values_of(make_learner(method))}
    policies = xql_jax.train(
        dataset=dataset, method=method, num_seeds=SEEDS, seed=0, max_steps=4_000, hidden_dims=(64, 64),
        progress=False, **settings,
    )  # fmt: skip
    shares = []
    for seed in range(SEEDS):
        policy = policies.select(seed=seed)
        centre, drawn = policy(fresh), policy(fresh, key=seed)
        shares.append((sail(fresh, centre).mean(), sail(fresh, drawn).mean(), (drawn > 0.35).mean()))
        boats.setdefault(method, (fresh, centre))
    print(f"{method:20}" + "".join(f"{share:10.3f}" for share in np.mean(shares, 0)))
print(
    "\nSee that each Gaussian steers all boats into the wall by its centre, and a third by its samples.\n"
    "xql+flow takes the best of its samples by Q. The centre of xql+weighted_flow is where its noise is 0,\n"
    "between two equal modes: draw from it, or give it candidates to choose among."
)

if len(sys.argv) > 1:
    figure, axes = plt.subplots(
        1, len(boats), figsize=(2.2 * len(boats), 2.6), sharey=True, layout="constrained"
    )
    for axis, (name, (begins, steers)) in zip(axes, boats.items(), strict=True):
        arrives = sail(begins, steers) > 0
        for start, action, passes in zip(begins[:150, 0], steers[:150, 0], arrives, strict=False):
            stop = 1.0 if passes else WALL[0]
            end = start + (stop + 1) * np.tan(WIDEST * action)
            axis.plot([-1, stop], [start, end], color="C0" if passes else "C3", alpha=0.25, linewidth=0.8)
        axis.plot([WALL[0]] * 2, [-WALL[1], WALL[1]], color="black", linewidth=4, solid_capstyle="butt")
        axis.set(title=f"{name}: {arrives.mean():.0%}", xlim=(-1, 1), ylim=(-1.7, 1.7), xticks=[], yticks=[])
    figure.savefig(sys.argv[1], dpi=120)
