"""What the online learners' tests share: linear networks, training of one network alone, quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from learner_runs import FROZEN, QUICKLY, init
from scipy import stats

from xql_jax.learners.fields import traced_names, with_hyperparameters
from xql_jax.types import Batch

# A policy of one action component, and two linear critics that cross, over three states.
MEANS, STDS = np.array([[-0.5], [0.0], [0.8]]), np.array([[0.3], [1.0], [0.6]])
STATE_TERMS, SLOPES = np.array([[0.0, 1.0, -0.5], [0.3, 0.5, 3.0]]), np.array([[3.0], [-1.0]])


def gradient(train_state):
    """The gradient of the one step that was taken: Adam's first moment is a tenth of it."""
    return jax.tree.map(lambda moment: 10.0 * np.asarray(moment), train_state.optimizer_state.mu)


def one_hot_states(num_states, repeats, num_actions=1):
    """A batch that holds every state `repeats` times; its actions and rewards are 0, its masks 1."""
    observations = jnp.tile(jnp.eye(num_states), (repeats, 1))
    size = len(observations)
    return Batch(observations, jnp.zeros((size, num_actions)), jnp.zeros(size), jnp.ones(size), observations)


@functools.partial(jax.jit, compiler_options=QUICKLY)
def run_updates(learner, state, batch, key, count):
    """`count` updates, all on the same batch."""

    def step(i, state):
        return learner.update(state, batch, jax.random.fold_in(key, i))[0]

    return jax.lax.fori_loop(0, count, step, state)


def train_alone(learner, state, batch, rate, stages=((3e-2, 500), (3e-3, 300), (3e-4, 300))):
    """Trains the network whose learning rate is the hyperparameter `rate`; the others' rates are 0."""
    frozen = {name: FROZEN for name in traced_names(learner) if name.endswith("_lr")}
    for stage, (value, count) in enumerate(stages):
        alone = with_hyperparameters(learner, frozen | {rate: value})
        state = run_updates(alone, state, batch, jax.random.key(stage), count)
    return state


def prepared(learner, batch):
    """A soft actor-critic's first state with these networks; without V, the critics are the targets, too."""
    state = init(learner, batch)
    critic = state.critic.replace(params=linear_critics(STATE_TERMS, SLOPES))
    if critic.target is not None:
        critic = critic.replace(target=critic.params)
    return state.replace(policy=state.policy.replace(params=linear_actor(MEANS, STDS)), critic=critic)


def min_q(state_index, actions):
    """The least of the two critics above, in one state."""
    return (STATE_TERMS[:, state_index, None] + SLOPES * actions).min(axis=0)


def linear_critics(states, actions):
    """Critics without hidden layers: Q_i(s, a) = states[i][s] + actions[i] @ a for one-hot s."""
    kernels = [np.concatenate([w, u])[:, None] for w, u in zip(states, actions, strict=True)]
    return tuple(
        {"params": {"Dense_0": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(1)}}}
        for kernel in kernels
    )


def linear_actor(means, stds):
    """Parameters of a `TanhGaussianPolicy` for one-hot s, without hidden layers; [S, A] each."""
    log_stds = np.arctanh((np.log(stds) + 1.5) / 3.5)  # within [-5, 2] by a tanh
    kernel = jnp.asarray(np.concatenate([means, log_stds], axis=-1), jnp.float32)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}}}


def policy_nodes(mean, std):
    """Actions of a one-component tanh-Gaussian, their probabilities and log densities: float64 quadrature."""
    u = mean + std * np.linspace(-9.0, 9.0, 20_001)
    weights = stats.norm.pdf(u, mean, std)
    log_cosh = np.logaddexp(u, -u) - np.log(2.0)
    return np.tanh(u), weights / weights.sum(), stats.norm.logpdf(u, mean, std) + 2.0 * log_cosh
