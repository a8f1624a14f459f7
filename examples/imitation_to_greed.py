"""From imitation to greed: how beta moves the soft-optimal policy from mu to the best actions.

D4RL's smallest maze has seven cells, with one path from the start (S) to the goal (G).

    #####
    #G..#
    ###.#
    #S..#
    #####

The behaviour policy mu moves at random. The soft-optimal policy of Eq. 2 is pi(a|s) = mu(a|s) exp((Q(s, a) -
V(s)) / beta). It maximises the discounted return minus a cost of beta * KL(pi || mu) at every step (Section
2.1), so beta controls how conservative pi is (Section 3.5). The script solves the soft MDP exactly for each
beta, and evaluates pi by its return without the KL cost.

Run:    python examples/imitation_to_greed.py
Prints: a row for mu, a row per beta from large to small, and a row for the best actions. KL(pi || mu) and the
        probability of the best action are averages over the six cells other than the goal.

Source: Garg et al. 2023 (Extreme Q-Learning), Sections 2.1 and 3.5, Eq. 1 and 2.
"""

import numpy as np

from xql_jax.envs.mazes import MAZES
from xql_jax.theory.conservatism import kl_divergence
from xql_jax.theory.error_model import optimal_q
from xql_jax.theory.gridworld import gridworld
from xql_jax.theory.soft_mdp import value_iteration

MAZE = MAZES["umaze"]
START = (3, 1)  # row, column
DISCOUNT = 0.95
BETAS = (10.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)  # reward units; entering the goal pays 1

cells = MAZE.free_cells.tolist()
start, goal = cells.index(list(START)), cells.index(list(MAZE.goal))
others = np.arange(len(cells)) != goal
mdp = gridworld(MAZE, discount=DISCOUNT)
mu = mdp.behavior
best_actions = np.eye(mu.shape[1])[optimal_q(mdp).argmax(-1)]  # a policy: its rows are one-hot

policies = {"mu": mu}
for beta in BETAS:
    policies[f"{beta:g}"] = value_iteration(gridworld(MAZE, discount=DISCOUNT, beta=beta)).policy
policies["best"] = best_actions

print(f"{'beta':>14}{'KL(pi || mu)':>16}{'P(best action)':>18}{'return from S':>18}")
print(f"{'reward units':>14}{'nats':>16}{'':18}{'reward units':>18}")
for name, pi in policies.items():
    divergence = kl_divergence(pi, mu)[others].mean()
    probability = (pi * best_actions).sum(-1)[others].mean()
    print(f"{name:>14}{divergence:16.4f}{probability:18.4f}{mdp.expected_returns(pi)[start]:18.4f}")
print(
    "\nSee how a large beta imitates mu and a small one is greedy: KL grows from 0 to log 4 = 1.3863 nats,\n"
    "and the return from mu's to that of the shortest path, six moves: 0.95^5 = 0.7738. A little KL buys\n"
    "much: at beta 0.1 a sixth of the greedy policy's earns two thirds of its gain over mu."
)
