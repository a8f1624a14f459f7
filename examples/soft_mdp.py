"""A soft MDP solved twice: exactly, by soft value iteration, and from samples, by the XQL learner.

Value iteration repeats V <- L^beta_mu(r + discount * E[V(s')]) on the known MDP (Eq. 35, which prints V(s)
instead of V(s')). XQL knows only transitions (s, a, r, s') with actions drawn from mu. It fits V by Gumbel
regression on Q (Eq. 11), and Q by squared error on r + discount * V(s') (Eq. 14). It computes no sum over
actions, and knows neither the transition probabilities P nor mu. With one-hot features and no hidden layers,
its networks are tables. So it converges to the solution of the empirical MDP, in which P and mu are the
frequencies in the data.

Run:    python examples/soft_mdp.py
Prints: V of every state, exact for the true MDP and for the empirical MDP, and learnt; the largest
        differences; and a bound on the error of the exact columns, which value iteration guarantees.

Source: Garg et al. 2023 (Extreme Q-Learning), Sections 2.1 and 3.3, Algorithm 1 and Appendix C.1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.learners.registry import make_learner
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration
from xql_jax.types import Batch

STATES, ACTIONS = 6, 3
DISCOUNT = 0.9
BETA = 0.5  # reward units
NUM_TRANSITIONS, NUM_UPDATES = 1_000, 6_000

# The true MDP, and transitions from it: states are uniform, actions drawn from mu, then successors from P.
generator = np.random.default_rng(0)
mdp = SoftMDP.random(generator, num_states=STATES, num_actions=ACTIONS, discount=DISCOUNT, beta=BETA)
states = generator.integers(STATES, size=NUM_TRANSITIONS)
actions = np.array([generator.choice(ACTIONS, p=mdp.behavior[s]) for s in states])
pairs = zip(states, actions, strict=True)
next_states = np.array([generator.choice(mdp.next_states[p], p=mdp.probabilities[p]) for p in pairs])
rewards = mdp.rewards[states, actions]
data = (states, actions, rewards, next_states)
sizes = {"num_states": STATES, "num_actions": ACTIONS}
empirical_mdp = SoftMDP.from_transitions(*data, **sizes, discount=DISCOUNT, beta=BETA)
true, empirical = value_iteration(mdp), value_iteration(empirical_mdp)

# The same transitions for the learner. An action is the one-hot index of (state, action): so Q is a table.
batch = Batch(
    observations=jnp.eye(STATES)[states],
    actions=jnp.eye(STATES * ACTIONS)[states * ACTIONS + actions],
    rewards=jnp.asarray(rewards, jnp.float32),
    masks=jnp.ones(NUM_TRANSITIONS),  # nothing ends
    next_observations=jnp.eye(STATES)[next_states],
)
config = {
    "beta": BETA,
    "discount": DISCOUNT,
    "value_hidden_dims": (),
    "critic_hidden_dims": (),
    "actor_hidden_dims": (),
    "tau": 0.1,
    "value_lr": 0.01,
    "critic_lr": 0.01,
    "clip": 30.0,  # of z = (Q - V) / beta; wide enough never to clip
}
learner = make_learner("xql", config)


@jax.jit
def train(key: jax.Array) -> jax.Array:
    """Returns the learnt V of every state; each update takes all transitions as its batch."""
    key_init, key_updates = jax.random.split(key)
    state = learner.init(key_init, batch.observations, batch.actions)

    def update(step, state):
        return learner.update(state, batch, jax.random.fold_in(key_updates, step))[0]

    return jax.lax.fori_loop(0, NUM_UPDATES, update, state).value(jnp.eye(STATES))


learnt = np.asarray(train(jax.random.key(0)))

print("V in reward units\n")
print(f"{'state':>5}{'true MDP':>12}{'empirical MDP':>16}{'learnt':>10}")
for row in zip(range(STATES), true.v, empirical.v, learnt, strict=True):
    print("{:5d}{:12.4f}{:16.4f}{:10.4f}".format(*row))
print(f"\nlargest |learnt - empirical|  {np.abs(learnt - empirical.v).max():9.5f}")
print(f"largest |empirical - true|    {np.abs(empirical.v - true.v).max():9.5f}")
print(f"certified error of the exact  {max(true.error_bound, empirical.error_bound):9.0e}")
print(
    "\nSee that XQL learns the solution of the empirical MDP. Only the data part that from the true one:\n"
    f"more than {NUM_TRANSITIONS:,} transitions bring the columns together."
)
