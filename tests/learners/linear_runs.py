"""What the tests with linear networks share: their parameters and gradients, quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from learner_runs import FROZEN, QUICKLY, init, make, update
from scipy import stats

from xql_jax.types import Batch, SarsaBatch

# A policy of one action component, and two linear critics that cross, over three states.
MEANS, STDS = np.array([[-0.5], [0.0], [0.8]]), np.array([[0.3], [1.0], [0.6]])
STATE_TERMS, SLOPES = np.array([[0.0, 1.0, -0.5], [0.3, 0.5, 3.0]]), np.array([[3.0], [-1.0]])
LOG_STD_SLOPE = 3.5 * (1 - ((np.log(STDS[:, 0]) + 1.5) / 3.5) ** 2)  # a tanh bounds log-std


def gradient(train_state):
    """The gradient of the one step that was taken: Adam's first moment is a tenth of it."""
    return jax.tree.map(lambda moment: 10.0 * np.asarray(moment), train_state.optimizer_state.mu)


def slopes_of(train_state):
    """The gradient by the kernel of a linear network; of critics, a list."""
    by_network = gradient(train_state)
    several = by_network if isinstance(by_network, tuple) else (by_network,)
    kernels = [network["params"]["Dense_0"]["kernel"] for network in several]
    return kernels if several is by_network else kernels[0]


def with_critics(state, critics, targets=None):
    """The state with these linear critics, see `linear_critics`, and targets: by default the same."""
    params = linear_critics(*critics)
    target = state.critic.target and linear_critics(*(targets or critics))
    return state.replace(critic=state.critic.replace(params=params, target=target))


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


def prepared(learner, batch):
    """A soft actor-critic's first state with these networks; without V, the critics are the targets, too."""
    state = with_critics(init(learner, batch), (STATE_TERMS, SLOPES))
    return state.replace(policy=state.policy.replace(params=linear_actor(MEANS, STDS)))


def min_q(state_index, actions):
    """The least of the two critics above, in one state."""
    return (STATE_TERMS[:, state_index, None] + SLOPES * actions).min(axis=0)


def linear_critics(states, actions):
    """Critics without hidden layers: Q_i(s, a) = states[i][s] + actions[i] @ a for one-hot s."""
    return tuple(linear(np.concatenate([w, u])[:, None]) for w, u in zip(states, actions, strict=True))


def linear_actor(means, stds):
    """Parameters of a `TanhGaussianPolicy` for one-hot s, without hidden layers; [S, A] each."""
    log_stds = np.arctanh((np.log(stds) + 1.5) / 3.5)  # within [-5, 2] by a tanh
    return linear(np.concatenate([means, log_stds], axis=-1))


def policy_nodes(mean, std):
    """Actions of a one-component tanh-Gaussian, their probabilities and log densities: float64 quadrature."""
    u = mean + std * np.linspace(-9.0, 9.0, 20_001)
    weights = stats.norm.pdf(u, mean, std)
    log_cosh = np.logaddexp(u, -u) - np.log(2.0)
    return np.tanh(u), weights / weights.sum(), stats.norm.logpdf(u, mean, std) + 2.0 * log_cosh


def transition(observations, actions, rewards, next_observations, next_actions, masks):
    """Rows as a batch, float32."""
    rows = (observations, actions, rewards, masks, next_observations, next_actions)
    return SarsaBatch(*(jnp.asarray(column, jnp.float32) for column in rows))


def linear(layer, bias=0.0):
    """Parameters of a network without hidden layers."""
    kernel = jnp.asarray(layer, jnp.float32)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.full(kernel.shape[-1], bias)}}}


def one_update(name, batch, actions, critics, target_critics=None, **changes):
    """One update of linear networks over one-hot states: the slopes of the actor and the critics, metrics.

    Args:
        actions: [S, A], the policy's.
        critics: [N, S] and [N, A], see `linear_critics`; they stand still unless `critic_lr` is given.
        target_critics: the same of their targets, if they are others.
    """
    settings = {"critic_lr": FROZEN, "actor_period": 1, "target_noise": 0.0, "num_critics": len(critics[0])}
    learner = make(name, (), **{**settings, **changes})
    state = with_critics(init(learner, batch), critics, target_critics)
    actor = linear(np.arctanh(actions))
    state = state.replace(policy=state.policy.replace(params=actor, target=actor))
    after, metrics = update(learner, state, batch, jax.random.key(0))
    return slopes_of(after.policy), slopes_of(after.critic), metrics


def gumbel_slope(beta, clip):
    """d loss / d V of the max-rescaled loss with the paper's clip, of targets - V."""

    def slope(difference):
        z = difference / beta
        m = max(np.clip(z, -clip, clip).max(), -1.0)
        return np.where(np.abs(z) < clip, -np.exp(-m) * np.expm1(z) / beta, 0.0)

    return slope


def mean_of(function, means=MEANS, stds=STDS):
    """E_pi of function(state, actions, log_probs) in each of the three states, by quadrature."""
    values = []
    for index in range(3):
        actions, weights, log_probs = policy_nodes(means[index, 0], stds[index, 0])
        values.append(weights @ function(index, actions, log_probs))
    return np.array(values)


def soft_values(coefficient=0.0, means=MEANS, stds=STDS):
    """E[min Q - coefficient * log pi] in each of the three states."""
    return mean_of(lambda s, a, log_probs: min_q(s, a) - coefficient * log_probs, means, stds)


def slopes_of_soft_values(coefficient=0.0, step=1e-4):
    """Their slopes by the outputs of the policy's network, f64[3, 2], by finite differences."""
    up, down = (soft_values(coefficient, MEANS + change) for change in (step, -step))
    wide, narrow = (soft_values(coefficient, stds=STDS * np.exp(change)) for change in (step, -step))
    return np.stack([up - down, (wide - narrow) * LOG_STD_SLOPE], axis=-1) / (2 * step)


def value_of_the_best(count, share=1.0):
    """E[max over `count` actions of share * min Q + (1 - share) * max Q], by NumPy's own samples."""
    noise = np.random.default_rng(0).normal(MEANS[:, 0], STDS[:, 0], (count, 50_000, 3))
    qs = STATE_TERMS[:, None, None, :] + SLOPES[:, :, None, None] * np.tanh(noise)
    return (share * qs.min(axis=0) + (1 - share) * qs.max(axis=0)).max(axis=0).mean(axis=0)
